"""Laws of the proposal made for each image: exactness, the lower bound, independence of the encoder and of the cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import LAWFUL, POSTERIORS, PRIORS, SPEC, bits, images_of, small, tiny
from oracles import Codes, Data, LinearChain, LinearGaussian, OneLatent, Parts
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent, Laplace
from zuko.distributions import NormalizingFlow

import vaebench as vb
from vaebench.core import DataSpec, LatentModel
from vaebench.distributions import LEVELS, Bernoulli, Delta, DiagonalNormal, DiscretisedLogistic
from vaebench.distributions.interval import ContinuousBernoulli
from vaebench.distributions.levels import Levels
from vaebench.distributions.mixture import EqualMixture, GaussianMixture
from vaebench.distributions.pixelwise import HyperbolicSecant
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.conditions import evaluation_mode, noise_keys
from vaebench.evaluation.estimators import brackets, proposals, refined
from vaebench.evaluation.estimators.ais import simulate
from vaebench.evaluation.estimators.chains import ChainSettings
from vaebench.evaluation.estimators.gaussians import Gaussians
from vaebench.evaluation.estimators.joint import Joint, differentiable, require_gaussian
from vaebench.evaluation.estimators.proposals import Effort
from vaebench.evaluation.estimators.refined import RefinedEstimates
from vaebench.evaluation.estimators.scoring import scorer
from vaebench.evaluation.estimators.whitened import from_noise, to_noise
from vaebench.evaluation.measurements import _refined
from vaebench.evaluation.protocol import read_protocol

DOUBLE = torch.float64
CPU = torch.device("cpu")


def estimate(model: LatentModel, x: Tensor, k: int = 1000, seed: int = 0, **options: Any) -> RefinedEstimates:
    with evaluation_mode(model, CPU):
        return refined.estimate(model, x, k, seed, **options)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# Models of two latents, whose log p(x) is a sum over a grid -------------------------------------------------------

SHAPE = (1, 3, 4)
INNER, OUTER = randn(2, 6) / 2, randn(6, 24, seed=1)


def network(z: Tensor, outputs: int = 12) -> Tensor:
    return (torch.tanh(z @ INNER) @ OUTER)[..., :outputs]


def pixels(z: Tensor) -> Tensor:
    return network(z).unflatten(-1, SHAPE)


def warped() -> Distribution:
    """z = ε (0.5 + σ(3 ε_1)) coordinate by coordinate, where the second is scaled by what the first is."""

    class Shear(torch.distributions.Transform):
        domain = codomain = torch.distributions.constraints.real_vector
        bijective = True

        def _call(self, x: Tensor) -> Tensor:
            return torch.stack([x[..., 0], x[..., 1] * torch.exp(torch.tanh(2 * x[..., 0])) + x[..., 0] ** 2], -1)

        def _inverse(self, y: Tensor) -> Tensor:
            return torch.stack([y[..., 0], (y[..., 1] - y[..., 0] ** 2) * torch.exp(-torch.tanh(2 * y[..., 0]))], -1)

        def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.tanh(2 * x[..., 0])

        def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self(x)
            return y, self.log_abs_det_jacobian(x, y)

    return NormalizingFlow(Shear().inv, normal())


def normal() -> Distribution:
    return DiagonalNormal(torch.zeros(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE))


def mixture() -> Distribution:
    loc = torch.tensor([[-1.5, 0.0], [1.5, 0.5], [0.0, -1.0]], dtype=DOUBLE)
    return GaussianMixture(loc, torch.full_like(loc, 0.6), torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE).log())


def posteriors() -> Distribution:
    """As a VampPrior of posteriors that are no diagonal Gaussians."""
    return EqualMixture(torch.distributions.MultivariateNormal(randn(3, 2), torch.eye(2, dtype=DOUBLE) * 0.7))


LIKELIHOODS: dict[str, Callable[[Tensor], Distribution]] = {
    "Bernoulli": lambda z: Bernoulli(2 * pixels(z), 3),
    "torch's Bernoulli": lambda z: Independent(TorchBernoulli(logits=2 * pixels(z)), 3),
    "DiscretisedLogistic": lambda z: DiscretisedLogistic(torch.sigmoid(pixels(z)), torch.tensor(0.1).double(), 8, 3),
    "Gaussian": lambda z: DiagonalNormal(torch.sigmoid(pixels(z)), torch.full_like(pixels(z), 0.2), 3),
    "Gaussian of any scale": lambda z: DiagonalNormal(
        pixels(z).sigmoid(), (network(z, 24)[..., 12:].unflatten(-1, SHAPE) / 3 - 1.5).exp(), 3
    ),
    "Laplace": lambda z: Independent(Laplace(pixels(z).sigmoid(), torch.tensor(0.3).double(), validate_args=False), 3),
    "HyperbolicSecant": lambda z: HyperbolicSecant(torch.sigmoid(pixels(z)), torch.tensor(0.2).double(), 1.0, 3),
    "ContinuousBernoulli": lambda z: ContinuousBernoulli(2 * pixels(z), 3),
    "Levels": lambda z: Levels(network(z, 24).unflatten(-1, (1, 2, 3, 4))),
}
PRIORS_2D = {"normal": normal, "flow": warped, "mixture": mixture, "mixture of posteriors": posteriors}


def model_of(prior: Callable[[], Distribution], likelihood: str = "Bernoulli") -> Parts:
    return Parts(lambda x: Delta(x.flatten(1)[:, :2] * 0), prior, LIKELIHOODS[likelihood])


def by_grid(model: LatentModel, x: Tensor, points: int = 161, end: float = 6.0) -> Tensor:
    """log ∫ p(x|z) p(z) dz."""
    line = torch.linspace(-end, end, points, dtype=DOUBLE)
    z = torch.cartesian_prod(line, line)[:, None]
    log_joint = model.likelihood(z).log_prob(x) + model.prior().log_prob(z)
    return torch.logsumexp(log_joint, 0) + 2 * math.log(2 * end / (points - 1))


def sampled(model: LatentModel, n: int, seed: int = 3) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.likelihood(model.prior().sample(torch.Size((n,)))[None]).sample()[0].clamp(0, 1)


def assert_close(found: RefinedEstimates, exact: Tensor, single: float = 0.3) -> None:
    """In the mean within the samples' own error; and no image is far off, such as by a factor or a constant."""
    error = found.log_likelihood - exact
    assert abs(float(error.mean())) < 0.01 + 3 * float(found.variance.sum().sqrt()) / len(exact)
    assert float(error.abs().max()) < single


