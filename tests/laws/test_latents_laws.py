"""The laws that every posterior and prior obeys, whatever its paper; they are found by walking their packages."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from helpers import FAMILIES, POSTERIORS, PRIORS, SPEC, beside, bits, images_of, labels, noisy_step, small, tiny
from oracles import Data
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Distribution
from torch.func import functional_call, stack_module_state, vmap

import vaebench as vb
from vaebench.configuration.discovery import families
from vaebench.core import Family
from vaebench.distributions.flow import Flow
from vaebench.errors import UserError
from vaebench.posteriors.flows import AutoregressiveFlow
from vaebench.traits import LatentTraits


def _dense(parts: dict[str, type]) -> list[str]:
    """Those with a density; codes have laws of their own, in test_codes.py and test_discrete_families.py."""
    return [n for n, cls in parts.items() if not any(getattr(cls, no, False) for no in ("deterministic", "discrete"))]


DENSE, DENSE_PRIORS = _dense(POSTERIORS), _dense(PRIORS)
every_posterior = pytest.mark.parametrize("name", DENSE)
every_prior = pytest.mark.parametrize("name", DENSE_PRIORS)


def shaken(model: Family, seed: int = 0) -> Family:
    """The model with weights far enough from their start that nothing is small by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("likelihood", "prior.inputs")):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def with_posterior(name: str, family: str = "vae", latent: int = 2, **settings: Any) -> Family:
    cls = POSTERIORS[name]
    return small(family, **{"latent": latent, "posterior": tiny(cls), **beside(cls), **settings})


def with_prior(name: str, family: str = "vae", **settings: Any) -> Family:
    cls = PRIORS[name]
    return small(family, **{"prior": tiny(cls), **beside(cls), **settings})


def plane(drawn: Tensor, n: int = 241) -> tuple[Tensor, Tensor]:
    """Points of a square around all samples (m, 2), (n², 2), and the area of each, for the trapezoidal rule."""
    middle, reach = drawn.mean(0), 1.6 * float((drawn - drawn.mean(0)).abs().max())
    axis = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis) + middle, (axis[1] - axis[0]) ** 2


