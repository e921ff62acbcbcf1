"""`evaluate`: every figure with its error and definition, reasons where there is none, and no trace left behind."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from helpers import SPEC, bits, small
from oracles import Channels, Data, LinearGaussian, OneLatent, Parts, without

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.evaluation.metrics import Findings, MetricKind

ALONE = dict.fromkeys(("units", "collapse", "reconstruction", "samples"))
BINARY = ("log_likelihood", "nll", "elbo", "rate", "distortion", "bits_per_dim", "ess", "mse", "psnr")


def _report(model: object, x: torch.Tensor, measure: str = "binary", **options: object) -> vb.Report:
    return vb.evaluate(model, Data(x, DataSpec(tuple(x.shape[1:]), measure)), **{"k": 50, **options})


def test_figures_agree_with_one_another_and_with_the_images() -> None:
    found = _report(small("vae"), bits(40), k=64)
    for name in BINARY:
        metric = found.metrics[name]
        assert metric.unavailable is None
        assert metric.n == 40
        assert metric.definition
        assert metric.se > 0
    for name, values in found.per_image.items():
        assert values.dtype == np.float32
        assert values.shape == (40,)
        assert found.metrics[name].value == pytest.approx(values.mean(dtype=float), rel=1e-5)
        assert found.metrics[name].se == pytest.approx(values.std(ddof=1, dtype=float) / math.sqrt(40), rel=1e-4)
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert value["nll"] == -value["log_likelihood"]
    assert value["elbo"] == pytest.approx(-(value["rate"] + value["distortion"]))
    assert value["bits_per_dim"] == pytest.approx(value["nll"] / (16 * math.log(2)))
    assert value["elbo"] < value["log_likelihood"]
    assert 1 <= value["ess"] <= 64
    settings = {"k": 64, "precision": "f32", "compile": False, "corrections": False}
    assert found.protocol == {
        "version": 2, "name": "likelihood", "k": 64, "seed": 0, "split": "test", "n": 40,
        "measurements": {"likelihood": settings, "units": {}, "collapse": {}, "reconstruction": {}, "samples": {}},
    }  # fmt: skip


def test_figures_are_the_exact_ones_where_these_are_known() -> None:
    model = OneLatent()
    x = model.images(60)
    found = _report(model, x, k=4000)
    exact = model.log_likelihood(x)
    error = found.metrics["log_likelihood_mc_se"].value
    assert abs(found.metrics["log_likelihood"].value - float(exact.mean())) < 4 * error
    assert error < 0.01
    assert found.metrics["log_likelihood"].se == pytest.approx(float(exact.std()) / math.sqrt(60), rel=0.02)


@pytest.mark.parametrize("stretch", [1.1, 0.7])
def test_the_monte_carlo_error_is_that_of_repetition(stretch: float) -> None:
    """With a posterior of the right width, and one so narrow that the weights' tail has a shape of about a half."""
    model = LinearGaussian(stretch=stretch)
    x = model.images(30)
    found = [_report(model, x, "continuous", k=200, seed=seed, measurements=ALONE).metrics for seed in range(150)]
    spread = np.std([metrics["log_likelihood"].value for metrics in found], ddof=1)
    claimed = np.mean([metrics["log_likelihood_mc_se"].value for metrics in found])
    assert claimed / spread == pytest.approx(1, abs=0.15)


def test_images_that_are_equal_share_their_monte_carlo_error() -> None:
    model = LinearGaussian(stretch=0.7)
    x = model.images(3)
    once, twice = (_report(model, some, "continuous", k=200) for some in (x, x.repeat(2, 1, 1, 1)))
    errors = [found.metrics["log_likelihood_mc_se"].value for found in (once, twice)]
    assert errors[1] == pytest.approx(errors[0]), "there is no new noise in it that could average out"


def test_the_gaussian_oracle_by_its_closed_forms() -> None:
    model = LinearGaussian(orthogonal=True, stretch=1.2)
    x = model.images(300)
    found = _report(model, x, "continuous", k=400)
    assert found.metrics["rate"].definition.endswith("in closed form")
    assert sum(found.units["kl"]) == pytest.approx(found.metrics["rate"].value)
    gap = found.per_image["elbo"] - model.elbo(x).numpy()
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(300)
    assert found.metrics["bits_per_dim"].value is None
    assert "no bits" in found.metrics["bits_per_dim"].unavailable


