"""Posteriors refined for each image, second stages, and priors fitted afterwards."""

from __future__ import annotations

import pytest
import torch
from helpers import PRIORS, SPEC, bits, labels, small, tiny
from oracles import Data, LinearGaussian
from torch import Tensor

import vaebench as vb
from vaebench.core import draw
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.posteriors.refined import Refined


def _started(model: LinearGaussian, **settings: float) -> Refined:
    """Around a model whose encoder says N(0, I) to every image."""

    def encoder(x: Tensor) -> DiagonalNormal:
        return DiagonalNormal(torch.zeros(len(x), model.latent).double(), torch.ones(len(x), model.latent).double())

    return Refined(encoder, model.prior, model.likelihood, limit=1e9, **settings).double()


def test_refining_reaches_the_exact_posterior() -> None:
    model = LinearGaussian(orthogonal=True)
    x = model.images(6)
    refined = _started(model, steps=400, rate=0.02, samples=64).eval()(x)
    exact = model.exact_posterior(x)
    assert torch.allclose(refined.mean, exact.mean, atol=0.05)
    assert torch.allclose(refined.stddev, exact.stddev, rtol=0.15)


def test_each_step_raises_the_bound_and_none_leaves_the_encoders() -> None:
    model = LinearGaussian(orthogonal=True)
    x = model.images(200)
    bounds = []
    for steps in (0, 1, 4, 16):
        model.posterior = _started(model, steps=steps, rate=0.01, samples=4).eval()
        torch.manual_seed(0)
        bounds.append(float(draw(model, x, 50).log_w.mean()))
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0] + 1
    start = _started(model, steps=0)(x)
    assert torch.equal(start.mean, torch.zeros(200, 3).double())


def test_a_refined_posterior_depends_on_its_image_alone() -> None:
    model, x = small("semi_amortised_vae", steps=3), bits(5)
    with evaluation_mode(model, torch.device("cpu")):
        together = model.posterior(x)
        for i, image in enumerate(x):
            alone = model.posterior(image[None])
            assert torch.allclose(alone.mean[0], together.mean[i], atol=1e-12)
            assert torch.allclose(alone.stddev[0], together.stddev[i], atol=1e-12)
        moved = (together.mean - model.posterior.encoder(x).mean).abs().max()
    assert float(moved) > 1e-3


def test_the_encoder_learns_through_the_steps() -> None:
    """With one linear step the derivative is that of λ + α ∇L(λ), not of λ alone."""
    model = LinearGaussian(orthogonal=True)
    x = model.images(1)
    start = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    scale = torch.ones(1, 3).double()
    refined = Refined(lambda _: DiagonalNormal(start, scale), model.prior, model.likelihood, 1, 0.05, limit=1e9)
    (slope,) = torch.autograd.grad(refined.double().eval()(x).mean[0, 0], start)
    precision = model.precision[0, 0]  # ∇L is linear in μ
    assert float(slope[0, 0]) == pytest.approx(1 - 0.05 * float(precision), rel=1e-4)


def test_a_trained_vae_may_be_evaluated_with_a_refined_posterior() -> None:
    model, x = small("vae").float(), bits(30).float()
    plan = {"likelihood": {"k": 200}, "units": None, "collapse": None, "reconstruction": None, "samples": None}
    before = vb.evaluate(model, Data(x, SPEC), measurements=plan).metrics
    model.posterior = Refined(model.posterior, model.prior, model.likelihood, steps=20, rate=0.05, samples=8)
    after = vb.evaluate(model, Data(x, SPEC), measurements=plan).metrics
    assert after["elbo"].value > before["elbo"].value
    assert after["log_likelihood"].value == pytest.approx(before["log_likelihood"].value, abs=0.05)


def test_steps_need_a_diagonal_gaussian() -> None:
    flow = {"class_path": "vaebench.posteriors.flows.PlanarFlow"}
    with pytest.raises(UserError, match=r"^SemiAmortisedVAE refines means and standard deviations, and the posterior"):
        small("semi_amortised_vae", posterior=flow)


# Stages ---------------------------------------------------------------------------------------------------------------


def _logged(name: str, **settings: object) -> tuple[object, dict[str, float], dict[str, float]]:
    model = small(name, **settings)
    torch.manual_seed(0)
    with torch.no_grad():
        step = model.step(bits(1).expand(4000, -1, -1, -1), labels(4000), torch.tensor(0.0))
    return model, {k: float(v) for k, v in step.losses.items()}, {k: float(v) for k, v in step.logs.items()}


def test_the_stages_of_two_vaes_add_up_to_the_hierarchys_bound() -> None:
    model, losses, logs = _logged("two_stage_vae")
    with torch.no_grad():
        log_w = draw(model, bits(1), 20_000).log_w
    assert logs["elbo"] == pytest.approx(float(log_w.mean()), abs=6 * float(log_w.std()) / 4000**0.5)
    assert losses["images"] == pytest.approx(logs["distortion"] + logs["first_rate"])


def test_the_second_stage_bounds_the_cross_entropy_of_the_codes_where_it_is_exact() -> None:
    """p(z|u) and q(u|z) that ignore each other's input make p(z) known: the loss is −E log p(z) then."""
    model = small("two_stage_vae")
    with torch.no_grad():
        for net in (model.posterior.nets[1], model.prior.nets[0]):
            for parameter in net.parameters():
                parameter.zero_()
        torch.manual_seed(0)
        loss = float(model.step(bits(8), None, torch.tensor(0.0)).losses["codes"])
        torch.manual_seed(0)
        z = model.posterior(bits(8)).rsample((1,))[..., :1]
    exact = -DiagonalNormal(torch.zeros(1).double(), torch.ones(1).double()).log_prob(z).mean()
    assert loss == pytest.approx(float(exact))


def test_groups_learn_in_turn() -> None:
    for name, groups in {"two_stage_vae": ("images", "codes"), "ex_post_vae": ("model", "prior")}.items():
        model = small(name, pretrain=3)
        for t, expected in ((0.0, (True, False)), (2.0, (True, False)), (3.0, (False, True))):
            active = model.active(torch.tensor(t))
            assert tuple(bool(active[group]) for group in groups) == expected


@pytest.mark.parametrize("prior", ["mixture.MixtureOfGaussians", "flows.MaskedAutoregressiveFlow", "flows.RealNVP"])
def test_a_prior_fitted_afterwards_raises_the_bound(prior: str) -> None:
    model, x = small("ex_post_vae", prior=tiny(PRIORS[prior])), bits(200)
    with torch.no_grad():
        model.posterior.net.layers[-1].bias[:2] += 2.0  # codes that N(0, I) does not expect

    def bound() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(model.draw(x).log_w.mean())

    start, optimizer = bound(), torch.optim.Adam(model.members("prior"), 0.05)
    for step in range(60):
        optimizer.zero_grad()
        torch.manual_seed(step)
        model.step(x, None, torch.tensor(0.0)).losses["prior"].backward(inputs=model.members("prior"))
        optimizer.step()
    assert bound() > start + 1


def test_what_cannot_be_staged_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^ExPostVAE fits its prior to the codes, and StandardNormal has no parameters"
    ):
        small("ex_post_vae", prior=tiny(PRIORS["StandardNormal"]))
    ladder = {"class_path": "vaebench.posteriors.hierarchy.Ladder"}
    with pytest.raises(UserError, match=r"^TwoStageVAE encodes z before u; set model.posterior"):
        small("two_stage_vae", posterior=ladder)
