"""The learned rejection sampler against quadrature, a closed form, and rejection sampling try by try."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import PRIORS, SPEC, bits, small, tiny
from oracles import Data
from torch import Tensor, nn

import vaebench as vb
from vaebench.core import Family
from vaebench.distributions import DiagonalNormal
from vaebench.distributions.resampled import AcceptReject
from vaebench.errors import UserError
from vaebench.priors.resampled import NETS, POINTS, Resampled

LARS = PRIORS["resampled.Resampled"]


def shaken(latent: int = 1, **settings: int) -> Family:
    model = small("vae", latent=latent, prior=tiny(LARS, **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


class Bell(nn.Module):
    """The logit of a(z) = exp(−c ‖z‖²/2), whose Z is (1 + c)^{−n/2} in any dimension."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, z: Tensor) -> Tensor:
        log_a = -self.c * (z.square().sum(-1, keepdim=True) + 1e-6) / 2
        return log_a - torch.log(-torch.expm1(log_a))


def line() -> Tensor:
    return torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]


def test_the_normaliser_is_that_of_quadrature() -> None:
    prior = shaken().prior.eval()
    with torch.no_grad():
        pi = prior.base().log_prob(line())
        exact = float((pi + prior.log_accept(line())).exp().sum().log()) + math.log(18 / 4000)
        mass = float(prior().log_prob(line()).exp().sum()) * 18 / 4000
    log_z, error = prior.precision()
    assert abs(log_z - exact) < 4 * error + 1e-6
    assert error < 1e-4
    assert float(prior().log_z.detach()) == pytest.approx(log_z)
    assert mass == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("n", [2, 10, 50])
def test_the_standard_error_covers_the_error_in_any_dimension(n: int) -> None:
    prior = Resampled((n,)).double().eval()
    prior.net = Bell(2 / n)
    log_z, error = prior.precision()
    assert abs(log_z + n / 2 * math.log1p(2 / n)) < 4 * error + 1e-6
    assert error < 0.01


def test_training_estimates_the_normaliser_anew_and_evaluation_does_not() -> None:
    prior = Resampled((3,)).double()
    prior.net = Bell(1.0)
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = torch.stack([prior().log_z.exp() for _ in range(40)])
        kept = [float(prior.eval()().log_z) for _ in range(2)]
    assert drawn.std() > 1e-5
    assert abs(float(drawn.mean()) - 2**-1.5) < 4 * float(drawn.std()) / 40**0.5
    assert kept[0] == kept[1]
    uniform = torch.distributions.Normal(0.0, 1.0).cdf(prior.kept)
    assert uniform.mean((0, 1)).sub(0.5).abs().max() < 0.01
    assert not (prior.points[:, None] == uniform.flatten(0, 1)[:500]).all(-1).any(), "others than in training"


@pytest.mark.parametrize("tries", [2, 3, 30])
def test_samples_are_those_of_a_rejection_sampler_and_of_the_density(tries: int) -> None:
    """By probabilities of half-lines: from the density, from samples, and by enumerating what the tries may give."""
    pi = DiagonalNormal(torch.zeros(1).double(), torch.ones(1).double())
    z, cell = line(), 18 / 4000

    def log_accept(z: Tensor) -> Tensor:
        return nn.functional.logsigmoid(4 * z[..., 0] - 3)

    weight, accept = pi.log_prob(z).exp() * cell, log_accept(z).exp()
    success = (weight * accept).sum()
    p = AcceptReject(pi, log_accept, success.log(), tries)
    mass = p.log_prob(z).exp() * cell
    by_try = sum((1 - success) ** t * weight * accept for t in range(tries - 1)) + (1 - success) ** (tries - 1) * weight
    assert torch.allclose(mass, by_try, atol=1e-12)
    torch.manual_seed(0)
    drawn = p.sample((20_000,))
    for edge in (-0.5, 0.3, 1.0):
        expected, found = float(mass[z[:, 0] < edge].sum()), float((drawn < edge).double().mean())
        assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 20_000) ** 0.5 + cell)


def test_the_slope_of_the_log_density_is_that_of_the_normalised_one() -> None:
    """The gradient of E log p(z) in the network reaches Z, and vanishes in the mean under p itself."""
    prior = shaken(tries=4).prior.eval()
    mass = prior().log_prob(line()).exp() * 18 / 4000
    slopes = torch.autograd.grad((mass.detach() * prior().log_prob(line())).sum(), list(prior.parameters()))
    assert all(slope.abs().max() < 1e-3 for slope in slopes)
    (alone,) = torch.autograd.grad(prior().log_prob(line()[1500:1501]).sum(), prior.net.output_bias)
    assert alone.abs() > 1e-2


def test_accepting_all_or_nothing_leaves_the_proposal() -> None:
    prior = Resampled((2,)).double().eval()
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for logit in (40.0, -40.0):
        with torch.no_grad():
            for parameter in prior.net.parameters():
                parameter.zero_()
            prior.net.output_bias.fill_(logit)
            assert torch.allclose(prior().log_prob(z), prior.base().log_prob(z), atol=1e-4)


def test_a_record_says_that_log_p_is_an_estimate_and_how_exact() -> None:
    model, x = small("vae", prior=tiny(LARS)).float(), bits(12).float()
    result = vb.evaluate(model, Data(x, SPEC), measurements={"likelihood": {"k": 20}})
    log_z, error = model.prior.precision()
    (warning,) = [w for w in result.warnings if "log Z" in w]
    assert f"{log_z:.4g} with a standard error of {error:.2g} nats from {NETS * POINTS} points" in warning
    for name, told in {"log_likelihood": True, "elbo": True, "distortion": False}.items():
        assert ("estimated normaliser" in result.metrics[name].definition) == told
    plain = vb.evaluate(small("vae").float(), Data(x, SPEC), measurements={"likelihood": {"k": 20}})
    assert not [w for w in plain.warnings if "log Z" in w]
    assert "normaliser" not in plain.metrics["log_likelihood"].definition


def test_a_hierarchy_over_it_is_sampled_and_says_so_too() -> None:
    prior = tiny(PRIORS["hierarchy.TopDown"], top=tiny(LARS))
    model, x = small("hvae", prior=prior).float(), bits(12).float()
    result = vb.evaluate(model, Data(x, SPEC), measurements={"likelihood": {"k": 20}, "samples": {}})
    assert [w for w in result.warnings if "log Z" in w]
    assert "estimated normaliser" in result.metrics["elbo"].definition


def test_a_loaded_model_estimates_as_it_did() -> None:
    model, other = shaken(3), small("vae", latent=3, prior=tiny(LARS), seed=4)
    assert not [name for name in model.state_dict() if "kept" in name or "points" in name]
    other.load_state_dict(model.state_dict())
    assert other.prior.precision() == model.prior.precision()


def test_settings_and_objectives_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"^Resampled has 1 tries and \d+ samples: .*; raise prior\.tries or"):
        small("vae", prior=tiny(LARS, tries=1))
    with pytest.raises(UserError, match=r"^samples is 0: expected at least 1; raise model\.prior\.samples"):
        small("vae", prior=tiny(LARS, samples=0))
    model = small("wae_mmd", prior=tiny(LARS))
    with pytest.raises(UserError, match=r"^samples of a rejection sampler have no gradient"):
        model.step(bits(4), None, torch.tensor(0.0))