def test_units_and_collapse_are_reported() -> None:
    model = Channels([1, 0, 1], [1, 0, 1])
    found = _report(model, model.images(300))
    assert [found.metrics[f"active_units{end}"].value for end in ("_0.001", "", "_0.1")] == [2, 2, 2]
    assert found.units["kl"] == pytest.approx(model.kl().tolist())
    assert found.units["mean_variance"] == pytest.approx([1, 0, 1], abs=0.02)
    assert found.units["decoder_drop"][1] == 0
    assert (found.collapse["verdict"], found.collapse["units"]) == ("partial", [1])


def test_all_of_it_is_json_without_nan() -> None:
    found = _report(small("vae"), bits(5), k=3)
    body = [{name: asdict(m) for name, m in found.metrics.items()}, found.units, found.collapse, found.protocol]
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    for picture in found.pictures.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
    assert set(found.pictures) == {"reconstructions", "samples"}


# Without a trace, and repeatable ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_report_and_leaves_no_trace() -> None:
    model, x = small("vae").train(), bits(12)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    random = torch.get_rng_state()
    first = _report(model, x)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    torch.manual_seed(12)
    second = _report(model, x)
    assert first.metrics == second.metrics
    assert (first.units, first.collapse) == (second.units, second.collapse)
    for kind in ("per_image", "pictures"):
        for name, values in getattr(first, kind).items():
            assert np.array_equal(values, getattr(second, kind)[name])
    assert _report(model, x, seed=1).metrics["log_likelihood"] != first.metrics["log_likelihood"]


def test_figures_of_an_image_do_not_depend_on_its_place() -> None:
    model, x = small("vae"), bits(9)
    forward, backward = _report(model, x), _report(model, x.flip(0))
    for name, values in forward.per_image.items():
        np.testing.assert_allclose(backward.per_image[name][::-1], values, rtol=1e-6)


def test_a_limit_takes_the_first_images() -> None:
    model, x = small("vae"), bits(9)
    whole, part = _report(model, x), _report(model, x, limit=4)
    assert part.protocol["n"] == 4
    np.testing.assert_allclose(part.per_image["log_likelihood"], whole.per_image["log_likelihood"][:4])


# Reasons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["posterior", "prior"])
def test_without_a_density_there_is_a_reason_and_no_number(part: str) -> None:
    model = OneLatent()
    x = model.images(50)
    found = _report(without(model, **{part: "log_prob"}), x)
    for name in ("log_likelihood", "nll", "bits_per_dim", "ess", "log_likelihood_mc_se"):
        assert found.metrics[name].value is None
        assert "no density" in found.metrics[name].unavailable
    usual = _report(model, x, k=16)
    for name in ("distortion", "rate", "elbo", "mse"):
        assert found.metrics[name].value == pytest.approx(usual.metrics[name].value)


def test_without_density_and_closed_form_there_is_no_bound() -> None:
    """Nothing but the distortion is left where q is neither a density nor a Gaussian."""
    model = LinearGaussian()
    opaque = Parts(lambda x: _Opaque(model.posterior(x)), model.prior, model.likelihood)
    found = _report(opaque, model.images(300), "continuous")
    assert "closed form" in found.metrics["elbo"].unavailable
    assert "closed form" in found.metrics["rate"].unavailable
    assert found.metrics["distortion"].value is not None
    assert found.metrics["active_units"].unavailable
    assert found.collapse["verdict"] == "none"


class _Opaque(torch.distributions.Distribution):
    """Samples, and says nothing else."""

    has_rsample = True

    def __init__(self, inner: torch.distributions.Distribution) -> None:
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)
        self.inner = inner

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008 - torch's own default
        return self.inner.rsample(sample_shape)


def test_a_likelihood_without_a_mean_shows_draws_and_no_reconstructions() -> None:
    model = LinearGaussian(orthogonal=True)
    found = _report(without(model, likelihood="mean"), model.images(6), "continuous")
    assert set(found.pictures) == {"samples"}
    for name in ("mse", "psnr", "ssim"):
        assert "no mean in closed form" in found.metrics[name].unavailable


