"""Single images as data sets of others hand them over: a picture of Pillow's, an array or a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vaebench.data._prepare import Layout, Levels, Preparation, channels_first, quantised
from vaebench.errors import UserError


def pixels(item: Any, preparation: Preparation, what: str, layout: Layout | None = None) -> Levels:
    """An image's levels, (c, h, w).

    Args:
        item: a picture, or an array or tensor (h, w), (c, h, w) or (h, w, c).
        preparation: what becomes of it; `span` are the values of black and white of arrays and tensors.
        what: it is, for errors.
        layout: of arrays and tensors, where the shape does not say it.

    Raises:
        UserError: it is no image, or `preparation` cannot take it.
    """
    if isinstance(item, Image.Image):
        return preparation.levels(item, what)
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else item
    if not isinstance(array, np.ndarray):
        raise UserError(f"{what} is a {type(item).__name__}: expected a picture, an array or a tensor; convert it")
    levels = quantised(channels_first(array[None], layout, what)[0], preparation.span, 256, what)
    if not preparation.changes:
        return levels
    if len(levels) not in (1, 3):
        raise UserError(
            f"{what} has {len(levels)} channels, of which Pillow crops and resizes 1 or 3; leave out data.crop, "
            "data.resize and data.colour"
        )
    picture = Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, 2))
    return preparation.levels(picture, what)
