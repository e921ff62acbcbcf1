"""Latent units: number of active units, and the rate of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.latents import active_units, finite_mean, read_latents
from vaebench.evaluation.estimators.moments import Moments, count_error
from vaebench.metrics.base import ModelMetric, packed


class ActiveUnits(ModelMetric):
    r"""The number of units whose posterior mean varies over the images, :math:`Var_x(E_q[z_j]) > t`.

    Burda, Grosse & Salakhutdinov 2016, section 5.2 (https://arxiv.org/abs/1509.00519); the variance is unbiased. The
    standard error is √Σ p (1 − p) with p the probability, in the normal approximation, that a unit's variance over the
    population of images exceeds t. NaN for fewer than two images.

    Args:
        threshold: t, in the latent's squared units.
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import ActiveUnits
        >>> active = ActiveUnits()
        >>> model = vb.build("vae", "digits", latent=4)
        >>> for batch in torch.rand(10, 1, 8, 8).round().split(4):
        ...     active.update(model, batch)
        >>> float(active.compute()) in range(5)
        True
    """

    STATES = ("means",)
    higher_is_better = True

    def __init__(self, threshold: float = 0.01, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.threshold = threshold

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"means": packed(Moments.of(finite_mean(read_latents(model, x))))}

    def compute(self) -> Tensor:
        """The number of active units, float64; `standard_error` is then its standard error."""
        means = self._moments("means")
        if means.n[0] < 2:
            return self._with_error(math.nan, None)
        error = count_error((means.variance - self.threshold) / means.variance_error)
        return self._with_error(active_units(means, self.threshold), error)


class UnitRates(ModelMetric):
    r"""The rate of each unit, the mean of :math:`KL(q(z_j|x) \| p(z_j))` over the images, nats, (units,).

    Lightning logs scalars: `torchmetrics.ClasswiseWrapper(UnitRates())` gives one for each unit.

    Args:
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import UnitRates
        >>> rates, x = UnitRates(), torch.rand(10, 1, 8, 8).round()
        >>> rates(vb.build("vae", "digits", latent=4), x).shape, rates.standard_error.shape
        (torch.Size([4]), torch.Size([4]))
    """

    STATES = ("kl",)
    higher_is_better = None

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        latents = read_latents(model, x)
        if latents.kl is None:
            raise Unavailable(latents.why["kl"])
        return {"kl": packed(Moments.of(latents.kl))}

    def compute(self) -> Tensor:
        """The rate of every unit, float64; `standard_error` is then that of each."""
        rates = self._moments("kl")
        return self._with_error(rates.mean, torch.where(rates.n > 1, rates.error, torch.nan))
