"""Objectives: pure functions of log-weights and of the bound's two terms, in nats per image; higher is better."""

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
        One bound per image, of shape (b,); K = 1 is the one-sample ELBO.
    """
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


def multiply_importance_weighted(log_w: Tensor, k: int) -> Tensor:
    """The mean of M bounds L_K, from M × K samples (MIWAE; Rainforth et al. 2018, https://arxiv.org/abs/1802.04537).

    Args:
        log_w: log p(x, z) − log q(z|x) with z ~ q, of shape (M k, b).
        k: samples per bound.

    Returns:
        One bound per image, of shape (b,); k = 1 is the M-sample ELBO, and M = 1 is L_K.
    """
    return (torch.logsumexp(log_w.unflatten(0, (-1, k)), 1) - math.log(k)).mean(0)


def stratified(log_w: Tensor, log_shares: Tensor) -> Tensor:
    r"""The ELBO of a mixture posterior as a sum over its components, Σ_c π_c E_{q_c}[log w] (SELBO).

    Roeder et al. 2017 (https://arxiv.org/abs/1703.09194); Morningstar et al. 2021 (https://arxiv.org/abs/2003.01687).

    Args:
        log_w: log p(x, z) − log q(z|x) with q the whole mixture, of samples of every component, (t c, b).
        log_shares: log π_c / t of each, (t c, b), whose exponentials sum to 1.

    Returns:
        One bound per image, (b,).
    """
    return (log_shares.exp() * log_w).sum(0)


def stratified_importance_weighted(log_w: Tensor, log_shares: Tensor) -> Tensor:
    """log Σ_c π_c w_c with samples of every component (SIWAE): at least `stratified`, of the same arguments."""
    return torch.logsumexp(log_shares + log_w, 0)


def with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another, so that logged values are never surrogates.

    Args:
        value: supplies the value.
        surrogate: supplies the gradient, of the same shape.
    """
    return value.detach() + (surrogate - surrogate.detach())


def doubly_reparameterised(log_w: Tensor, pathwise: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    r"""L_K with DReG's gradient for the encoder, and L_K with the plain gradient for the decoder.

    .. math:: \nabla_\phi L_K = E \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k
              + \tilde w_k \nabla_\phi \log p_\phi(z_k), \qquad
              \nabla_\theta L_K = E \sum_k \tilde w_k \nabla_\theta \log w_k, \qquad \tilde w_k = w_k / \sum_j w_j

    Tucker et al. 2018 (https://arxiv.org/abs/1810.04152) for independent samples; the second term, at fixed z, is that
    of a prior which is made of posteriors, and zero for others. At K = 1 the first is the path derivative of Roeder et
    al. 2017 (https://arxiv.org/abs/1703.09194), "sticking the landing".

    Args:
        log_w: log p(x, z_k) − log q(z_k|x), of shape (k, b).
        pathwise: the same with detached parameters of q, so that φ acts through z_k, and through p(z_k) if it has φ.
        log_p: log p(z_k) at fixed z_k, so that φ acts through the prior alone; of the same shape.

    Returns:
        Two tensors with one bound per image, of shape (b,), equal in value.
    """
    bound = importance_weighted(log_w)
    weight = torch.softmax(log_w.detach(), 0)
    return with_gradient(bound, (weight**2 * pathwise + (weight - weight**2) * log_p).sum(0)), bound


def free_bits(units: Tensor, free: Tensor) -> Tensor:
    """Σ_j max(λ, KL_j): no unit or group gains by a rate below λ (Kingma et al. 2016, https://arxiv.org/abs/1606.04934).

    Args:
        units: KL_j of each unit or group, nats, (*batch, units); per image, or averaged over the batch.
        free: λ ≥ 0, nats per unit or group.

    Returns:
        Nats, (*batch,); the plain rate at λ = 0.
    """
    return torch.maximum(units, free).sum(-1)


def soft_free_bits(weight: Tensor, rate: Tensor, free: Tensor, speed: Tensor, slack: Tensor) -> Tensor:
    """The next weight of the rate: larger where the rate exceeds its target, smaller where it falls short, at most 1.

    Chen et al. 2017, appendix C (https://arxiv.org/abs/1611.02731), who take ε = 10 % and a slack of 5 %.

    Args:
        weight: γ in (0, 1].
        rate: KL(q‖p) of the batch, nats.
        free: λ, the target, nats.
        speed: ε: the weight is multiplied by 1 + ε above (1 + slack) λ, and by 1 − ε below λ.
        slack: relative width of the band above λ where the weight stays.
    """
    factor = torch.where(rate > (1 + slack) * free, 1 + speed, torch.where(rate < free, 1 - speed, 1.0))
    return (weight * factor).clamp(1e-6, 1.0)


def capacity(rate: Tensor, target: Tensor) -> Tensor:
    """|KL − C| of the batch's mean rate (Burgess et al. 2018, https://arxiv.org/abs/1804.03599).

    Args:
        rate: KL(q(z|x)‖p(z)), nats, (b,).
        target: C ≥ 0, nats per image.
    """
    return (rate.mean() - target).abs()


def minibatch_information(log_q: Tensor) -> Tensor:
    r"""A lower bound on the mutual information of image and code under q, from one batch; at most log b.

    .. math:: I_q(x; z) \ge E \Big[ \frac1b \sum_i \log q(z_i|x_i) - \log \frac1b \sum_j q(z_i|x_j) \Big]

    Poole et al. 2019 (https://arxiv.org/abs/1905.06922), with the density known: InfoNCE whose critic is
    optimal. He et al. 2019 (https://arxiv.org/abs/1901.05534) monitor the encoder by this estimate.

    Args:
        log_q: log q(z_i|x_j), nats, (b, b): row i holds z_i ~ q(z|x_i) under every image's posterior.

    Returns:
        Nats, 0-dim.
    """
    aggregate = torch.logsumexp(log_q, 1) - math.log(log_q.shape[1])
    return (log_q.diagonal() - aggregate).mean()


def balanced(rates: Tensor, sizes: Tensor) -> Tensor:
    r"""Σ_i γ_i KL_i with γ_i ∝ KL_i / s_i, of mean 1 and without a gradient: smaller weights for levels of low rate.

    Vahdat & Kautz 2020, appendix A (https://arxiv.org/abs/2007.03898), as in their code.

    Args:
        rates: KL_i of every level, averaged over the batch, nats, (L,).
        sizes: s_i, units of every level, (L,), on their device.

    Returns:
        Nats, 0-dim; for levels of equal rate per unit, all γ are 1.
    """
    weights = (rates.detach().abs() + 0.01) / sizes
    return (weights / weights.mean() * rates).sum()
