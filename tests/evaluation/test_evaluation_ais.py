"""Annealed importance sampling: transitions keep their density, weights are unbiased both ways, curves are exact."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import POSTERIORS, PRIORS, bits, small, tiny
from oracles import Data, LinearGaussian, OneLatent, Parts, without
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Uniform,
    kl_divergence,
)

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, DiagonalNormal
from vaebench.errors import UserError
from vaebench.evaluation.conditions import evaluation_mode, noise_keys
from vaebench.evaluation.estimators import ais, hmc
from vaebench.evaluation.estimators.ais import AnnealingSettings, annealed, curve_betas, schedule, simulate
from vaebench.evaluation.measurements import _shared as _runs
from vaebench.evaluation.measurements.ais import KINDS

CPU = torch.device("cpu")
ALONE = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
FEW = {"images": 8, "chains": 4, "temperatures": 20}


def _report(model: object, x: torch.Tensor, measure: str = "binary", **measurements: dict[str, int]) -> vb.Report:
    return vb.evaluate(model, Data(x, DataSpec(tuple(x.shape[1:]), measure)), measurements={**ALONE, **measurements})


def _bracket(model: object, images: int, settings: AnnealingSettings) -> tuple[ais.Chains, torch.Tensor]:
    with evaluation_mode(model, CPU):
        z, x = simulate(model, 0, images, 0, CPU)
        return annealed(model, x, settings, z=z), model.log_likelihood(x)


def _tempered(model: LinearGaussian, x: torch.Tensor, beta: float) -> MultivariateNormal:
    """p(z) p(x|z)^β, normalised."""
    precision = torch.eye(model.latent).double() + beta * model.weight.T @ model.weight / model.sigma**2
    centred = x.flatten(1) - model.mean
    mean = torch.linalg.solve(precision, beta * (centred @ model.weight).T / model.sigma**2).T
    return MultivariateNormal(mean, precision_matrix=precision)


# Transitions ------------------------------------------------------------------------------------------------------


def test_the_schedule_rises_from_0_to_1_and_is_symmetric() -> None:
    betas = schedule(50)
    assert (betas[0], betas[-1]) == (0, 1)
    assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas, 1 - betas.flip(0))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_transition_leaves_its_density_invariant(beta: float) -> None:
    model = LinearGaussian()
    x = model.images(2)
    exact = _tempered(model, x, beta)
    torch.manual_seed(0)
    path, z = hmc.GeometricPath(model, x), exact.sample((4000,))
    here, moved = path.at(z), 0.0
    step = torch.tensor([[0.2], [0.3]], dtype=torch.float64).expand(2, 3)
    for noise in hmc.transition_noise(noise_keys(x, 0), 0, 3, z):
        here, accepted = hmc.move(path.at, here, beta, step, 4, noise)
        moved += float(accepted.mean()) / 3
    assert 0.3 < moved < 0.999
    error = exact.stddev / math.sqrt(4000)
    assert ((here.z.mean(0) - exact.mean).abs() < 4 * error).all()
    for image in range(2):
        whitened = torch.linalg.solve_triangular(
            exact.scale_tril[image], (here.z[:, image] - exact.mean[image]).T, upper=False
        )
        assert ((torch.cov(whitened) - torch.eye(3)).abs() < 5 / math.sqrt(2000)).all()
    assert float((here.z - z).abs().mean()) > 0.1 * float(exact.stddev.mean())


def test_a_transition_takes_one_gradient_a_leapfrog_step() -> None:
    model = LinearGaussian()
    x = model.images(2)
    path, calls = hmc.GeometricPath(model, x), []

    def counted(z: torch.Tensor) -> hmc.ChainState:
        calls.append(z)
        return path.at(z)

    z = torch.zeros(5, 2, 3, dtype=torch.float64)
    (noise,) = hmc.transition_noise(noise_keys(x, 0), 0, 1, z)
    hmc.move(counted, path.at(z), 0.5, torch.full((2, 3), 0.1).double(), 7, noise)
    assert len(calls) == 7


def test_a_trajectory_beyond_all_numbers_is_rejected() -> None:
    model = LinearGaussian()
    x = model.images(2)
    path, z = hmc.GeometricPath(model, x), torch.ones(5, 2, 3, dtype=torch.float64)
    (noise,) = hmc.transition_noise(noise_keys(x, 0), 0, 1, z)
    here, accepted = hmc.move(path.at, path.at(z), 1.0, torch.full((2, 3), 1e80, dtype=torch.float64), 10, noise)
    assert torch.equal(here.z, z)
    assert torch.equal(accepted, torch.zeros(5, 2).double())
    assert all(torch.isfinite(part).all() for part in here)


def test_step_sizes_reach_the_acceptance_they_aim_at() -> None:
    chains, _ = _bracket(LinearGaussian(), 10, AnnealingSettings(8, 300, 3))
    assert float(chains.acceptance.mean()) == pytest.approx(hmc.TARGET, abs=0.08)


# Weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LinearGaussian(), OneLatent()], ids=["linear", "one_latent"])
def test_weights_are_unbiased_up_and_down(model: LinearGaussian | OneLatent) -> None:
    chains, exact = _bracket(model, 300, AnnealingSettings(8, 25, 3))
    for ratio in ((chains.lower - exact).exp(), (exact - chains.upper).exp()):  # E[w] = p(x), E[1/w] = 1/p(x)
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(300)
        assert float(ratio.std()) > 0.05


@pytest.mark.parametrize("model", [LinearGaussian(), OneLatent()], ids=["linear", "one_latent"])
def test_bounds_bracket_the_exact_answer_closely(model: LinearGaussian | OneLatent) -> None:
    chains, exact = _bracket(model, 40, AnnealingSettings(16, 500, 3))
    below, above = chains.lower - exact, chains.upper - exact
    assert -0.1 < float(below.mean()) < 3 * float(below.std()) / math.sqrt(40)
    assert -3 * float(above.std()) / math.sqrt(40) < float(above.mean()) < 0.1
    assert float(below.abs().mean()) < 0.2
    assert float(above.abs().mean()) < 0.2


def test_a_mixture_as_prior_is_bracketed() -> None:
    """Its support, torch's `MixtureSameFamilyConstraint`, is one of real numbers."""

    class Mixed(OneLatent):
        def prior(self) -> Distribution:
            means = torch.tensor([[-1.5], [1.0]], dtype=torch.float64)
            return MixtureSameFamily(
                Categorical(torch.tensor([0.3, 0.7]).double()), DiagonalNormal(means, means * 0 + 0.5), False
            )

    model = Mixed()
    x = model.images(40)
    hmc.require_chains(model, x)
    chains, exact = _bracket(model, 40, AnnealingSettings(16, 300, 3))
    assert float(exact.std()) > 0.1
    for error in (chains.lower - exact, chains.upper - exact):
        assert abs(float(error.mean())) < 0.1


