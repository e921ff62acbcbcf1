"""Chains of latents, and the families of several levels, against linear algebra and the generic route."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import NET, bits, small
from oracles import LinearChain
from torch.distributions import MultivariateNormal, kl_divergence

import vaebench as vb
from vaebench.core import draw
from vaebench.distributions import DiagonalNormal
from vaebench.distributions.hierarchy import descend, gaussian, gaussian_product
from vaebench.errors import UserError
from vaebench.posteriors.hierarchy import level_sizes

HIERARCHIES = ["two_layer_vae", "ladder_vae", "hvae"]


def test_the_density_of_a_hierarchy_is_that_of_the_joint_gaussian() -> None:
    model = LinearChain()
    joint = model.joint()
    exact = MultivariateNormal(joint.mean[9:], joint.covariance_matrix[9:, 9:])
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(2)).double()
    assert torch.allclose(model.prior().log_prob(z), exact.log_prob(z), atol=1e-10)
    torch.manual_seed(0)
    samples = model.prior().rsample((40_000,))
    assert torch.allclose(samples.mean(0), exact.mean, atol=0.05)
    assert torch.allclose(samples.T.cov(), exact.covariance_matrix, atol=0.15)


@pytest.mark.parametrize("order", ["up", "down"])
def test_exact_posterior_chain_makes_every_weight_the_exact_likelihood(order: str) -> None:
    model = LinearChain(order)
    x = model.images(7).clamp(0, 1)
    torch.manual_seed(0)
    drawn = draw(model, x, 5)
    assert torch.allclose(drawn.log_w, model.log_likelihood(x).expand(5, 7), atol=1e-8)
    assert torch.allclose(vb.log_likelihood(model, x, k=20), model.log_likelihood(x), atol=1e-8)


def test_sampling_and_scoring_in_one_pass_equal_the_two() -> None:
    model = LinearChain("up")
    q = model.posterior(model.images(4))
    torch.manual_seed(3)
    z = q.rsample((6,))
    torch.manual_seed(3)
    same, log_q = q.rsample_and_log_prob((6,))
    assert torch.equal(z, same)
    assert z.shape == (6, 4, 5)
    assert torch.allclose(log_q, q.log_prob(z), atol=1e-12)
    assert torch.allclose(q.log_prob_levels(z).sum(-1), log_q, atol=1e-12)


def test_levels_are_scored_as_their_own_conditionals() -> None:
    model = LinearChain()
    z = model.prior().rsample((4,))
    levels = model.prior().log_prob_levels(z)
    assert torch.allclose(
        levels[:, 1], DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()).log_prob(z[:, 3:])
    )
    below = DiagonalNormal(z[:, 3:] @ model.a.T + model.shift, torch.full((4, 3), model.s).double())
    assert torch.allclose(levels[:, 0], below.log_prob(z[:, :3]))


@pytest.mark.parametrize("name", HIERARCHIES)
def test_samples_are_scored_under_the_posterior_of_any_image(name: str) -> None:
    """Aggregate posteriors score every sample (m, 1, n) under all of a batch of images."""
    model, x = small(name), bits(4)
    z = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    table = model.posterior(x).log_prob(z)
    alone = torch.stack([model.posterior(image[None]).log_prob(z[:, 0]) for image in x], 1)
    assert table.shape == (3, 4)
    assert torch.allclose(table, alone, atol=1e-12)


def test_merging_multiplies_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (gaussian(torch.randn(4, generator=generator).double()) for _ in range(2))
    z = torch.randn(9, 2, generator=generator).double()
    ratio = a.log_prob(z) + b.log_prob(z) - gaussian_product(a, b).log_prob(z)
    assert torch.allclose(ratio, ratio[0].expand(9), atol=1e-12), "equal up to the normaliser"


def test_rates_in_closed_form_equal_sampled_ones() -> None:
    model = small("hvae", posterior=_own("TopDown", upper=[2], features=8), latent=5)
    with torch.no_grad():
        torch.manual_seed(0)
        down = descend(model.posterior.pairs(bits(3)), 2, (8_000,))
    sampled = down.log_q - down.log_p
    for exact, noisy in zip(down.rates.mean(0).flatten(), sampled.flatten(0, 1).unflatten(0, (-1, 3)).mean(0).flatten(),
                            strict=True):  # fmt: skip
        assert float(exact) == pytest.approx(float(noisy), abs=0.05)
    assert down.rates.shape == (8_000, 3, 2)


def _own(kind: str, **arguments: object) -> dict[str, object]:
    return {"class_path": f"vaebench.posteriors.hierarchy.{kind}", "init_args": {"net": NET, "inner": NET, **arguments}}


@pytest.mark.parametrize("name", HIERARCHIES)
@pytest.mark.parametrize("upper", [[1], [2, 1]])
def test_draw_equals_the_generic_route_under_the_same_noise(name: str, upper: list[int]) -> None:
    kind = {"two_layer_vae": "BottomUp", "ladder_vae": "Ladder", "hvae": "TopDown"}[name]
    model, x = small(name, latent=5, posterior=_own(kind, upper=upper)), bits(4)
    torch.manual_seed(5)
    own = model.draw(x, 3)
    torch.manual_seed(5)
    generic = draw(model, x, 3)
    for ours, theirs in zip(own, generic, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(("name", "part"), [("ladder_vae", "prior.nets.0"), ("hvae", "posterior.inner.0")])
def test_a_draw_passes_down_once(name: str, part: str) -> None:
    model = small(name)
    calls: list[int] = []
    model.get_submodule(part).register_forward_hook(lambda *_: calls.append(1))
    model.draw(bits(2), 2)
    assert len(calls) == 1
    draw(model, bits(2), 2)
    assert len(calls) > 2, "the generic route draws and scores apart"


def test_a_ladders_divergence_is_from_the_prior_and_not_from_the_encoder() -> None:
    """A known defect of published code: KL against the bottom-up Gaussian, which the merge brings close to q."""
    model, x = small("ladder_vae").requires_grad_(False), bits(6)
    torch.manual_seed(1)
    logs = model.step(x, None, torch.tensor(0.0)).logs
    torch.manual_seed(1)
    z2 = (q2 := gaussian(model.posterior.heads[1](model.posterior.rise[0](model.posterior.net(x))))).rsample((1,))
    prior = gaussian(model.prior.nets[0](z2))
    encoder = gaussian(model.posterior.heads[0](model.posterior.net(x)))
    q1 = gaussian_product(encoder, prior)
    assert float(logs["rate_1"]) == pytest.approx(float(kl_divergence(q1, prior).mean()))
    assert float(logs["rate_2"]) == pytest.approx(float(kl_divergence(q2, model.prior.top()).mean()))
    assert abs(float(logs["rate_1"] - kl_divergence(q1, encoder).mean())) > 1e-3, "the test can tell"


def test_the_warm_up_weighs_the_rate_of_every_level() -> None:
    schedule = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 10}}
    model, x = small("ladder_vae", schedule=schedule).requires_grad_(False), bits(6)
    torch.manual_seed(1)
    start = model.step(x, None, torch.tensor(0.0))
    torch.manual_seed(1)
    half = model.step(x, None, torch.tensor(5.0))
    assert float(start.losses["model"]) == pytest.approx(float(start.logs["distortion"]))
    assert float(half.losses["model"]) == pytest.approx(float(half.logs["distortion"] + half.logs["rate"] / 2))
    assert float(half.logs["rate"]) == pytest.approx(float(half.logs["rate_1"] + half.logs["rate_2"]))


@pytest.mark.parametrize(("name", "sees"), [("two_layer_vae", False), ("ladder_vae", False), ("hvae", True)])
def test_which_levels_the_decoder_sees(name: str, sees: bool) -> None:
    model = small(name)
    z = torch.zeros(1, 1, 2).double()
    other = z.clone()
    other[..., 1] = 3.0
    with torch.no_grad():
        moved = (model.likelihood(z).mean - model.likelihood(other).mean).abs().max()
    assert (float(moved) > 0) is sees


def test_k_samples_tighten_the_bound_of_two_layers() -> None:
    model, x = small("two_layer_vae", k=1), bits(8)
    bounds = []
    for k in (1, 4, 32):
        torch.manual_seed(0)
        with torch.no_grad():
            log_w = torch.stack([model.draw(x, k).log_w for _ in range(100)], 1)
        bounds.append(float((torch.logsumexp(log_w, 0) - torch.tensor(float(k)).log()).mean()))
    assert bounds[0] < bounds[1] < bounds[2]


def test_any_objective_takes_levels() -> None:
    prior = {"class_path": "vaebench.priors.hierarchy.TopDown", "init_args": {"net": NET}}
    for kind in ("BottomUp", "TopDown", "Ladder"):
        model = small("iwae", posterior=_own(kind), prior=prior)
        assert torch.isfinite(model.step(bits(4), None, torch.tensor(0.0)).losses["model"])


@pytest.mark.parametrize(("kind", "whole"), [("Ladder", False), ("TopDown", True)])
def test_beta_vae_at_one_takes_a_hierarchys_rates_in_closed_form(kind: str, whole: bool) -> None:
    """It took them from samples: 15.92 nats where the ladder's own step gave 17.02."""
    prior = {"class_path": "vaebench.priors.hierarchy.TopDown", "init_args": {"net": NET, "whole": whole}}
    model, x = small("beta_vae", beta=1.0, posterior=_own(kind), prior=prior), bits(6)
    torch.manual_seed(4)
    step = model.step(x, None, torch.tensor(0.0))
    torch.manual_seed(4)
    down = model.posterior.descend(x)
    distortion = -model.likelihood(down.z).log_prob(x).mean(0)
    assert torch.equal(step.losses["model"], (distortion + down.rates.sum(-1).mean(0)).mean())
    assert {"rate_1", "rate_2"} <= step.logs.keys()


