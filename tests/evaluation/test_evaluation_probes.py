"""Classifiers on codes and pixels: exact where the answer is known, and those of scikit-learn."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from oracles import without
from scipy.stats import norm
from splits import Splits, encoder
from torch import Tensor

import vaebench as vb

NONE = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
NAMES = ("linear_probe_accuracy", "knn_accuracy")


def _data(train: int = 600, test: int = 400, gap: float = 0.3, labels: int = 2) -> Splits:
    """Labels move the first of four pixels by `gap`, in noise of standard deviation 0.1; the others are noise alone."""
    generator = torch.Generator().manual_seed(0)
    y = {"train": torch.arange(train) % labels, "test": torch.arange(test) % labels}
    x = {}
    for split, label in y.items():
        noise = torch.randn(len(label), 4, generator=generator, dtype=torch.float64) / 10
        noise[:, 0] += label * gap
        x[split] = (0.4 + noise).clamp(0, 1).reshape(-1, 1, 2, 2)
    return Splits(x, y=y)


def _report(data: Splits, model: Any, **settings: Any) -> vb.Report:
    return vb.evaluate(model, data, measurements={**NONE, "probes": settings})


def test_the_linear_probe_reaches_bayes_and_no_more() -> None:
    found = _report(_data(2000, 2000, gap=0.2), encoder(lambda x: x[:, :2], 2))
    bayes = norm.cdf(0.2 / 0.1 / 2)
    accuracy = found.metrics["linear_probe_accuracy"]
    assert accuracy.value == pytest.approx(bayes, abs=4 * accuracy.se)
    assert accuracy.se == pytest.approx((bayes * (1 - bayes) / 2000) ** 0.5, rel=0.1)
    assert found.metrics["knn_accuracy"].value < bayes + 2 * accuracy.se
    assert found.per_image["linear_probe_accuracy"].mean() == pytest.approx(accuracy.value)


def test_codes_that_know_nothing_are_at_chance_while_pixels_are_not() -> None:
    found = _report(_data(gap=0.6), encoder(lambda x: x[:, 2:], 2))
    table = found.tables["probes"]
    for name in NAMES:
        assert found.metrics[name].value == pytest.approx(0.5, abs=4 * found.metrics[name].se)
        assert table[name]["pixels"]["accuracy"] > 0.98
        assert table[name]["codes"] == {"accuracy": found.metrics[name].value, "se": found.metrics[name].se}


def test_the_linear_probe_does_not_feel_scale_and_the_neighbours_do() -> None:
    data = _data()
    plain = _report(data, encoder(lambda x: x, 4)).metrics
    scaled = _report(data, encoder(lambda x: x * torch.tensor([1e-3, 1.0, 1e3, 1.0]), 4)).metrics
    assert scaled["linear_probe_accuracy"].value == pytest.approx(plain["linear_probe_accuracy"].value, abs=1e-9)
    assert scaled["knn_accuracy"].value < plain["knn_accuracy"].value - 0.2


def test_neighbours_vote_as_in_the_books() -> None:
    data = _data(90, 60, labels=3)
    codes = {split: x.flatten(1).numpy() for split, x in data.x.items()}
    distance = np.linalg.norm(codes["test"][:, None] - codes["train"], axis=-1)
    votes = data.y["train"].numpy()[distance.argsort(1)[:, :7]]
    right = [np.bincount(row, minlength=3).argmax() == y for row, y in zip(votes, data.y["test"].tolist(), strict=True)]
    found = _report(data, encoder(lambda x: x, 4), k=7)
    assert found.per_image["knn_accuracy"].tolist() == [float(hit) for hit in right]
    assert found.metrics["knn_accuracy"].definition.startswith("accuracy of the 7 nearest neighbours")


def test_a_subset_of_the_training_images_is_spread_over_the_split() -> None:
    """Sorted by label, the first 100 training images know one label alone."""
    data = _data(gap=0.6)
    order = data.y["train"].argsort(stable=True)
    data.x["train"], data.y["train"] = data.x["train"][order], data.y["train"][order]
    found = _report(data, encoder(lambda x: x, 4), train=100).metrics
    for name in NAMES:
        assert found[name].value > 0.98
        assert "learnt from 100 training images" in found[name].definition


def test_without_probes_there_is_a_reason() -> None:
    data = _data(20, 10)

    def reasons(x: dict[str, Tensor], y: Any, model: Any, **settings: Any) -> set[str | None]:
        return {metric.unavailable for metric in _report(Splits(x, y=y), model, **settings).metrics.values()}

    plain = encoder(lambda x: x, 4)
    assert reasons(data.x, None, plain) == {"the data has no labels"}
    same = {split: 0 * y for split, y in data.y.items()}
    assert reasons(data.x, same, plain) == {"the training images have a single label"}
    assert reasons(data.x, data.y, plain, k=21) == {"20 training images are fewer than 21 neighbours"}
    (reason,) = reasons(data.x, data.y, without(plain, posterior="mean"))
    assert "no mean" in reason


def test_guessing_stands_beside_the_probes_and_labels_that_training_lacks_are_named() -> None:
    data = _data(labels=3)
    data.y["test"] = data.y["test"].clone()
    data.y["test"][:7] = 8
    found = _report(data, encoder(lambda x: x, 4))
    assert found.metrics["majority_accuracy"].value == pytest.approx(float((data.y["test"] == 0).double().mean()))
    (warning,) = found.warnings
    assert "7 of 400 test images have labels that no training image has (the first is 8)" in warning


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y: y.double(), None),
        (lambda y: y + 0.3, "the labels are no whole numbers"),
        (lambda y: torch.stack([y, y], 1), r"the labels have shape \(600, 2\)"),
    ],
)
def test_odd_labels_are_a_reason_and_no_crash(change: Any, reason: str | None) -> None:
    data = _data()
    data.y = {split: change(y) for split, y in data.y.items()}
    found = _report(data, encoder(lambda x: x, 4)).metrics
    for name in (*NAMES, "majority_accuracy"):
        assert (found[name].value is not None) == (reason is None)
        assert reason is None or re.search(reason, found[name].unavailable)
