"""Pictures of a model: what it makes of test images, and what it dreams up. uint8 RGB arrays (h, w, 3)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.reconstruction import mean_image

Picture = NDArray[np.uint8]

COLUMNS, PAIRS, ROWS = 10, 4, 8
TILE = 56  # pixels; smaller images are enlarged to about that
GAP, PAPER = 2, 255


def reconstruction_grid(x: Tensor, y: Tensor) -> Picture:
    """Rows of images x (n, c, h, w) in [0, 1], each over the row of its reconstructions y."""
    x, y = x[: COLUMNS * PAIRS], y[: COLUMNS * PAIRS]
    rows = [tiles for a, b in zip(x.split(COLUMNS), y.split(COLUMNS), strict=True) for tiles in (a, b)]
    return _grid(rows)


def sample_grid(model: LatentModel) -> Picture:
    """The means of p(x|z) for samples z of the prior, from the present random state; call it inside `quiet`.

    Raises:
        NotImplementedError: the prior cannot be sampled, or the likelihood has no mean in closed form.
    """
    z = model.prior().sample(torch.Size((COLUMNS * ROWS,)))
    return _grid(list(mean_image(model, z[None])[0].split(COLUMNS)))


def _grid(rows: list[Tensor]) -> Picture:
    """Rows of up to COLUMNS tiles (m, c, h, w), enlarged by whole numbers so that pixels stay pixels."""
    _, channels, height, width = rows[0].shape
    zoom = max(1, round(TILE / max(height, width)))
    down, across = height * zoom + GAP, width * zoom + GAP
    columns = max(len(row) for row in rows)
    page = np.full((len(rows) * down + GAP, columns * across + GAP, 3), PAPER, np.uint8)
    for i, row in enumerate(rows):
        pixels = (row.float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
        pixels = pixels.repeat(zoom, 1).repeat(zoom, 2)
        for j, tile in enumerate(pixels if channels == 3 else pixels[..., :1]):
            top, left = GAP + i * down, GAP + j * across
            page[top : top + down - GAP, left : left + across - GAP] = tile
    return page
