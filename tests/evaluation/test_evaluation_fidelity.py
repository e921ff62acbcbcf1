"""Distances between sets of images against scipy, torchmetrics and scikit-learn; shares against cases made by hand."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import small
from oracles import Data, LinearGaussian, without
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_mmd
from weight_files import write_inception

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.features import WEIGHTS
from vaebench.evaluation.estimators.fidelity import GROUPS, fid, inception_score, kid, support
from vaebench.evaluation.estimators.samples import mean_images, posterior_codes, prior_codes, sample_images


def _sets(m: int = 300, n: int = 240, d: int = 5, seed: int = 0, shift: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    x = torch.randn(m, d, generator=generator, dtype=torch.float64) @ (mix + shift) + shift
    return x, torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix


def _scipy_fid(x: Tensor, y: Tensor) -> float:
    a, b = x.numpy(), y.numpy()
    sx, sy = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(sx @ sy)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * root.real))


def _torchmetrics_fid(x: Tensor, y: Tensor) -> float:
    network = nn.Flatten()
    network.num_features = x.shape[1]  # type: ignore[assignment]
    peer = FrechetInceptionDistance(network, normalize=True, input_img_size=(x.shape[1], 1, 1)).set_dtype(torch.float64)
    for t, real in ((y, True), (x, False)):
        peer.update(t[:, :, None, None], real=real)
    return float(peer.compute())


def _degenerate() -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of sets, random and at the edge of what has a covariance."""
    x, y = _sets()
    one_off = y.clone()
    one_off[3, 1] += 1
    ones = torch.ones(60, 5, dtype=torch.float64)
    return {"random": (x, y), "levels": (255 * x, 255 * y), "one off": (one_off, y), "constant": (2 * ones, ones),
            "one constant": (ones, y), "more numbers than images": _sets(50, 40, 70)}  # fmt: skip


DEGENERATE = pytest.mark.parametrize("name", _degenerate())


def test_the_frechet_distance_equals_that_of_scipy() -> None:
    x, y = _sets()
    assert fid(x, y).value == pytest.approx(_scipy_fid(x, y), rel=1e-9)


@DEGENERATE
def test_the_frechet_distance_equals_that_of_torchmetrics(name: str) -> None:
    x, y = _degenerate()[name]
    assert fid(x, y).value == pytest.approx(_torchmetrics_fid(x, y), rel=1e-5, abs=1e-7)


def test_the_frechet_distance_of_known_gaussians() -> None:
    """Between N(0, I) and N(a, s² I) it is |a|² + d (s − 1)²; of a set and itself it is 0."""
    y = _sets(10, 2000)[1]
    whiten = torch.linalg.inv(torch.linalg.cholesky(torch.cov(y.T))).T
    y = (y - y.mean(0)) @ whiten
    assert fid(3 * y + 2, y).value == pytest.approx(5 * 4 + 5 * 4)
    assert fid(y, y).value == pytest.approx(0, abs=1e-9)
    assert fid(y[:, :1].expand(-1, 5), y).value > 1, "a singular covariance is no obstacle"


def test_the_jackknife_takes_the_bias_out_of_the_frechet_distance() -> None:
    """Sets of one distribution: FID exceeds 0 by far more than chance, the corrected figure does not."""
    found = [fid(*_sets(200, 200, 8, seed, shift=0.0)) for seed in range(60)]
    plain, corrected = (np.array([getattr(f, name) for f in found]) for name in ("value", "corrected"))
    assert plain.min() > 0
    assert abs(corrected.mean()) < 4 * corrected.std() / math.sqrt(60)
    assert abs(corrected.mean()) < 0.1 * plain.mean()


@pytest.mark.parametrize("distance", [fid, kid])
def test_standard_errors_are_those_of_repetition(distance: Any) -> None:
    found = [distance(*_sets(300, 300, 4, seed)) for seed in range(80)]
    spread = np.std([f.value for f in found], ddof=1)
    claimed = np.mean([f.se for f in found])
    assert 0.75 < spread / claimed < 1.33


