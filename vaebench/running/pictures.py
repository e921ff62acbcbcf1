"""Pictures of a model while it trains, for a logger."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from vaebench.core import Family
from vaebench.data.base import ImageData
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import Conditioned, evaluation_mode, is_conditional
from vaebench.evaluation.drawing.pictures import reconstruction_grid, sample_grid
from vaebench.evaluation.estimators.likelihood import sample_posterior
from vaebench.evaluation.estimators.reconstruction import mean_image
from vaebench.evaluation.metrics import Picture
from vaebench.loggers import Log

SHOWN = 40  # validation images that are reconstructed


class PicturesCallback(Callback):
    """Draws reconstructions of validation images and samples after every so many epochs.

    What a model cannot give is left out. The random state of training stays as it is.

    Args:
        log: where they go.
        data: the run's data module.
        every: epochs from one time to the next, at least 1.
    """

    def __init__(self, log: Log, data: ImageData, every: int) -> None:
        self._log, self._data, self._every = log, data, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if (trainer.current_epoch + 1) % self._every == 0 and trainer.is_global_zero:
            labels = self._data.labels("val")
            y = None if labels is None else labels[:SHOWN]
            self._log.pictures(pl_module.steps, drawn(pl_module, self._data.first("val", SHOWN), y))


def drawn(model: Family, x: Tensor, y: Tensor | None) -> dict[str, Picture]:
    """'reconstructions' of images x (n, *data), of labels y (n,) or None, and 'samples', as far as there are any."""
    found: dict[str, Picture] = {}
    x = x.to(model.device, model.lr.dtype)
    seen: Any = model
    if is_conditional(model):
        if y is None:
            return found
        seen = Conditioned(model, y.to(model.device))
    with evaluation_mode(model, model.device), torch.no_grad():
        with suppress(Unavailable), absence("the model cannot give it"):
            found["reconstructions"] = reconstruction_grid(x, mean_image(seen, sample_posterior(seen, x))[0])
        if seen is model:
            with suppress(Unavailable), absence("the model cannot give it"):
                found["samples"] = sample_grid(model)
    return found