@pytest.mark.parametrize(
    ("posterior", "prior", "space"),
    [
        ("hyperbolic.WrappedNormal", "hyperbolic.WrappedNormal", "the Poincaré ball"),
        ("spherical.VonMisesFisher", "vamp.VampPrior", "the unit sphere"),
    ],
)
def test_chains_do_not_leave_the_space_on_which_a_prior_lives(posterior: str, prior: str, space: str) -> None:
    """Defect: off the ball, or the sphere, a density still had a value, and "best" log-likelihoods were above zero."""
    model = small("vae", latent=3, posterior=tiny(POSTERIORS[posterior]), prior=tiny(PRIORS[prior]))
    report = _report(model, bits(3), ais=FEW, gaps={}, fitted={})
    for figure in ("log_likelihood_ais", "inference_gap", "elbo_fitted"):
        assert f"the prior lives on {space}, and Hamilton" in report.metrics[figure].unavailable


def test_more_temperatures_close_the_gap() -> None:
    gaps = []
    for temperatures in (5, 20, 80):
        chains, _ = _bracket(LinearGaussian(), 60, AnnealingSettings(4, temperatures, 3))
        gaps.append(float((chains.upper - chains.lower).mean()))
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_from_the_exact_posterior_every_chain_is_exact() -> None:
    chains, exact = _bracket(LinearGaussian(), 5, AnnealingSettings(3, 7, 2, "posterior"))
    torch.testing.assert_close(chains.lower, exact)
    torch.testing.assert_close(chains.upper, exact)
    torch.testing.assert_close(chains.ess, torch.full((5,), 3.0).double())
    assert chains.rate.isnan().all()


def test_an_image_s_chains_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OneLatent()
    x, settings = model.images(7), AnnealingSettings(4, 30, 2)
    with evaluation_mode(model, CPU):
        whole = annealed(model, x, settings)
        backward = annealed(model, x.flip(0), settings)
        alone = annealed(model, x[3:4], settings)
        monkeypatch.setitem(ais.VALUES, "cpu", 4 * 12 * 2)  # two images at once
        chunked = annealed(model, x, settings)
        other = annealed(model, x, settings, seed=1)
    torch.testing.assert_close(backward.lower.flip(0), whole.lower)
    torch.testing.assert_close(alone.lower, whole.lower[3:4])
    torch.testing.assert_close(chunked.rate, whole.rate)
    assert not torch.isclose(other.lower, whole.lower).any()