@pytest.mark.parametrize("paired", [False, True])
def test_the_kernel_distance_equals_the_sum_over_pairs(paired: bool) -> None:
    x, y = _sets(95, 95 if paired else 61)
    xx, yy, xy = (polynomial_kernel(a.numpy(), b.numpy(), degree=3) for a, b in ((x, x), (y, y), (x, y)))
    off = [k[~np.eye(len(k), dtype=bool)].mean() for k in (xx, yy)]
    cross = xy[~np.eye(95, dtype=bool)].mean() if paired else xy.mean()
    found = kid(x, y, paired)
    assert found.value == pytest.approx(off[0] + off[1] - 2 * cross, rel=1e-9)


@DEGENERATE
def test_the_kernel_distance_equals_torchmetrics_over_all_samples(name: str) -> None:
    """Which takes sets of one size."""
    x, y = (t[:40] for t in _degenerate()[name])
    assert kid(x, y).value == pytest.approx(float(poly_mmd(x, y)), rel=1e-9, abs=1e-12)


def test_the_kernel_distance_is_unbiased() -> None:
    found = np.array([kid(*_sets(60, 50, 3, seed, shift=0.0)).value for seed in range(200)])
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(200)
    assert (found < 0).any()


def test_the_kernel_distance_leaves_pairs_out_that_depend_on_one_another() -> None:
    """Each set beside noisy copies of itself agrees with sets that are drawn apart, unless the pairs are counted."""
    found: dict[str, list[float]] = {"paired": [], "counted": [], "apart": []}
    for seed in range(100):
        noise, y = _sets(60, 60, 3, seed, shift=0.0)
        other = _sets(60, 60, 3, 1000 + seed, shift=0.0)[1]
        found["paired"].append(kid(y + noise, y, paired=True).value)
        found["counted"].append(kid(y + noise, y).value)
        found["apart"].append(kid(y + noise, other).value)
    gap = np.subtract(found["paired"], found["apart"])
    assert abs(gap.mean()) < 4 * gap.std() / 10
    assert np.mean(found["counted"]) < np.mean(found["paired"])


def test_the_groups_are_all_of_the_images() -> None:
    """Numbers that the groups do not divide lose nobody."""
    x, y = _sets(GROUPS * 4 + 7, GROUPS * 3 + 1)
    assert fid(x, y).value == pytest.approx(_scipy_fid(x, y), rel=1e-9)
    assert fid(x.flip(0), y).value == pytest.approx(fid(x, y).value)


# Shares -----------------------------------------------------------------------------------------------------------


def test_shares_of_a_line_made_by_hand() -> None:
    """Images at 0, 1, …, 9; samples at 0.4 and at 100 + 0 … 4, which see no image."""
    y = torch.arange(10.0, dtype=torch.float64)[:, None]
    x = torch.tensor([0.4, 100, 101, 102, 103, 104], dtype=torch.float64)[:, None]
    found = support(x, y)
    assert found.precision.tolist() == [1, 0, 0, 0, 0, 0]
    # 5th neighbours: of image 0 at 5, 1 at 4 (to 5), 2 at 3 (to 5), 3 at 3, 4 at 3, 5 at 3, 6 at 3, ...
    assert found.density.tolist() == [(1 + 1 + 1 + 1) / 5, 0, 0, 0, 0, 0], "within reach of images 0, 1, 2 and 3"
    assert found.coverage.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    # the 3rd neighbour of 0.4 is at 102, so that its ball holds all images, and the others' balls none
    assert found.recall.tolist() == [1] * 10


def test_shares_equal_their_formulas() -> None:
    x, y = _sets(700, 530, 6)
    a, b = x.numpy(), y.numpy()
    reach = {(name, k): np.sort(cdist(t, t), 1)[:, k] for name, t in (("x", a), ("y", b)) for k in (3, 5)}
    d = cdist(a, b)
    found = support(x, y)
    np.testing.assert_array_equal(found.precision, (d <= reach["y", 3]).any(1))
    np.testing.assert_array_equal(found.recall, (d <= reach["x", 3][:, None]).any(0))
    np.testing.assert_allclose(found.density, (d <= reach["y", 5]).sum(1) / 5)
    np.testing.assert_array_equal(found.coverage, (d <= reach["y", 5]).any(0))