def test_a_conditional_models_terms_are_those_of_its_label() -> None:
    model, x = small("cvae", classes=3), bits(4)
    found = []
    for label in (0, 1):
        torch.manual_seed(0)
        found.append(model.terms(x, torch.full((4,), label)).elbo)
    assert not torch.allclose(*found)
    with pytest.raises(UserError, match="given labels and the data has none"):
        model.terms(x)


Make = Callable[[], object]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small("two_layer_vae", posterior=_own("BottomUp", upper=[2])), "2 latent units cannot be shared"),
        (lambda: level_sizes((9,), [3, 0]), "9 latent units cannot be shared"),
        (
            lambda: small("vae", posterior=_own("Ladder")).draw(bits(2)),
            "^VAE has the posterior Ladder, which descends beside a prior of as many levels, and StandardN",
        ),
        (
            lambda: small("two_layer_vae", posterior={"class_path": "vaebench.posteriors.DiagonalGaussian"}),
            "^TwoLayerVAE needs a posterior and a prior of several levels, and DiagonalGaussian has one",
        ),
    ],
)
def test_levels_that_cannot_be_are_refused_in_a_sentence(make: Make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_a_chain_of_more_levels_than_sizes_is_an_error() -> None:
    normal = DiagonalNormal(torch.zeros(1), torch.ones(1))
    with pytest.raises(RuntimeError, match="more levels than it has sizes"):
        descend(((normal, normal) for _ in range(3)), 2)


def _vamp(kind: str, **settings: object) -> dict[str, object]:
    top = {"class_path": "vaebench.priors.vamp.VampPrior", "init_args": {"components": 3, "start": "mean"}}
    prior = {"class_path": "vaebench.priors.hierarchy.TopDown", "init_args": {"net": NET, "top": top, "whole": True}}
    return {"posterior": _own(kind, **settings), "prior": prior}


@pytest.mark.parametrize("kind", ["TopDown", "Ladder"])
def test_a_vampprior_over_the_upper_level_is_the_mixture_of_its_posteriors(kind: str) -> None:
    model = small("hvae", latent=5, **_vamp(kind, upper=[2])).requires_grad_(False)
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    vamp = model.prior.top
    assert vamp.inputs.shape == (3, *model.data.shape)
    components = torch.stack([model.posterior.top(u[None]).log_prob(z[:, 3:]) for u in vamp.inputs])
    expected = torch.logsumexp(components, 0) - torch.tensor(3.0).log()
    assert torch.allclose(model.prior().log_prob_levels(z)[:, 1], expected, atol=1e-6)
    assert torch.isfinite(model.step(bits(4), None, torch.tensor(0.0)).losses["model"])


def test_a_vampprior_needs_the_upper_posterior_in_closed_form() -> None:
    model = small("two_layer_vae", **_vamp("BottomUp"))
    with pytest.raises(UserError, match=r"q\(z_L\|x\), which BottomUp does not give in closed form; set"):
        model.draw(bits(2))
