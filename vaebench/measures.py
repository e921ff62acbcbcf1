"""Specification of images: their shape, and the measure of their likelihood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vaebench.errors import UserError

Shape = tuple[int, ...]

BINARY, DISCRETE, CONTINUOUS = "binary", "discrete", "continuous"


class DataSpec:
    """Shape and measure of the images a model is built for, and the mean of its training images.

    Images are float tensors of shape (b, *shape) with values in [0, 1], whatever the measure:

    - ``binary``: counting measure on {0, 1}^D;
    - ``discreteN``: counting measure on the N levels {0, 1/(N-1), ..., 1}^D (``discrete256`` for 8-bit images);
    - ``continuous``: Lebesgue measure on [0, 1]^D.

    Args:
        shape: (channels, height, width) of one image.
        measure: one of the names above.
        mean: training mean of every pixel, of shape ``shape``, in [0, 1]; None where only the architecture is needed,
            as for a model from a checkpoint.
        size: number of training images, for minibatch estimators of aggregate quantities.
        examples: some training images, evenly spaced, (m, *shape) in [0, 1], for the initialisation of parts; or None.
        redrawn: whether training images are binarised randomly in every batch, so that none equals an example.

    Raises:
        UserError: the measure is none of those above.
    """

    def __init__(
        self,
        shape: Sequence[int],
        measure: str = BINARY,
        mean: Tensor | None = None,
        size: int | None = None,
        examples: Tensor | None = None,
        redrawn: bool = False,
    ) -> None:
        if measure not in (BINARY, CONTINUOUS) and not re.fullmatch(r"discrete([2-9]|[1-9]\d+)", measure):
            raise UserError(
                f"unknown measure '{measure}': expected 'binary', 'continuous' or 'discreteN' with N ≥ 2 levels; "
                "set data.measure to one of them"
            )
        self.shape: Shape = tuple(shape)
        self.measure = measure
        self.mean = mean
        self.size = size
        self.examples = examples
        self.redrawn = redrawn

    @property
    def kind(self) -> str:
        """The measure without its number of levels: 'binary', 'discrete' or 'continuous'."""
        return DISCRETE if self.measure.startswith(DISCRETE) else self.measure

    @property
    def levels(self) -> int | None:
        """Number of values a pixel can take; None for a continuous one."""
        return {BINARY: 2, CONTINUOUS: None}.get(self.measure) or (
            int(self.measure.removeprefix(DISCRETE)) if self.kind == DISCRETE else None
        )

    @property
    def dimensions(self) -> int:
        """D, the number of values in one image."""
        return int(torch.Size(self.shape).numel())

    @property
    def config(self) -> dict[str, Any]:
        """Plain class_path / init_args of this spec, without the images, for checkpoints and records."""
        return {
            "class_path": "vaebench.measures.DataSpec",
            "init_args": {"shape": list(self.shape), "measure": self.measure, "size": self.size},
        }

    def __repr__(self) -> str:
        return f"DataSpec(shape={self.shape}, measure='{self.measure}')"


def require_kind(who: str, data: DataSpec, kinds: frozenset[str]) -> None:
    """Refuses images of a measure that a family does not support.

    Args:
        who: the family, for the message.
        data: the images.
        kinds: supported kinds of measure.

    Raises:
        UserError: the images have another kind.
    """
    if data.kind not in kinds:
        raise UserError(
            f"{who} takes {' or '.join(sorted(kinds))} images, and these are '{data.measure}'; change data.measure or "
            "choose another family"
        )