def test_shares_tell_too_narrow_from_too_wide() -> None:
    _, y = _sets(10, 900, 4)
    same, narrow, wide = (support(y[450:] * scale, y[:450]) for scale in (1.0, 0.2, 5.0))
    assert same.density.mean() == pytest.approx(1, abs=0.15)
    assert narrow.precision.mean() > 0.9 > 0.3 > narrow.recall.mean()
    assert wide.precision.mean() < 0.5 < 0.9 < wide.recall.mean()
    assert narrow.coverage.mean() < 0.5 < 0.9 < same.coverage.mean()


def test_the_inception_score_between_its_limits() -> None:
    """c sure and equally frequent classes give c; one answer for all gives 1."""
    sure = torch.eye(4, dtype=torch.float64).repeat(50, 1)
    assert inception_score(sure, 5) == pytest.approx((4, 0))
    assert inception_score(sure.mean(1, keepdim=True).expand(-1, 4), 5) == pytest.approx((1, 0))
    classes = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)).double()
    classes = classes / classes.sum(1, keepdim=True)
    parts = [p.numpy() for p in classes.split(50)]
    expected = [np.exp(np.mean([scipy.stats.entropy(row, p.mean(0)) for row in p])) for p in parts]
    value, se = inception_score(classes, 2)
    assert value == pytest.approx(np.mean(expected))
    assert se == pytest.approx(np.std(expected, ddof=1) / math.sqrt(2))


