"""Images that are more than the memory is meant to hold are read again for every figure, which stays the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vaebench as vb
from vaebench.data import _measure, _stored
from vaebench.data._measure import Drawn, Measure
from vaebench.data.digits import Digits
from vaebench.evaluation import Report, images

ALL = Path(__file__).parents[1] / "every_measurement.yaml"
IN_PARTS = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "codes", "tokenizer"))


class Watched(Digits):
    """Digits that note how many test images were asked for at once."""

    most = 0

    def images(self, split: str) -> Tensor:
        self.most = max(self.most, self.sizes[split] if split == "test" else 0)
        return super().images(split)

    def some(self, split: str, index: Tensor) -> Tensor:
        self.most = max(self.most, len(index) if split == "test" else 0)
        return super().some(split, index)


def same(one: Report, other: Report) -> bool:
    """Whether two reports are equal in every bit."""
    arrays = [(one.per_image, other.per_image), (one.pictures, other.pictures)]
    equal = all(a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a) for a, b in arrays)
    plain = [{k: v for k, v in asdict(report).items() if k not in ("per_image", "pictures")} for report in (one, other)]
    return equal and repr(plain[0]) == repr(plain[1])


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stored, "PART", 500)
    monkeypatch.setattr(_measure, "CHUNK", 200)


@pytest.mark.usefixtures("small_parts")
def test_every_figure_is_that_of_images_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []
    for gib in ("1", "0"):
        monkeypatch.setenv("VAEBENCH_MEMORY", gib)
        torch.manual_seed(0)
        data = Digits("binary")
        model = vb.build("vae", data, latent=3)
        reports.append(vb.evaluate(model, data, ALL, limit=24, progress=False))
    assert same(*reports)


@pytest.mark.usefixtures("small_parts")
def test_no_more_than_a_part_of_the_test_images_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: an evaluation without a limit held all of them, several times."""
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    monkeypatch.setattr(images, "VALUES", 40 * 64)
    data = Watched("continuous")
    model = vb.build("vae", data, latent=3, likelihood="Beta")
    plan = {**IN_PARTS, "likelihood": {"k": 10}, "tokenizer": {"features": "mnist28"}}
    report = vb.evaluate(model, data, measurements=plan, progress=False)
    assert report.protocol["n"] == 300
    assert data.most <= 250


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_any_images_of_a_split_have_the_noise_of_their_place(kind: str) -> None:
    levels = torch.randint(0, 256, (50, 1, 5, 5), dtype=torch.uint8)
    measure = Measure(kind, 256)
    whole, drawn = measure.fixed(levels, 3), Drawn(measure, levels, 3)
    for index in ([49], [0, 1, 2], [30, 3, 30], range(50)):
        assert torch.equal(drawn.at(torch.tensor(index)), whole[index])
