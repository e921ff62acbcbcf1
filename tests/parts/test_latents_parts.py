"""Posteriors and priors against independent oracles, and the traps that their papers' implementations fell into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
import yaml
from helpers import POSTERIORS, PRIORS, SPEC, bits, noisy_step, small, tiny
from populations import args, entered, equal_to_solo, trained
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

import vaebench as vb
from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import DiagonalNormal
from vaebench.distributions.flow import Planar, Radial, Sylvester, increasing_inverse
from vaebench.distributions.gaussian import FullNormal, triangle
from vaebench.distributions.hyperbolic import Exponential, Translation
from vaebench.distributions.mixture import GaussianMixture, strata
from vaebench.distributions.spherical import SphericalUniform, VonMisesFisher, log_area
from vaebench.errors import UserError
from vaebench.functional.objectives import stratified, stratified_importance_weighted
from vaebench.priors.vamp import VampPrior
from vaebench.training.population import Population

ROOT = Path(__file__).parents[2]

DOUBLE = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# Full covariance ------------------------------------------------------------------------------------------------------


def full(*batch: int, n: int = 4) -> FullNormal:
    matrix = torch.tril(randn(*batch, n, n, seed=1), -1) + randn(*batch, n, seed=2).exp().diag_embed()
    return FullNormal(randn(*batch, n), matrix)


def test_the_full_gaussian_is_torchs() -> None:
    q, value = full(3), randn(5, 3, 4, seed=4)
    assert torch.allclose(q.log_prob(value), MultivariateNormal(q.loc, scale_tril=q.scale_tril).log_prob(value))
    torch.manual_seed(0)
    drawn = q.rsample((40_000,))
    assert torch.allclose(torch.cov(drawn[:, 1].T), q.covariance_matrix[1], atol=0.15, rtol=0.05)


def test_the_full_gaussians_divergence_is_torchs() -> None:
    q, loc, scale = full(3), randn(4, seed=5), randn(4, seed=6).exp()
    p = MultivariateNormal(loc, scale_tril=scale.diag())
    plain = MultivariateNormal(q.loc, scale_tril=q.scale_tril)
    assert torch.allclose(kl_divergence(q, DiagonalNormal(loc, scale)), kl_divergence(plain, p))


def test_a_triangle_holds_every_value_once() -> None:
    for n in (1, 2, 5):
        values = torch.arange(1, n * (n + 1) // 2 + 1)
        square = triangle(values, n)
        assert sorted(square[square > 0].tolist()) == values.tolist()
        assert torch.equal(square, square.tril())


# Mixtures -------------------------------------------------------------------------------------------------------------


def mixture(*batch: int, c: int = 3, n: int = 2) -> GaussianMixture:
    weights = torch.log_softmax(randn(*batch, c, seed=3), -1)
    return GaussianMixture(2 * randn(*batch, c, n, seed=1), randn(*batch, c, n, seed=2).exp() / 2, weights)


@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_mixtures_density_and_moments_are_torchs(batch: tuple[int, ...]) -> None:
    q = mixture(*batch)
    theirs = MixtureSameFamily(
        Categorical(logits=q.log_weights), Independent(Normal(q.components.loc, q.components.scale), 1)
    )
    value = randn(5, *batch, 2, seed=7)
    assert torch.allclose(q.log_prob(value), theirs.log_prob(value), atol=1e-10)
    assert torch.allclose(q.mean, theirs.mean)
    assert torch.allclose(q.variance, theirs.variance)


def test_a_mixture_of_narrow_components_is_scored_to_single_precision() -> None:
    """z²/σ² − 2 z μ/σ² + μ²/σ² in f32 would be off by tenths of a nat."""
    loc, scale = (3 * randn(200, 50, seed=1)).float(), torch.full((200, 50), 0.02)
    q = GaussianMixture(loc, scale, torch.full((200,), -5.3))
    z = loc[:9] + scale[:9] * randn(9, 50, seed=2).float()
    scores = Normal(loc.double(), scale.double()).log_prob(z.double()[:, None]).sum(-1)
    assert torch.allclose(q.log_prob(z).double(), torch.logsumexp(scores - 5.3, -1), atol=1e-4)


def test_a_mixture_draws_by_strata_in_random_order() -> None:
    """Each component as often as its weight says, within one; yet each sample alone has the mixture's distribution."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    loc = torch.tensor([[-100.0], [0.0], [100.0]], dtype=DOUBLE)
    q = GaussianMixture(loc, torch.ones_like(loc), weights.log())
    torch.manual_seed(0)
    drawn = torch.stack([(q.rsample((10,)) / 100).round().long().squeeze(-1) + 1 for _ in range(2_000)])
    counts = torch.stack([(drawn == c).sum(1) for c in range(3)], 1)
    assert (counts == 10 * weights).all()
    for place in (0, 9):
        first = torch.bincount(drawn[:, place], minlength=3)
        assert scipy.stats.chisquare(first.numpy(), 2_000 * weights.numpy()).pvalue > 1e-3


