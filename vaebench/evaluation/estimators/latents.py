"""Posterior means and rates of each latent unit, and the number of active units."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import LatentModel
from vaebench.distributions import closed_form, divergence_units
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import each
from vaebench.evaluation.estimators.moments import Moments
from vaebench.evaluation.images import Stack, batch_size

ACTIVE = 0.01  # Var_x(E_q[z]) above which a unit is active, in the latent's squared units
THRESHOLDS = (0.001, ACTIVE, 0.1)
BATCH = 500


class Latents(NamedTuple):
    """Posteriors of n images, float64 on the CPU; None with a reason in `why` where a field is not defined.

    Attributes:
        mean: E_q[z], (n, units).
        kl: KL(q(z_j|x) ‖ p(z_j)) of each unit in closed form, nats, (n, units).
        rate: KL(q(z|x) ‖ p(z)) in closed form, nats, (n,).
        why: reasons by the names above.
    """

    mean: Tensor | None
    kl: Tensor | None
    rate: Tensor | None
    why: dict[str, str]


def read_latents(model: LatentModel, x: Stack) -> Latents:
    """Encodes images x (n, *data) on the model's device; call it inside `evaluation_mode`."""
    pairs = [(some.posterior(images), some.prior()) for some, images in each(model, x, batch_size(x, BATCH))]
    readers: dict[str, Callable[[Distribution, Distribution], Tensor]] = {
        "mean": lambda q, _: _mean(q),
        "kl": divergence_units,
        "rate": closed_form,
    }
    codes: dict[str, Tensor | None] = dict.fromkeys(readers)
    why: dict[str, str] = {}
    for name, read in readers.items():
        try:
            codes[name] = torch.cat([read(q, p) for q, p in pairs]).double().cpu()
        except Unavailable as error:
            why[name] = str(error)
    return Latents(**codes, why=why)


def finite_mean(latents: Latents) -> Tensor:
    """The posterior means, (n, units).

    Raises:
        Unavailable: there are none, or one is not finite.
    """
    if latents.mean is None:
        raise Unavailable(latents.why["mean"])
    strange = ~torch.isfinite(latents.mean).all(1)
    if strange.any():
        raise Unavailable(f"the posterior mean is not finite for image {int(strange.nonzero()[0])}")
    return latents.mean


def _mean(q: Distribution) -> Tensor:
    with absence(f"the posterior, {type(q).__name__}, has no mean in closed form"):
        return q.mean.flatten(1)


def active_units(means: Moments, threshold: float = ACTIVE) -> int:
    """Number of units whose posterior mean varies over the images: Var_x(E_q[z_j]) > threshold.

    Burda, Grosse & Salakhutdinov 2016, section 5.2 (https://arxiv.org/abs/1509.00519); the variance is unbiased.

    Args:
        means: of E_q[z], of n ≥ 2 images.
        threshold: in the latent's squared units.
    """
    return int((means.variance > threshold).sum())


def between(means: Tensor) -> Tensor:
    """Var_x(E_q[z]) of every unit, (units,), from two independent estimates of E_q[z], (2, n, units), n ≥ 2.

    It is their covariance, which is free of the noise of either.
    """
    first, second = means - means.mean(1, keepdim=True)
    return (first * second).sum(0) / (first.shape[0] - 1)
