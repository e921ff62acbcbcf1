"""Penalties on the decoder's Jacobian, exact and estimated, against finite differences; what they cost in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import SPEC, VARIANTS, bits, noisy_step, small
from torch import Tensor
from torch.func import vmap

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.errors import UserError
from vaebench.functional.jacobians import axes, frobenius, l1, overlap, pushed, signs

DOUBLE = torch.float64
LATENT, CODES = 4, 3
FAMILIES = {"jl_vae": "gamma", "jl2_vae": "gamma", "orojar_vae": "penalty"}
NORMS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor], int]] = {
    "l1": (l1, lambda j: j.abs().sum((-2, -1)), 1),
    "frobenius": (frobenius, lambda j: j.square().sum((-2, -1)), 1),
    "overlap": (overlap, lambda j: (j @ j.mT).square().sum((-2, -1)) - j.square().sum(-1).square().sum(-1), 2),
}
every_norm = pytest.mark.parametrize("name", NORMS)


def _decoder() -> tuple[Family, Callable[[Tensor], Tensor]]:
    model = small("vae", latent=LATENT)
    with torch.no_grad():
        for parameter in model.likelihood.parameters():
            parameter *= 2  # bent enough that no two codes have one Jacobian
    return model, lambda z: model.likelihood(z).mean


def _codes(seed: int = 0) -> Tensor:
    return torch.randn(CODES, LATENT, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _differences(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Jᵀ of every code by central differences: (codes, latents, pixels)."""
    step = 1e-5
    with torch.no_grad():
        moves = [(decode(z + step * e) - decode(z - step * e)) / (2 * step) for e in torch.eye(LATENT, dtype=DOUBLE)]
    return torch.stack([move.flatten(1) for move in moves], 1)


@every_norm
def test_exact_penalty_is_that_of_finite_differences(name: str) -> None:
    norm, by_hand, _ = NORMS[name]
    _, decode = _decoder()
    z = _codes()
    assert torch.allclose(norm(decode, z), by_hand(_differences(decode, z)), rtol=1e-6)


@every_norm
def test_estimated_penalty_is_that_of_finite_differences_in_the_mean(name: str) -> None:
    norm, by_hand, least = NORMS[name]
    _, decode = _decoder()
    z, draws = _codes(), 5_000
    exact = by_hand(_differences(decode, z))
    for samples in (least, 3):
        torch.manual_seed(samples)
        found = norm(decode, z.expand(draws, CODES, LATENT), samples).detach()
        error = found.std(0) / draws**0.5
        assert ((found.mean(0) - exact).abs() < 4 * error).all()
        assert (error < 0.05 * exact).all(), "the test can tell"
        assert (found.std(0) > 10 * error).all(), "it is an estimate"


@every_norm
@pytest.mark.parametrize("samples", [None, 2])
def test_penalty_differentiates_in_codes_and_decoder(name: str, samples: int | None) -> None:
    """Reverse over forward mode, against the central difference under the same draws."""
    norm = NORMS[name][0]
    model, _ = _decoder()
    weight = model.likelihood.net.layers[0].weight
    shift, turn = _codes(1), torch.randn(weight.shape, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)

    def value(step: float) -> Tensor:
        torch.manual_seed(0)
        moved = {"net.layers.0.weight": weight + step * turn}
        run = lambda z: torch.func.functional_call(model.likelihood, moved, z).mean  # noqa: E731
        return norm(run, _codes() + step * shift, samples).sum()

    step = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)  # type: ignore[arg-type]
    with torch.no_grad():
        assert float(slope) == pytest.approx(float(value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6)


def test_all_columns_drawn_is_the_exact_l1_norm() -> None:
    _, decode = _decoder()
    assert torch.allclose(l1(decode, _codes(), LATENT), l1(decode, _codes()))
    assert torch.allclose(l1(decode, _codes(), LATENT + 5), l1(decode, _codes()))


def test_a_projection_is_no_estimate_of_the_l1_norm() -> None:
    """Why columns are drawn: the mean of |J v|₁ over signs is another number."""
    _, decode = _decoder()
    z = _codes()
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=LATENT)), dtype=DOUBLE)
    projected = pushed(decode, z, every[:, None].expand(-1, CODES, -1)).abs().flatten(2).sum(-1).mean(0)
    assert (projected < 0.9 * l1(decode, z)).all()