def test_strata_weigh_what_they_draw() -> None:
    q = mixture(4)
    z, shares = strata(q, 2)
    assert z.shape == (6, 4, 2)
    assert torch.allclose(shares.exp().sum(0), torch.ones(4, dtype=DOUBLE))
    plain, log_shares = strata(DiagonalNormal(randn(4, 2), torch.ones(4, 2, dtype=DOUBLE)), 5)
    assert plain.shape == (5, 4, 2)
    assert torch.allclose(log_shares.exp().sum(0), torch.ones(4, dtype=DOUBLE))


def test_the_stratified_bound_is_the_elbo_with_less_noise_and_the_weighted_one_is_tighter() -> None:
    q, p = mixture(1), DiagonalNormal(torch.zeros(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE))
    torch.manual_seed(0)
    z = q.rsample((60_000,))
    plain = (p.log_prob(z) - q.log_prob(z)).flatten()
    found: dict[str, list[float]] = {"elbo": [], "weighted": []}
    for _ in range(3_000):
        z, shares = strata(q, 1)
        log_w = p.log_prob(z) - q.log_prob(z)
        found["elbo"].append(float(stratified(log_w, shares)))
        found["weighted"].append(float(stratified_importance_weighted(log_w, shares)))
    elbo, weighted = (torch.tensor(values) for values in found.values())
    assert float(elbo.mean()) == pytest.approx(float(plain.mean()), abs=4 * float(elbo.std()) / 3_000**0.5)
    assert elbo.std() < 0.8 * plain.std()
    assert weighted.mean() > elbo.mean()
    assert weighted.mean() < 4 * float(weighted.std()) / 3_000**0.5, "at most log ∫ p = 0"


def _step_along(model: Family, x: Tensor, seed: int) -> tuple[float, float]:
    """A step's loss along a direction in the parameters: by its gradient and by differences under the same noise."""
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(noisy_step(model, x, seed)["model"], list(parameters.values()))
    directions = [randn(*p.shape, seed=i) for i, p in enumerate(parameters.values())]

    def moved(size: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters.values(), directions, strict=True):
                parameter += size * direction
            loss = float(noisy_step(model, x, seed)["model"])
            for parameter, direction in zip(parameters.values(), directions, strict=True):
                parameter -= size * direction
        return loss

    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    return slope, (moved(1e-5) - moved(-1e-5)) / 2e-5


@pytest.mark.parametrize("importance", [True, False])
def test_learned_weights_get_the_gradient_of_the_bound(importance: bool) -> None:
    part = tiny(POSTERIORS["mixture.MixtureOfGaussians"], weights="learned")
    model = small("stratified_vae", posterior=part, importance=importance)
    slope, difference = _step_along(model, bits(8), seed=3)
    assert slope == pytest.approx(difference, rel=1e-6)
    bias = model.posterior.net.layers[-1].bias
    gradient = torch.autograd.grad(noisy_step(model, bits(8), 0)["model"], bias)[0]
    assert (gradient != 0).all(), "every mean, scale and weight of every component"


@pytest.mark.parametrize("name", ["flows.InverseAutoregressive", "flows.SylvesterFlow", "mixture.MixtureOfGaussians"])
@pytest.mark.parametrize("family", ["stl", "vae"])
def test_a_step_with_a_rich_posterior_is_the_derivative_it_claims(family: str, name: str) -> None:
    """STL scores the samples under a posterior whose parameters pass nothing on: through the flow's inverse."""
    model = small(family, posterior=tiny(POSTERIORS[name]))
    if family == "vae":
        slope, difference = _step_along(model, bits(8), seed=3)
        assert slope == pytest.approx(difference, rel=1e-5)
    else:
        with torch.no_grad():
            model.posterior.net.layers[-1].weight *= 3
        x = bits(1).expand(400, *SPEC.shape)
        pairs = torch.tensor([_step_along(model, x, seed) for seed in range(12)], dtype=DOUBLE)
        gap = pairs[:, 0] - pairs[:, 1]
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / len(gap) ** 0.5 + 1e-6


# Flows ----------------------------------------------------------------------------------------------------------------