# Against exact answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_linear_gaussian_model_is_exact_to_its_monte_carlo_error(orthogonal: bool) -> None:
    model = LinearGaussian(orthogonal=orthogonal, stretch=3.0, shift=1.0)
    x = model.images(20)
    found = estimate(model, x)
    assert_close(found, model.log_likelihood(x))
    assert float(found.ess.min()) > 600, "but for the widening, the Gaussian is the posterior"
    assert float(found.pareto_k.max()) < 0.5


def test_a_hierarchy_is_whitened_level_by_level() -> None:
    model = LinearChain()
    x = model.images(20)
    found = estimate(model, x)
    assert_close(found, model.log_likelihood(x))
    assert float(found.ess.min()) > 500


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_with_a_density_against_a_grid(likelihood: str) -> None:
    model = model_of(normal, likelihood)
    x = sampled(model, 12)
    found = estimate(model, x)
    assert_close(found, by_grid(model, x))
    assert float((found.pareto_k > 0.7).double().mean()) <= 0.5


@pytest.mark.parametrize("prior", PRIORS_2D)
def test_every_continuous_prior_against_a_grid(prior: str) -> None:
    model = model_of(PRIORS_2D[prior])
    x = sampled(model, 12)
    found = estimate(model, x)
    assert_close(found, by_grid(model, x))


