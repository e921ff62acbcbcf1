"""Three dots: what the factors say is what the images show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vaebench.data.three_dots import ThreeDots, draw_dots
from vaebench.errors import UserError

DATA = ThreeDots(side=16)
SPLITS = ("train", "val", "test")


def _by_pixel(centres: list[int], side: int) -> list[list[int]]:
    """The image by its definition, a pixel at a time."""
    dots = [(x * side / (side - 1), y * side / (side - 1)) for x, y in zip(centres[::2], centres[1::2], strict=True)]
    return [
        [int(any(math.dist(dot, (i + 0.5, j + 0.5)) < 0.08 * side for dot in dots)) for i in range(side)]
        for j in range(side)
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_shows_dots_where_its_factors_say(split: str) -> None:
    for image, centres in zip(DATA.images(split)[:20], DATA.factors(split)[:20].tolist(), strict=True):
        assert image[0].int().tolist() == _by_pixel(centres, 16)


def test_dots_that_change_places_leave_the_image_as_it_is() -> None:
    """Why no unit can hold a factor over the whole set, and the MIG cannot tell what the local MIG does."""
    centres = DATA.factors("test").numpy()
    swapped = centres[:, [4, 5, 0, 1, 2, 3]]
    assert np.array_equal(draw_dots(centres, 16), draw_dots(swapped, 16))
    assert (swapped != centres).any(1).mean() > 0.99


def test_factors_are_uniform_and_independent_over_all_places() -> None:
    values = torch.cat([DATA.factors(split) for split in SPLITS])
    for column in values.T:
        counts = torch.bincount(column, minlength=16).double()
        expected = len(values) / 16
        assert ((counts - expected) ** 2 / expected).sum() < 37.7, "chi-squared of 15 degrees at 0.1 %"
    assert torch.corrcoef(values.T.double()).fill_diagonal_(0).abs().max() < 4 / len(values) ** 0.5


def test_a_side_too_small_for_a_dot_and_an_unknown_split_are_refused() -> None:
    with pytest.raises(UserError, match="16 pixels or more"):
        ThreeDots(side=15)
    with pytest.raises(UserError, match="split"):
        DATA.factors("tset")