def _steps(size: float) -> dict[str, Any]:
    def big(*shape: int, seed: int) -> Tensor:
        return size * randn(6, *shape, seed=seed)

    return {
        "planar": Planar(big(3, seed=1), big(3, seed=2), big(seed=3)),
        "radial": Radial(big(3, seed=1), big(seed=2) / 3, big(seed=3)),
        "sylvester": Sylvester(big(4, 3, seed=1), big(2, 2, seed=2), big(2, 2, seed=3), big(2, seed=4)),
    }


@pytest.mark.parametrize("size", [0.3, 3.0])
@pytest.mark.parametrize("name", ["planar", "radial", "sylvester"])
def test_a_step_is_undone_by_its_inverse_whatever_its_parameters(name: str, size: float) -> None:
    step, z = _steps(size)[name], 2 * randn(50, 6, 3, seed=9)
    image, ladj = step.call_and_ladj(z)
    assert torch.isfinite(ladj).all()
    assert torch.allclose(step.inv(image), z, atol=1e-6)


def test_planar_weights_that_would_fold_space_are_mended() -> None:
    """wᵀu < −1 folds: the paper's û brings wᵀû back above −1, and leaves what is across w alone."""
    u, w = torch.tensor([[-5.0, 1.0]], dtype=DOUBLE), torch.tensor([[2.0, 0.0]], dtype=DOUBLE)
    step = Planar(u, w, torch.zeros(1, dtype=DOUBLE))
    line = torch.stack([torch.linspace(-9, 9, 2001, dtype=DOUBLE), torch.zeros(2001, dtype=DOUBLE)], -1)
    assert (step(line[:, None])[:, 0, 0].diff() > 0).all()
    assert step.u[0, 1] == 1.0
    assert float((step.u * w).sum()) > -1


def test_the_inverse_of_a_bent_line_is_found_and_differentiated() -> None:
    y, a, s, c = (randn(20, seed=i).requires_grad_() for i in range(4))
    s_safe = s.detach().abs().add(0.1).requires_grad_()
    slope = (a.detach().abs() - 0.9).requires_grad_()  # a s > −1 for s ≤ 1.1
    s_small = (s_safe.detach().clamp(max=1.1)).requires_grad_()
    x = increasing_inverse(y, slope, s_small, c)
    assert torch.allclose(x + slope * torch.tanh(s_small * x + c), y, atol=1e-12)
    assert torch.autograd.gradcheck(increasing_inverse, (y, slope, s_small, c))


def test_a_sample_drawn_without_gradients_is_scored_with_them() -> None:
    """What sampling knew has no gradient then, and a score-function estimator would learn nothing."""
    q = small("vae", posterior=tiny(POSTERIORS["flows.InverseAutoregressive"])).posterior(bits(3))
    with torch.no_grad():
        z = q.rsample((2,))
        known = q.log_prob(z)
    score = q.log_prob(z)
    assert not known.requires_grad
    assert score.requires_grad
    assert torch.allclose(score, known, atol=1e-9)


def test_a_flow_without_steps_is_refused() -> None:
    with pytest.raises(UserError, match=r"^steps is 0: expected at least 1; raise model.posterior.steps"):
        small("vae", posterior=tiny(POSTERIORS["flows.PlanarFlow"], steps=0))


# The sphere -----------------------------------------------------------------------------------------------------------


def fisher(n: int, kappa: float) -> VonMisesFisher:
    loc = torch.nn.functional.normalize(randn(n, seed=n), dim=-1)
    return VonMisesFisher(loc, torch.tensor(kappa, dtype=DOUBLE))


@pytest.mark.parametrize("n", [3, 10, 50])
@pytest.mark.parametrize("kappa", [0.1, 10.0, 1000.0])
def test_von_mises_and_fisher_are_scipys(n: int, kappa: float) -> None:
    q = fisher(n, kappa)
    theirs = scipy.stats.vonmises_fisher(q.loc.numpy(), kappa)
    z = torch.from_numpy(theirs.rvs(5, random_state=0))
    assert torch.allclose(q.log_prob(z), torch.from_numpy(theirs.logpdf(z.numpy())), atol=1e-7)
    divergence = kl_divergence(q, SphericalUniform(torch.zeros(n, dtype=DOUBLE)))
    uniform = log_area(n)
    assert float(divergence) == pytest.approx(-theirs.entropy() + uniform, abs=1e-7)


