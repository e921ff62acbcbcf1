"""Pictures of a model as uint8 RGB arrays (h, w, 3): reconstructions, samples, interpolations, traversals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.util import montage
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import Conditioned
from vaebench.evaluation.drawing.canvas import labelled
from vaebench.evaluation.estimators.reconstruction import code, mean_image
from vaebench.evaluation.estimators.samples import sample_images
from vaebench.evaluation.metrics import Picture
from vaebench.functional.tiles import GAP, layout

COLUMNS, PAIRS, ROWS = 10, 4, 8
PAPER = 255
BETWEEN = 9  # decoded images of an interpolation, both ends included
REACH, STOPS = 3, 13  # of a traversal: standard deviations to each side, and images


def reconstruction_grid(x: Tensor, y: Tensor) -> Picture:
    """Rows of images x (n, c, h, w) in [0, 1], each over the row of its reconstructions y."""
    x, y = x[: COLUMNS * PAIRS], y[: COLUMNS * PAIRS]
    rows = [tiles for a, b in zip(x.split(COLUMNS), y.split(COLUMNS), strict=True) for tiles in (a, b)]
    return _grid(rows)


def sample_grid(model: LatentModel) -> Picture:
    """Means of p(x|z) for samples z of the prior, from the current random state; call it inside `evaluation_mode`.

    A likelihood without a mean in closed form gives samples instead.

    Raises:
        Unavailable: the prior cannot be sampled, or the likelihood has neither means nor draws.
    """
    z = model.prior().sample(torch.Size((COLUMNS * ROWS,)))
    return tiled(_decoded(model, z))


def _decoded(model: LatentModel, z: Tensor) -> Tensor:
    with suppress(Unavailable):
        return mean_image(model, z[None])[0]
    return sample_images(model, z)


def tiled(images: Tensor) -> Picture:
    """Rows of images (n, c, h, w) in [0, 1]."""
    return _grid(list(images.split(COLUMNS)))


def class_grid(model: Conditioned) -> Picture:
    """As `sample_grid`, a row for each of the first `COLUMNS` classes among the labels, under its label."""
    classes = model.y.unique()[:COLUMNS]
    views = [Conditioned(model.family, label.expand(COLUMNS)) for label in classes]
    rows = []
    for view in views:
        prior = view.prior()
        z = prior.sample(torch.Size(() if prior.batch_shape else (COLUMNS,)))
        rows.append(_decoded(view, z))
    names = {i: str(int(label)) for i, label in enumerate(classes)}
    return labelled(_grid(rows), _middles(rows, 0, names), {}, "samples of each class")


def interpolation_grid(model: LatentModel, a: Tensor, b: Tensor, seed: int = 0) -> Picture:
    """A row for each pair of images: a, decoded points on the line between their codes, b.

    Args:
        model: the model; call it inside `evaluation_mode`.
        a: images at which the lines start, (m, c, h, w), on the model's device.
        b: images at which they end.
        seed: of the codes, where the posterior has no mean.

    Raises:
        Unavailable: the likelihood has no mean in closed form, or codes are not numbers to be mixed.
    """
    (start, which), (stop, _) = code(model, a, seed), code(model, b, seed)
    require_floats(start)
    places = torch.linspace(0, 1, BETWEEN, dtype=start.dtype, device=start.device)
    between = mean_image(model, torch.stack([torch.lerp(start, stop, t) for t in places]))  # (t, m, *data)
    rows = [torch.cat([x[None], made, y[None]]) for x, made, y in zip(a, between.transpose(0, 1), b, strict=True)]
    names = {0: "image", BETWEEN + 1: "image", **{i + 1: f"{float(places[i]):g}" for i in range(0, BETWEEN, 2)}}
    return labelled(_grid(rows), {}, _middles(rows, 1, names), f"between two images; codes: {which}")


def traversal_grid(
    model: LatentModel, z: Tensor, centre: Tensor, sd: Tensor, units: Sequence[int], names: Sequence[str], title: str
) -> Picture:
    """A row for each unit: decoded codes while the unit moves from −3 to 3 standard deviations.

    Args:
        model: the model; call it inside `evaluation_mode`.
        z: the code that supplies all other units, (*latent).
        centre: middle of each unit's range, (units,).
        sd: its standard deviation, (units,).
        units: indices in the flattened code, one a row.
        names: of the rows.
        title: above all.

    Raises:
        Unavailable: the likelihood has no mean in closed form, or codes are not numbers to be moved.
    """
    require_floats(z)
    stops = torch.linspace(-REACH, REACH, STOPS, dtype=z.dtype, device=z.device)
    moved = z.flatten().repeat(len(units), STOPS, 1)
    for row, unit in enumerate(units):
        moved[row, :, unit] = centre[unit] + stops * sd[unit]
    rows = list(mean_image(model, moved.flatten(0, 1).unflatten(-1, z.shape)[None])[0].split(STOPS))
    columns = {i: f"{float(stops[i]):g} sd" for i in range(0, STOPS, 2)}
    return labelled(_grid(rows), _middles(rows, 0, dict(enumerate(names))), _middles(rows, 1, columns), title)


def require_floats(z: Tensor) -> None:
    """Raises Unavailable unless codes are numbers that can be mixed and moved."""
    if not z.is_floating_point():
        raise Unavailable(f"codes of type {z.dtype} have no neighbourhood")


def _middles(rows: list[Tensor], axis: int, names: dict[int, str]) -> dict[int, str]:
    """Names by the pixel in the middle of the tiles that they name, down (axis 0) or across (1)."""
    step = layout(rows[0].shape)[1 + axis]
    return {i * step + (step + GAP) // 2: name for i, name in names.items()}


def _grid(rows: list[Tensor]) -> Picture:
    """Rows of tiles (m, c, h, w), enlarged by whole numbers so that pixels stay pixels."""
    zoom, columns = layout(rows[0].shape)[0], max(len(row) for row in rows)
    tiles = torch.cat([F.pad(row, (0, 0, 0, 0, 0, 0, 0, columns - len(row)), value=1) for row in rows])
    pixels = rgb(tiles).repeat(zoom, 1).repeat(zoom, 2)
    shape = (len(rows), columns)
    return np.asarray(montage(pixels, [PAPER] * 3, grid_shape=shape, padding_width=GAP, channel_axis=-1))


def rgb(images: Tensor) -> NDArray[np.uint8]:
    """The pixels of images (n, c, h, w) in [0, 1]: (n, h, w, 3)."""
    pixels = (images.float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    return pixels if pixels.shape[-1] == 3 else pixels[..., :1].repeat(3, 3)
