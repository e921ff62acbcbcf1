"""Disentanglement on data whose factors of variation are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators.disentanglement import entropies, grouped_jackknife, mig, mutual_information
from vaebench.evaluation.estimators.latents import finite_mean, read_latents
from vaebench.metrics.base import ModelMetric


class MIG(ModelMetric):
    """Mutual information gap, in [0, 1]: the gap between the best two units of a factor, mean over factors.

    Chen et al. 2018 (https://arxiv.org/abs/1802.04942), with posterior means in 20 equal bins, as in
    disentanglement_lib. Factors that do not vary among the images are left out. The standard error is by the jackknife
    over 20 groups of images.

    Args:
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import MIG
        >>> measure = MIG()
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> 0 <= float(measure(model, x, factors=torch.arange(120).reshape(60, 2) // 2 % 3)) <= 1
        True
    """

    STATES = ("codes", "factors")
    higher_is_better = True

    def update(
        self, model: LatentModel, x: Tensor, labels: Tensor | None = None, factors: Tensor | None = None
    ) -> None:
        """Encodes a batch of images of known factors.

        Args:
            model, x, labels: as for every metric.
            factors: whole numbers, (b, factors).

        Raises:
            UserError: there are no factors, or not one row per image.
            Unavailable: the posterior has no finite mean.
        """
        if factors is None or factors.shape[:-1] != x.shape[:1]:
            raise UserError(
                f"MIG.update got {'no factors' if factors is None else f'factors of shape {tuple(factors.shape)}'} for "
                f"{len(x)} images, where one row of whole numbers an image is expected; give factors=…"
            )
        super().update(model, x, labels)
        self._keep({"factors": factors.long()})

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"codes": finite_mean(read_latents(model, x))}

    def compute(self) -> Tensor:
        """The gap, float64; `standard_error` is then its standard error.

        Raises:
            Unavailable: fewer than two units, or no factor that varies.
        """
        codes, factors = (self._joined(name).cpu().numpy() for name in self.STATES)
        if codes.shape[1] < 2:
            raise Unavailable("the code has a single unit, where 2 are needed")
        factors = factors[:, (factors != factors[0]).any(0)]
        if not factors.shape[1]:
            raise Unavailable("no factor varies among the images")

        def gap(some: slice | np.ndarray) -> float:
            return mig(mutual_information(codes[some], factors[some]), entropies(factors[some]))

        return self._with_error(gap(slice(None)), grouped_jackknife(gap, len(codes)))
