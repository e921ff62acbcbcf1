"""Rates and active units of each level of a hierarchy.

For models whose posterior and prior are a `vaebench.distributions.hierarchy.Hierarchy` of the same levels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import LatentModel
from vaebench.distributions.hierarchy import Hierarchy
from vaebench.evaluation.conditions import for_images
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.latents import between
from vaebench.evaluation.images import Stack

IMAGES, SAMPLES, BATCH = 1000, 32, 50


class LevelRates(NamedTuple):
    """Estimates from S samples of the posteriors of n images, float64 on the CPU; L levels, the lowest first.

    Attributes:
        sizes: units of every level.
        rates: mean of log q(z_i|·) − log p(z_i|·) over the samples, nats, (n, L); they sum to the rate.
        means: E_q[z] from the first and the second half of the samples, (2, n, units).
    """

    sizes: tuple[int, ...]
    rates: Tensor
    means: Tensor

    @property
    def variances(self) -> Tensor:
        """Var_x(E_q[z]) of every unit, (units,)."""
        return between(self.means)


def sizes(model: LatentModel, x: Stack) -> tuple[int, ...] | None:
    """Units of every level of a model; None where it has one level, or where posterior and prior differ."""
    one = for_images(model, slice(0, 1))
    sides = one.posterior(x[:1]), one.prior()
    known = {side.sizes if isinstance(side, Hierarchy) else None for side in sides}
    return known.pop() if len(known) == 1 else None


def read_levels(model: LatentModel, x: Tensor, seed: int = 0) -> LevelRates:
    """Samples the levels of images x (n, *data), n ≥ 2, on the model's device; call it inside `evaluation_mode`."""
    prior, rates, means = cast(Hierarchy, model.prior()), [], []
    for images in x.split(BATCH):
        q = cast(Hierarchy, model.posterior(images))
        z = sample_posterior(model, images, SAMPLES, seed)
        rates.append((q.log_prob_levels(z).double() - prior.log_prob_levels(z).double()).mean(0).cpu())
        means.append(z.double().unflatten(0, (2, -1)).mean(1).cpu())
    return LevelRates(prior.sizes, torch.cat(rates), torch.cat(means, 1))


def level_of_units(prior: Distribution | None, units: int) -> list[int]:
    """The level of each unit, counted from 0, the lowest; 0 for all units without a hierarchy."""
    if not isinstance(prior, Hierarchy):
        return [0] * units
    return [level for level, size in enumerate(prior.sizes) for _ in range(size)]


def beneath(prior: Distribution | None, z: Tensor) -> Tensor:
    """log p(z_1 … z_{i−1}|z_i … z_L) for every level i of a chain, nats: z (k, b, units) -> (k, b, L)."""
    scores = cast(Hierarchy, prior).log_prob_levels(z)
    return scores.cumsum(-1) - scores


def count_by_level(sizes: tuple[int, ...], units: list[int]) -> list[int]:
    """Number of the given units, by index, in each level."""
    ends = torch.tensor(sizes).cumsum(0)
    return [sum(end - size <= unit < end for unit in units) for end, size in zip(ends.tolist(), sizes, strict=True)]
