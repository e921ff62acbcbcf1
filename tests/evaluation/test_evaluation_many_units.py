"""Codes with thousands of values: collapse by channels of a grid or by a sample, and a forecast of what it takes."""

from __future__ import annotations

import pytest
import torch
from oracles import Data, Parts
from torch import Tensor
from torch.distributions import Distribution

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, Delta, DiagonalNormal
from vaebench.distributions.codes import PointMass
from vaebench.evaluation import forecast as module
from vaebench.evaluation import read_protocol
from vaebench.evaluation.estimators.collapse import FEWEST, IMAGES, shuffled_images
from vaebench.evaluation.estimators.shuffled import MOST, SAMPLED, grouped, shuffled_units
from vaebench.evaluation.forecast import forecast

SHAPE = (1, 8, 8)
X = (torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.5).float()
COLLAPSE = {"likelihood": None, "units": None, "reconstruction": None, "samples": None}


def grid(density: bool = True) -> Parts:
    """Codes of two channels of 8 × 8: the first is the image, and the second is noise that nothing reads."""

    def posterior(x: Tensor) -> Distribution:
        mean = torch.cat([4 * x - 2, torch.zeros_like(x)], 1)
        scale = torch.cat([torch.full_like(x, 0.1), torch.ones_like(x)], 1)
        return DiagonalNormal(mean, scale, 3)

    def likelihood(z: Tensor) -> Distribution:
        logits = 3 * z[..., :1, :, :]
        return Bernoulli(logits, 3) if density else Delta(logits.sigmoid(), 3)

    zeros = torch.zeros(2, 8, 8)
    return Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1, 3), likelihood)


def test_a_dead_channel_is_told_with_and_without_a_density() -> None:
    for density in (True, False):
        found = vb.evaluate(grid(density), Data(X, DataSpec(SHAPE)), "quick", measurements=COLLAPSE).collapse
        assert (found["verdict"], found["units"], found["shuffled"]) == (
            "partial", [1], {"of": "channels", "count": 2}
        )  # fmt: skip
        assert found["signs"] == {"kl": [1], "mean": [1], "decoder": [1]}
        assert "channel 1" in found["sentence"]
        assert found["decoder_drop_whole"] > 10


def test_of_many_units_a_sample_stands_for_all_under_their_own_numbers() -> None:
    """Every tenth of 600 units is read, each for a pixel of its own."""
    units, pixel, read = 600, torch.arange(600) // 10, torch.arange(600) % 10 == 0

    def posterior(x: Tensor) -> Distribution:
        mean = torch.where(read, 4 * x.flatten(1)[:, pixel] - 2, 0.0)
        return DiagonalNormal(mean, torch.where(read, 0.1, 1.0).expand(len(x), units))

    def likelihood(z: Tensor) -> Distribution:
        logits = torch.zeros(*z.shape[:-1], 64).index_add(-1, pixel[read], z[..., read])
        return Bernoulli(logits.unflatten(-1, SHAPE), 3)

    zeros = torch.zeros(units)
    model = Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1), likelihood)
    found = vb.evaluate(model, Data(X, DataSpec(SHAPE)), "quick", measurements=COLLAPSE).collapse
    sample = found["shuffled"]["sample"]
    assert (len(sample), sample[0], sample[-1], found["shuffled"]["count"]) == (SAMPLED, 0, units - 1, units)
    assert found["units"] == found["signs"]["decoder"] == found["signs"]["mean"] == [j for j in sample if j % 10]
    assert f"of {units} units a sample of {SAMPLED}" in found["sentence"]


def test_few_units_are_all_shuffled_and_rates_of_a_channel_are_summed() -> None:
    few = shuffled_units(DiagonalNormal(torch.zeros(3, MOST), torch.ones(3, MOST)), 784)
    assert (few.of, len(few.units)) == ("unit", MOST)
    small = shuffled_units(DiagonalNormal(torch.zeros(3, 4, 4, 4), torch.ones(3, 4, 4, 4), 3), 784)
    assert (small.of, len(small.units)) == ("unit", 64)
    large = shuffled_units(DiagonalNormal(torch.zeros(3, 4, 8, 8), torch.ones(3, 4, 8, 8), 3), 784)
    kl = torch.rand(3, 256)
    assert torch.equal(grouped(kl, large, "kl"), kl.unflatten(1, (4, 64)).sum(-1))


@pytest.mark.parametrize(("side", "count"), [(16, 256), (64, SAMPLED)])
def test_of_256_codes_of_large_images_a_sample_is_shuffled(
    monkeypatch: pytest.MonkeyPatch, side: int, count: int
) -> None:
    """A VQModel of 16 × 16 places took 406 s, most of it for 258 passes of the decoder over 500 images."""
    book, values = torch.eye(4)[None], 3 * side**2
    q = PointMass(book[0].repeat(2, 64, 1).flatten(1), book, 256)
    chosen = shuffled_units(q, values)
    assert (len(chosen.units), chosen.total) == (count, 256)
    monkeypatch.setattr(module, "WORTH", 0.0)
    data = Data(torch.zeros(40, 3, side, side), DataSpec((3, side, side)))
    model = Parts(
        lambda x: PointMass(book[0].repeat(len(x), 64, 1).flatten(1), book, 256),
        lambda: PointMass(q.point[0], book, 256),
        lambda z: Delta(torch.zeros(*z.shape[:2], 3, side, side), 3),
    )
    assert f"{40 * (count + 2):,} for collapse" in forecast(model, data, read_protocol("quick"))


def test_fewer_images_are_shuffled_where_the_decoder_makes_much_for_each() -> None:
    assert [shuffled_images(150, 784), shuffled_images(64, 3072)] == [IMAGES, IMAGES]  # of all records so far
    assert [shuffled_images(64, 3 * 64**2), shuffled_images(64, 3 * 256**2)] == [170, FEWEST]


def test_a_long_evaluation_says_before_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = read_protocol("quick", k=70)
    assert forecast(grid(), Data(X, DataSpec(SHAPE)), protocol) == ""
    monkeypatch.setattr(module, "WORTH", 0.0)
    sentence = forecast(grid(), Data(X, DataSpec(SHAPE)), protocol)
    assert "for 40 images" in sentence
    assert "40 for reconstruction, 160 for collapse, 2,800 for likelihood" in sentence
    assert "likelihood" not in forecast(grid(density=False), Data(X, DataSpec(SHAPE)), protocol)
