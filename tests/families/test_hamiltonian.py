"""Hamiltonian steps against autograd, an oscillator in closed form, and models whose log p(x) is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers import POSTERIORS, PRIORS, SPEC, bits, noisy_step, small, tiny
from oracles import Data, LinearGaussian, OneLatent
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import Normal
from torch.func import grad

import vaebench as vb
from vaebench.core import Draw, draw
from vaebench.distributions import DiagonalNormal
from vaebench.distributions.hamiltonian import leapfrog, tempered_leapfrogs, tempering
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.likelihood import log_likelihood
from vaebench.posteriors.hamiltonian import Hamiltonian
from vaebench.running.cost import step_flops

STEP = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
BETA = torch.tensor(0.4, dtype=torch.float64)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope_of(model: LinearGaussian | OneLatent, x: Tensor) -> Callable[[Tensor], Tensor]:
    return grad(lambda z: (model.prior().log_prob(z) + model.likelihood(z).log_prob(x)).sum())


def quartic(z: Tensor) -> Tensor:
    """The gradient of a log-density that is no Gaussian and couples its units."""
    return grad(lambda z: -(z.pow(4) / 4 + z.prod(-1, keepdim=True).square()).sum())(z)


def test_a_leapfrog_is_taken_back_by_one_with_the_opposite_momentum() -> None:
    z, momentum = randn(4, 3), randn(4, 3, seed=1)
    there, pushed, _ = leapfrog(z, momentum, quartic(z), quartic, STEP)
    assert (there - z).abs().max() > 0.1
    back, returned, _ = leapfrog(there, -pushed, quartic(there), quartic, STEP)
    assert torch.allclose(back, z, atol=1e-12)
    assert torch.allclose(-returned, momentum, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_log_determinant_of_the_steps_is_autograds(steps: int) -> None:
    phase = torch.cat([randn(3), randn(3, seed=1)])

    def moved(phase: Tensor) -> Tensor:
        z, momentum = phase.split(3)
        return torch.cat(tempered_leapfrogs(z, momentum, quartic, STEP, tempering(BETA, steps)))

    found = torch.linalg.slogdet(jacobian(moved, phase)).logabsdet
    assert float(found) == pytest.approx(1.5 * math.log(0.4), abs=1e-10)


def test_an_untempered_leapfrog_keeps_volume() -> None:
    phase = torch.cat([randn(3), randn(3, seed=1)])

    def moved(phase: Tensor) -> Tensor:
        z, momentum = phase.split(3)
        return torch.cat(leapfrog(z, momentum, quartic(z), quartic, STEP)[:2])

    assert float(torch.linalg.slogdet(jacobian(moved, phase)).logabsdet) == pytest.approx(0, abs=1e-12)


def test_small_steps_follow_the_oscillator() -> None:
    """Under N(0, 1) the exact path is a rotation of (z, ρ); leapfrog's error falls with the square of its step."""
    z, momentum = randn(5, 1), randn(5, 1, seed=1)
    errors = []
    for steps in (50, 100):
        roots = torch.ones(steps + 1, dtype=torch.float64)
        step = torch.full((1,), 2.0 / steps, dtype=torch.float64)
        ends = torch.cat(tempered_leapfrogs(z, momentum, lambda z: -z, step, roots))
        exact = torch.cat([z * math.cos(2) + momentum * math.sin(2), momentum * math.cos(2) - z * math.sin(2)])
        errors.append(float((ends - exact).abs().max()))
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_the_tempering_is_quadratic_and_ends_at_one() -> None:
    roots = tempering(BETA, 4)
    inverse = [(1 - 0.4**-0.5) * k**2 / 16 + 0.4**-0.5 for k in range(5)]
    assert (1 / roots).tolist() == pytest.approx(inverse)
    assert float(roots[0] ** 2) == pytest.approx(0.4)
    assert float(roots[-1]) == 1.0


