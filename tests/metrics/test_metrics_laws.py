"""Laws of all classes of `vaebench.metrics`, in the pattern of torchmetrics' own tests."""

from __future__ import annotations

import copy
import pickle
from collections import ChainMap
from importlib import import_module
from inspect import getmembers, isabstract, isclass
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
import torch
from metric_cases import CASES, CHANNELS, FACTORS, LINEAR, MANY, Case, X
from oracles import LinearGaussian
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import ClasswiseWrapper, MetricCollection, MetricTracker

from vaebench import metrics
from vaebench.evaluation import measurements
from vaebench.metrics.base import WholeMetric

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
    before = torch.random.get_rng_state()
    together = figures(measured(case, [case.n]))
    assert torch.equal(torch.random.get_rng_state(), before), "a training goes on with its own noise"
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
    collection = MetricCollection(
        {name: CASES[name].metric() for name in ("ImportanceWeightedLogLikelihood", "BitsPerDim")}
    )
    collection.update(CHANNELS, CASES["BitsPerDim"].x)
    assert len(collection.compute_groups) == 1


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


def test_a_collection_computes_with_the_model_that_it_was_updated_with() -> None:
    """Defect: torchmetrics updates one of several metrics with equal states, and the others kept an earlier model."""
    whole = (name for name, case in CASES.items() if issubclass(case.make, WholeMetric))
    cases = {name: CASES[name] for name in whole if CASES[name].model is LINEAR}
    collection = MetricCollection({name: case.metric() for name, case in cases.items()})
    darker = LinearGaussian((1, 12, 12), orthogonal=True, stretch=3, shift=-0.1)
    for model in (LINEAR, darker):
        collection.reset()
        collection.update(model, MANY)
        found = collection.compute()
    for name, case in cases.items():
        alone = case.metric()
        alone.update(darker, MANY)
        assert_close(found[name], alone.compute(), rtol=1e-9, atol=1e-9)


RECORDED = {
    "ELBO": "elbo", "Rate": "rate", "Distortion": "distortion", "ImportanceWeightedLogLikelihood": "log_likelihood",
    "BitsPerDim": "bits_per_dim", "ActiveUnits": "active_units", "CodebookUsage": "code_usage", "MIG": "mig",
    "SAP": "sap", "DCI": "dci_disentanglement", "MutualInformation": "information", "MSE": "mse", "PSNR": "psnr",
    "TotalCorrelation": "total_correlation", "SSIM": "ssim", "MSSSIM": "ms_ssim", "LPIPS": "lpips", "FID": "fid",
    "KID": "kid", "InceptionScore": "inception_score", "SamplePrecision": "precision_mnist28",
    "SampleRecall": "recall_mnist28", "SampleDensity": "density_mnist28", "SampleCoverage": "coverage_mnist28",
    "UnitRates": "rate",
}  # fmt: skip


def test_the_better_end_is_that_of_records() -> None:
    """Of the harness's metric of the same name; the verdict on collapse has none, and fewer units are better."""
    modules = [import_module(f"{measurements.__name__}.{found.name}") for found in iter_modules(measurements.__path__)]
    kinds = ChainMap(*(vars(module).get("KINDS", {}) for module in modules))
    ends = {name: kinds[record].higher_is_better for name, record in RECORDED.items()} | {"PosteriorCollapse": False}
    assert {case.make.__name__: case.make.higher_is_better for case in CASES.values()} == ends


@BY_NAME
def test_every_figure_is_drawn(name: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    metric = measured(CASES[name], [CASES[name].n])
    figure, axes = metric.plot()
    drawn = [y for line in axes.get_lines() for y in line.get_ydata()]
    assert np.allclose(sorted(drawn), sorted(metric.compute().flatten().tolist()))
    matplotlib.pyplot.close(figure)
