"""Posteriors fitted to each image: densities are right, fits reach the best there is, gaps vanish where they must."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import bits, small
from oracles import Data, LinearGaussian, OneLatent, Parts, without
from torch import Tensor
from torch.distributions import Distribution

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli
from vaebench.errors import UserError
from vaebench.evaluation.conditions import evaluation_mode, noise_keys
from vaebench.evaluation.estimators.fitted import SMALL, encoded, fit, log_weights
from vaebench.evaluation.estimators.local import Coupling, Posteriors
from vaebench.evaluation.measurements.gaps import LikelihoodEstimate, highest

CPU = torch.device("cpu")
ALONE = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
AIS = {"chains": 8, "temperatures": 60}


def _report(model: object, x: Tensor, measure: str = "binary", **measurements: dict[str, int]) -> vb.Report:
    return vb.evaluate(model, Data(x, DataSpec(tuple(x.shape[1:]), measure)), measurements={**ALONE, **measurements})


def _random_flow(images: int, d: int) -> Posteriors:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 2

    flow = Posteriors(draw(images, d), draw(images, d).exp(), draw(images, d), draw(images, d)).as_flow()
    return flow.replaced([tensor + draw(*tensor.shape) for tensor in flow.fitted()])


def _fitted(model: object, x: Tensor, flow: bool = False, **options: int) -> tuple[Posteriors, Tensor]:
    """The fits, and 1000 log weights of each, (1000, n)."""
    with evaluation_mode(model, CPU):
        keys = noise_keys(x, 0)
        start, _ = encoded(model, x, keys)
        q = fit(model, x, start, keys, **options)
        if flow:
            q = fit(model, x, q.as_flow(), keys, lr=0.01, **options)
        return q, log_weights(model, x, q, keys, 1000)


# Densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_density_is_the_change_of_variables(d: int) -> None:
    q = _random_flow(3, d)
    noise = torch.randn(3, 4, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z, log_q = q.from_noise(noise)
    torch.testing.assert_close(q.log_prob(z), log_q)
    for image in range(3):
        for k in range(4):

            def one(e: Tensor, image: int = image) -> Tensor:
                return q.from_noise(e.expand(3, 1, d))[0][image, 0]

            jacobian = torch.autograd.functional.jacobian(one, noise[image, k])
            base = torch.distributions.Normal(0, 1).log_prob(noise[image, k]).sum()
            torch.testing.assert_close(log_q[image, k], base - torch.linalg.slogdet(jacobian)[1])


def test_a_flow_s_density_integrates_to_one() -> None:
    rough = _random_flow(1, 2)
    q = rough.replaced([tensor / 4 for tensor in rough.fitted()])
    side = torch.linspace(-12, 12, 601, dtype=torch.float64)
    grid = q.origin[0] + q.unit[0] * torch.cartesian_prod(side, side)
    cell = float(q.unit.prod()) * (24 / 600) ** 2
    assert float(q.log_prob(grid[None]).exp().sum()) * cell == pytest.approx(1, abs=1e-3)


def test_couplings_are_inverted() -> None:
    q = _random_flow(3, 5)
    u = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for coupling in q.couplings:
        assert isinstance(coupling, Coupling)
        pushed, log_det = coupling.forward(u)
        assert not torch.allclose(pushed, u.flip(-1))
        back, same = coupling.inverse(pushed)
        torch.testing.assert_close(back, u)
        torch.testing.assert_close(same, log_det)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_flow_starts_as_its_gaussian(d: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, d, generator=generator, dtype=torch.float64) for _ in range(4)]
    gaussian = Posteriors(tensors[0], tensors[1].exp(), *tensors[2:])
    noise = torch.randn(3, 6, d, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(gaussian.as_flow().from_noise(noise), gaussian.from_noise(noise), strict=True):
        torch.testing.assert_close(ours, theirs)


# Fits -------------------------------------------------------------------------------------------------------------


def test_the_start_is_the_encoder_s_gaussian() -> None:
    model = LinearGaussian(orthogonal=True)
    x = model.images(4)
    q, same = encoded(model, x, noise_keys(x, 0))
    z = model.posterior(x).sample((3,))
    torch.testing.assert_close(q.log_prob(z.mT.mT.transpose(0, 1)), model.posterior(x).log_prob(z).mT)
    assert same
    assert not encoded(LinearGaussian(), x, noise_keys(x, 0))[1]


class _Sampler(Distribution):
    """N(0.5, 2²) that tells nothing but samples."""

    has_rsample = True

    def rsample(self, sample_shape: torch.Size) -> Tensor:
        return 0.5 + 2 * torch.randn(*sample_shape, *self.batch_shape, *self.event_shape, dtype=torch.float64)


def test_without_moments_the_start_is_that_of_samples() -> None:
    x = OneLatent().images(5)
    silent = Parts(
        lambda x: _Sampler(x.shape[:1], torch.Size((3,)), validate_args=False),
        OneLatent().prior,
        OneLatent().likelihood,
    )
    start, same = encoded(silent, x, noise_keys(x, 0))
    assert ((start.origin - 0.5).abs() < 4 * 2 / 16).all()
    assert ((start.unit / 2 - 1).abs() < 4 / math.sqrt(512)).all()
    assert not same


def test_a_deterministic_code_starts_small() -> None:
    model, x = small("rae"), bits(4)
    with evaluation_mode(model, CPU):
        start, same = encoded(model, x, noise_keys(x, 0))
        assert torch.equal(start.origin, model.posterior(x).mean)
    assert (start.unit == SMALL).all()
    assert not same


def test_an_exact_start_is_kept() -> None:
    model = LinearGaussian(orthogonal=True)
    x = model.images(20)
    q, log_w = _fitted(model, x, flow=True)
    assert float(log_w.std(0).max()) < 1e-3
    torch.testing.assert_close(log_w.mean(0), model.log_likelihood(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        q.from_noise(torch.zeros(20, 1, 3).double())[0][:, 0], model.posterior(x).mean, atol=1e-6, rtol=0
    )


def test_a_wrong_start_reaches_the_exact_posterior() -> None:
    model = LinearGaussian(orthogonal=True, stretch=2.0, shift=0.5)
    x = model.images(20)
    q, log_w = _fitted(model, x)
    exact = model.exact_posterior(x)
    torch.testing.assert_close(q.origin + q.unit * q.shift, exact.mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(q.unit * q.log_scale.exp(), exact.stddev, atol=1e-3, rtol=0)
    torch.testing.assert_close(log_w.mean(0), model.log_likelihood(x), atol=1e-3, rtol=0)


def test_the_best_diagonal_gaussian_is_the_closed_form_s() -> None:
    """argmin KL(q‖p) over diagonal Gaussians has p's mean and the inverses of the precision's diagonal as variances."""
    model = LinearGaussian(stretch=1.5, shift=0.3)
    x = model.images(20)
    q, log_w = _fitted(model, x)
    precision = model.precision.diagonal()
    gap = (precision.log().sum() - torch.logdet(model.precision)) / 2
    assert gap > 1e-3
    torch.testing.assert_close((q.unit * q.log_scale.exp()) ** -2, precision.expand(20, 3), rtol=0.02, atol=0)
    bound = log_w.mean(0) - model.log_likelihood(x)
    assert abs(float((bound + gap).mean())) < 4 * float(bound.std()) / math.sqrt(20) + 1e-3


def test_a_flow_reaches_a_full_covariance() -> None:
    model = _correlated()
    x = model.images(20)
    exact = model.log_likelihood(x)
    gaussian, flow = (float((_fitted(model, x, flow=flow)[1].mean(0) - exact).mean()) for flow in (False, True))
    assert gaussian < -0.3
    assert -0.02 < flow < 0.01


def _correlated() -> LinearGaussian:
    """Two units that mostly do the same."""
    model = LinearGaussian(latent=2)
    model.weight[:, 1] = model.weight[:, 0] + 0.3 * model.weight[:, 1]
    model.precision = torch.eye(2).double() + model.weight.T @ model.weight / model.sigma**2
    return model


def test_bounds_stay_below_the_exact_answer() -> None:
    model = OneLatent()
    x = model.images(60)
    exact = model.log_likelihood(x)
    for flow in (False, True):
        _, log_w = _fitted(model, x, flow=flow, steps=100)
        for error in (log_w.mean(0) - exact, torch.logsumexp(log_w, 0) - math.log(1000) - exact):
            assert float(error.mean()) < 3 * float(error.std()) / math.sqrt(60)
        assert float(error.mean()) > -0.6


def test_a_density_that_rounding_spoils_is_no_bound_above_the_truth() -> None:
    """A flow fitted too fast in single precision once scored 10²⁵ nats: its inverse did not give back what it made."""
    model = small("vae", latent=8).float()
    x = bits(3).float()
    with evaluation_mode(model, CPU):
        keys = noise_keys(x, 0)
        flow = encoded(model, x, keys)[0].as_flow()
        wild = flow._replace(below=torch.full((3, 8, 8), 1e3), log_scale=torch.full((3, 8), -3.0))
        noise = torch.randn(3, 100, 8, generator=torch.Generator().manual_seed(0))
        z, log_q = wild.from_noise(noise)
        exact = type(wild)(*(t.double() for t in wild[:5])).from_noise(noise.double())[1]
        torch.testing.assert_close(log_q.double(), exact, atol=1e-3, rtol=0)
        assert (wild.log_prob(z).double() - exact).abs().max() > 1  # why it is not taken from there
        assert (torch.logsumexp(log_weights(model, x, wild, keys, 500), 0) - math.log(500) < 0).all()


def test_a_narrow_posterior_is_scored_as_it_is_drawn() -> None:
    """In single precision z − μ has few digits left where σ is 10⁻⁶ of μ."""
    loc, scale = torch.full((1, 4), 5.0), torch.full((1, 4), 1e-6)
    zeros = torch.zeros(1, 4)
    noise = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(0))
    _, log_q = Posteriors(loc, scale, zeros, zeros).from_noise(noise)
    exact = torch.distributions.Normal(0, 1e-6).log_prob(noise.double() * 1e-6).sum(-1)
    torch.testing.assert_close(log_q.double(), exact, atol=1e-4, rtol=0)


def test_an_image_s_fit_is_its_own() -> None:
    model, x = small("vae"), bits(6)
    for flow in (False, True):
        _, whole = _fitted(model, x, flow=flow, steps=20)
        _, backward = _fitted(model, x.flip(0), flow=flow, steps=20)
        _, alone = _fitted(model, x[2:3], flow=flow, steps=20)
        torch.testing.assert_close(backward.flip(1), whole)
        torch.testing.assert_close(alone, whole[:, 2:3])


def test_an_image_that_gives_nan_is_named_and_harms_no_other() -> None:
    model, x = OneLatent(), OneLatent().images(5)

    def likelihood(z: Tensor) -> Distribution:
        logits = (3 * torch.sin(2 * z + model.phase)).unflatten(-1, model.shape)
        broken = torch.zeros(5, 1, 1, 1).double()
        broken[3] = math.nan
        return Bernoulli(logits + broken, 3)

    with pytest.raises(UserError, match="image 3 "):
        _fitted(Parts(model.posterior, model.prior, likelihood), x, steps=3)


# Measurements -----------------------------------------------------------------------------------------------------


def test_gaps_vanish_where_the_posterior_is_exact() -> None:
    model = LinearGaussian(orthogonal=True)
    x = model.images(20)
    found = _report(model, x, "continuous", gaps={"images": 20, "k": 200, "steps": 50, **AIS}).metrics
    for name in ("inference_gap", "approximation_gap", "amortisation_gap"):
        assert abs(found[name].value) < 1e-3
        assert abs(found[f"{name}_flow"].value if name != "inference_gap" else 0) < 1e-3
    assert found["log_likelihood_best"].value == pytest.approx(float(model.log_likelihood(x).mean()), abs=1e-3)


def test_gaps_are_the_closed_form_s_and_add_up() -> None:
    model = LinearGaussian(orthogonal=True, stretch=1.4, shift=0.1)
    x = model.images(20)
    found = _report(model, x, "continuous", gaps={"images": 20, "k": 1000, **AIS}).metrics
    value = {name: metric.value for name, metric in found.items()}
    exact = float((model.log_likelihood(x) - model.elbo(x)).mean())
    assert value["amortisation_gap"] == pytest.approx(exact, abs=0.02)
    assert value["inference_gap"] == pytest.approx(value["amortisation_gap"] + value["approximation_gap"])
    assert value["inference_gap"] == pytest.approx(value["amortisation_gap_flow"] + value["approximation_gap_flow"])
    assert abs(value["approximation_gap"]) < 1e-3


def test_what_a_gaussian_misses_is_the_approximation_gap() -> None:
    model = _correlated()
    gap = float((model.precision.diagonal().log().sum() - torch.logdet(model.precision)) / 2)
    found = _report(model, model.images(20), "continuous", gaps={"images": 20, "k": 1000, **AIS}).metrics
    assert found["approximation_gap"].value == pytest.approx(gap, abs=0.05)
    assert abs(found["approximation_gap_flow"].value) < 0.03
    assert abs(found["inference_gap"].value) < 1e-6  # the encoder has the full covariance


def test_without_a_density_there_is_a_bound_under_its_own_name() -> None:
    model, x = small("rae"), bits(12)
    settings = {"images": 12, "k": 100, "steps": 50}
    found = _report(model, x, likelihood={"k": 20}, fitted=settings, gaps={**settings, **AIS})
    assert found.metrics["log_likelihood"].value is None
    bound, elbo = (found.metrics[f"{name}_fitted"] for name in ("log_likelihood", "elbo"))
    assert elbo.value < bound.value < 0
    assert "not the encoder's" in bound.definition
    for name in ("inference_gap", "amortisation_gap", "amortisation_gap_flow"):
        assert "deterministic" in found.metrics[name].unavailable
    assert found.metrics["approximation_gap"].value > -0.05


def test_a_fitted_bound_of_few_samples_has_no_tail() -> None:
    model = OneLatent()
    found = _report(model, model.images(3), fitted={"k": 10, "steps": 2})
    assert "no tail" in found.metrics["pareto_k_fitted"].unavailable


def test_noise_alone_raises_no_estimate() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(100, generator=generator)
    noise = 0.3 * torch.randn(100, generator=generator)
    noisy = exact + noise - noise.mean() + 0.03  # one standard error higher
    sure, unsure = LikelihoodEstimate(exact, 1e-4), LikelihoodEstimate(noisy, 0.09 / 100)
    assert highest({"noisy": unsure, "exact": sure}) == "exact"
    assert highest({"exact": sure, "noisy": unsure}) == "exact"
    assert highest({"exact": sure, "better": LikelihoodEstimate(exact + 0.1, 1.0)}) == "better"


def test_a_noisy_estimate_that_is_far_too_low_is_not_taken() -> None:
    """A heavy tail hid a fall of 0.17 nats behind its own standard error."""
    exact = torch.zeros(20)
    tailed = torch.where(torch.arange(20) == 3, -3.4, 0.0)
    assert highest({"tailed": LikelihoodEstimate(tailed, 1e-3), "exact": LikelihoodEstimate(exact, 0.0)}) == "exact"


def test_a_posterior_that_cannot_be_sampled_has_no_fit_and_a_reason() -> None:
    model = OneLatent()
    found = _report(without(model, posterior="rsample"), model.images(3), fitted={"k": 10}, gaps={"k": 10})
    for metric in found.metrics.values():
        assert metric.unavailable == "the posterior cannot be sampled"


def test_one_image_has_gaps() -> None:
    model = LinearGaussian(orthogonal=True)
    found = _report(model, model.images(1), "continuous", gaps={"k": 30, "steps": 3, **AIS}).metrics
    assert abs(found["inference_gap"].value) < 1e-3
    assert found["inference_gap"].se is None