def test_probabilities_of_all_images_sum_to_one() -> None:
    """E[w] = p(x) whatever the proposal was fitted to: with five samples an image, no more no less."""
    model = model_of(normal)
    few = Parts(model.posterior, model.prior, lambda z: Bernoulli(2 * network(z, 4).unflatten(-1, (1, 2, 2)), 3))
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=DOUBLE).reshape(-1, 1, 2, 2)
    effort = Effort(steps=2, rounds=1, samples=2)
    totals = [float(estimate(few, x, 5, seed, effort=effort).log_likelihood.exp().sum()) for seed in range(60)]
    assert np.mean(totals) == pytest.approx(1, abs=4 * np.std(totals) / math.sqrt(len(totals)))
    assert np.std(totals) / math.sqrt(len(totals)) < 0.03


# Maps and curvatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [*PRIORS_2D, "chain"])
def test_a_prior_s_map_has_an_inverse_and_keeps_its_measure(prior: str) -> None:
    p = LinearChain().prior() if prior == "chain" else PRIORS_2D[prior]()
    noise = randn(7, 1, p.event_shape.numel())
    z, log_p, standard = from_noise(p, noise)
    torch.testing.assert_close(to_noise(p, z), noise)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda e: from_noise(p, e).z, e) for e in noise[:, 0]])
    torch.testing.assert_close(p.log_prob(z)[:, 0], log_p[:, 0] - torch.linalg.slogdet(jacobian).logabsdet)
    assert standard == (prior not in ("mixture", "mixture of posteriors"))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_curvature_is_the_mean_of_second_derivatives_over_images(likelihood: str) -> None:
    """Gauss–Newton drops the decoder's own curvature, which has no part in the mean over x ~ p(x|z)."""
    z = torch.tensor([[[0.3, -0.4]]], dtype=DOUBLE)
    model = model_of(normal, likelihood)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = model.likelihood(z.repeat(1, 4000, 1)).sample()[0]
    x = x.clamp(0, 1) if model.likelihood(z).support is LEVELS else x
    joint, each = Joint(model, x), z.repeat(1, len(x), 1)
    with torch.no_grad():
        found = joint.curvature(each).mean(0)
    scores = joint.slope(each)[1][0] + z[0]  # of log p(x|z) alone
    fisher = scores.mT @ scores / len(x) + torch.eye(2)
    torch.testing.assert_close(found, fisher, rtol=0.15, atol=0.15)


# However the work is cut ------------------------------------------------------------------------------------------


def model_in(dtype: torch.dtype) -> vb.Family:
    torch.manual_seed(0)
    model = vb.families()["vae"](DataSpec((1, 16, 16)), latent=4)
    with torch.no_grad():
        for parameter in model.likelihood.parameters():
            parameter.mul_(3)
    return model.to(dtype)


def test_batches_order_and_duplicates_do_not_matter() -> None:
    model = model_in(torch.float32)
    x = (torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(7)) < 0.3).float()
    whole = estimate(model, x, 100)
    for batch in (1, 4):
        for a, b in zip(estimate(model, x, 100, batch=batch), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
    order = torch.tensor([4, 0, 5, 5, 2])
    torch.testing.assert_close(
        estimate(model, x[order], 100).log_likelihood, whole.log_likelihood[order], rtol=0, atol=1e-3
    )
    assert (estimate(model, x, 100, seed=1).log_likelihood != whole.log_likelihood).all()


def test_single_precision_is_within_a_twentieth_of_a_nat_of_double() -> None:
    x = (torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(7)) < 0.3).float()
    single, double = (estimate(model_in(dtype), x).log_likelihood for dtype in (torch.float32, DOUBLE))
    assert float((single - double).abs().max()) < 0.05
    assert float((single - double).mean().abs()) < 0.005


