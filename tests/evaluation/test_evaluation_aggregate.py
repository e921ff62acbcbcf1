"""The aggregate posterior: its information, divergence and their parts, against closed forms and the exact split."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracles import Channels, Data, LinearGaussian, Parts, without
from splits import Splits, encoder
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.evaluation.estimators import aggregate
from vaebench.evaluation.estimators.aggregate import aggregate_densities
from vaebench.functional.regularisers import decompose, log_shares

NAMES = ("information", "information_upper", "aggregate_kl", "total_correlation", "dimension_kl")
ONLY = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
N, UNITS = 97, 4


def _normal(seed: int, count: int = N, units: int = UNITS) -> DiagonalNormal:
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(count, units, generator=generator, dtype=torch.float64)
    return DiagonalNormal(loc, 0.2 + torch.rand(count, units, generator=generator, dtype=torch.float64))


def _batched(q: Any, size: int) -> list[Distribution]:
    loc, scale = q.base_dist.loc.split(size), q.base_dist.scale.split(size)
    return [DiagonalNormal(*both) for both in zip(loc, scale, strict=True)]


def _report(model: Any, x: Tensor, **settings: Any) -> vb.Report:
    data = Data(x, DataSpec(tuple(x.shape[1:]), "continuous"))
    return vb.evaluate(model, data, measurements={**ONLY, "aggregate": settings})


def test_parts_are_those_of_the_exact_split() -> None:
    """`regularisers.decompose` with the whole data set for a batch is the split with every component summed."""
    q, z = _normal(0), _normal(0).sample()
    prior = DiagonalNormal(torch.zeros(UNITS).double(), torch.ones(UNITS).double())
    expected = decompose(q.base_dist.log_prob(z[:, None]), prior.log_prob(z), log_shares(N, N, "stratified", z))
    found = aggregate_densities([q], z, torch.arange(N))
    torch.testing.assert_close(found.information, expected.information)
    torch.testing.assert_close(found.correlation, expected.correlation)
    log_p = prior.base_dist.log_prob(z)
    dimensions = (found.own - log_p - found.information_units).sum(-1)
    torch.testing.assert_close(dimensions, expected.dimensions)


def test_batches_and_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    q, z, own = _normal(0), _normal(1, 30).sample(), torch.arange(30) * 3
    whole = aggregate_densities([q], z, own)
    monkeypatch.setitem(aggregate.VALUES, "cpu", 1)  # one sample at a time
    for size in (1, 13, 96):
        for a, b in zip(whole, aggregate_densities(_batched(q, size), z, own), strict=True):
            torch.testing.assert_close(a, b)


def test_without_its_own_image_the_aggregate_is_that_of_the_others() -> None:
    q, z = _normal(0), _normal(0).sample()[:5]
    found = aggregate_densities(_batched(q, 20), z, torch.arange(5))
    pairs = q.log_prob(z[:, None])
    for i in range(5):
        rest = torch.cat([pairs[i, :i], pairs[i, i + 1 :]])
        assert float(found.others[i]) == pytest.approx(float(rest.logsumexp(0)) - math.log(N - 1))
    elsewhere = aggregate_densities(_batched(q, 20), z)
    torch.testing.assert_close(elsewhere.others, elsewhere.joint)
    torch.testing.assert_close(elsewhere.joint, pairs.logsumexp(1) - math.log(N))
    torch.testing.assert_close(aggregate_densities([q], z, torch.arange(5), each=False).joint, found.joint)


def test_equal_codes_carry_nothing() -> None:
    model = Channels([0, 0], [1, 1], idle_scale=0.5)
    found = _report(model, model.images(50))
    for name in ("information", "information_upper", "total_correlation"):
        assert found.metrics[name].value == pytest.approx(0, abs=1e-12)
    for name in ("aggregate_kl", "dimension_kl"):
        assert found.metrics[name].value == pytest.approx(float(model.kl().sum()))
    assert found.units["information"] == pytest.approx([0, 0], abs=1e-12)
    assert found.units["aggregate_kl"] == pytest.approx(model.kl().tolist())
    assert found.warnings == []


def test_codes_that_tell_all_images_apart_carry_log_n_and_say_so() -> None:
    x = torch.arange(40).double().reshape(40, 1, 1, 1) / 40
    found = _report(encoder(lambda x: 1e4 * x.repeat(1, 2), 2), x)
    assert found.metrics["information"].value == pytest.approx(math.log(40))
    assert found.metrics["information_upper"].value > 1e4, "no other image explains the code"
    assert found.metrics["total_correlation"].value == pytest.approx(math.log(40)), "the units say the same"
    assert f"at most log N = {math.log(40):.2f}" in found.metrics["information"].definition
    assert len(found.warnings) == 1
    assert "log N = 3.69" in found.warnings[0]


def test_the_figures_bracket_the_information_of_the_linear_gaussian_model() -> None:
    """With its exact posterior q(z) = p(z) over images of the model, and I(x; z) = ½ log det(I + WᵀW / σ²)."""
    model = LinearGaussian((1, 4, 4), latent=2, sigma=1.0, orthogonal=True)
    torch.manual_seed(0)
    x = model.likelihood(model.prior().sample((3000,))).sample()
    exact = 0.5 * float(torch.logdet(model.precision))
    q = model.posterior(x)
    found = aggregate_densities(_batched(q, 500), q.sample(), torch.arange(3000))
    lower, upper = found.information, found.information_upper
    error = 4 * float(lower.std()) / 3000**0.5
    assert float(lower.mean()) < float(upper.mean())
    assert float(lower.mean()) == pytest.approx(exact, abs=error + 0.01)
    assert float(upper.mean()) == pytest.approx(exact, abs=error + 0.01)
    assert exact == pytest.approx(float(0.5 * torch.log1p((model.weight**2).sum(0)).sum()))
    assert float(found.correlation.mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("images", [60, 25])
def test_the_parts_sum_to_the_rate_exactly(images: int) -> None:
    model = LinearGaussian(latent=3, orthogonal=True, stretch=3.0)
    x = model.images(60)
    found = _report(model, x, images=images)
    value = {name: found.metrics[name].value for name in NAMES}
    assert value["total_correlation"] + value["dimension_kl"] == pytest.approx(value["aggregate_kl"], rel=1e-12)
    assert sum(found.units["aggregate_kl"]) == pytest.approx(value["dimension_kl"])
    assert value["information"] <= math.log(60)
    assert all(found.metrics[name].n == images for name in NAMES)
    assert all(found.metrics[name].se > 0 for name in NAMES)
    rate = vb.evaluate(model, Data(x, DataSpec((1, 4, 4), "continuous")), k=2).metrics["rate"].value
    if images == 60:
        assert value["information"] + value["aggregate_kl"] == pytest.approx(rate, rel=1e-12)


def test_the_estimate_of_some_images_agrees_with_that_of_all() -> None:
    model = LinearGaussian(latent=3, orthogonal=True, stretch=2.0)
    x = model.images(800)
    some, every = (_report(model, x, images=count).metrics for count in (200, 800))
    for name in NAMES:
        assert abs(some[name].value - every[name].value) < 4 * some[name].se


def test_what_does_not_factorise_has_no_units() -> None:
    full = LinearGaussian()
    found = _report(full, full.images(30))
    assert found.metrics["information"].value > 0
    assert found.metrics["aggregate_kl"].value is not None
    assert "same samples" in found.metrics["aggregate_kl"].definition
    for name in ("total_correlation", "dimension_kl"):
        assert "does not factorise" in found.metrics[name].unavailable
    assert found.units == {}


def test_a_prior_that_does_not_factorise_has_a_divergence_but_no_dimensions() -> None:
    model = Channels([1, 1], [1, 1])
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)

    def mixture() -> Distribution:
        return MixtureSameFamily(Categorical(torch.ones(2).double()), DiagonalNormal(means, means * 0 + 1))

    x = model.images(50)
    found = _report(Parts(model.posterior, mixture, model.likelihood), x)
    same = _report(model, x)
    for name in ("information", "total_correlation"):
        assert found.metrics[name] == same.metrics[name]
    assert found.metrics["aggregate_kl"].value is not None
    assert "the prior, MixtureSameFamily, does not factorise" in found.metrics["dimension_kl"].unavailable
    assert list(found.units) == ["information"]


def test_without_a_density_there_is_a_reason() -> None:
    x = torch.rand(20, 1, 2, 2).double()
    found = _report(encoder(lambda x: x, 4, scale=0), x)
    for name in NAMES:
        assert "deterministic" in found.metrics[name].unavailable
    found = _report(without(encoder(lambda x: x, 4), prior="log_prob"), x)
    assert found.metrics["total_correlation"].value is not None
    found = _report(encoder(lambda x: x, 4), x[:1])
    assert found.metrics["information"].value == pytest.approx(0, abs=1e-12)
    assert "no others" in found.metrics["information_upper"].unavailable


def test_latents_may_have_any_shape() -> None:
    flat = encoder(lambda x: 2 * x, 4, 0.5)

    def posterior(x: Tensor) -> Distribution:
        q = flat.posterior(x).base_dist
        return DiagonalNormal(q.loc.unflatten(1, (2, 2)), q.scale.unflatten(1, (2, 2)), 2)

    zeros = torch.zeros(2, 2).double()
    square = Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1, 2), flat.likelihood)
    x = torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    for name in ("aggregate", "holes", "neighbours"):
        data, plan = Data(x, DataSpec((1, 2, 2), "continuous")), {**ONLY, name: {}}
        found, expected = (vb.evaluate(model, data, measurements=plan) for model in (square, flat))
        assert found.units == {key: pytest.approx(values) for key, values in expected.units.items()}
        for key, metric in expected.metrics.items():
            assert found.metrics[key].value == pytest.approx(metric.value), key


def test_a_code_that_is_not_finite_is_named() -> None:
    x = torch.rand(30, 1, 2, 2).double()
    x[7] = 0
    model = encoder(lambda x: x / x.sum(1, keepdim=True), 4)
    found = _report(model, x)
    assert {metric.unavailable for metric in found.metrics.values()} == {"log q(z|x) is not finite for image 7"}
    found = vb.evaluate(model, Data(x, DataSpec((1, 2, 2), "continuous")), measurements={**ONLY, "holes": {}})
    reasons = {metric.unavailable for metric in found.metrics.values()}
    assert reasons == {"a code or a sample of the prior is not finite"}


def test_training_images_may_make_the_aggregate() -> None:
    x = {"train": torch.rand(300, 1, 2, 2).double(), "test": torch.rand(20, 1, 2, 2).double()}
    settings = {**ONLY, "aggregate": {"split": "train", "images": 100}}
    found = vb.evaluate(encoder(lambda x: 3 * x, 4, 0.3), Splits(x), measurements=settings).metrics["information"]
    assert "all N = 300 train images" in found.definition
    assert found.n == 100
    with pytest.raises(UserError, match="unknown split 'trian'; did you mean train"):
        vb.evaluate(encoder(lambda x: x, 4), Splits(x), measurements={**ONLY, "aggregate": {"split": "trian"}})