def test_simulated_images_depend_on_their_number_alone() -> None:
    model = OneLatent()
    z, x = simulate(model, 0, 6, 0, CPU)
    z_part, x_part = simulate(model, 4, 6, 0, CPU)
    assert torch.equal(z[4:], z_part)
    assert torch.equal(x[4:], x_part)
    assert len(z.unique()) == 6


def test_latents_of_any_shape() -> None:
    flat = LinearGaussian(latent=4)
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    model = Parts(flat.posterior, lambda: DiagonalNormal(zeros, zeros + 1, 2), lambda z: flat.likelihood(z.flatten(-2)))
    x = flat.images(6)
    with evaluation_mode(model, CPU):
        folded, plain = annealed(model, x, AnnealingSettings(4, 20, 2)), annealed(flat, x, AnnealingSettings(4, 20, 2))
    torch.testing.assert_close(folded.lower, plain.lower)


# Rate and distortion ----------------------------------------------------------------------------------------------


def test_the_curve_is_the_closed_form_s_from_above() -> None:
    model = LinearGaussian()
    x, temperatures = model.images(30), 800
    with evaluation_mode(model, CPU):
        chains = annealed(model, x, AnnealingSettings(16, temperatures, 3))
    prior = model.prior()
    for i, beta in enumerate(curve_betas(temperatures)):
        exact = _tempered(model, x, beta)
        residual = x.flatten(1) - model.mean - exact.mean @ model.weight.T
        spread = torch.einsum("dj,njk,dk->n", model.weight, exact.covariance_matrix, model.weight)
        squares = (residual.square().sum(1) + spread) / model.sigma**2
        distortion = squares / 2 + 16 * math.log(model.sigma * math.sqrt(2 * math.pi))
        rate = torch.stack(
            [kl_divergence(MultivariateNormal(m, exact.covariance_matrix[0]), prior) for m in exact.mean]
        )
        cost = chains.rate[:, i] + beta * chains.distortion[:, i] - rate - beta * distortion  # never below −log Z_β
        assert float(cost.mean()) > -4 * float(cost.std()) / math.sqrt(30) - 1e-9
        for error in (chains.distortion[:, i] - distortion, chains.rate[:, i] - rate):
            assert abs(float(error.mean())) < max(0.25, 4 * float(error.std()) / math.sqrt(30))
    assert chains.rate.shape == (30, len(curve_betas(temperatures)))
    torch.testing.assert_close(chains.rate[:, 0], torch.zeros(30).double())


# As a measurement -------------------------------------------------------------------------------------------------


def test_a_report_brackets_and_pairs() -> None:
    model = OneLatent()
    x = model.images(30)
    found = _report(model, x, ais={"images": 30, "simulated": 20, "k": 500, "temperatures": 100})
    assert set(found.metrics) == set(KINDS)
    exact = float(model.log_likelihood(x).mean())
    assert found.metrics["log_likelihood_ais"].value == pytest.approx(exact, abs=0.1)
    assert abs(found.metrics["ais_gap"].value) < 0.2
    assert found.metrics["ais_gap"].n == 20
    table = found.tables["ais"]
    excess = sum(table["log_likelihood_ais"]) / 30 - sum(table["log_likelihood"]) / 30
    assert found.metrics["ais_excess"].value == pytest.approx(excess)
    assert not found.per_image


def test_a_bad_encoder_is_found_out() -> None:
    model = OneLatent()
    narrow = Parts(lambda x: DiagonalNormal(model.posterior(x).mean, torch.full((len(x), 1), 1e-3).double()),
                   model.prior, model.likelihood)  # fmt: skip
    found = _report(narrow, model.images(20), ais={"images": 20, "simulated": 2, "k": 100, "temperatures": 50})
    assert found.metrics["ais_excess"].value > 1
    assert any("too low by at least that" in warning for warning in found.warnings)


def test_loose_bounds_are_warned_of() -> None:
    model = LinearGaussian(sigma=0.05)
    found = _report(model, model.images(5), "continuous", ais={"images": 5, "simulated": 5, "k": 9, "temperatures": 2})
    assert any("raise ais.temperatures" in warning for warning in found.warnings)


def test_no_density_of_q_is_needed() -> None:
    found = _report(small("rae"), bits(10), ais={**FEW, "simulated": 4}, rate_distortion=FEW)
    assert math.isfinite(found.metrics["log_likelihood_ais"].value)
    assert "deterministic" in found.metrics["ais_excess"].unavailable
    rows = found.tables["rate_distortion"]
    assert (rows[0]["beta"], rows[-1]["beta"]) == (0, 1)
    last = {name: found.metrics[f"{name}_annealed"].value for name in ("rate", "distortion")}
    assert {name: rows[-1][name] for name in last} == pytest.approx(last)