def test_samples_are_fresh_and_leave_the_proposal_as_it_is() -> None:
    """The fit draws from a stream of its own, and weighs nothing: other samples meet the same proposal."""
    model, effort = model_of(normal), Effort()
    x = sampled(model, 4)
    with evaluation_mode(model, CPU), differentiable():
        joint = Joint(model, x)
        keys, others = noise_keys(x, 0), noise_keys(x, 1)
        one, other = (proposals.fit(joint, proposals.mode_start(model, joint, keys), keys, effort) for _ in range(2))
        weights = [refined.log_weights(joint, model, one, some, 50, scorer(model)) for some in (keys, others, keys)]
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.factor, other.factor)
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    pairs = [stream + (one << 32) for stream in (brackets.BRACKETING, refined.CLIMBING) for one in (0, 1)]
    own = (proposals.STARTING, proposals.FITTING, refined.SCORING, proposals.DECIDING, refined.JUDGING)
    assert len({*own, *pairs}) == 9


def test_only_p_counts() -> None:
    """An encoder that is wrong, or deterministic, changes where the search starts and nothing else."""
    good, bad = LinearGaussian(), LinearGaussian(stretch=0.2, shift=2.0)
    x = good.images(10)
    point = Parts(lambda x: Delta(good.posterior(x).mean), good.prior, good.likelihood)
    reference = estimate(good, x).log_likelihood
    for model in (bad, point):
        torch.testing.assert_close(estimate(model, x).log_likelihood, reference, rtol=0, atol=1e-6)


def test_a_gaussian_s_samples_come_back_with_their_density() -> None:
    factor = torch.linalg.cholesky(torch.eye(3).double() + 0.5)
    q = Gaussians(randn(2, 3), factor.expand(2, 3, 3))
    noise = randn(5, 2, 3, seed=4)
    e, log_q = q.from_noise(noise)
    torch.testing.assert_close(q.to_noise(e), noise)
    torch.testing.assert_close(log_q, torch.distributions.MultivariateNormal(q.mean, scale_tril=q.factor).log_prob(e))


def test_rounds_that_lose_an_image_are_undone() -> None:
    """One image's weights fell by 400 nats where two samples a round sent its mean out of a mixture's components."""
    model = LinearGaussian()
    x = model.images(3)
    with evaluation_mode(model, CPU), differentiable():
        joint, keys, exact = Joint(model, x), noise_keys(x, 0), model.exact_posterior(x)
        good = Gaussians(exact.mean, exact.scale_tril.expand(3, 3, 3))
        lost = Gaussians(exact.mean + torch.tensor([[0.0], [5.0], [0.0]]), good.factor)
        kept = proposals._better(joint, lost, good, keys)
    assert torch.equal(kept.mean, good.mean)


def test_the_change_from_a_tenth_of_the_samples_is_that_of_the_mean_over_the_tenths() -> None:
    log_w = randn(103, 4) * 2
    found = refined.summarise(log_w)
    tenths = [torch.logsumexp(log_w[i : i + 10], 0) - math.log(10) for i in range(0, 100, 10)]
    torch.testing.assert_close(found.change, found.log_likelihood - torch.stack(tenths).mean(0))
    assert torch.isnan(refined.summarise(log_w[:9]).change).all()


# Brackets ---------------------------------------------------------------------------------------------------------


def test_chains_from_the_proposal_and_exact_codes_bracket_a_known_likelihood() -> None:
    model = LinearGaussian()
    x, effort = model.images(8), Effort()
    with evaluation_mode(model, CPU):
        up = brackets.anneal_refined(model, x, 0, effort, ChainSettings(), list(range(8)))
        both = brackets.certificate(model, 0, 40, 100, 0, effort, CPU)
        _, made = simulate(model, 0, 40, 0, CPU)
    torch.testing.assert_close(up.lower, model.log_likelihood(x), rtol=0, atol=0.2)
    assert float(up.ess.mean()) > 20
    exact = model.log_likelihood(made)
    for rise in (both.upper - exact, exact - both.lower):
        assert float(rise.mean()) > -4 * float(rise.std()) / math.sqrt(40)
    assert float((both.upper - both.lower).abs().mean()) < 0.1