def test_the_inception_score_equals_that_of_torchmetrics_in_one_split() -> None:
    """Theirs shuffles samples, so that splits do not repeat, and gives NaN where a class is out of the question."""
    logits = torch.randn(80, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scale, logs in ((1.0, logits), (0.0, 0 * logits), (30.0, 30 * logits)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its memory, and of the deviation of one score
            peer = InceptionScore(nn.Identity(), splits=1)
            peer.update(logs)
            theirs = float(peer.compute()[0])
        assert inception_score(logs.softmax(1), 1) == (pytest.approx(theirs, rel=1e-9), None), scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.reset()
        peer.update(torch.eye(4).repeat(20, 1).log())
        assert math.isnan(peer.compute()[0])
    assert inception_score(torch.eye(4).repeat(20, 1).double(), 1)[0] == pytest.approx(4)


# Images that a model makes ----------------------------------------------------------------------------------------


def test_draws_and_means_have_the_moments_of_the_model() -> None:
    model = LinearGaussian((1, 4, 4), sigma=0.05, orthogonal=True)
    model.weight = model.weight / 10  # so that nothing is clipped
    with evaluation_mode(model, torch.device("cpu")):
        torch.manual_seed(0)
        z = prior_codes(model, 4000)
        drawn, mean = sample_images(model, z).flatten(1), mean_images(model, z).flatten(1)
        x = model.images(600)
        codes = posterior_codes(model, x)
    torch.testing.assert_close(mean, z @ model.weight.T + model.mean)
    assert (drawn - mean).std() == pytest.approx(0.05, rel=0.02)
    expected = model.weight @ model.weight.T + 0.05**2 * torch.eye(16)
    assert (torch.cov(drawn.T) - expected).abs().max() < 0.15 * expected.max()
    standard = (codes - model.posterior(x).mean) / model.posterior(x).stddev
    assert standard.std() == pytest.approx(1, rel=0.1)


def test_what_cannot_be_sampled_is_named() -> None:
    model = LinearGaussian(orthogonal=True)
    with pytest.raises(Unavailable, match="the prior, Independent, cannot be sampled"):
        prior_codes(without(model, prior="rsample"), 3)
    with pytest.raises(Unavailable, match="the likelihood, Independent, cannot be sampled"):
        sample_images(without(model, likelihood="rsample"), torch.zeros(2, 3).double())
    with pytest.raises(Unavailable, match="the posterior, Independent, cannot be sampled"):
        posterior_codes(without(model, posterior="rsample"), model.images(2))


# The measurement --------------------------------------------------------------------------------------------------


def _measured(model: Any, x: Tensor, measure: str, **settings: Any) -> vb.Report:
    plan = {"likelihood": None, "units": None, "collapse": None, "reconstruction": None, "samples": None}
    spec = DataSpec(tuple(x.shape[1:]), measure)
    return vb.evaluate(model, Data(x, spec), measurements={**plan, "fidelity": settings})


def _bits(n: int) -> Tensor:
    return (torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(3)) < 0.2).double()


def test_binary_images_are_compared_with_binary_draws() -> None:
    spec = DataSpec((1, 28, 28), "binary", torch.full((1, 28, 28), 0.2))
    report = _measured(small("vae", spec), _bits(70), "binary", samples=80, test=60)
    names = [f"{name}_mnist28" for name in ("fid", "kid", "precision", "recall", "density", "coverage")]
    for name in [*names, "fid_mnist28_jackknife", "fid_mnist28_reconstructions", "kid_mnist28_reconstructions"]:
        metric = report.metrics[name]
        assert metric.value is not None
        assert metric.se >= 0
        assert metric.n == 60
        assert "mnist28 (SHA-256 193033b5b02a9396…)" in metric.definition
        assert "60 test images" in metric.definition
        assert "{" not in metric.definition
    assert "80 draws x ~ p(x|z), z ~ p(z)," in report.metrics["fid_mnist28"].definition
    assert not [name for name in report.metrics if "means" in name], "no grey mean is compared with bits"
    assert "VAEBENCH_WEIGHTS" in report.metrics["fid"].unavailable


def test_means_of_grey_images_are_judged_under_a_name_of_their_own() -> None:
    model = LinearGaussian((1, 28, 28), orthogonal=True)
    report = _measured(model, model.images(50), "continuous", samples=50)
    assert report.metrics["fid_mnist28_means"].value != report.metrics["fid_mnist28"].value
    assert "means E[x|z]" in report.metrics["coverage_mnist28_means"].definition
    robbed = _measured(without(model, likelihood="mean"), model.images(50), "continuous", samples=50)
    assert "no mean in closed form" in robbed.metrics["fid_mnist28_means"].unavailable
    assert robbed.metrics["fid_mnist28"] == report.metrics["fid_mnist28"]


def test_a_better_model_is_closer() -> None:
    """Data drawn from the model itself against a model of another mean."""
    model = LinearGaussian((1, 28, 28), orthogonal=True)
    with evaluation_mode(model, torch.device("cpu")):
        torch.manual_seed(7)
        x = sample_images(model, prior_codes(model, 400))
    right = _measured(model, x, "continuous", samples=400).metrics
    model.mean = model.mean + 0.2
    wrong = _measured(model, x, "continuous", samples=400).metrics
    for name in ("fid_mnist28_jackknife", "kid_mnist28"):
        assert abs(right[name].value) < 4 * right[name].se
        assert wrong[name].value > right[name].value + 4 * wrong[name].se
    assert wrong["coverage_mnist28"].value < right["coverage_mnist28"].value


def test_reasons_stand_where_there_is_no_figure() -> None:
    small_model = LinearGaussian(orthogonal=True)
    other = _measured(small_model, small_model.images(50), "continuous", samples=50)
    for name in ("fid_mnist28", "fid_mnist28_jackknife", "kid_mnist28", "coverage_mnist28"):
        reason = "the extractor mnist28 takes images of 1 × 28 × 28, and these are 1 × 4 × 4"
        assert other.metrics[name].unavailable == reason
    model = LinearGaussian((1, 28, 28), orthogonal=True)
    few = _measured(model, model.images(39), "continuous", samples=50)
    assert "50 made and 39 test images are too few" in few.metrics["fid_mnist28"].unavailable
    model.mean = model.mean * torch.nan
    broken = _measured(model, model.images(50), "continuous", samples=50)
    assert "not finite" in broken.metrics["precision_mnist28"].unavailable


def test_inceptions_figures_go_by_their_own_names_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inception(tmp_path)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    model = LinearGaussian((3, 6, 6), orthogonal=True)
    report = _measured(model, model.images(60), "continuous", samples=80)
    for name in (
        "fid",
        "kid",
        "fid_jackknife",
        "fid_means",
        "fid_reconstructions",
        "inception_score",
        "inception_score_means",
    ):
        assert report.metrics[name].value is not None
        assert "inception-2015-12-05 (SHA-256 " in report.metrics[name].definition
    assert report.metrics["inception_score"].value >= 1
    assert "inception_score_reconstructions" not in report.metrics
    assert "3 × 6 × 6" in report.metrics["fid_mnist28"].unavailable