def sphere(n: int = 400) -> tuple[Tensor, Tensor]:
    """Points of the sphere in three dimensions, (n², 3), and the area of each, for the midpoint rule."""
    height = (torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1  # equal steps in height have equal areas
    angle = (torch.arange(n, dtype=torch.float64) + 0.5) * 2 * torch.pi / n
    h, a = torch.cartesian_prod(height, angle).T
    around = (1 - h.square()).sqrt()
    return torch.stack([around * a.cos(), around * a.sin(), h], -1), torch.tensor(4 * torch.pi / n**2)


def ball(n: int = 400) -> tuple[Tensor, Tensor]:
    """Points of the unit disc, (n², 2), denser towards its edge, and the area of each, for the midpoint rule."""
    s = (torch.arange(n, dtype=torch.float64) + 0.5) * 9 / n
    angle = (torch.arange(n, dtype=torch.float64) + 0.5) * 2 * torch.pi / n
    r = torch.tanh(s)
    area = (r * (1 - r.square()) * (9 / n) * (2 * torch.pi / n)).repeat_interleave(n)
    s, a = torch.cartesian_prod(s, angle).T
    return torch.tanh(s)[:, None] * torch.stack([a.cos(), a.sin()], -1), area


def require_density(q: Distribution, space: str = "") -> None:
    """q (1,) or () of (2,), or on the sphere of (3,): its mass is one, and its samples have its density's moments."""
    torch.manual_seed(0)
    drawn = q.sample((20_000,)).flatten(0, -2)
    z, area = {"the unit sphere": sphere, "the Poincaré ball": ball}.get(space, lambda: plane(drawn))()
    mass = area * q.log_prob(z[:, None]).exp().reshape(-1)
    assert float(mass.sum()) == pytest.approx(1.0, abs=5e-4)

    def features(z: Tensor) -> Tensor:
        return torch.cat(
            [z, z.square(), torch.tanh(z), z.prod(-1, keepdim=True), torch.tanh(z.prod(-1, keepdim=True))], -1
        )

    error = features(drawn).std(0) / len(drawn) ** 0.5
    assert ((features(drawn).mean(0) - mass @ features(z)).abs() < 5 * error + 1e-3).all()


@every_posterior
def test_a_posterior_integrates_to_one_and_samples_what_it_scores(name: str) -> None:
    with torch.no_grad():
        require_density(shaken(with_posterior(name)).posterior(bits(1)), LatentTraits.of(POSTERIORS[name]).space)


@every_prior
def test_a_prior_integrates_to_one_and_samples_what_it_scores(name: str) -> None:
    with torch.no_grad():
        model = shaken(with_prior(name)).eval()  # in training a normaliser may be estimated from fewer points
        require_density(model.prior(), LatentTraits.of(PRIORS[name]).space)


@every_posterior
def test_a_sample_is_scored_alike_where_it_is_known_and_where_it_is_not(name: str) -> None:
    q = shaken(with_posterior(name, latent=5)).posterior(bits(3))
    z = q.rsample((4,))
    known, unknown = q.log_prob(z), q.log_prob(z.detach().clone())
    assert torch.allclose(known, unknown, atol=1e-9)
    assert torch.allclose(q.log_prob(z[:1].clone()), known[:1], atol=1e-9)


@pytest.mark.parametrize("side", ["posterior", "prior"])
@pytest.mark.parametrize("latent", [1, 4])
def test_a_flows_log_determinant_is_autograds(side: str, latent: int) -> None:
    found = 0
    names = DENSE if side == "posterior" else DENSE_PRIORS
    for name in (name for name in names if name.startswith(("flows.", "hyperbolic."))):
        model = (with_posterior if side == "posterior" else with_prior)(name, latent=latent)
        x = bits(1)
        d = shaken(model).posterior(x) if side == "posterior" else shaken(model).prior()
        if isinstance(d, Flow):
            found += 1
            e = torch.randn(1, latent, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
            matrix = jacobian(lambda e, f=d.transform.inv: f(e), e)[0, :, 0]
            z, ladj = d.transform.inv.call_and_ladj(e)
            assert float(ladj.detach().sum()) == pytest.approx(
                float(torch.linalg.slogdet(matrix).logabsdet.detach()), abs=1e-8
            ), name
            assert torch.allclose(d.transform(z), e, atol=1e-8), name
    assert found >= 3


@every_posterior
def test_every_parameter_of_a_posterior_learns(name: str) -> None:
    model = with_posterior(name, "vae" if not _learned(name) else "stratified_vae")
    _require_gradients(model)


def _learned(name: str) -> bool:
    return tiny(POSTERIORS[name])["init_args"].get("weights") == "learned"


@every_prior
def test_every_parameter_of_a_prior_learns_and_stands_once(name: str) -> None:
    model = with_prior(name)
    _require_gradients(model)
    tensors = [*model.state_dict().values()]
    assert len({t.data_ptr() for t in tensors if t.numel()}) == len([t for t in tensors if t.numel()])
    assert not any(key.startswith("prior.posterior") for key in model.state_dict())


def _require_gradients(model: Family) -> None:
    parameters = dict(model.named_parameters())
    losses = noisy_step(model, bits(64), seed=0)
    gradients = torch.autograd.grad(losses["model"], list(parameters.values()), allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert gradient is not None, parameter
        assert float(gradient.abs().sum()) > 0, parameter


@pytest.mark.parametrize("part", [*(f"posterior {n}" for n in DENSE), *(f"prior {n}" for n in DENSE_PRIORS)])
def test_members_with_any_part_equal_their_solo_steps_under_vmap(part: str) -> None:
    kind, name = part.split()
    build = with_posterior if kind == "posterior" else with_prior
    members = [build(name, seed=seed) for seed in range(2)]
    x, t = bits(6), torch.tensor(1.0, dtype=torch.float64)
    stacked = stack_module_state(members)

    def losses(state: tuple[dict, dict]) -> dict[str, Tensor]:
        return dict(functional_call(members[0], state, (x, labels(6), t)).losses)

    torch.manual_seed(7)
    together = vmap(losses, randomness="same")(stacked)["model"]
    alone = [noisy_step(member, x, seed=7, t=1.0)["model"] for member in members]
    assert torch.allclose(together, torch.stack(alone), rtol=0, atol=1e-6)
    assert torch.isfinite(vmap(losses, randomness="different")(stacked)["model"]).all()


@pytest.mark.parametrize("part", [*(f"posterior {n}" for n in DENSE), *(f"prior {n}" for n in DENSE_PRIORS)])
def test_every_part_is_evaluated_and_what_is_not_known_says_why(part: str) -> None:
    kind, name = part.split()
    model = (with_posterior if kind == "posterior" else with_prior)(name).float()
    plan = {"likelihood": {"k": 20}, "units": {}, "collapse": {}, "reconstruction": {}, "samples": {}}
    plan["aggregate"] = {"images": 5}
    result = vb.evaluate(model, Data(bits(12).float(), SPEC), measurements=plan)
    for metric in ("log_likelihood", "elbo", "rate", "information"):
        assert result.metrics[metric].value is not None, result.metrics[metric]
    bound = result.metrics["elbo"].value
    assert bound <= result.metrics["log_likelihood"].value
    for found in result.metrics.values():
        assert (found.value is None) == bool(found.unavailable)


def _calls(modules: list[nn.Module]) -> list[int]:
    counts = [0] * len(modules)

    def count(index: int) -> Any:
        def hook(*_: Any) -> None:
            counts[index] += 1

        return hook

    for index, module in enumerate(modules):
        module.register_forward_hook(count(index))
    return counts


@pytest.mark.parametrize("name", [n for n, cls in POSTERIORS.items() if issubclass(cls, AutoregressiveFlow)])
def test_an_autoregressive_posterior_trains_and_is_evaluated_in_one_pass(name: str) -> None:
    model = with_posterior(name, latent=9)
    counts = _calls([step.hyper for step in model.posterior.steps])
    noisy_step(model, bits(4), seed=0)
    assert counts == [1] * len(counts)
    model.bound(bits(4), None)
    assert counts == [2] * len(counts)
    vb.log_likelihood(model, bits(1), k=30)
    assert counts == [4] * len(counts), "one for all samples, after the one that looks how wide the decoder is"
    z = torch.zeros(1, 4, 9, dtype=torch.float64)
    model.posterior(bits(4)).log_prob(z)
    assert counts[0] >= 4 + 9, "what was not drawn here takes a pass for each latent"


@pytest.mark.parametrize("name", ["flows.MaskedAutoregressiveFlow", "flows.NeuralSplineFlow", "flows.RealNVP"])
def test_a_flow_prior_scores_in_one_pass(name: str) -> None:
    prior = with_prior(name, latent=9).prior
    counts = _calls([step.hyper for step in prior.steps])
    prior().log_prob(torch.zeros(3, 9, dtype=torch.float64))
    assert counts == [1] * len(counts)
    prior().rsample((3,))
    passes = 2 if name.endswith("RealNVP") else 9
    assert all(passes < count <= passes + 2 for count in counts)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_a_flow_a_mixture_and_a_vampprior_or_says_why_not(family: str) -> None:
    data = images_of(family)
    x = bits(8) if data.kind == "binary" else torch.rand(8, *data.shape, dtype=torch.float64)
    taken = {}
    for name, choice in {
        "flow": {"posterior": tiny(POSTERIORS["flows.InverseAutoregressive"])},
        "mixture": {"posterior": tiny(POSTERIORS["mixture.MixtureOfGaussians"])},
        "learned": {"posterior": tiny(POSTERIORS["mixture.MixtureOfGaussians"], weights="learned")},
        "prior": {"prior": tiny(PRIORS["vamp.VampPrior"])},
    }.items():
        try:
            model = small(family, **choice)
        except UserError as error:
            taken[name] = str(error)
        else:
            taken[name] = ""
            assert all(torch.isfinite(loss) for loss in noisy_step(model, x, seed=0).values())
    assert all(re.fullmatch(r"(\w+ .*; .*)?", reason) for reason in taken.values()), "a sentence, with what to do"
    assert (taken["learned"] == "") == families()[family].STRATIFIED
    assert (taken["mixture"] == "") == (taken["flow"] == "" and not families()[family].INDEPENDENT)


@pytest.mark.parametrize("part", [*POSTERIORS.values(), *PRIORS.values()], ids=lambda cls: cls.__name__)
def test_a_part_says_where_it_comes_from(part: type) -> None:
    doc = inspect.getdoc(part) or ""
    assert "http" in doc or part.__name__ in ("StandardNormal", "Delta")
    assert "Args:" in doc