@pytest.mark.parametrize(("n", "kappa"), [(3, 0.5), (10, 30.0), (50, 200.0)])
def test_von_mises_and_fisher_are_sampled_as_scipy_samples(n: int, kappa: float) -> None:
    q = fisher(n, kappa)
    torch.manual_seed(0)
    z = q.rsample((4_000,))
    assert torch.allclose(z.norm(dim=-1), torch.ones(4_000, dtype=DOUBLE))
    theirs = scipy.stats.vonmises_fisher(q.loc.numpy(), kappa).rvs(4_000, random_state=1)
    for direction in (q.loc, torch.nn.functional.normalize(randn(n, seed=1), dim=-1)):
        assert scipy.stats.ks_2samp((z @ direction).numpy(), theirs @ direction.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("n", "kappa"), [(3, 0.5), (3, 40.0), (10, 30.0), (50, 200.0), (50, 900.0)])
def test_a_spherical_samples_gradient_is_that_of_its_expectation(n: int, kappa: float) -> None:
    """d E[μᵀz] / dκ = E[w]′(κ), without the correction that rejection needs else."""
    loc, concentration = torch.eye(n, dtype=DOUBLE)[0], torch.tensor(kappa, dtype=DOUBLE, requires_grad=True)
    step = 1e-3 * kappa
    means = [float(fisher(n, kappa + s).mean.norm()) for s in (step, -step)]
    torch.manual_seed(0)
    q = VonMisesFisher(loc.expand(6_000, n), concentration.expand(6_000))
    gradients = torch.autograd.grad(q.rsample()[:, 0].sum(), q.concentration)[0]
    error = float(gradients.std()) / 6_000**0.5
    assert float(gradients.mean()) == pytest.approx((means[0] - means[1]) / (2 * step), abs=4 * error, rel=1e-3)


def test_a_spherical_posterior_under_a_gaussian_prior_is_refused() -> None:
    part = tiny(POSTERIORS["spherical.VonMisesFisher"])
    with pytest.raises(
        UserError, match="VonMisesFisher lives on the unit sphere and StandardNormal on Euclidean space"
    ):
        small("vae", latent=3, posterior=part)
    small("vae", latent=3, posterior=part, prior=tiny(PRIORS["vamp.VampPrior"]))
    with pytest.raises(UserError, match=r"VonMisesFisher has 2 latents: expected at least 3; raise model\.latent"):
        small("vae", posterior=part, prior=tiny(PRIORS["spherical.SphericalUniform"]))


# The ball -------------------------------------------------------------------------------------------------------------


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Hyperbolic distance in the ball of curvature −1, by its textbook formula."""
    apart = (x - y).square().sum(-1) / ((1 - x.square().sum(-1)) * (1 - y.square().sum(-1)))
    return torch.acosh(1 + 2 * apart)


def test_translations_of_the_ball_keep_distances_and_exponentials_lengths() -> None:
    tangents = randn(3, 20, 4) / 3
    x, y, centre = Exponential()(tangents)
    moved = Translation(centre)
    assert torch.allclose(distance(moved(x), moved(y)), distance(x, y), atol=1e-8)
    assert torch.allclose(moved(torch.zeros_like(centre)), centre)
    assert torch.allclose(distance(x, torch.zeros_like(x)), 2 * tangents[0].norm(dim=-1), atol=1e-8)
    assert torch.allclose(moved.inv(moved(x)), x, atol=1e-10)


# VampPrior ------------------------------------------------------------------------------------------------------------


def vamp(**settings: Any) -> Family:
    return small("vae", prior=tiny(PRIORS["vamp.VampPrior"], **settings))


def test_the_vampprior_is_the_mean_of_the_posteriors_at_its_inputs() -> None:
    """By scipy, component by component: pythae's lost a parenthesis here."""
    model = vamp()
    q = model.posterior(model.prior.inputs.clamp(0, 1))
    loc, scale = (t.detach().numpy() for t in (q.base_dist.loc, q.base_dist.scale))
    for z in randn(4, 2):
        density = sum(scipy.stats.norm.pdf(z, m, s).prod() for m, s in zip(loc, scale, strict=True)) / len(loc)
        assert float(model.prior().log_prob(z).exp().detach()) == pytest.approx(density, rel=1e-9)


def test_the_vampprior_is_sampled_from_its_own_components() -> None:
    model = vamp()
    with torch.no_grad():
        model.posterior.net.layers[-1].bias += torch.tensor([40.0, -40.0, -1.0, -1.0])
        torch.manual_seed(0)
        drawn = model.prior().sample((500,))
    assert torch.allclose(drawn.mean(0), torch.tensor([40.0, -40.0], dtype=DOUBLE), atol=1), "not from N(0, I)"