class _Uniform:
    """A box as prior."""

    def __call__(self) -> Distribution:
        return Independent(Uniform(torch.zeros(2).double(), torch.ones(2).double()), 1)


class _Discrete:
    """Four codes as prior."""

    def __call__(self) -> Distribution:
        return Categorical(torch.full((4,), 0.25).double())


def _flat(z: torch.Tensor) -> Distribution:
    return Bernoulli((z > 0).double().sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 4, 4), 3)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Parts(OneLatent().posterior, _Uniform(), OneLatent().likelihood), "support"),
        (Parts(OneLatent().posterior, _Discrete(), OneLatent().likelihood), "real numbers"),
        (Parts(OneLatent().posterior, LinearGaussian().prior, _flat), "no gradient"),
        (without(OneLatent(), prior="log_prob"), "no density"),
    ],
    ids=["box", "codes", "steps", "implicit"],
)
@pytest.mark.parametrize("name", ["ais", "rate_distortion", "fitted", "gaps"])
def test_where_chains_cannot_go_there_is_a_reason(model: Parts, reason: str, name: str) -> None:
    found = _report(model, bits(3), **{name: {}})
    assert found.metrics
    for metric in found.metrics.values():
        assert metric.value is None
        assert reason in metric.unavailable


def test_a_model_that_gives_nan_is_named_with_the_image() -> None:
    model = OneLatent()
    x = model.images(9)
    x[:, 0, 0, 0] = 0
    x[4, 0, 0, 0] = 1

    def likelihood(z: torch.Tensor) -> Distribution:
        logits = (3 * torch.sin(2 * z + model.phase)).unflatten(-1, model.shape)
        broken = torch.zeros_like(logits)
        broken[..., 4, :, :, :] = math.nan if logits.shape[-4] == 9 else 0
        return Bernoulli(logits + broken, 3)

    with pytest.raises(UserError, match="image 4 "), evaluation_mode(model, CPU):
        annealed(Parts(model.posterior, model.prior, likelihood), x, AnnealingSettings(2, 5, 2))
    names = list(range(0, 90, 10))
    with pytest.raises(UserError, match="image 40 "), evaluation_mode(model, CPU):
        annealed(Parts(model.posterior, model.prior, likelihood), x, AnnealingSettings(2, 5, 2), names=names)


@pytest.mark.parametrize("wrong", [{"chains": 0}, {"temperatures": 0}, {"leapfrog": 0}, {"start": "there"}])
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        _report(OneLatent(), OneLatent().images(3), ais=wrong)


def test_measurements_with_equal_settings_share_their_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(*args: object, **options: object) -> ais.Chains:
        made.append(args)
        return annealed(*args, **options)

    monkeypatch.setattr(_runs, "annealed", counted)
    model = OneLatent()
    _report(model, model.images(8), rate_distortion=FEW, ais={**FEW, "simulated": 4}, gaps={**FEW, "k": 30, "steps": 3})
    assert len(made) == 2  # up for the test images; up and down for simulated ones


def test_an_interrupted_run_goes_on_to_the_same_figures(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = OneLatent(), {**FEW, "images": 60, "simulated": 4}
    data = Data(model.images(60), DataSpec(model.shape))
    whole = vb.evaluate(model, data, measurements={**ALONE, "ais": settings})
    calls = []

    def breaks(*args: object, **options: object) -> ais.Chains:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return annealed(*args, **options)

    monkeypatch.setattr(_runs, "annealed", breaks)
    with pytest.raises(KeyboardInterrupt):
        vb.evaluate(model, data, measurements={**ALONE, "ais": settings}, work=tmp_path)
    resumed = vb.evaluate(model, data, measurements={**ALONE, "ais": settings}, work=tmp_path)
    assert len(calls) == 5  # one finished, one interrupted, two left, one simulated
    assert resumed.metrics == whole.metrics


def test_no_trace_is_left() -> None:
    model = small("vae").train()
    torch.manual_seed(3)
    random = torch.get_rng_state()
    first = _report(model, bits(6), ais={**FEW, "simulated": 2, "k": 20}, fitted={"images": 4, "k": 30, "steps": 3})
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    again = _report(model, bits(6), ais={**FEW, "simulated": 2, "k": 20}, fitted={"images": 4, "k": 30, "steps": 3})
    assert first.metrics == again.metrics


def test_single_precision_agrees_with_double() -> None:
    model, x = small("vae"), bits(12)
    settings = {"images": 12, "simulated": 2, "k": 20, "temperatures": 60}
    double = _report(model, x, ais=settings).metrics["log_likelihood_ais"].value
    single = _report(model.float(), x.float(), ais=settings).metrics["log_likelihood_ais"].value
    assert single == pytest.approx(double, abs=0.05)
