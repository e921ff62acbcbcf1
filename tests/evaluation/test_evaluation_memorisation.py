"""The data-copying test: uniform where nothing is copied, sure where something is, and equal to scipy's ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import LAWFUL, bits, small
from oracles import Data, LinearGaussian, Parts, without
from scipy.spatial.distance import cdist
from scipy.stats import kstest, mannwhitneyu, norm
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import evaluation_mode, is_conditional
from vaebench.evaluation.estimators.memorisation import Copying, copying, nearest_neighbours, partition
from vaebench.evaluation.estimators.samples import posterior_codes, prior_codes, sample_images
from vaebench.functional.tiles import GAP


def _vectors(n: int, seed: int, d: int = 6) -> Tensor:
    """Three clusters of unequal spread."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (n, 1), generator=generator)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * (1 + kind) + 8 * kind


def _judged(samples: Tensor, test: Tensor, train: Tensor, cells: int = 3) -> Copying:
    own, others = partition(train, cells, 0, samples, test)
    return copying(nearest_neighbours(samples, train).distance, nearest_neighbours(test, train).distance, own, others)


def test_neighbours_are_the_nearest() -> None:
    x, train = _vectors(700, 0), _vectors(333, 1)
    found, distances = nearest_neighbours(x, train), cdist(x, train)
    np.testing.assert_array_equal(found.image, distances.argmin(1))
    np.testing.assert_allclose(found.distance, distances.min(1))
    itself = nearest_neighbours(train.float(), train.float())
    assert (itself.distance == 0).all(), "a copy is at no distance, in float32 too"
    assert itself.image.tolist() == list(range(333))


@pytest.mark.parametrize("rounded", [False, True])
def test_within_one_cell_it_is_the_test_of_mann_and_whitney(rounded: bool) -> None:
    """Ties included, as between binary images."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, generator=generator).double() for n in (70, 90))
    a, b = ((t * 8).round() if rounded else t for t in (a * 0.9, b))
    found = copying(a, b, np.zeros(70, int), np.zeros(90, int))
    expected = mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.c_t == pytest.approx(norm.ppf(expected.pvalue))
    assert found.cells == 1


def test_cells_are_weighted_by_their_test_images_and_small_ones_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, generator=generator).double() for n in (75, 120))
    cells, others = np.repeat([0, 1, 2], [30, 40, 5]), np.repeat([0, 1, 2], [80, 20, 20])
    z = [
        norm.ppf(mannwhitneyu(a[cells == c], b[others == c], alternative="less", use_continuity=False).pvalue)
        for c in (0, 1)
    ]
    found = copying(a, b, cells, others)
    assert found.cells == 2
    assert found.c_t == pytest.approx((80 * z[0] + 20 * z[1]) / 100)
    assert found.p == pytest.approx(norm.cdf((80 * z[0] + 20 * z[1]) / math.hypot(80, 20)))
    with pytest.raises(Unavailable, match="no cell holds 20"):
        copying(a[:19], b, cells[:19], others)


@pytest.mark.parametrize("rounded", [False, True])
def test_p_is_uniform_where_samples_are_distributed_as_images(rounded: bool) -> None:
    found = []
    for seed in range(150):
        sets = [_vectors(n, 3 * seed + i) for i, n in enumerate((120, 150, 200))]
        found.append(_judged(*(t.round() for t in sets) if rounded else sets))
    assert kstest([f.p for f in found], "uniform").pvalue > 0.01


def test_one_copied_cell_is_found_among_others() -> None:
    """Samples that keep away elsewhere do not hide it from its own cell's share; copies everywhere are beyond doubt."""
    test, train = _vectors(300, 1), _vectors(400, 2)
    generator = torch.Generator().manual_seed(3)
    noise = 0.1 * torch.randn(300, 6, generator=generator, dtype=torch.float64)
    copies = train[torch.randint(400, (300,), generator=generator)] + noise
    assert _judged(copies, test, train).p < 1e-12
    fresh = _vectors(300, 4)
    partly = torch.where(copies[:, :1] < 4, copies, fresh)
    assert _judged(partly, test, train).p < 1e-3
    assert _judged(fresh, test, train).p > 0.01
    far = _judged(fresh + 3 * noise / 0.1, test, train)
    assert far.p > 0.999
    assert far.c_t > 3, "samples that keep away from real images are no copies"


def test_cells_are_those_of_the_training_images() -> None:
    train, x = _vectors(6000, 0), _vectors(500, 1)
    (cells,) = partition(train, 3, 0, x)
    assert [len(np.unique(cells[mask])) for mask in (x.mean(1).numpy() < 2, x.mean(1).numpy() > 13)] == [1, 1]
    with pytest.raises(Unavailable, match="2 training images are fewer than the 3 cells"):
        partition(train[:2], 3, 0, x)


# The measurement --------------------------------------------------------------------------------------------------


@dataclass
class Splits:
    """A data module with training and test images."""

    train: Tensor
    test: Tensor
    measure: str = "continuous"

    @property
    def spec(self) -> DataSpec:
        return DataSpec(tuple(self.test.shape[1:]), self.measure)

    def images(self, split: str) -> Tensor:
        return {"train": self.train, "test": self.test}[split]


