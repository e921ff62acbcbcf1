"""Posterior collapse: the number of units without information, and the likely cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators.collapse import (
    EncoderSigns,
    collapse,
    collapsed_error,
    encoder_signs,
    shuffle_drops,
    unseen,
)
from vaebench.evaluation.estimators.latents import read_latents
from vaebench.evaluation.estimators.levels import sizes
from vaebench.metrics.base import WholeMetric, packed


class PosteriorCollapse(WholeMetric):
    """The number of latent units that carry no information from the image to the decoder, with a verdict.

    Each unit is tested for three signs: its KL, the variance of its mean, and the drop of log p(x|z) when its codes are
    shuffled between images; `vaebench.evaluation.estimators.collapse` defines them. The third decides. It needs all
    images together: they are stored, and `compute` evaluates up to 500 of them, evenly spaced in the order of processes
    and batches, with the model of the latest update.

    Args:
        seed: of the shuffling.
        kwargs: of `torchmetrics.Metric`.

    Attributes:
        verdict: of the latest `compute`: 'verdict' ('none', 'partial', 'full'; 'unknown' for one image), 'units',
            'signs', 'sentence' and more; empty before.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import PosteriorCollapse
        >>> collapse = PosteriorCollapse()
        >>> model = vb.build("vae", "digits", latent=4)
        >>> for batch in torch.rand(20, 1, 8, 8).round().split(8):
        ...     collapse.update(model, batch)
        >>> float(collapse.compute()) == len(collapse.verdict["units"])
        True
        >>> sorted(collapse.verdict["signs"])
        ['decoder', 'kl', 'mean']
    """

    STATES = ("means", "kl", "idle", "images", "labels")
    higher_is_better = False

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.verdict: dict[str, Any] = {}
        self._why: dict[str, str] = {}  # a sign is missing

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        signs = encoder_signs(read_latents(model, x))
        self._why = signs.why
        known = {"means": signs.mean, "kl": signs.kl, "idle": signs.idle}
        return {"images": raw} | {name: packed(moments) for name, moments in known.items() if moments is not None}

    def compute(self) -> Tensor:
        """The number of collapsed units, float64, with details in `verdict`. NaN for fewer than two images.

        Raises:
            UserError: the metric was restored, and not updated since.
        """
        images = self._joined("images")
        if len(images) < 2:
            self.verdict = unseen()
            return self._with_error(math.nan, None)
        mean, kl, idle = (self._moments(name) if self._met(name) else None for name in ("means", "kl", "idle"))
        with self._model(images) as (model, x):
            drops = shuffle_drops(model, x, self.seed)
            self.verdict = collapse(EncoderSigns(mean, kl, idle, self._why), drops, sizes(model, x))
        return self._with_error(len(self.verdict["units"]), collapsed_error(drops))