def test_small_images_have_no_ssim_and_large_ones_have() -> None:
    assert "4 × 4" in _report(small("vae"), bits(3)).metrics["ssim"].unavailable
    model = LinearGaussian((1, 12, 12), orthogonal=True)
    found = _report(model, model.images(5), "continuous")
    assert -1 <= found.metrics["ssim"].value <= 1
    assert found.per_image["ssim"].shape == (5,)


def test_one_image_and_one_sample_have_no_spread() -> None:
    found = _report(small("vae"), bits(1), k=1)
    assert found.metrics["log_likelihood"].se is None
    assert found.metrics["log_likelihood_mc_se"].unavailable == "one sample has no spread"
    assert found.metrics["active_units"].unavailable == "one image has no variance"
    assert found.collapse["verdict"] == "unknown"


def test_a_figure_that_is_not_finite_is_no_figure() -> None:
    found = Findings({"psnr": MetricKind("dB", True, "")})
    found.average("psnr", torch.tensor([1.0, 2.0, math.inf]))
    assert found.metrics["psnr"].value is None
    assert found.metrics["psnr"].unavailable == "it is not finite for image 2"
    assert "psnr" not in found.per_image


def test_bf16_reports_its_own_error() -> None:
    model, x = small("vae").float(), bits(120).float()
    rough, exact = _report(model, x, k=200, precision="bf16"), _report(model, x, k=200)
    error = rough.per_image["log_likelihood"] - exact.per_image["log_likelihood"]
    checked = rough.metrics["bf16_error"]
    assert checked.n == 100
    assert 0 < abs(checked.value) <= rough.metrics["bf16_error_largest"].value <= np.abs(error).max() * 1.001 < 0.5
    assert checked.value == pytest.approx(error.mean(), abs=5 * checked.se)
    assert "bf16_error" not in exact.metrics


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k is 0"), ({"limit": 0}, "limit is 0"), ({"precision": "f16"}, "unknown precision 'f16'")],
)
def test_a_senseless_protocol_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _report(small("vae"), bits(3), **options)


def test_images_that_the_measure_does_not_know_are_refused() -> None:
    x = bits(4)
    x[2, 0, 0, 0] = 100.5 / 255
    for measure in ("binary", "discrete256"):
        with pytest.raises(UserError, match=f"image 2 .*'{measure}'"):
            _report(small("vae"), x, measure)
    with pytest.raises(UserError, match="shape"):
        vb.evaluate(small("vae"), Data(bits(3), DataSpec((1, 8, 8))))
    with pytest.raises(UserError, match="no images"):
        vb.evaluate(small("vae"), Data(bits(3)[:0], SPEC))


# The bar ----------------------------------------------------------------------------------------------------------


def test_the_bar_is_drawn_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    for terminal, progress in ((True, True), (False, True), (True, False)):
        page = io.StringIO()
        console = Console(file=page, force_terminal=terminal)
        monkeypatch.setattr("vaebench.display.terminal.Console", lambda console=console, **_: console)
        _report(small("vae"), bits(2), progress=progress)
        assert ("likelihood" in page.getvalue()) == (terminal and progress)


# Figures that cannot be had ---------------------------------------------------------------------------------------


def test_a_standard_error_that_is_not_finite_ends_no_evaluation() -> None:
    found = Findings({"a": MetricKind("nats", True, "a figure")})
    found.single("a", 1.5, 10, math.nan)
    found.units["u"] = [1.0, math.inf]
    found.tables["t"] = {"x": [math.nan, 2.0]}
    again = Findings.unpack(found.pack())
    assert (again.metrics["a"].value, again.metrics["a"].se) == (1.5, None)
    assert "a has no standard error" in again.warnings[0]
    assert (again.units["u"], again.tables["t"]) == ([1.0, None], {"x": [None, 2.0]})


def test_arithmetic_that_fails_in_a_measurement_ends_no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaebench.evaluation.measurements import reconstruction

    def fails(_: object, found: Findings) -> None:
        found.single("mse", 1.0, 5, code="")
        raise ValueError("Input X contains NaN")

    monkeypatch.setattr(reconstruction, "measure", fails)
    found = _report(small("vae"), bits(5), k=3)
    assert found.metrics["mse"].value == 1.0
    assert "measurement 'reconstruction' failed (ValueError: Input X" in found.metrics["psnr"].unavailable
    assert any("'reconstruction' failed" in warning for warning in found.warnings)
    assert found.metrics["elbo"].value is not None
