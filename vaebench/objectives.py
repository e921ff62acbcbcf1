"""Objectives: pure functions of log-weights and of the bound's two terms, in nats an image; higher is better."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def elbo(distortion: Tensor, rate: Tensor, beta: Tensor | float = 1.0) -> Tensor:
    """−(distortion + β rate): the evidence lower bound at β = 1 (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).

    Args:
        distortion: −E_q log p(x|z), nats, of any shape.
        rate: KL(q(z|x)‖p(z)), nats, of the same shape.
        beta: weight of the rate, ≥ 0.
    """
    return -(distortion + beta * rate)


def importance_weighted(log_w: Tensor) -> Tensor:
    """L_K = log (1/K) Σ_k w_k (Burda et al. 2016, https://arxiv.org/abs/1509.00519).

    Args:
        log_w: log p(x, z_k) − log q(z_k|x) with z_k ~ q, of shape (k, b).

    Returns:
        One bound an image, of shape (b,); K = 1 is the one-sample ELBO.
    """
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])