def test_estimates_are_means_over_all_their_directions() -> None:
    """Exactly, by enumeration of all signs: for two of them drawn, half the sample variance is (a − b)²/4."""
    _, decode = _decoder()
    z = _codes()
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=LATENT)), dtype=DOUBLE)
    squares = pushed(decode, z, every[:, None].expand(-1, CODES, -1)).square().flatten(2).sum(-1)
    assert torch.allclose(squares.mean(0), frobenius(decode, z))
    pairs = (squares[:, None] - squares[None]).square() / 4
    assert torch.allclose(pairs.mean((0, 1)), overlap(decode, z))


def test_orthogonal_columns_do_not_overlap_and_leave_the_frobenius_estimate_no_variance() -> None:
    q = torch.linalg.qr(torch.randn(16, LATENT, dtype=DOUBLE))[0] * torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=DOUBLE)
    decode = lambda z: (z @ q.T).unflatten(-1, SPEC.shape)  # noqa: E731
    assert torch.allclose(overlap(decode, _codes()), torch.zeros(CODES, dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(overlap(decode, _codes(), 2), torch.zeros(CODES, dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(frobenius(decode, _codes(), 1), torch.full((CODES,), 14.25, dtype=DOUBLE))


def test_a_rotation_of_the_latents_changes_the_l1_norm_alone() -> None:
    q = torch.linalg.qr(torch.randn(16, LATENT, generator=torch.Generator().manual_seed(0), dtype=DOUBLE))[0]
    turn = torch.linalg.qr(torch.randn(LATENT, LATENT, generator=torch.Generator().manual_seed(1), dtype=DOUBLE))[0]
    plain, turned = (lambda z, m=m: (z @ m.T).unflatten(-1, SPEC.shape) for m in (q, q @ turn))
    assert torch.allclose(frobenius(plain, _codes()), frobenius(turned, _codes()))
    assert ((l1(plain, _codes()) - l1(turned, _codes())).abs() > 0.05).all()


def test_axes_are_different_latents_and_signs_are_signs() -> None:
    torch.manual_seed(0)
    drawn = axes(torch.zeros(5000, LATENT), 3)
    assert drawn.shape == (3, 5000, LATENT)
    assert torch.equal(drawn.sum(0), drawn.sum(0).clamp(max=1)), "no latent of a code twice"
    assert torch.allclose(drawn.mean((0, 1)), torch.full((LATENT,), 1 / LATENT), atol=0.02)
    flips = signs(torch.zeros(5000, LATENT), 2)
    assert set(flips.unique().tolist()) == {-1.0, 1.0}
    assert flips.mean((0, 1)).abs().max() < 0.05


def test_chunks_of_directions_change_nothing() -> None:
    _, decode = _decoder()
    z = _codes()
    directions = axes(z)
    assert torch.allclose(pushed(decode, z, directions, 1), pushed(decode, z, directions, 3))


@every_norm
def test_members_of_a_population_draw_directions_of_their_own(name: str) -> None:
    """Forward mode inside vmap inside vmap."""
    norm, _, least = NORMS[name]
    _, decode = _decoder()
    members = _codes().repeat(6, 1, 1)
    together = vmap(lambda z: norm(decode, z, least), randomness="different")(members)
    assert together.shape == (6, CODES)
    assert (together.std(0) > 0).all()
    exact = vmap(lambda z: norm(decode, z), randomness="different")(members)
    assert torch.allclose(exact, norm(decode, _codes()).expand(6, CODES))


@pytest.mark.parametrize("name", FAMILIES)
def test_family_adds_its_penalty_to_the_bound(name: str) -> None:
    weight, x = FAMILIES[name], bits(6)
    model = small(name, latent=3, samples=None, **{weight: 0.7}, **({} if name == "orojar_vae" else {"beta": 2.0}))
    torch.manual_seed(0)
    with torch.no_grad():
        step = model.step(x, None, torch.tensor(0.0))
        torch.manual_seed(0)
        z = model.posterior(x).rsample((1,))
        norm = {"jl_vae": l1, "jl2_vae": frobenius, "orojar_vae": overlap}[name]
        seen = z[:, :3] if name == "orojar_vae" else z
        penalty = norm(lambda z: model.likelihood(z).mean, seen).mean()
    rate = 2.0 if name != "orojar_vae" else 1.0
    expected = step.logs["distortion"] + rate * step.logs["rate"] + 0.7 * penalty
    assert float(step.losses["model"]) == pytest.approx(float(expected))
    assert float(step.logs["elbo"]) == pytest.approx(float(-step.logs["distortion"] - step.logs["rate"]))


@pytest.mark.parametrize("name", ["jl_vae", "jl2_vae"])
def test_the_schedule_anneals_rate_and_penalty_together(name: str) -> None:
    schedule = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 100}}
    annealed = small(name, beta=2.0, gamma=0.4, schedule=schedule)
    halved = small(name, beta=1.0, gamma=0.2)
    x = bits(5)
    early = noisy_step(annealed, x, seed=0, t=50.0)["model"]
    assert float(early.detach()) == pytest.approx(float(noisy_step(halved, x, seed=0)["model"].detach()))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_estimates_loss_is_the_exact_one_in_the_mean(name: str) -> None:
    model, x = small(name, latent=3, samples=2), bits(1).expand(5_000, *SPEC.shape)
    exact = small(name, latent=3, samples=None)
    with torch.no_grad():
        found, expected = (float(noisy_step(m, x, seed=0)["model"]) for m in (model, exact))
    assert found == pytest.approx(expected, rel=0.02)
    assert found != expected


@pytest.mark.parametrize(("name", "samples", "least"), [("orojar_vae", 1, 2), ("jl_vae", 0, 1), ("jl2_vae", -1, 1)])
def test_too_few_directions_are_refused(name: str, samples: int, least: int) -> None:
    """One of them has no variance, for instance."""
    with pytest.raises(UserError, match=rf"^samples is {samples}: expected at least {least}; raise model\.samples"):
        small(name, samples=samples)


# Memory ---------------------------------------------------------------------------------------------------------------


def _peak(work: Callable[[], Any]) -> int:
    """The most bytes that a piece of work holds at once beyond what stood before it, by the allocator's own record."""
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = (e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")  # type: ignore[union-attr]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def _training_memory(name: str, net: dict[str, Any], samples: dict[str, Any]) -> int:
    """Bytes to train a family on 64 × 64 images with 10 latents: weights, gradients, moments and the step itself."""
    parts = {
        "posterior": {"class_path": "vaebench.posteriors.DiagonalGaussian", "init_args": {"net": net}},
        "likelihood": {"class_path": "vaebench.likelihoods.Bernoulli", "init_args": {"net": net}},
    }

    class Source:
        spec = DataSpec((1, 64, 64), "binary", torch.full((1, 64, 64), 0.3), size=100)

    name, variant = VARIANTS.get(name, (name, {}))
    model = vb.build(name, Source(), latent=10, **parts, **variant, **samples)  # type: ignore[arg-type]
    x = bits(16, Source.spec).float()
    held = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
    return held + _peak(lambda: model.step(x, None, torch.tensor(0.0)).losses["model"].backward())


@pytest.mark.parametrize("kind", ["MLP", "Conv"])
def test_an_estimate_needs_no_more_than_twice_a_plain_vaes_memory(kind: str) -> None:
    settings = {"width": 200, "depth": 2} if kind == "MLP" else {"channels": 16, "levels": 2}
    net = {"class_path": f"vaebench.networks.{kind}", "init_args": settings}
    plain = _training_memory("vae", net, {})
    least = {"jl_vae": 1, "jl2_vae": 1, "orojar_vae": 2}
    estimates = [_training_memory(name, net, {"samples": samples}) for name, samples in least.items()]
    assert max(estimates) < 2 * plain
    assert _training_memory("jl_vae", net, {"samples": None}) > 1.2 * max(estimates), "the test can tell"
