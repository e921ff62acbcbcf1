"""Diagnostics of importance weights: reliability of their mean, and bias and variance of its logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST = 25  # samples whose tail, a fifth of them, can be fitted
TRUSTED = 0.7  # largest k̂ at which the sample's own standard error is reliable


def effective_size(log_w: Tensor) -> Tensor:
    """(Σw)² / Σw² of each image's weights, in [1, K]: nats, (K, b) -> (b,)."""
    return (2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)).exp()


def tail_length(samples: int) -> int:
    """Number of the largest of K weights that form the tail: min(K/5, 3√K)."""
    return math.ceil(min(samples / 5, 3 * math.sqrt(samples)))


def largest(log_w: Tensor) -> Tensor:
    """The tail of the log weights (K, b) and the next smaller one, ascending: (`tail_length`(K) + 1, b)."""
    return torch.topk(log_w, min(tail_length(len(log_w)) + 1, len(log_w)), dim=0).values.flip(0)


def pareto_k(top: Tensor, samples: int) -> Tensor:
    """k̂ of each image: the shape of a generalised Pareto distribution fitted to the largest weights.

    The weights have about 1/k̂ finite moments: below 0.5 their variance is finite; above 0.7 neither the estimate nor
    its standard error is reliable. Vehtari, Simpson, Gelman, Yao & Gabry 2024 (https://arxiv.org/abs/1507.02646);
    fitted as by Zhang & Stephens 2009 (https://doi.org/10.1198/tech.2009.08017) to the `tail_length`(K) largest
    weights, with the former's weak prior.

    Args:
        top: the `largest` log weights of each image, nats, (tail + 1, b).
        samples: K.

    Returns:
        (b,); 0 where the tail is constant to rounding, NaN where K is below 25.
    """
    if samples < FEWEST:
        return torch.full_like(top[0], math.nan)
    tail = len(top) - 1
    weights = (top - top[-1]).exp()
    excess = weights[1:] - weights[:1]  # (tail, b)
    constant = excess[-1] < 1e-9
    excess = torch.where(constant, torch.linspace(0.1, 1, tail).to(excess)[:, None], excess)
    candidates = 30 + math.isqrt(tail)
    index = torch.arange(1, candidates + 1).to(excess) - 0.5
    quartile = excess[int(tail / 4 + 0.5) - 1].clamp(min=1e-12)
    theta = (1 - (candidates / index).sqrt())[:, None] / (3 * quartile) + 1 / excess[-1]  # (candidates, b)
    shape = torch.stack([torch.log1p(-t * excess).mean(0) for t in theta])
    profile = tail * ((-theta / shape).log() - shape - 1)
    best = (theta * profile.softmax(0)).sum(0)
    fitted = torch.log1p(-best * excess).mean(0)
    return torch.where(constant, 0.0, (tail * fitted + 10 * 0.5) / (tail + 10))


def jackknife(log_w: Tensor) -> tuple[Tensor, Tensor]:
    r"""L_K = log (1/K) Σ w of each image without its bias of order 1/K, and the variance of L_K over samples.

    From the L_{−i} of all samples but i, and their mean L̄:

    .. math:: K L_K - (K - 1) \bar L, \qquad \sum_i (L_{-i} - \bar L)^2

    The first is Nowozin 2018 (https://openreview.net/forum?id=HyZoi-WRb) at order one, which is not a bound. The second
    is in expectation at least the variance of L_{K−1} (Efron & Stein 1981, https://doi.org/10.1214/aos/1176345462) for
    any tail of the weights. The delta method, 1/ess − 1/K, underestimates the standard error by a third at k̂ ≈ 1.

    Args:
        log_w: nats, (K, b).

    Returns:
        Nats, (b,), and nats², (b,); NaN where K = 1.
    """
    samples = len(log_w)
    if samples == 1:
        return torch.full_like(log_w[0], math.nan), torch.full_like(log_w[0], math.nan)
    total = torch.logsumexp(log_w, 0)
    top = log_w.argmax(0, keepdim=True)
    others = torch.logsumexp(log_w.scatter(0, top, -math.inf), 0)  # 1 − w_i / Σ w rounds to 0 where one weight is all
    share = (log_w - total).exp().clamp(max=0.5)
    left = torch.log1p(-share).scatter(0, top, (others - total)[None])  # L_{−i} less a constant
    corrected = total - math.log(samples) + (samples - 1) * (math.log1p(-1 / samples) - left.mean(0))
    return corrected, (left - left.mean(0)).square().sum(0)


def mean_error(variance: Tensor, keys: list[bytes]) -> float:
    """Standard error of the mean of n estimates with variances (n,); estimates of equal keys share their error."""
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    together = torch.zeros(len(place), dtype=variance.dtype)
    together.index_add_(0, torch.tensor([place[key] for key in keys]), variance.sqrt())
    return float(together.square().sum().sqrt()) / len(keys)
