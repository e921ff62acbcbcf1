"""The grid of shapes: what the factors say is what the images show."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from vaebench.data import shapes
from vaebench.data.shapes import Shapes
from vaebench.errors import UserError

SPLITS = ("train", "val", "test")
DATA = Shapes()
FACTORS = torch.cat([DATA.factors(split) for split in SPLITS])
IMAGES = torch.cat([DATA.images(split) for split in SPLITS])[:, 0]
GRID = torch.arange(64.0)


def _centroid(images: torch.Tensor) -> torch.Tensor:
    """Centre of the white pixels, (n, 2) as (x, y)."""
    mass = images.sum((1, 2))
    return torch.stack([(images.sum(1) * GRID).sum(1), (images.sum(2) * GRID).sum(1)], 1) / mass[:, None]


def test_every_combination_of_factors_comes_exactly_once() -> None:
    sizes = tuple(Shapes.FACTORS.values())
    flat = np.ravel_multi_index(tuple(FACTORS.numpy().T), sizes)
    assert sorted(flat) == list(range(np.prod(sizes)))


def test_every_image_follows_from_its_factors_alone() -> None:
    """Against the whole grid in its order: image and factors of a split belong together."""
    grid = torch.from_numpy(shapes.draw_shapes(*Shapes.FACTORS.values()))[:, 0]
    flat = np.ravel_multi_index(tuple(FACTORS.numpy().T), tuple(Shapes.FACTORS.values()))
    assert torch.equal(IMAGES.to(torch.uint8), grid[flat])


def test_x_and_y_move_the_shape_and_change_nothing_else() -> None:
    """Images of one shape, scale and rotation have one centroid less their place, which is linear in x and y."""
    order = np.ravel_multi_index(tuple(FACTORS.numpy().T), tuple(Shapes.FACTORS.values())).argsort()
    places = torch.linspace(0, 37, 8).round()[FACTORS[:, 3:]]  # 64 pixels less the 27 that a shape may take
    rest = (_centroid(IMAGES) - places)[order].view(144, 64, 2)
    assert (rest - rest[:, :1]).abs().max() < 1e-3
    areas = IMAGES.sum((1, 2))[order].view(144, 64)
    assert torch.equal(areas, areas[:, :1].expand(144, 64)), "none is cut by the border"


def _heart_radius(angle: float) -> float:
    """Where the ray at an angle leaves (x² + y² − 1)³ = x² y³: r² − 1 = r^(5/3) cos^(2/3) sin."""
    right = abs(np.cos(angle)) ** (2 / 3) * np.sin(angle)
    return brentq(lambda r: r * r - 1 - r ** (5 / 3) * right, 0.1, 2.0)


HEART = quad(lambda t: _heart_radius(t) ** 2, -np.pi / 2, np.pi / 2)[0]  # two halves of ∫ r²/2


@pytest.mark.parametrize(("shape", "area"), [(0, 1.4**2), (1, np.pi / 2), (2, HEART / 1.35**2)])
def test_area_grows_with_the_square_of_the_scale(shape: int, area: float) -> None:
    """Square (side 1.4), ellipse (semi-axes 1 and 1/2) and heart, in units of 13 pixels; the last by quadrature."""
    for scale, value in enumerate(np.linspace(0.5, 1, 6)):
        chosen = (FACTORS[:, 0] == shape) & (FACTORS[:, 1] == scale)
        mean = float(IMAGES[chosen].sum((1, 2)).mean())
        assert mean == pytest.approx(area * (13 * value) ** 2, rel=0.03)


def test_rotation_turns_the_ellipse_by_eighths_of_a_right_angle() -> None:
    """Its principal axis, from second moments, against the angle that the factor stands for."""
    chosen = (FACTORS[:, 0] == 1) & (FACTORS[:, 1] == 5)
    images, rotation = IMAGES[chosen], FACTORS[chosen, 2]
    centre = _centroid(images)
    dx, dy = GRID - centre[:, :1], GRID - centre[:, 1:]
    mass = images.sum((1, 2))
    xx, yy = ((images.sum(1) * dx**2).sum(1) / mass, (images.sum(2) * dy**2).sum(1) / mass)
    xy = torch.einsum("nij,ni,nj->n", images, dy, dx) / mass
    angle = torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2) % 180
    assert (angle - 90 * rotation / 8).abs().max() < 2.0


def test_the_images_are_those_that_every_version_draws() -> None:
    """Pinned, so that no other order, size or shape slips in unnoticed."""
    digest = hashlib.sha256(shapes.draw_shapes(3, 2, 3, 2, 2).tobytes()).hexdigest()
    assert digest == "8cbbf86545fee3fe1a5836316032c147889c4c206b886d26274c486c8de2ce6e"
    assert DATA.hashes == Shapes(batch_size=5).hashes


def test_labels_are_the_shape_and_splits_are_known() -> None:
    for split in SPLITS:
        assert torch.equal(DATA.labels(split), DATA.factors(split)[:, 0])
        assert DATA.factors(split).dtype == torch.int64
    with pytest.raises(UserError, match="unknown split 'valid'; did you mean val"):
        DATA.factors("valid")