def around(model: LinearGaussian | OneLatent, steps: int, **settings: float) -> Hamiltonian:
    settings = {"pace": 0.1, "beta": 0.5} | settings
    return Hamiltonian(model.posterior, model.prior, model.likelihood, steps, **settings).double()


def weights(model: LinearGaussian | OneLatent, x: Tensor, k: int, steps: int, **settings: float) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        z, log_q = around(model, steps, **settings)(x).rsample_and_log_prob((k,))
        return Draw(z, log_q, model.prior().log_prob(z), model.likelihood(z).log_prob(x)).log_w


def test_a_weight_is_the_papers_bracket() -> None:
    """The five terms of the bound, each by torch's own densities and the paper's determinant."""
    model = LinearGaussian(orthogonal=True, stretch=1.5, shift=0.1)
    x, steps = model.images(4), 3
    found = weights(model, x, 2, steps)
    torch.manual_seed(0)
    start = model.posterior(x).rsample((2,))
    noise = torch.randn(start.shape, dtype=torch.float64)
    roots = tempering(torch.tensor(0.5, dtype=torch.float64), steps)
    first = noise / 0.5**0.5
    z, last = tempered_leapfrogs(start, first, slope_of(model, x), torch.full((3,), 0.1).double(), roots)
    bracket = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) + Normal(0.0, 1.0).log_prob(last).sum(-1)
    bracket -= model.posterior(x).log_prob(start) + Normal(0.0, 0.5**-0.5).log_prob(first).sum(-1)
    assert torch.allclose(found, bracket + 1.5 * math.log(0.5), atol=1e-6)  # the settings are kept in float32


@pytest.mark.parametrize(("model", "steps"), [
    (LinearGaussian(orthogonal=True, stretch=1.6, shift=0.1), 1),
    (LinearGaussian(orthogonal=True, stretch=1.6, shift=0.1), 4),
    (OneLatent(), 3),
], ids=["one step", "four steps", "Bernoulli pixels"])  # fmt: skip
def test_the_mean_of_the_weights_is_the_exact_likelihood(model: LinearGaussian | OneLatent, steps: int) -> None:
    x = model.images(5)
    log_w, exact = weights(model, x, 40_000, steps), model.log_likelihood(x)
    ratio = (log_w - exact).exp()
    error = ratio.std(0) / len(ratio) ** 0.5
    assert ((ratio.mean(0) - 1).abs() < 4 * error).all()
    assert error.max() < 0.05, "the test can tell"


def test_steps_tighten_the_bound_and_never_pass_the_exact_likelihood() -> None:
    model = LinearGaussian(orthogonal=True, stretch=2.0, shift=0.3)
    x = model.images(20)
    bounds = []
    for steps in (0, 2, 5):
        log_w = weights(model, x, 4000, steps)
        bounds.append(float(log_w.mean()))
        assert bounds[-1] < float(model.log_likelihood(x).mean())
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0] + 1
    assert bounds[-1] > float(weights(model, x, 4000, 5, beta=0.97).mean()) + 0.5, "cooling does most of it"
    assert bounds[0] == pytest.approx(float(model.elbo(x).mean()), abs=0.05)


def test_without_steps_it_is_the_vae_with_its_density() -> None:
    model, x = small("hamiltonian_vae", steps=0), bits(5)
    torch.manual_seed(0)
    own = model.draw(x, 3)
    torch.manual_seed(0)
    for ours, theirs in zip(own, draw(model, x, 3), strict=True):
        assert torch.equal(ours, theirs)
    plain = small("vae")
    plain.load_state_dict({n.replace("posterior.encoder", "posterior"): v for n, v in model.state_dict().items()
                           if n in plain.state_dict() or n.startswith("posterior.encoder")})  # fmt: skip
    torch.manual_seed(0)
    assert torch.equal(draw(plain, x, 3).log_w, own.log_w)