def test_a_proposal_that_misses_the_posterior_has_a_wide_bracket() -> None:
    """With one round and no step towards the mode, L_K is too low; chains find it out, and so does an exact code."""
    model = model_of(warped)
    poor, x = Effort(steps=1, rounds=1, samples=2), sampled(model_of(warped), 12)
    exact = by_grid(model, x)
    with evaluation_mode(model, CPU):
        plain = refined.estimate(model, x, 20, effort=poor).log_likelihood
        up = brackets.anneal_refined(model, x, 0, poor, ChainSettings(), list(range(12))).lower
        both = brackets.certificate(model, 0, 40, 20, 0, poor, CPU)
    assert float((up - plain).mean()) > 0.02
    assert float((exact - up).abs().mean()) < float((exact - plain).abs().mean())
    assert float((both.upper - both.lower).mean()) > 0.02


# Short chains where a Gaussian is not enough ----------------------------------------------------------------------

POOR = Effort(steps=1, rounds=1, samples=2)  # so poor that pilots distrust it


def test_chains_take_the_place_of_samples_where_a_pilot_says_so_and_nowhere_else() -> None:
    model = model_of(warped)
    x = sampled(model, 24)
    plain, found = (estimate(model, x, effort=POOR, anneal=anneal) for anneal in (False, True))
    far = found.annealed > 0
    assert 2 < int(far.sum()) < 22
    assert not plain.annealed.any()
    for name, one, other in zip(found._fields, plain, found, strict=True):
        torch.testing.assert_close(one[~far], other[~far], rtol=1e-7, atol=1e-7, equal_nan=True, msg=name)
    alone = [estimate(model, x[i : i + 1], effort=POOR, anneal=True).log_likelihood for i in range(24)]
    assert (found.pareto_k[far] > 0.5).all()
    torch.testing.assert_close(torch.cat(alone), found.log_likelihood, rtol=0, atol=1e-9)


def test_probabilities_of_all_images_sum_to_one_with_chains_too() -> None:
    """The pilot that decides is never weighed: chosen by the samples themselves, the sum would not be one."""
    model = model_of(warped)
    few = Parts(model.posterior, model.prior, lambda z: Bernoulli(2 * network(z, 4).unflatten(-1, (1, 2, 2)), 3))
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=DOUBLE).reshape(-1, 1, 2, 2)
    runs = [estimate(few, x, 5, seed, effort=POOR, anneal=True) for seed in range(60)]
    shares = torch.stack([run.annealed for run in runs])
    assert 0.1 < float(shares.mean()) < 0.9
    totals = [float(run.log_likelihood.exp().sum()) for run in runs]
    assert np.mean(totals) == pytest.approx(1, abs=4 * np.std(totals) / math.sqrt(len(totals)))
    assert np.std(totals) / math.sqrt(len(totals)) < 0.03


def test_chains_are_nearer_than_the_samples_of_a_poor_fit_and_no_nearer_than_the_truth() -> None:
    model = model_of(warped)
    x = sampled(model, 24)
    exact = by_grid(model, x)
    plain, found = (estimate(model, x, 20, effort=POOR, anneal=anneal) for anneal in (False, True))
    far = found.annealed > 0
    assert float((exact - found.log_likelihood)[far].abs().mean()) < float(
        (exact - plain.log_likelihood)[far].abs().mean()
    )
    excess = (found.log_likelihood - exact)[far]
    assert float(excess.mean()) < 2 * float(excess.std()) / math.sqrt(len(excess))


def test_chains_keep_within_three_fifths_of_the_passes_of_5000_samples() -> None:
    assert Effort().passes(50) + refined.JUDGES + refined.SHORT.passes <= 0.6 * 5000
    assert refined.SHORT.passes == 2 * (
        4 * (1 + 3 * refined.SHORT.leapfrog) + refined.SHORT.chains * (1 + 12 * refined.SHORT.leapfrog)
    )


