"""Discrete latents: usage of codebooks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators.codes import count_codes, usage, usage_error
from vaebench.metrics.base import ModelMetric


class CodebookUsage(ModelMetric):
    """Share of a codebook's k codes that are the likeliest one for some image, in [0, 1], mean over levels.

    The standard error is √(number of codes that a single image uses) / codes: the jackknife over images where no image
    has more than one such code.

    Args:
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import CodebookUsage
        >>> usage = CodebookUsage()
        >>> 0 < float(usage(vb.build("vq_vae", "digits"), torch.rand(10, 1, 8, 8).round())) <= 1
        True
    """

    STATES = ("taken",)
    higher_is_better = True

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"taken": count_codes(model, x).images[None]}

    def compute(self) -> Tensor:
        """The share of codes in use, float64; `standard_error` is then its standard error."""
        images = self._joined("taken").sum(0)
        return self._with_error(usage(images), usage_error(images))
