"""What single classes of `vaebench.metrics` promise, their standard errors, and use in a LightningModule."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SPEC, small
from metric_cases import CHANNELS, LINEAR, X
from oracles import Channels, Data, LinearGaussian, Parts, without
from plain_vae import K, images, plain_vae, trained
from splits import Splits
from torch import nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily
from torchmetrics import ClasswiseWrapper, MetricCollection, MetricTracker
from weight_files import write_alexnet, write_inception

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import DiagonalNormal
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation import Protocol
from vaebench.evaluation.estimators.codes import usage, usage_error
from vaebench.evaluation.estimators.features import WEIGHTS
from vaebench.evaluation.estimators.lpips import ALEXNET
from vaebench.evaluation.estimators.moments import Moments, average, count_error
from vaebench.metrics import (
    DCI,
    ELBO,
    FID,
    KID,
    LPIPS,
    MIG,
    MSE,
    MSSSIM,
    PSNR,
    SAP,
    SSIM,
    ActiveUnits,
    BitsPerDim,
    Distortion,
    ImportanceWeightedLogLikelihood,
    InceptionScore,
    MutualInformation,
    PosteriorCollapse,
    Rate,
    SampleCoverage,
    SampleDensity,
    SamplePrecision,
    SampleRecall,
    TotalCorrelation,
    UnitRates,
)


def recorded(model: Any) -> Any:
    """What the harness says of the images that the module was validated on."""
    plan = Protocol("own", 0, None, {"likelihood": {"k": K}, "units": {}, "collapse": {}})
    return vb.evaluate(model, Data(images()), plan, progress=False)


def agree(logged: dict[str, float], error: float, report: Any) -> None:
    """To 1e-6, with some unit that is active."""
    assert logged["val/log_likelihood"] == pytest.approx(report.metrics["log_likelihood"].value, abs=1e-6)
    assert logged["val/active"] == report.metrics["active_units"].value > 0
    assert logged["val/collapse"] == len(report.collapse["units"])
    assert error == pytest.approx(report.metrics["log_likelihood"].se, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_plain_lightning_module_logs_what_the_harness_records() -> None:
    model, logged = trained()
    report = recorded(model)
    agree(logged, float(model.log_likelihood.standard_error), report)
    assert model.collapse.verdict == report.collapse


def test_a_plain_lightning_module_of_two_processes_logs_what_the_harness_records(pair: tuple[Any, Path]) -> None:
    (found, folder), model = pair, plain_vae()
    weights = torch.load(folder / "weights.pt", weights_only=True)
    model.load_state_dict(weights, strict=False)  # without the states of its measures
    agree(found["plain"]["logged"], found["plain"]["error"], recorded(model))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_collections_wrappers_and_trackers_log_what_the_harness_records() -> None:
    """Through `self.log_dict`, in the module that the page shows."""

    class Logging(type(plain_vae())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            names = {"log_likelihood": ImportanceWeightedLogLikelihood(k=K), "mse": MSE(), "psnr": PSNR()}
            self.measures = MetricCollection(names, prefix="val/")
            self.rates = ClasswiseWrapper(UnitRates(), prefix="unit/")
            self.tracker = MetricTracker(MetricCollection([ELBO(k=K), Distortion(k=K)]))

        def on_train_epoch_start(self) -> None:
            self.tracker.increment()

        def validation_step(self, x: torch.Tensor) -> None:
            self.measures.update(self, x)
            self.rates.update(self, x)
            if not self.trainer.sanity_checking:
                self.tracker.update(self, x)
            self.log_dict(self.measures, batch_size=len(x))

        def on_validation_epoch_end(self) -> None:
            self.log_dict(self.rates.compute())
            self.rates.reset()

    model, logged = trained(model=Logging().double())
    plan = Protocol("own", 0, None, {"likelihood": {"k": K}, "units": {}, "reconstruction": {}})
    report = vb.evaluate(model, Data(images()), plan, progress=False)
    for name in ("log_likelihood", "mse", "psnr"):
        assert logged[f"val/{name}"] == pytest.approx(report.metrics[name].value, abs=1e-6), name
    rates = [logged[f"unit/{unit}"] for unit in range(3)]
    assert sum(rates) == pytest.approx(report.metrics["rate"].value, abs=1e-6)
    best, steps = model.tracker.best_metric(return_step=True)
    assert steps["ELBO"] == 2, "the last of three epochs"
    assert best["ELBO"] == pytest.approx(report.metrics["elbo"].value, abs=1e-6)


def test_figures_of_whole_sets_are_those_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aggregate posterior, disentanglement and samples: the harness and the classes have one implementation."""
    write_inception(tmp_path)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    x, v = {}, {}
    for split in ("train", "test"):
        v[split] = torch.randint(0, 3, (100, 2), generator=generator)
        dark = v[split].sum(1)[:, None, None, None] < torch.randint(0, 5, (100, 1, 28, 28), generator=generator)
        x[split] = dark.double()
    data = Splits(x, v=v, measure="binary")
    model = small("vae", data.spec, latent=3)
    plan = {
        "aggregate": {"images": 30},
        "disentanglement": {"dci": "forest", "drawn": 100},
        "fidelity": {"samples": 60},
    }
    idle = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
    found = vb.evaluate(model, data, measurements={**plan, **idle}, progress=False).metrics
    measures: dict[str, Any] = {
        "information": MutualInformation(samples=30), "total_correlation": TotalCorrelation(samples=30),
        "fid_mnist28": FID(samples=60), "kid_mnist28": KID(samples=60),
        "fid": FID("inception", 60), "inception_score": InceptionScore(samples=60),
        "precision_mnist28": SamplePrecision(samples=60), "recall_mnist28": SampleRecall(samples=60),
        "density_mnist28": SampleDensity(samples=60), "coverage_mnist28": SampleCoverage(samples=60),
        "mig": MIG(), "sap": SAP(), "dci_disentanglement": DCI("forest"),
    }  # fmt: skip
    collection = MetricCollection(measures, compute_groups=False)
    for first in (0, 64):
        some = slice(first, first + 64)
        collection.update(model, x["test"][some], factors=v["test"][some], learnt=False)
    for name in ("sap", "dci_disentanglement"):
        measures[name].update(model, x["train"], factors=v["train"], learnt=True)
    for name, value in collection.compute().items():
        assert found[name].value is not None, found[name].reason
        assert float(value) == pytest.approx(found[name].value, rel=1e-9, abs=1e-9), name
        error = float(measures[name].standard_error)
        assert error == pytest.approx(math.nan if found[name].se is None else found[name].se, rel=1e-9, nan_ok=True)
    dci = measures["dci_disentanglement"]
    assert float(dci.completeness) == pytest.approx(found["dci_completeness"].value)
    assert float(dci.informativeness) == pytest.approx(found["dci_informativeness"].value)