def _measured(model: object, data: Splits) -> vb.Report:
    plan = {"likelihood": None, "units": None, "collapse": None, "reconstruction": None, "samples": None}
    return vb.evaluate(model, data, measurements={**plan, "memorisation": {"samples": 300, "cells": 3}})


def _made(model: LinearGaussian, n: int, seed: int) -> Tensor:
    with evaluation_mode(model, torch.device("cpu")):
        torch.manual_seed(seed)
        return sample_images(model, prior_codes(model, n))


def _copier(model: LinearGaussian, train: Tensor) -> Parts:
    """Shows the training image whose number z comes closest to, with a little noise."""

    def likelihood(z: Tensor) -> torch.distributions.Distribution:
        index = (torch.special.ndtr(z[..., 0]) * len(train)).long().clamp(max=len(train) - 1)
        return torch.distributions.Independent(torch.distributions.Normal(train[index], 1e-3), train.dim() - 1)

    return Parts(model.posterior, model.prior, likelihood)


@pytest.mark.parametrize(("shape", "ends"), [((1, 6, 6), [""]), ((1, 28, 28), ["", "_mnist28"])])
def test_a_copier_is_told_from_the_true_model(shape: tuple[int, ...], ends: list[str]) -> None:
    model = LinearGaussian(shape, orthogonal=True, sigma=0.1)
    data = Splits(_made(model, 200, 1), _made(model, 250, 2))
    honest, copied = _measured(model, data), _measured(_copier(model, data.train), data)
    for end in ends:
        assert honest.metrics[f"copying_p{end}"].value > 0.01
        assert honest.metrics[f"nearest_train_ratio{end}"].value == pytest.approx(1, abs=0.2)
        assert copied.metrics[f"copying_p{end}"].value < 1e-10
        assert copied.metrics[f"copying_c_t{end}"].value < -5
        assert copied.metrics[f"nearest_train_ratio{end}"].value < 0.1
        assert "300 draws" in copied.metrics[f"copying_p{end}"].definition
        assert "250 test and 200 training images" in copied.metrics[f"copying_p{end}"].definition
    assert honest.warnings == []
    assert len([w for w in copied.warnings if "the model copies" in w]) == len(ends)
    if "_mnist28" not in ends:
        assert "1 × 28 × 28" in honest.metrics["copying_p_mnist28"].unavailable


def test_the_picture_shows_the_closest_samples_over_their_training_images() -> None:
    model = LinearGaussian((1, 28, 28), orthogonal=True, sigma=0.1)
    data = Splits(_made(model, 50, 1), _made(model, 60, 2))
    page = _measured(_copier(model, data.train), data).pictures["nearest_train"].astype(float)
    tile = 56
    assert page.shape == (8 * (tile + GAP) + GAP, 10 * (tile + GAP) + GAP, 3)
    above, below = (page[GAP + row * (tile + GAP) :][:tile] for row in (0, 1))
    assert np.abs(above - below).mean() < 1, "copies differ from what they copy by a little noise"
    honest = _measured(model, data).pictures["nearest_train"].astype(float)
    above, below = (honest[GAP + row * (tile + GAP) :][:tile] for row in (0, 1))
    assert np.abs(above - below).mean() > 10


@pytest.mark.parametrize("spoil", ["prior", "few", "nan"])
def test_reasons_stand_where_the_test_cannot_be_made(spoil: str) -> None:
    model = LinearGaussian((1, 6, 6), orthogonal=True)
    data = Splits(_made(model, 30, 1), _made(model, 40, 2))
    change: dict[str, Callable[[], object]] = {
        "prior": lambda: without(model, prior="rsample"),
        "few": lambda: model,
        "nan": lambda: _copier(model, data.train * torch.nan),
    }
    expected = {"prior": "cannot be sampled", "few": "no cell holds 20", "nan": "not finite"}
    if spoil == "few":
        data.test = data.test[:10]
    report = _measured(change[spoil](), data)
    for name in ("copying_c_t", "copying_p"):
        assert expected[spoil] in report.metrics[name].unavailable
    assert report.metrics["copying_p_mnist28"].unavailable


@pytest.mark.parametrize("name", LAWFUL)
def test_every_family_is_judged_or_says_why_not(name: str) -> None:
    model = small(name)
    if is_conditional(model):
        alone = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
        data = Data(bits(50), model.data, torch.zeros(50, dtype=torch.long))
        found = vb.evaluate(model, data, measurements={**alone, "memorisation": {}})
        assert "does not support the labels of a conditional model" in found.metrics["copying_p"].unavailable
        return
    data = Splits(bits(60), bits(50, seed=2), model.data.measure)
    with evaluation_mode(model, torch.device("cpu")):
        again = sample_images(model, posterior_codes(model, data.test))
    assert again.shape == data.test.shape
    assert model.data.kind != "binary" or set(again.unique().tolist()) <= {0, 1}, "draws of bits are bits"
    assert again.min() >= 0
    assert again.max() <= 1
    plan = {"likelihood": None, "units": None, "collapse": None, "reconstruction": None, "samples": None}
    settings = {"fidelity": {"samples": 40}, "memorisation": {"samples": 40, "cells": 1}}
    report = vb.evaluate(model, data, measurements={**plan, **settings})
    for metric in report.metrics.values():
        assert (metric.value is None) == bool(metric.unavailable)
    assert 0 <= report.metrics["copying_p"].value <= 1