def test_the_vampprior_follows_the_encoder_and_teaches_it() -> None:
    model = vamp()
    z = randn(3, 2)
    before = model.prior().log_prob(z)
    gradients = torch.autograd.grad(before.sum(), list(model.posterior.parameters()))
    assert all(float(g.abs().sum()) > 0 for g in gradients)
    with torch.no_grad():
        model.posterior.net.layers[-1].bias += 1
    assert not torch.allclose(before, model.prior().log_prob(z))


def test_the_vampprior_starts_at_training_images_where_they_are_known() -> None:
    examples = bits(9).float()
    data = DataSpec(SPEC.shape, "binary", SPEC.mean, 9, examples)
    model = small("vae", prior=tiny(PRIORS["vamp.VampPrior"], start="data", components=9), spec=data)
    assert torch.equal(model.prior.inputs.float(), examples)
    with pytest.raises(UserError, match=r"VampPrior has 10 components .* 9 are at hand; lower prior\.components"):
        small("vae", prior=tiny(PRIORS["vamp.VampPrior"], start="data", components=10), spec=data)
    digits = vb.build("vae", "digits", latent=2, prior=tiny(VampPrior, start="data"))
    assert len(digits.prior.inputs) == 3
    assert digits.prior.inputs.flatten(1).std(0).max() > 0.1
    bare = small("vae", prior=tiny(PRIORS["vamp.VampPrior"], start="data", components=9), spec=DataSpec(SPEC.shape))
    bare.load_state_dict(model.state_dict())
    assert torch.equal(bare.prior.inputs, model.prior.inputs)


def test_any_posterior_with_a_density_makes_a_vampprior() -> None:
    for name in ("gaussian.FullGaussian", "flows.PlanarFlow", "mixture.MixtureOfGaussians"):
        model = small("vae", posterior=tiny(POSTERIORS[name]), prior=tiny(PRIORS["vamp.VampPrior"]))
        q, z = model.posterior(model.prior.inputs), randn(3, 2)
        expected = torch.logsumexp(q.log_prob(z[:, None]), -1) - torch.log(torch.tensor(3.0))
        assert torch.allclose(model.prior().log_prob(z), expected)
        assert model.prior().rsample((7,)).shape == (7, 2)
        step = model.step(bits(4), None, torch.tensor(0.0))
        assert isinstance(step, Step)
        assert torch.isfinite(step.losses["model"])


def test_no_component_is_refused() -> None:
    for kind, name in (("posterior", "MixtureOfGaussians"), ("prior", "MixtureOfGaussians"), ("prior", "VampPrior")):
        module = "vamp" if name == "VampPrior" else "mixture"
        parts = POSTERIORS if kind == "posterior" else PRIORS
        with pytest.raises(UserError, match=f"^components is 0: expected at least 1; raise model.{kind}.components"):
            small("vae", **{kind: tiny(parts[f"{module}.{name}"], components=0)})


# Configurations and populations ---------------------------------------------------------------------------------------

CONFIGS = ["full_gaussian_vae", "mixture_vae", "planar_vae", "radial_vae", "sylvester_vae", "iaf_vae", "nsf_vae",
           "hyperspherical_vae", "poincare_vae", "vamp_vae", "gmm_vae", "realnvp_vae", "maf_vae",
           "nsf_prior_vae", "lars_vae"]  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_papers_configuration_builds(name: str) -> None:
    config = yaml.safe_load((ROOT / "configs" / "family" / f"{name}.yaml").read_text())["model"]
    model = vb.build(config["class_path"].split(".")[-2], "digits", **config["init_args"])
    asked = [config["init_args"][side]["class_path"] for side in ("posterior", "prior") if side in config["init_args"]]
    built = [f"{type(part).__module__}.{type(part).__name__}" for part in (model.posterior, model.prior)]
    assert built[: len(asked)] == asked


def test_members_with_rich_parts_equal_their_solo_runs(tmp_path: Path) -> None:
    population = Population(lanes=2)
    arguments = {
        "iaf": ["--model.posterior=vaebench.posteriors.flows.InverseAutoregressive", "--model.posterior.width=8"],
        "mixture": ["--model.posterior=vaebench.posteriors.mixture.MixtureOfGaussians"],
        "vamp": ["--model.prior=vaebench.priors.vamp.VampPrior", "--model.prior.components=4"],
    }
    runs = [[*args("vae", seed, epochs=1), *extra] for extra in arguments.values() for seed in (0, 1)]
    members = entered(population, runs, tmp_path)
    assert len({member.structure for member in members}) == 3
    trained(population)
    for at in (1, 3, 5):
        equal_to_solo(members[at], runs[at], tmp_path / f"solo{at}", tolerance=1e-6)
