"""Families with codes: log p(x) by summation over all codes, how a codebook learns, and what the harness reports."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from codewords import _words
from helpers import CODES_ON_A_GRID, NET, SPEC, Source, bits, small
from oracles import Data, Parts
from torch import Tensor
from torch.distributions import Independent, RelaxedOneHotCategorical, kl_divergence

import vaebench as vb
from vaebench.cli import main
from vaebench.core import DataSpec, Family
from vaebench.distributions import Bernoulli
from vaebench.distributions.codes import Categorical, Relaxed, UnitsAndCodes
from vaebench.errors import UserError
from vaebench.evaluation.estimators.likelihood import estimate
from vaebench.functional.quantisation import entropy
from vaebench.training.population import Population

DOUBLE = torch.float64
QUANTISED = ["vq_vae", "rvq_vae", "fsq_vae", "lfq_vae"]
FEW = {
    "categorical_vae": {"codes": 3},
    "vq_vae": {"codes": 3, "width": 2},
    "rvq_vae": {"codes": 3, "width": 2, "levels": 2},
    "fsq_vae": {"levels": [3, 2]},
    "lfq_vae": {"bits": 2},
}
KINDS = {
    "categorical_vae": "OneHots",
    "joint_vae": "NormalAndOneHots",
    "vq_vae": "VectorQuantised",
    "rvq_vae": "ResidualQuantised",
    "fsq_vae": "FiniteScalar",
    "lfq_vae": "LookupFree",
}


def few(name: str, seed: int = 0, **overrides: object) -> Family:
    """A family with so few codes that all can be summed over."""
    posterior = {"class_path": f"vaebench.posteriors.codes.{KINDS[name]}", "init_args": {"net": NET, **FEW[name]}}
    model = small(name, posterior=posterior, seed=seed, **overrides).eval()
    with torch.no_grad():  # codes that matter, and a prior that is not uniform
        for parameter in model.likelihood.net.parameters():
            parameter.mul_(3)
        for parameter in model.prior.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel(), dtype=DOUBLE).reshape(parameter.shape))
    return model


def all_codes(model: Family) -> Tensor:
    """Every z there is, (k^m, m d)."""
    prior = model.prior()
    return prior.vectors(_words(prior.count, prior.size))


@torch.no_grad()
def log_joint(model: Family, x: Tensor) -> Tensor:
    """log p(x, z) of every code and image, (k^m, b)."""
    z = all_codes(model)[:, None]
    return model.likelihood(z).log_prob(x) + model.prior().log_prob(z)


# The bound ------------------------------------------------------------------------------------------------------------


def test_the_importance_weighted_bound_of_categorical_codes_converges_to_the_sum_over_all() -> None:
    model, x = few("categorical_vae", prior="vaebench.priors.codes.FactorisedCodes"), bits(6)
    exact = torch.logsumexp(log_joint(model, x), 0)
    with torch.no_grad():
        found = estimate(model, x, k=2_000, seed=0)
        log_q = model.posterior(x).log_prob(all_codes(model)[:, None])
        log_w = log_joint(model, x) - log_q
        bound = (log_q.exp() * log_w).sum(0)
        deviation = (log_q.exp() * (log_w - bound) ** 2).sum(0).sqrt()
    assert (bound < exact - 0.01).all()
    assert ((bound + found.rate + found.distortion).abs() < 4 * deviation / 2_000**0.5).all()
    error = (1 / found.ess - 1 / 2_000).sqrt()  # of a log mean weight, by the delta method
    assert ((found.log_likelihood - exact).abs() < 4 * error).all()
    assert float(error.max()) < 0.1


def test_the_harness_reports_the_sum_over_all_codes_where_the_posterior_is_exact() -> None:
    model, x = few("categorical_vae", latent=1), bits(10)
    joint = log_joint(model, x)

    def posterior(images: Tensor) -> Categorical:
        own = torch.cat([log_joint(model, image[None]) for image in images], 1)
        return Categorical(own.T[:, None], model.posterior.book, 1)

    exact = Parts(posterior, model.prior, model.likelihood)
    report = vb.evaluate(exact, Data(x), k=7, progress=False)
    expected = torch.logsumexp(joint, 0)
    assert torch.allclose(torch.as_tensor(report.per_image["log_likelihood"]).double(), expected, atol=1e-5)
    rate = (joint.log_softmax(0).exp() * (joint.log_softmax(0) + math.log(3))).sum(0)
    assert torch.allclose(torch.as_tensor(report.per_image["rate"]).double(), rate, atol=1e-5)


PRIORS: dict[str, dict[str, object]] = {name: {} for name in ("FactorisedCodes", "AutoregressiveCodes", "UniformCodes")}
PRIORS["AutoregressiveCodes of a PixelCNN"] = {"net": {**CODES_ON_A_GRID, "init_args": {"rows": 1, "layers": 2}}}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", QUANTISED)
def test_a_point_mass_bounds_the_sum_over_all_codes_by_its_own_term(name: str, prior: str) -> None:
    part = {"class_path": f"vaebench.priors.codes.{prior.split()[0]}", "init_args": PRIORS[prior]}
    model, x = few(name, prior=part), bits(10)
    joint = log_joint(model, x)
    codes = model.posterior(x)
    z = all_codes(model)
    row = (model.prior().indices(z)[:, None] == codes.indices(codes.mean)).all(-1).long().argmax(0)
    report = vb.evaluate(model, Data(x, SPEC), k=50, progress=False)
    bound = torch.as_tensor(report.per_image["log_likelihood"]).double()
    assert torch.allclose(bound, joint[row, torch.arange(10)], atol=1e-4)
    assert (bound < torch.logsumexp(joint, 0)).all()
    assert torch.allclose(torch.as_tensor(report.per_image["elbo"]).double(), bound, atol=1e-4)
    assert "K = 1;" in report.metrics["log_likelihood"].definition
    assert any("k = 1" in warning for warning in report.warnings)


def test_joint_latents_have_one_divergence_and_one_density() -> None:
    model, x = small("joint_vae"), bits(5)
    torch.manual_seed(0)
    q, p = model.posterior(x), model.prior()
    assert isinstance(q, UnitsAndCodes)
    z = q.sample((50_000,))
    with torch.no_grad():
        sampled = (q.log_prob(z) - p.log_prob(z)).mean(0)
        assert torch.allclose(kl_divergence(q, p), sampled, atol=0.03)
        assert torch.allclose(q.mean, z.mean(0), atol=0.02)
    assert torch.equal(z[..., 2:].sum(-1), torch.ones_like(z[..., 0]))


def test_relaxed_training_is_the_bound_of_the_relaxed_densities() -> None:
    """Maddison et al. 2017: both densities on the simplex, each at its temperature, by torch's own distribution."""
    model, x = few("categorical_vae", temperature=0.8, prior_temperature=0.4), bits(6)
    with torch.no_grad():
        torch.manual_seed(3)
        loss = float(model.step(x, None, torch.tensor(0.0)).losses["model"])
        torch.manual_seed(3)
        z = Relaxed(model.posterior(x).logits, model.temperature).rsample((1,))
        logits = model.posterior.net(x)
        q, p = (
            Independent(RelaxedOneHotCategorical(torch.tensor(tau, dtype=DOUBLE), logits=logits), 1)
            for tau, logits in ((0.8, logits), (0.4, torch.zeros_like(logits)))
        )
        simplex = z.unflatten(-1, (2, 3))
        bound = model.likelihood(z).log_prob(x) + p.log_prob(simplex) - q.log_prob(simplex)
    assert loss == pytest.approx(-float(bound.mean()), rel=1e-6)  # temperatures are kept in single precision


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTISED)
def test_the_decoders_gradient_passes_straight_to_the_encoders_vectors(name: str) -> None:
    """d loss / d z_e is d loss / d (what the decoder reads), as if nothing had been quantised (or rounded)."""
    model, x = small(name), bits(4)
    caught: dict[str, Tensor] = {}
    model.posterior.net.register_forward_hook(lambda _, __, out: caught.update(vectors=out))
    model.likelihood.net.register_forward_hook(lambda _, given, __: caught.update(read=given[0]))
    loss = -model.likelihood(model.posterior(x).rsample((1,))).log_prob(x).sum()
    encoder, decoder = torch.autograd.grad(loss, (caught["vectors"], caught["read"]))
    if name == "fsq_vae":
        levels = model.posterior.steps.double()
        half, offset = (levels - 1) * 1.001 / 2, 0.5 * (levels % 2 == 0)
        slope = half * (1 - torch.tanh(caught["vectors"] + torch.atanh(offset / half)) ** 2) / (levels // 2)
        assert torch.allclose(encoder, decoder[0].unflatten(-1, (2, -1)) * slope.detach())
    else:
        assert torch.allclose(encoder, decoder[0].unflatten(-1, (2, -1)))


def test_a_decoder_of_residual_codes_sees_the_sum_over_the_levels_of_a_place() -> None:
    model = small("rvq_vae")
    z = model.prior().sample((3,))
    width = model.posterior.sums.shape[-1]
    seen = z.reshape(3, 2, 4, width).sum(2).reshape(3, 2 * width)
    assert torch.equal(model.likelihood(z).logits, model.likelihood.net(seen))


@pytest.mark.parametrize("name", ["vq_vae", "rvq_vae"])
def test_the_commitment_loss_and_the_codebook_do_not_depend_on_the_batch_size(name: str) -> None:
    """A peer's commitment loss is a sum over the batch, so that its weight grows with it."""
    model, x = small(name), bits(6)
    one, four = (model.step(images, None, torch.tensor(1.0)) for images in (x, x.repeat(4, 1, 1, 1)))
    assert float(one.logs["commitment"].detach()) > 0
    assert torch.allclose(one.losses["model"], four.losses["model"])
    assert torch.allclose(one.logs["commitment"], four.logs["commitment"])
    alive = one.state["posterior.shares"] < 1 / model.posterior.shares.shape[1]  # codes that start anew do so at random
    for name_, value in one.state.items():
        assert torch.allclose(value[alive], four.state[name_][alive])


def test_a_codebook_starts_at_vectors_of_the_first_batch_and_follows_after_that() -> None:
    model, x = small("vq_vae"), bits(64)
    vectors = model.posterior.net(x).flatten(0, 1)
    first = model.step(x, None, torch.tensor(0.0)).state
    for name, value in first.items():
        model.get_buffer(name).copy_(value.detach())
    book = model.posterior.book[0]
    assert float(torch.cdist(book, vectors).min(1).values.max().detach()) < 1e-2
    errors = []
    for t in range(1, 60):
        step = model.step(x, None, torch.tensor(float(t)))
        errors.append(float(step.logs["commitment"].detach()))
        for name, value in step.state.items():
            model.get_buffer(name).copy_(value.detach())
    assert errors[-1] < errors[0], "means of what is written into a code are closer than one of them"
    shares = model.posterior.shares
    assert torch.allclose(shares.sum(-1), torch.ones(1, dtype=DOUBLE), atol=0.5)


@pytest.mark.parametrize("name", QUANTISED)
def test_the_second_stage_fits_the_prior_and_leaves_the_codes_alone(name: str) -> None:
    model, x = small(name, stage=5), bits(8)
    for t, expected in ((4.0, {"model": True, "prior": False}), (5.0, {"model": False, "prior": True})):
        active = model.active(torch.tensor(t))
        assert {group: bool(value) for group, value in active.items()} == expected
        state = model.step(x, None, torch.tensor(t)).state
        same = all(torch.equal(value, model.get_buffer(key)) for key, value in state.items())
        assert same is (name in ("fsq_vae", "lfq_vae") or not expected["model"])
    both = small(name).active(torch.tensor(0.0))
    assert all(bool(value) for value in both.values())


def test_a_fitted_prior_reaches_the_entropy_of_the_codes() -> None:
    """Second stage: cross-entropy of the best factorised prior is Σ H of the codes over the images."""
    model, x = small("vq_vae", stage=1, lr=0.1), bits(64)
    optimizer = torch.optim.Adam(model.members("prior"), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.step(x, None, torch.tensor(2.0)).losses["prior"]
        loss.backward()
        optimizer.step()
    report = vb.evaluate(model, Data(x, SPEC), "codes", progress=False)
    assert float(loss.detach()) == pytest.approx(report.metrics["code_entropy"].value, abs=0.02)
    assert report.metrics["rate"].value == pytest.approx(report.metrics["code_entropy"].value, abs=0.02)


def test_the_capacity_of_codes_stops_at_what_they_can_hold() -> None:
    model, x = small("joint_vae", gamma=1.0, continuous=0.0, discrete=50.0, length=1.0), bits(8)
    with torch.no_grad():
        step = model.step(x, None, torch.tensor(9.0))
    logs = {name: float(value) for name, value in step.logs.items()}
    missing = math.log(10) - logs["rate_discrete"]
    assert float(step.losses["model"]) == pytest.approx(logs["distortion"] + logs["rate_continuous"] + missing)


def test_convolutions_with_a_pixelcnn_train_in_two_stages_as_their_configuration_says(tmp_path: Path) -> None:
    """8 × 8 images, halved once: 4 × 4 places. Three steps an epoch; from the second on the prior learns alone."""
    config = Path(__file__).parents[2] / "configs" / "family" / "vq_conv_vae.yaml"
    small_images = ["--data=digits", "--data.batch_size=500", "--model.latent=16", "--trainer.accelerator=cpu"]
    few = [f"--model.{part}.net.{s}" for part in ("posterior", "likelihood") for s in ("levels=1", "channels=4")]
    run = ["fit", f"--config={config}", *small_images, *few, "--model.stage=3", f"--out={tmp_path}"]
    models = []
    for epochs in (1, 3):
        assert main([*run, f"--trainer.max_epochs={epochs}"]) == 0
        models.append(vb.load(max(tmp_path.rglob("model.ckpt"), key=lambda path: path.stat().st_mtime)))
    x = (torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    first, second = models
    with torch.no_grad():
        assert torch.equal(first.posterior(x).mean, second.posterior(x).mean), "the second stage leaves codes alone"
        assert torch.equal(first.likelihood.net.output_bias, second.likelihood.net.output_bias)
        assert not torch.equal(first.prior.net.code, second.prior.net.code)
        z = second.prior().sample((3,))
        assert torch.isfinite(second.prior().log_prob(z)).all()
        assert second.likelihood(z).sample().shape == (3, 1, 8, 8)


# The harness ----------------------------------------------------------------------------------------------------------


def test_codes_are_counted_over_images_and_places() -> None:
    """Four images at two places of eight codes: place 0 takes codes 0 and 1, place 1 always code 2."""
    book = torch.eye(8, dtype=DOUBLE)[None]
    words = torch.tensor([[0, 2], [1, 2], [0, 2], [1, 2]])

    def posterior(x: Tensor) -> Categorical:
        logits = torch.where(torch.arange(8) == words[x[:, 0, 0, 0].long(), :, None], 0.0, -math.inf)
        return Categorical(logits.double(), book, 2)

    def likelihood(z: Tensor) -> Bernoulli:
        return Bernoulli(z[..., :1, None, None], 3)

    x = torch.arange(4, dtype=DOUBLE)[:, None, None, None]
    model = Parts(posterior, lambda: Categorical(torch.zeros(2, 8, dtype=DOUBLE), book, 2), likelihood)
    from vaebench.evaluation.measurements import codes
    from vaebench.evaluation.metrics import Findings

    class Given:
        raw = x

    subject = Given()
    subject.model, subject.x = model, x
    found = Findings(codes.KINDS)
    codes.measure(subject, found)
    values = {name: metric.value for name, metric in found.metrics.items()}
    assert values["code_usage"] == pytest.approx(3 / 8)
    assert values["code_perplexity"] == pytest.approx(math.exp(0.5 * math.log(4) + 0.5 * math.log(2)))
    assert values["code_perplexity_place"] == pytest.approx((2 + 1) / 2)
    assert values["code_entropy"] == pytest.approx(math.log(2))


def test_a_code_that_the_decoder_does_not_read_is_one_collapsed_unit() -> None:
    """Its values are shuffled together: of a code half its own and half another's the decoder knows nothing."""
    book = torch.tensor([[[-3.0, 1.0], [3.0, 1.0]]], dtype=DOUBLE)

    def posterior(x: Tensor) -> Categorical:
        logits = 20 * torch.stack([1 - 2 * x[:, 0, 0], 2 * x[:, 0, 0] - 1], -1)
        return Categorical(logits, book, 2)

    def likelihood(z: Tensor) -> Bernoulli:
        return Bernoulli((z[..., :1] * z[..., 1:2])[..., None, None].expand(*z.shape[:-1], 1, 1, 2), 3)

    x = (torch.arange(40) % 2).double()[:, None, None, None].expand(40, 1, 1, 2)
    model = Parts(posterior, lambda: Categorical(torch.zeros(2, 2, dtype=DOUBLE), book, 2), likelihood)
    report = vb.evaluate(
        model, Data(x, DataSpec((1, 1, 2))), measurements={"units": {}, "collapse": {}}, progress=False
    )
    assert len(report.units["decoder_drop"]) == len(report.units["kl"]) == 2
    assert report.collapse["units"] == [1]
    assert report.units["kl"] == pytest.approx([math.log(2), math.log(2)])


def test_a_model_without_codes_has_no_figures_of_them() -> None:
    report = vb.evaluate(small("vae").eval(), Data(bits(4), SPEC), "codes", k=2, progress=False)
    assert report.metrics["code_usage"].value is None
    assert "has no codes" in report.metrics["code_usage"].unavailable


def test_chains_refuse_codes_with_their_reason() -> None:
    report = vb.evaluate(few("vq_vae"), Data(bits(3), SPEC), measurements={"ais": {}}, progress=False)
    missing = [metric.unavailable for name, metric in report.metrics.items() if "ais" in name and metric.value is None]
    assert missing
    assert all("support codes of a codebook, and Hamiltonian Monte Carlo moves" in reason for reason in missing)


def test_parts_that_do_not_fit_are_refused_with_their_reason() -> None:
    with pytest.raises(UserError, match="UniformCodes is a prior over codes, and DiagonalGaussian gives none"):
        small("vae", prior="vaebench.priors.codes.UniformCodes")
    with pytest.raises(UserError, match="VQVAE needs a prior of the kind CodePrior, and StandardNormal is none"):
        small("vq_vae", prior="vaebench.priors.StandardNormal")
    with pytest.raises(UserError, match="CategoricalVAE needs a prior of the kind FactorisedCodes"):
        small("categorical_vae", prior="vaebench.priors.codes.AutoregressiveCodes")
    posterior = {"class_path": "vaebench.posteriors.codes.VectorQuantised", "init_args": {"codes": 1}}
    with pytest.raises(
        UserError, match=r"VectorQuantised has codes 1: expected 2 or more; set model\.posterior\.codes"
    ):
        vb.build("vq_vae", Source(SPEC), posterior=posterior)
    posterior = {"class_path": "vaebench.posteriors.codes.FiniteScalar", "init_args": {"levels": []}}
    with pytest.raises(UserError, match="FiniteScalar has levels 0: expected 2 or more"):
        vb.build("fsq_vae", Source(SPEC), posterior=posterior)


def test_members_with_codes_train_as_one(tmp_path: object) -> None:
    """A prior that holds the posterior must not tell members apart by where in memory that stands."""
    from populations import args, entered

    population = Population(lanes=2)
    members = entered(population, [args("vq_vae", seed) for seed in (0, 1)], tmp_path)
    assert members[0].structure == members[1].structure


def test_a_code_that_no_image_takes_leaves_a_gradient() -> None:
    """Defect: a share of exactly 0, as of LFQ at a low temperature, made every gradient NaN."""
    model = small("lfq_vae", temperature=0.01).float()
    loss = model.step(bits(6).float(), None, torch.tensor(0.0)).losses["model"]
    assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(loss, model.members("model")))
    shares = torch.tensor([0.0, 0.25, 0.75], requires_grad=True)
    (slope,) = torch.autograd.grad(entropy(shares), shares)
    assert torch.allclose(slope[1:], -shares.detach()[1:].log() - 1)
    assert torch.isfinite(slope[0])


@pytest.mark.parametrize("size", [2, 3, 10])
def test_relaxed_codes_start_no_hotter_than_their_number_allows(size: int) -> None:
    """Defect: τ = 2/3 for any number k of codes, where above 1/(k − 1) the density has modes inside the simplex."""
    kind = {"class_path": "vaebench.posteriors.codes.OneHots", "init_args": {"net": NET, "codes": size}}
    model = small("categorical_vae", posterior=kind)
    assert float(model.temperature) == float(model.prior_temperature) == pytest.approx(1 / (size - 1))