def test_moved_samples_have_no_density_and_records_say_so() -> None:
    model, x = small("hamiltonian_vae").float(), bits(12).float()
    with pytest.raises(Unavailable, match="only one together with its momentum"):
        model.posterior(x).log_prob(torch.zeros(12, 2))
    plan = {"likelihood": {"k": 30}, "units": {}, "collapse": {}, "reconstruction": {}, "samples": {}}
    found = vb.evaluate(model, Data(x, SPEC), measurements=plan | {"aggregate": {"images": 5}}).metrics
    assert found["elbo"].value < found["log_likelihood"].value
    assert "momenta" in found["rate"].definition
    assert found["information"].value is None
    assert "momentum" in found["information"].unavailable
    plain = vb.evaluate(small("vae").float(), Data(x, SPEC), measurements={"likelihood": {"k": 30}}).metrics
    assert "momenta" not in plain["rate"].definition


def test_what_an_image_gets_does_not_depend_on_those_beside_it() -> None:
    model, x = small("hamiltonian_vae"), bits(4)
    together = log_likelihood(model, x, k=50)
    assert torch.allclose(log_likelihood(model, x[2:3], k=50), together[2:3], atol=1e-9)
    with evaluation_mode(model, torch.device("cpu")):
        assert not model.draw(x, 3).log_w.requires_grad, "evaluation keeps no graph of the steps"


def test_the_steps_are_counted_in_the_cost() -> None:
    """torch's own counter breaks where the likelihood is given the very tensor that a gradient is taken by."""
    flops = [step_flops(small("hamiltonian_vae", steps=steps), bits(1)).total for steps in (0, 1, 2)]
    assert flops[0] < flops[1] < flops[2]
    assert flops[2] - flops[1] == (flops[1] - flops[0]) / 2, "one gradient more, where the first step takes two"


def test_the_encoder_learns_through_the_steps() -> None:
    """Under N(0, I) alone one step multiplies z_0's part by 1 − ε²/2, whatever the momentum."""
    prior, start = DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()), randn(1, 2).requires_grad_()
    flat = small("vae").likelihood.double()
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
    posterior = Hamiltonian(
        lambda _: DiagonalNormal(start, torch.ones(1, 2).double()), lambda: prior, flat, 1, pace=0.4
    ).double()
    z = posterior(bits(1)).rsample((1,))
    (slope,) = torch.autograd.grad(z[0, 0, 0], start)
    assert slope[0].tolist() == pytest.approx([1 - 0.4**2 / 2, 0], abs=1e-6)


def test_any_density_may_be_moved_under_any_prior() -> None:
    chains = {"posterior": tiny(POSTERIORS["hierarchy.TopDown"]), "prior": tiny(PRIORS["hierarchy.TopDown"])}
    priors = [{"prior": tiny(PRIORS[name])} for name in ("vamp.VampPrior", "flows.MaskedAutoregressiveFlow")]
    for parts in ({"posterior": tiny(POSTERIORS["flows.PlanarFlow"])}, *priors, chains):
        model = small("hamiltonian_vae", **parts)
        assert torch.isfinite(noisy_step(model, bits(3), seed=0)["model"])
        assert torch.isfinite(log_likelihood(model, bits(3), k=5)).all()


def test_settings_out_of_range_and_other_spaces_are_refused() -> None:
    for name, wrong in (("steps", -1), ("beta", 1.0)):
        with pytest.raises(UserError, match=rf"^{name} is {wrong}: expected .*; (raise|lower) model\.{name}"):
            small("hamiltonian_vae", **{name: wrong})
    with pytest.raises(UserError, match=r"^HamiltonianVAE has steps .*: expected steps ≥ 0, .*; change model"):
        small("hamiltonian_vae", pace=0.6)
    sphere = {"posterior": tiny(POSTERIORS["spherical.VonMisesFisher"]), "prior": tiny(PRIORS["vamp.VampPrior"])}
    with pytest.raises(UserError, match=r"^HamiltonianVAE moves latents through Euclidean space, and VonMises"):
        small("hamiltonian_vae", latent=3, **sphere)