def test_a_report_says_how_many_images_are_by_chains_and_an_old_protocol_is_what_it_was() -> None:
    model = model_of(warped)
    x = sampled(model, 24)
    spec = DataSpec(SHAPE, "binary")
    settings = {"k": 200, "bracket": False, "rounds": 1}
    plain, found = (
        vb.evaluate(model, Data(x, spec), "refined", measurements={
            "likelihood": settings | ({"anneal": True} if anneal else {}), "units": None, "collapse": None,
            "reconstruction": None, "samples": None,
        }) for anneal in (False, True)
    )  # fmt: skip
    assert "annealed_images" not in plain.metrics
    assert found.metrics["annealed_images"].value > 0
    assert "or of short chains from it" in found.metrics["log_likelihood"].definition
    assert "chains" not in plain.metrics["log_likelihood"].definition
    assert "anneal" not in read_protocol("refined").measurements["likelihood"]


def test_an_image_by_chains_is_trusted_by_their_effective_size() -> None:
    log_w = torch.zeros(16, 2, dtype=DOUBLE)
    log_w[0, 1] = 9.0  # one chain outweighs the rest
    chains = refined.summarise(log_w, torch.tensor([1.5, 1.5]))
    assert _refined.untrusted_images(chains).tolist() == [False, True]
    assert _refined.untrusted_images(refined.summarise(torch.zeros(100, 1, dtype=DOUBLE))).tolist() == [False]


# What cannot be refined -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("vq_vae", {}, "codes"),
        ("categorical_vae", {}, "codes"),
        ("joint_vae", {}, "codes"),
        ("vae", {"latent": 3, "posterior": tiny(POSTERIORS["spherical.VonMisesFisher"]),
                 "prior": tiny(PRIORS["spherical.SphericalUniform"])}, "sphere"),
        ("vae", {"latent": 300}, "300 values"),
    ],
)  # fmt: skip
def test_where_there_is_no_such_gaussian_the_reason_is_given(name: str, settings: dict[str, Any], reason: str) -> None:
    model = small(name, **settings)
    with evaluation_mode(model, CPU), differentiable(), pytest.raises(Unavailable, match=reason):
        require_gaussian(model, bits(1))


def test_an_adapter_of_codes_has_none_either() -> None:
    model = Codes(exact=True)
    with differentiable(), pytest.raises(Unavailable, match="support"):
        require_gaussian(model, model.images(1))


# The measurement --------------------------------------------------------------------------------------------------

REFINED = {"likelihood": {"proposal": "refined", "k": 200, "bracket": False}}


def report(model: LatentModel, x: Tensor, spec: DataSpec = SPEC, **changes: Any) -> vb.Report:
    return vb.evaluate(model, Data(x, spec), measurements={**REFINED, "units": None, "collapse": None}, **changes)


def test_a_protocol_that_names_no_proposal_is_what_it_was() -> None:
    plain = read_protocol("likelihood")
    assert set(plain.measurements["likelihood"]) == {"k", "precision", "compile", "corrections"}
    assert read_protocol("likelihood", measurements={"likelihood": {"proposal": "encoder"}}).config == plain.config
    refined = read_protocol("likelihood", measurements=REFINED)
    assert refined.measurements["likelihood"]["proposal"] == "refined"


def test_the_encoder_s_own_estimate_stands_beside_the_refined_one() -> None:
    model, x = LinearGaussian(orthogonal=True, stretch=0.4, shift=0.3), LinearGaussian().images(12)
    spec = DataSpec(tuple(x.shape[1:]), "continuous")
    found = report(model, x, spec)
    plain = vb.evaluate(model, Data(x, spec), k=200)
    np.testing.assert_array_equal(found.per_image["encoder_log_likelihood"], plain.per_image["log_likelihood"])
    exact = model.log_likelihood(x).numpy()
    np.testing.assert_allclose(found.per_image["log_likelihood"], exact, atol=0.2)
    price = found.per_image["log_likelihood"] - found.per_image["encoder_log_likelihood"]
    np.testing.assert_allclose(found.per_image["encoder_price"], price, atol=1e-5)
    assert found.metrics["encoder_price"].value > 0.1
    for name in ("elbo", "rate", "distortion"):
        assert found.metrics[name] == plain.metrics[name], "the bound is the encoder's"
    assert found.metrics["untrusted_images"].value == 0
    assert (found.per_image["log_likelihood_change"] >= 0).all()
    assert found.metrics["log_likelihood"].version != plain.metrics["log_likelihood"].version, (
        "they do not rank together"
    )
    assert found.tables["proposal"] == {"asked": "refined", "used": "refined"}


