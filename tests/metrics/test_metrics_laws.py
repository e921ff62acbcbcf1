"""Laws of all classes of `vaebench.metrics`, in the pattern of torchmetrics' own tests."""

from __future__ import annotations

import copy
import pickle
from inspect import getmembers, isabstract, isclass
from pathlib import Path
from typing import Any

import pytest
import torch
from metric_cases import CASES, CHANNELS, FACTORS, LINEAR, Case, X
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import ClasswiseWrapper, MetricCollection, MetricTracker

from vaebench import metrics

BY_NAME = pytest.mark.parametrize("name", CASES)


def measured(case: Case, sizes: list[int], metric: Any = None) -> Any:
    """The metric after batches of the given sizes."""
    metric = metric or case.metric()
    first = 0
    for size in sizes:
        case.update(metric, slice(first, first + size))
        first += size
    return metric


def figures(metric: Any) -> tuple[Tensor, Tensor]:
    return metric.compute(), metric.standard_error


def close(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    assert_close(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_every_class_has_a_case() -> None:
    classes = {cls for _, cls in getmembers(metrics, isclass) if not isabstract(cls)}
    assert {case.make for case in CASES.values()} == classes


@BY_NAME
def test_any_split_gives_what_the_estimator_says_of_all_images(name: str) -> None:
    case = CASES[name]
    together = figures(measured(case, [case.n]))
    assert_close(together[0], case.whole(), rtol=1e-9, atol=1e-9)
    assert together[0].dtype == torch.float64
    assert bool((together[1] >= 0).all()) == case.error, "a standard error"
    close(figures(measured(case, [7, 1, case.n - 8])), together)


@BY_NAME
def test_a_metric_survives_pickling_copies_and_a_restart(name: str) -> None:
    case = CASES[name]
    expected = figures(measured(case, [case.n]))
    begun = measured(case, [8])
    resumed = case.metric()
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    for metric in (begun.clone(), pickle.loads(pickle.dumps(begun)), resumed):
        case.update(metric, slice(8, case.n))
        close(figures(metric), expected)
    begun.reset()
    close(figures(measured(case, [case.n], begun)), expected)


@BY_NAME
def test_forward_gives_the_figure_of_the_batch_and_goes_on(name: str) -> None:
    case, metric = CASES[name], CASES[name].metric()
    middle = case.n // 2 + 1
    for some in (slice(0, middle), slice(middle, case.n)):
        alone = case.metric()
        case.update(alone, some)
        value = metric(case.model, case.x[some], **{key: values[some] for key, values in case.beside.items()})
        assert_close(value, alone.compute(), rtol=1e-9, atol=1e-9)
    close(figures(metric), figures(measured(case, [case.n])))


def test_two_processes_find_what_one_does(pair: tuple[Any, Path]) -> None:
    """With unequal shares of the images."""
    for name, case in CASES.items():
        expected = figures(measured(case, [case.n]))
        for found, wanted in zip(pair[0]["cases"][name], expected, strict=True):
            assert found == pytest.approx(wanted.flatten().tolist(), rel=1e-9, abs=1e-9, nan_ok=True), name


def test_a_collection_draws_the_samples_of_a_bound_once() -> None:
    names = ["ELBO", "Rate", "Distortion", "ImportanceWeightedLogLikelihood", "UnitRates", "MSE", "PSNR", "SSIM"]
    collection = MetricCollection({name: CASES[name].metric() for name in names})
    for batch in X.split(6):
        collection.update(LINEAR, batch)
    for name, value in collection.compute().items():
        assert_close(value, CASES[name].whole(), rtol=1e-9, atol=1e-9)
    groups = sorted(sorted(group) for group in collection.compute_groups.values())
    assert ["Distortion", "ELBO", "Rate"] in groups
    assert ["MSE", "PSNR"] in groups


def test_a_collection_gives_factors_to_those_that_take_them() -> None:
    collection = MetricCollection([metrics.MIG(), metrics.ActiveUnits(), metrics.PosteriorCollapse()])
    collection.update(CHANNELS, CASES["MIG"].x, factors=FACTORS)
    for name, value in collection.compute().items():
        assert_close(value, CASES[name].whole(), rtol=1e-9, atol=1e-9)


def test_a_tracker_knows_which_epoch_was_best() -> None:
    tracker = MetricTracker(metrics.Distortion(k=4))
    for batch in (X[:5], X[5:10], X[10:15]):
        tracker.increment()
        tracker.update(LINEAR, batch)
    values = tracker.compute_all()
    best, step = tracker.best_metric(return_step=True)
    assert step == int(values.argmin())
    assert best == float(values.min())


def test_units_are_logged_one_by_one() -> None:
    wrapped = ClasswiseWrapper(metrics.UnitRates(), prefix="rate_")
    wrapped.update(LINEAR, X)
    rates = CASES["UnitRates"].whole()
    assert {name: float(value) for name, value in wrapped.compute().items()} == pytest.approx(
        {f"rate_{unit}": float(rate) for unit, rate in enumerate(rates)}
    )


def test_a_figure_and_a_vector_are_drawn() -> None:
    import matplotlib

    matplotlib.use("Agg")
    for name in ("Rate", "UnitRates"):
        figure, _ = measured(CASES[name], [CASES[name].n]).plot()
        matplotlib.pyplot.close(figure)
