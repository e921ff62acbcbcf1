"""Pictures show what they say: tiles are what the model decodes, marks lie where the data are, and reasons are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import bits, small
from oracles import Channels, Data, LinearGaussian, OneLatent, Parts, without
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import DiagonalNormal
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.drawing import charts, pictures
from vaebench.evaluation.drawing.canvas import COLOURS, LEFT, TOP, Chart, labelled, ticks
from vaebench.evaluation.estimators.reconstruction import mean_image
from vaebench.evaluation.metrics import Picture
from vaebench.functional import tiles

ALL = {"interpolations", "traversals", "unit_kl", "rate_distortion", "aggregate_posterior"}
BLUE, ORANGE = COLOURS[:2]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@dataclass
class Labelled(Data):
    """Test images with labels."""

    y: Tensor | None = None

    def labels(self, split: str) -> Tensor | None:
        assert split == "test"
        return self.y


def _report(
    model: object, x: Tensor, measure: str = "continuous", y: Tensor | None = None, **settings: int
) -> vb.Report:
    alone = dict.fromkeys(("units", "collapse", "reconstruction", "samples", "likelihood"))
    data = Labelled(x, DataSpec(tuple(x.shape[1:]), measure), y)
    return vb.evaluate(model, data, measurements={**alone, "pictures": settings})


def _tiles(picture: Picture, rows: int, columns: int, size: int) -> np.ndarray:
    """The tiles of a labelled grid of square images, in [0, 1], from its far corner: (rows, columns, size, size)."""
    zoom = max(1, round(tiles.TILE / size))
    step = size * zoom + tiles.GAP
    grid = picture[picture.shape[0] - rows * step :, picture.shape[1] - columns * step :, 0]
    return (
        grid.reshape(rows, step, columns, step)
        .transpose(0, 2, 1, 3)[:, :, : -tiles.GAP : zoom, : -tiles.GAP : zoom]
        .astype(float)
        / 255
    )


def _where(picture: Picture, colour: tuple[int, int, int]) -> np.ndarray:
    """Which pixels are of a colour, (h, w)."""
    return (np.abs(picture.astype(int) - colour).sum(-1) < 12) & (picture.sum(-1) < 700)


# Rows of images ---------------------------------------------------------------------------------------------------


def test_an_interpolation_mixes_codes_between_its_two_images() -> None:
    model = LinearGaussian(latent=3)
    a, b = model.images(6).split(3)
    with evaluation_mode(model, torch.device("cpu")):
        picture = pictures.interpolation_grid(model, a, b)
        ends = [mean_image(model, model.posterior(x).mean[None])[0].clamp(0, 1) for x in (a, b)]
    tiles = _tiles(picture, 3, pictures.BETWEEN + 2, 4)
    np.testing.assert_allclose(tiles[:, 0], a[:, 0], atol=0.5 / 255)
    np.testing.assert_allclose(tiles[:, -1], b[:, 0], atol=0.5 / 255)
    np.testing.assert_allclose(tiles[:, 1], ends[0][:, 0], atol=0.51 / 255)
    np.testing.assert_allclose(tiles[:, -2], ends[1][:, 0], atol=0.51 / 255)
    middle = 1 + pictures.BETWEEN // 2
    np.testing.assert_allclose(tiles[:, middle], (ends[0] + ends[1])[:, 0] / 2, atol=0.51 / 255)


def test_a_traversal_moves_one_unit_from_minus_three_to_three_deviations() -> None:
    model = Channels([1, 1, 1, 1], [1, 1, 1, 1])
    z = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64)
    centre, sd = torch.tensor([0, 0.5, 0, 0]).double(), torch.tensor([1, 0.1, 1, 1]).double()
    square = Parts(model.posterior, model.prior, lambda z: _square(model, z))
    with evaluation_mode(model, torch.device("cpu")):
        picture = pictures.traversal_grid(square, z, centre, sd, [1, 3], ["b", "d"], "title")
    tiles = _tiles(picture, 2, pictures.STOPS, 2).reshape(2, pictures.STOPS, 4)
    stops = torch.linspace(-3, 3, pictures.STOPS, dtype=torch.float64)
    for row, unit in enumerate([1, 3]):
        exact = torch.sigmoid(4 * z).repeat(pictures.STOPS, 1)
        exact[:, unit] = torch.sigmoid(4 * (centre[unit] + stops * sd[unit]))
        np.testing.assert_allclose(tiles[row], exact, atol=0.51 / 255)


def _square(model: Channels, z: Tensor) -> torch.distributions.Distribution:
    p = model.likelihood(z)
    return DiagonalNormal(
        p.mean.unflatten(-1, (2, 2)).squeeze(-3), torch.ones(()).double().expand(*z.shape[:-1], 1, 2, 2), 3
    )


def test_labels_leave_the_pixels_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    page = labelled(image, {10: "a row"}, {20: "a column"}, "a title that is longer than the picture is wide")
    left = next(x for x in range(page.shape[1]) if np.array_equal(page[-37:, x : x + 51], image))
    assert page[:, :left].min() < 100  # the row's name
    assert page[:-37, left:].min() < 100  # the column's and the title


# Charts -----------------------------------------------------------------------------------------------------------


def test_a_mark_lies_where_its_value_is() -> None:
    chart = Chart((-1, 4), (10, 30), "x", "y", "")
    chart.dots([(0, 25)], BLUE, 6, 255)
    chart.bar((2, 3), (10, 15), ORANGE)
    picture = chart.picture()
    (width, height), (down, across) = chart.size, np.nonzero(_where(picture, BLUE))
    assert across.mean() + 0.5 == pytest.approx(LEFT + 0.2 * width, abs=0.5)
    assert down.mean() + 0.5 == pytest.approx(TOP + 0.25 * height, abs=0.5)
    down, across = np.nonzero(_where(picture, ORANGE))
    assert (across.min(), across.max() + 1) == pytest.approx((LEFT + 0.6 * width, LEFT + 0.8 * width), abs=1)
    assert (down.min(), down.max() + 1) == pytest.approx((TOP + 0.75 * height, TOP + height), abs=2)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 3.1), (71.3, 99), (0, 1e-4), (12_000, 57_000), (-1e-9, 1e-9)])
def test_ticks_are_round_evenly_spaced_and_labelled_by_their_value(low: float, high: float) -> None:
    found = ticks(low, high)
    places = [place for place, _ in found]
    step = np.diff(places).mean()
    assert 3 <= len(found) <= 7
    assert np.diff(places) == pytest.approx(step)
    assert min(abs(step / 10 ** np.floor(np.log10(step * 1.0001)) - m) for m in (1, 2, 5)) < 1e-6
    assert low - step < places[0] - 1e-9 * step <= places[-1] - 1e-9 * step <= high
    assert [float(label.replace(",", "")) for _, label in found] == pytest.approx(places, abs=step * 1e-6)


def test_bars_are_sorted_and_as_high_as_the_logarithm_of_their_rate() -> None:
    kl = torch.tensor([0.1, 0.0, 1.0, 0.002, 5.0]).double()
    picture = charts.unit_bars(kl, threshold=0.01)
    blue = _where(picture, BLUE)
    columns = blue.any(0).nonzero()[0]
    bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(bars) == 3
    heights = [np.ptp(blue[:, bar].any(1).nonzero()[0]) + 1 for bar in bars]
    decade = 260 / 4  # the axis goes from 0.001 to 10
    assert heights == pytest.approx([decade * np.log10(v / 0.001) for v in (5, 1, 0.1)], abs=2)


def test_bars_of_a_collapsed_model_can_be_drawn() -> None:
    assert not _where(charts.unit_bars(torch.zeros(4)), BLUE).any()


def test_models_of_one_bound_lie_on_a_falling_diagonal() -> None:
    picture = charts.rate_distortion_plane(20, 80, [(30, 70), (30, 70)])
    centres = [np.array([axis.mean() for axis in np.nonzero(_where(picture[TOP + 60 :], c))]) for c in (BLUE, ORANGE)]
    down, across = centres[1] - centres[0]
    assert down > 50
    assert down == pytest.approx(across, abs=1)


def test_a_curve_from_far_above_does_not_squash_the_rest() -> None:
    picture = charts.rate_distortion_plane(25, 72, [(0, 5000), (5, 120), (20, 60)])[TOP + 60 :]
    ends = [np.nonzero(_where(picture, colour))[0] for colour in (BLUE, ORANGE)]
    assert ends[1].max() - ends[0].max() > 30  # of 360 pixels, for 12 nats


@pytest.mark.parametrize(("rate", "distortion"), [(0, 206.6), (25, -1200), (1e-6, 0), (900, 1e5)])
def test_a_model_anywhere_is_in_its_picture(rate: float, distortion: float) -> None:
    size = _where(charts.rate_distortion_plane(rate, distortion), BLUE).sum()
    assert size > 50


def test_principal_components_do_not_see_a_rotation() -> None:
    z, prior = torch.randn(60, 4).double() * torch.tensor([3, 2, 0.5, 0.2]), torch.randn(60, 4).double()
    turn = torch.linalg.qr(torch.randn(4, 4).double())[0]
    one, other = _dots(z, prior), _dots(z @ turn, prior @ turn)
    flips = [other, other[::-1], other[:, ::-1], other[::-1, ::-1]]
    assert max((one & flip).sum() / one.sum() for flip in flips) > 0.95


def _dots(z: Tensor, prior: Tensor) -> np.ndarray:
    inside = charts.aggregate_plane(z, prior)[TOP : TOP + 400, LEFT + 1 : LEFT + 401].astype(int)
    return (inside[..., 2] - inside[..., 0]) > 60


def test_the_two_units_of_the_largest_rate_are_shown() -> None:
    z, prior = torch.randn(50, 3), torch.randn(50, 3)
    kl = torch.tensor([2.0, 0.1, 1.0])
    shown = charts.aggregate_plane(z, prior, kl)
    assert np.array_equal(shown, charts.aggregate_plane(z * torch.tensor([1, 9, 1]), prior, kl))
    assert not np.array_equal(shown, charts.aggregate_plane(z * torch.tensor([1, 1, 9]), prior, kl))


@pytest.mark.parametrize("count", [1, 10, 11, 40])
def test_labels_have_colours_of_their_own(count: int) -> None:
    assert len(set(charts._colours(count))) == count


# The measurement --------------------------------------------------------------------------------------------------


def test_all_are_drawn_and_drawn_again_alike() -> None:
    model, x = small("vae"), bits(30)
    first, second = (_report(model, x, "binary", torch.arange(30) % 3) for _ in range(2))
    assert set(first.pictures) == ALL
    assert first.tables == {"pictures_left_out": {}}
    for name, picture in first.pictures.items():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert np.array_equal(picture, second.pictures[name])
    plain = _report(model, x, "binary")
    differ = {name for name in ALL if not np.array_equal(first.pictures[name], plain.pictures[name])}
    assert differ == {"aggregate_posterior"}


def test_only_what_is_wanted_is_drawn() -> None:
    off = dict.fromkeys(ALL - {"unit_kl"}, False)
    assert set(_report(small("vae"), bits(5), "binary", **off).pictures) == {"unit_kl"}


def test_traversals_go_by_rate() -> None:
    model = Channels([0, 1, 0, 0], [1, 1, 1, 1], idle_scale=0.9)
    square = Parts(model.posterior, model.prior, lambda z: _square(model, z))
    x = model.images(40)

    def posterior(x: Tensor) -> torch.distributions.Distribution:
        return model.posterior(x.flatten(1).unflatten(-1, (1, 1, 4)))

    square.posterior = posterior
    picture = _report(square, x.reshape(-1, 1, 2, 2)).pictures["traversals"]
    tiles = _tiles(picture, 4, pictures.STOPS, 2).reshape(4, pictures.STOPS, 4)
    moved = np.ptp(tiles, axis=1).argmax(-1)
    assert moved[0] == 1
    assert np.ptp(tiles, axis=1).max(-1).min() > 0.9


def test_what_the_model_cannot_give_is_left_out_with_the_reason() -> None:
    model = LinearGaussian(orthogonal=True)
    found = _report(without(model, likelihood="mean"), model.images(8))
    assert set(found.pictures) == {"unit_kl", "rate_distortion", "aggregate_posterior"}
    left_out = found.tables["pictures_left_out"]
    assert set(left_out) == {"interpolations", "traversals"}
    assert all("no mean in closed form" in reason for reason in left_out.values())
    assert json.loads(json.dumps(found.tables)) == found.tables


def test_without_rates_of_units_codes_are_shown_by_their_components() -> None:
    model = LinearGaussian(latent=3)  # a full covariance has no units
    found = _report(model, model.images(8))
    assert set(found.pictures) == ALL - {"unit_kl"}
    assert "factorise" in found.tables["pictures_left_out"]["unit_kl"]
    opaque = without(Parts(model.posterior, model.prior, model.likelihood), posterior="mean", prior="log_prob")
    assert "interpolations" in _report(opaque, model.images(8)).pictures


def test_what_is_not_finite_is_not_drawn() -> None:
    two = Channels([1, 1], [1, 1])

    def posterior(x: Tensor) -> torch.distributions.Distribution:
        mean = two.posterior(x).mean / (x.flatten(1).sum(1, keepdim=True) > 0)
        return DiagonalNormal(mean, torch.ones_like(mean))

    found = _report(Parts(posterior, two.prior, two.likelihood), torch.zeros(2, 1, 1, 2), "binary")
    assert found.tables["pictures_left_out"] == {
        "unit_kl": "rates of units are not all finite",
        "rate_distortion": "rate and distortion are not all finite",
        "aggregate_posterior": "codes are not all finite",
    }


def test_one_unit_and_one_image_leave_little_to_draw() -> None:
    model = OneLatent()
    found = _report(model, model.images(8), "binary")
    assert found.tables["pictures_left_out"] == {"aggregate_posterior": "one latent unit spans no plane"}
    found = _report(small("vae"), bits(1), "binary")
    assert found.tables["pictures_left_out"] == {
        "interpolations": "one image makes no pair",
        "traversals": "one image has no variance",
        "aggregate_posterior": "one image has no variance",
    }


def test_colour_images_and_latents_of_any_shape() -> None:
    flat = LinearGaussian((3, 4, 4), latent=4)

    def posterior(x: Tensor) -> torch.distributions.Distribution:
        mean = flat.posterior(x).mean.unflatten(-1, (2, 2))
        return DiagonalNormal(mean, torch.ones_like(mean), 2)

    zeros = torch.zeros(2, 2, dtype=torch.float64)
    model = Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1, 2), lambda z: flat.likelihood(z.flatten(-2)))
    found = _report(model, flat.images(12))
    assert set(found.pictures) == ALL
    coloured = found.pictures["interpolations"].astype(int)
    assert np.abs(coloured[..., 0] - coloured[..., 2]).max() > 50


def test_the_prior_is_drawn_below_the_codes() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    covered, free = _dots(z, z), _dots(z, z[:1])
    assert covered.sum() > 0.95 * free.sum() > 20