@pytest.mark.parametrize("name", ["rae", "wae_mmd", "swae"])
def test_deterministic_autoencoders_have_a_likelihood(name: str) -> None:
    model, x = small(name), bits(6)
    found = report(model, x)
    torch.testing.assert_close(
        torch.from_numpy(found.per_image["log_likelihood"]).double(), by_grid(model, x), rtol=0, atol=0.2
    )
    assert "deterministic" in found.metrics["encoder_price"].unavailable
    assert "deterministic" in found.metrics["encoder_log_likelihood"].unavailable
    assert found.metrics["distortion"].value is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWFUL)
def test_every_family_has_a_refined_likelihood_or_says_why_not(name: str) -> None:
    model, spec = small(name), images_of(name)
    x = bits(3) if spec is SPEC else torch.rand(3, *spec.shape, generator=torch.Generator().manual_seed(0)).double()
    found = vb.evaluate(model, Data(x, spec, torch.arange(3) % 3), measurements=REFINED)
    table = found.tables["proposal"]
    assert table["used"] == "refined" or table["reason"]
    assert (table["used"] == "refined") == ("encoder_price" in found.metrics)
    assert math.isfinite(found.metrics["log_likelihood"].value)


def test_where_nothing_can_be_refined_the_record_says_which_bound_stands_in() -> None:
    model, x = Codes(exact=False), Codes(exact=False).images(8)
    spec = DataSpec(Codes.shape)
    found, plain = report(model, x, spec), vb.evaluate(model, Data(x, spec), k=200)
    assert found.metrics["log_likelihood"] == plain.metrics["log_likelihood"]
    assert found.tables["proposal"]["used"] == "encoder"
    assert any("is the encoder's bound" in warning for warning in found.warnings)


def test_the_bracket_is_part_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_refined, "BRACKETED", 5)
    monkeypatch.setattr(_refined, "SIMULATED", 4)
    model, x = LinearGaussian(), LinearGaussian().images(8)
    settings = {"likelihood": {"proposal": "refined", "k": 100}}
    found = vb.evaluate(model, Data(x, DataSpec(tuple(x.shape[1:]), "continuous")), measurements=settings)
    assert found.metrics["bracket_gap"].n == 5
    assert abs(found.metrics["bracket_gap"].value) < 0.1
    assert found.tables["bracket"]["image"] == [0, 2, 4, 5, 7]
    kept = torch.from_numpy(found.per_image["log_likelihood"])[found.tables["bracket"]["image"]].double()
    torch.testing.assert_close(torch.tensor(found.tables["bracket"]["log_likelihood"]).double(), kept)
    assert found.metrics["certificate_gap"].n == 4
    assert abs(found.metrics["certificate_gap"].value) < 0.1


def test_a_conditional_model_is_refined_given_the_labels() -> None:
    model, x = small("cvae"), bits(6)
    found = vb.evaluate(model, Data(x, SPEC, torch.arange(6) % 3), measurements=REFINED)
    assert found.tables["proposal"]["used"] == "refined"
    assert found.metrics["encoder_price"].value is not None


def test_another_proposal_is_refused() -> None:
    with pytest.raises(UserError, match=r"proposal 'refind'.*refined"):
        vb.evaluate(OneLatent(), Data(OneLatent().images(2), DataSpec((1, 3, 4))),
                    measurements={"likelihood": {"proposal": "refind"}})  # fmt: skip


def test_half_precision_is_held_against_single() -> None:
    model, x = model_in(torch.float32), (torch.rand(4, 1, 16, 16) < 0.3).float()
    settings = {"likelihood": {"proposal": "refined", "k": 50, "precision": "bf16", "bracket": False}}
    found = vb.evaluate(model, Data(x, DataSpec((1, 16, 16))), measurements=settings)
    assert 0 < found.metrics["bf16_error_largest"].value < 1