def test_reconstructions_are_those_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image by image, with the network that is read once from the folder of weights."""
    write_alexnet(tmp_path)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    model = LinearGaussian((1, 44, 44), orthogonal=True)
    data = Data(model.images(9), DataSpec((1, 44, 44), "continuous"))
    report = vb.evaluate(model, data, Protocol("own", 0, None, {"reconstruction": {}}), progress=False)
    measures = {"mse": MSE(), "psnr": PSNR(), "ssim": SSIM(), "ms_ssim_3": MSSSIM(scales=3), "lpips": LPIPS()}
    collection = MetricCollection(measures)  # type: ignore[arg-type]
    for batch in data.x.split(4):
        collection.update(model, batch)
        (tmp_path / ALEXNET).unlink(missing_ok=True)
    for name, value in collection.compute().items():
        assert float(value) == pytest.approx(report.metrics[name].value, rel=1e-6), name
        assert float(measures[name].standard_error) == pytest.approx(report.metrics[name].se, rel=1e-5), name
        values = collection[name].values.numpy()
        assert values == pytest.approx(report.per_image[name], rel=1e-5), name
    with pytest.raises(Unavailable, match=f"holds no {ALEXNET}"):
        pickle.loads(pickle.dumps(measures["lpips"])).update(model, data.x)


def test_images_that_are_not_finite_have_no_figure() -> None:
    """Defect: a network that is given levels of 8 bits takes NaN for black."""

    def levels(x: torch.Tensor) -> torch.Tensor:
        return (x.nan_to_num() * 255).round().flatten(1)[:, :3].softmax(1)

    model = LinearGaussian((1, 4, 4), orthogonal=True)
    measures = FID(levels, samples=50), InceptionScore(levels, samples=50)
    for metric in measures:
        metric.update(model, model.images(50))
    model.mean = model.mean * torch.nan
    for metric in measures:
        with pytest.raises(Unavailable, match="images that are not finite"):
            metric.compute()


def test_measuring_leaves_the_mode_and_the_random_state_as_they_were() -> None:
    model, x = plain_vae().train(), Data(CHANNELS.images(5)).x.expand(5, 1, 4, 4)
    before = torch.random.get_rng_state()
    model.log_likelihood.update(model, x)
    assert model.training
    assert model.encoder.training
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_verdict_is_that_of_the_estimator_for_any_split() -> None:
    x = CHANNELS.images(200)
    for size in (33, 200):
        metric = PosteriorCollapse()
        for batch in x.split(size):
            metric.update(CHANNELS, batch)
        assert metric.compute() == 2
        assert metric.verdict["verdict"] == "partial"
        assert metric.verdict["signs"] == {"kl": [1], "mean": [1], "decoder": [1, 2]}


def test_a_restored_verdict_needs_a_model() -> None:
    metric = PosteriorCollapse()
    metric.update(CHANNELS, CHANNELS.images(5))
    with pytest.raises(UserError, match="call update"):
        pickle.loads(pickle.dumps(metric)).compute()


def test_one_image_has_no_variance_and_no_verdict() -> None:
    for metric in (ActiveUnits(), PosteriorCollapse()):
        metric.update(CHANNELS, CHANNELS.images(1))
        assert torch.isnan(metric.compute())
        assert torch.isnan(metric.standard_error)
    assert metric.verdict["verdict"] == "unknown"


def test_what_a_model_does_not_have_is_unavailable() -> None:
    deaf = without(LINEAR, posterior="log_prob")
    with pytest.raises(Unavailable):
        ImportanceWeightedLogLikelihood(k=2).update(deaf, X)
    distortion, rate = Distortion(k=4), Rate(k=4)
    distortion.update(deaf, X)
    assert torch.isfinite(distortion.compute())

    def mixture() -> Distribution:
        means = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()
        return MixtureSameFamily(Categorical(torch.ones(2).double()), DiagonalNormal(means, means * 0 + 1))

    no_closed_form = Parts(deaf.posterior, mixture, LINEAR.likelihood)
    rate.update(no_closed_form, X)
    with pytest.raises(Unavailable, match="Rate needs densities"):
        rate.compute()
    with pytest.raises(Unavailable, match="no mean"):
        ActiveUnits().update(without(LINEAR, posterior="mean"), X)
    continuous = small("vae", spec=SPEC.__class__((1, 4, 4), "continuous"), likelihood="Gaussian")
    with pytest.raises(Unavailable, match="no bits"):
        BitsPerDim(k=2).update(continuous, torch.rand(3, 1, 4, 4).double())


def test_mistakes_are_answered_in_a_sentence() -> None:
    with pytest.raises(UserError, match="k is 0"):
        ELBO(k=0)
    with pytest.raises(UserError, match="unknown proposal 'encodr'; did you mean encoder"):
        BitsPerDim(proposal="encodr")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no factors for 5 images"):
        MIG().update(CHANNELS, CHANNELS.images(5))
    with pytest.raises(UserError, match="learnt=True for training images"):
        SAP().update(CHANNELS, CHANNELS.images(5), factors=torch.zeros(5, 2))
    with pytest.raises(UserError, match="unknown model 'trees'"):
        DCI("trees")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown network of features 'inceptoin'; did you mean inception"):
        FID("inceptoin")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown network of classes 'mnist28'"):
        InceptionScore("mnist28")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown network of LPIPS 'vgg'"):
        LPIPS("vgg")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="splits is 10: expected at most the number of samples, 5"):
        InceptionScore(samples=5)
    with pytest.raises(UserError, match="scales is 6: expected 1 to 5"):
        MSSSIM(scales=6)
    with pytest.raises(UserError, match=r"leaves the range \[0, 1\]"):
        ELBO().update(LINEAR, X * 255)
    with pytest.raises(UserError, match="no method 'posterior'"):
        ELBO().update(nn.Linear(1, 1), X)
    with pytest.raises(UserError, match="conditional on labels"):
        ELBO().update(small("cvae"), torch.ones(3, 1, 4, 4).double())


def test_a_conditional_family_is_given_labels() -> None:
    model, x = small("cvae"), (torch.rand(6, 1, 4, 4) < 0.5).double()
    y = torch.arange(6) % 2
    metric, collapse = ImportanceWeightedLogLikelihood(k=5), PosteriorCollapse()
    for some in (slice(0, 4), slice(4, 6)):
        metric.update(model, x[some], labels=y[some])
        collapse.update(model, x[some], labels=y[some])
    assert float(metric.compute()) == pytest.approx(float(vb.log_likelihood(model, x, k=5, labels=y).mean()))
    assert 0 <= collapse.compute() <= 2


# Standard errors --------------------------------------------------------------------------------------------------


def test_moments_of_batches_are_those_of_all_images() -> None:
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double() * 3 + 1000
    whole = Moments.of(values)
    parts = torch.stack([torch.stack(Moments.of(part)) for part in values.split([1, 30, 19])])
    torch.testing.assert_close(Moments.merged(parts), whole, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(whole.variance, values.var(0))
    torch.testing.assert_close(whole.error, values.std(0) / 50**0.5)
    assert average(values[:, 0]) == pytest.approx((float(values[:, 0].mean()), float(values[:, 0].std()) / 50**0.5))


def test_the_errors_of_a_variance_and_of_a_count_are_their_spread() -> None:
    """Over 400 sets of 100 images, with units near the threshold and far from it, not Gaussian."""
    draws = torch.rand(400, 100, 4, generator=torch.Generator().manual_seed(0)).double()
    values = draws * torch.tensor([0.1, 0.95, 1.0, 2.0]).double()  # variances w²/12
    found = [Moments.of(some) for some in values]
    variances, errors = (torch.stack([getattr(m, name) for m in found]) for name in ("variance", "variance_error"))
    torch.testing.assert_close(errors.mean(0), variances.std(0), rtol=0.1, atol=0)
    threshold = 0.96**2 / 12
    counts = (variances > threshold).sum(1).double()
    said = torch.stack([count_error((m.variance - threshold) / m.variance_error) for m in found])
    assert 0.7 < float(said.square().mean() / counts.var()) < 1.3


def test_the_error_of_usage_is_the_jackknife() -> None:
    taken = torch.tensor([[1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]).double()
    taken = torch.cat([taken] + [taken[:1] * torch.tensor([1, 0, 0, 0, 0, 0])] * 60)  # few images have a code of theirs
    n = len(taken)
    left = torch.tensor([usage((taken.sum(0) - one)[None]) for one in taken]).double()
    jackknife = ((n - 1) / n * (left - left.mean()).square().sum()).sqrt()
    assert usage_error(taken.sum(0)[None]) == pytest.approx(float(jackknife), rel=0.05)


def test_a_unit_that_is_collapsed_beyond_doubt_has_no_error() -> None:
    model = Channels([1, 0], [1, 0])
    metric = PosteriorCollapse()
    metric.update(model, model.images(200))
    assert metric.compute() == 1
    assert float(metric.standard_error) < 1e-3
