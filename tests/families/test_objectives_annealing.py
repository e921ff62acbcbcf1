"""Weights of the rate that change: schedules, capacity, GECO and free bits, by hand and by closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import NET, SPEC, Source, bits, noisy_step, small
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence
from torch.func import vmap
from zuko.lazy import LazyDistribution

import vaebench as vb
from vaebench.core import Family, Step
from vaebench.distributions import DiagonalNormal, divergence_units
from vaebench.errors import UserError
from vaebench.families.beta_vae import BetaVAE
from vaebench.functional.objectives import capacity, free_bits, soft_free_bits
from vaebench.measures import Shape
from vaebench.schedules import Cosine, Cyclical, Linear, MonotonicThenHold, Schedule, Sigmoid, linear

DOUBLE = torch.float64


def _at(schedule: Schedule, t: float) -> float:
    return float(schedule(torch.tensor(float(t))))


def _step(model: Family, x: Tensor, t: float = 0.0, seed: int = 0) -> Step:
    torch.manual_seed(seed)
    return model.step(x, None, torch.tensor(t, dtype=DOUBLE))


def _learn(model: Family, steps: int, lr: float = 5e-3) -> list[Step]:
    """Minimises the objective on the same images, with the state written as the base class writes it."""
    optimizer, x, taken = torch.optim.Adam(model.parameters(), lr), bits(64), []
    for t in range(steps):
        taken.append(_step(model, x, t, seed=t))
        optimizer.zero_grad()
        taken[-1].losses["model"].backward()
        optimizer.step()
        for name, value in taken[-1].state.items():
            model.get_buffer(name).copy_(value.detach())
    return taken


# Schedules


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Linear(4), [0, 0.25, 0.5, 0.75, 1, 1]),
        (Cosine(4), [0, 0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125), 1, 1]),
        (Sigmoid(4, 8), [1 / (1 + math.exp(a)) for a in (4, 2, 0, -2, -4, -6)]),
        (MonotonicThenHold(2, 2), [0, 0, 0, 0.5, 1, 1]),
        (MonotonicThenHold(2, 0), [0, 0, 1, 1, 1, 1]),
        (Cyclical(8, 2, 0.5), [0, 0.5, 1, 1, 0, 0.5, 1, 1, 1, 1, 1]),
        (Cyclical(20, 4, 1.0), [0, 0.2, 0.4, 0.6, 0.8] * 4 + [1, 1]),
        (Cyclical(8, 2, 0.0), [1] * 10),
    ],
)
def test_schedules_by_hand(schedule: Schedule, values: list[float]) -> None:
    assert [_at(schedule, t) for t in range(len(values))] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("kind", [Linear, Cosine, Sigmoid, MonotonicThenHold, Cyclical])
def test_a_schedule_without_length_is_one_at_once(kind: type[Schedule]) -> None:
    assert [_at(kind(length=0), t) for t in (0, 1, 99)] == [1, 1, 1]


@pytest.mark.parametrize("kind", [Linear, Cosine, Sigmoid, MonotonicThenHold, Cyclical])
def test_a_schedule_stays_in_the_unit_interval_and_ends_at_one(kind: type[Schedule]) -> None:
    values = [_at(kind(length=50), t) for t in range(150)]
    assert all(0 <= v <= 1 for v in values)
    assert values[0] < 0.01
    assert values[-1] == pytest.approx(1)
    falls = sum(b < a for a, b in pairwise(values))
    assert falls == (3 if kind is Cyclical else 0), "four cycles fall back three times; the others never"


def test_members_of_a_population_may_differ_in_their_schedules() -> None:
    lengths = torch.tensor([0.0, 10.0, 40.0])
    values = vmap(lambda length: linear(torch.tensor(10.0), length))(lengths)
    assert values.tolist() == [1, 1, 0.25]


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(UserError, match=r"Cosine\.length is -1"):
        Cosine(-1)
    with pytest.raises(UserError, match=r"Cyclical\.ratio is 1\.5"):
        Cyclical(10, 2, 1.5)


@pytest.mark.parametrize("schedule", [Cyclical(8, 2, 0.5), Sigmoid(4), Cosine(4), MonotonicThenHold(2, 2)])
@pytest.mark.parametrize("t", [0.0, 1.0, 5.0])
def test_beta_vae_weighs_the_rate_by_its_schedule(schedule: Schedule, t: float) -> None:
    init = {name: float(value) for name, value in schedule.named_buffers()}
    init |= {"cycles": int(init["cycles"])} if "cycles" in init else {}
    path = {"class_path": f"vaebench.schedules.{type(schedule).__name__}", "init_args": init}
    model = small("beta_vae", beta=3.0, schedule=path)
    step = _step(model, bits(8), t)
    expected = step.logs["distortion"] + 3 * _at(schedule, t) * step.logs["rate"]
    assert float(step.losses["model"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


# Capacity


@pytest.mark.parametrize(("t", "target"), [(0.0, 0.0), (50.0, 2.5), (100.0, 5.0), (900.0, 5.0)])
def test_capacity_penalises_the_distance_to_a_growing_target(t: float, target: float) -> None:
    model = small("capacity_vae", gamma=7.0, capacity=5.0, length=100)
    step = _step(model, bits(8), t)
    expected = step.logs["distortion"] + 7 * abs(step.logs["rate"] - target)
    assert float(step.logs["capacity"]) == target
    assert float(step.losses["model"].detach()) == pytest.approx(float(expected.detach()))


def test_capacity_holds_the_batchs_mean_rate_and_lets_images_differ() -> None:
    rates = torch.tensor([0.0, 2.0])
    assert [float(capacity(rates, torch.tensor(c))) for c in (0.5, 1.0, 2.5)] == [0.5, 0.0, 1.5]


def test_capacity_pulls_the_rate_to_its_target_from_either_side() -> None:
    for target in (0.5, 3.0):
        last = _learn(small("capacity_vae", gamma=100.0, capacity=target, length=0), 400)[-100:]
        rate = sum(float(s.logs["rate"].detach()) for s in last) / 100
        assert rate == pytest.approx(target, abs=0.15)


def test_the_default_of_capacity_trains_at_common_budgets_and_the_papers_does_not() -> None:
    """Defect: the default was γ = 1000, whose gradient leaves the distortion none of Adam's step."""
    pictures = bits(4, seed=5)[torch.arange(32) % 4]
    bound = {}
    for name, given in {"default": {}, "paper": {"gamma": 1000.0, "length": 100_000.0}}.items():
        model = small("capacity_vae", **given)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for t in range(100):
            step = _step(model, pictures, t, seed=t)
            optimizer.zero_grad()
            step.losses["model"].backward()
            optimizer.step()
        bound[name] = float(step.logs["elbo"].detach())
    assert bound["default"] > bound["paper"] + 1


# GECO


def test_geco_moves_its_multiplier_as_algorithm_1_says() -> None:
    model, x = small("geco", tolerance=9.0, multiplier=2.0, speed=0.1, memory=0.7), bits(8)
    average, multiplier = None, 2.0
    for t in range(4):
        step = _step(model, x, t, seed=t)
        constraint = float(step.logs["distortion"].detach()) - 9.0
        expected = float(step.logs["rate"].detach()) + multiplier * constraint
        assert float(step.losses["model"].detach()) == pytest.approx(expected)
        average = constraint if average is None else 0.7 * average + 0.3 * constraint
        multiplier *= math.exp(0.1 * average)
        for name, value in step.state.items():
            model.get_buffer(name).copy_(value.detach())
        assert float(model.average) == pytest.approx(average)
        assert float(model.multiplier) == pytest.approx(multiplier)


@pytest.mark.parametrize(("tolerance", "grows"), [(1.0, True), (100.0, False)])
def test_geco_presses_on_the_distortion_until_it_is_tolerated(tolerance: float, grows: bool) -> None:
    step = _step(small("geco", tolerance=tolerance), bits(8))
    assert (float(step.state["multiplier"].detach()) > 1) == grows


def test_geco_meets_its_tolerance() -> None:
    last = _learn(small("geco", tolerance=7.0, speed=5e-3, memory=0.9), 1500)[-200:]
    distortion = sum(float(s.logs["distortion"].detach()) for s in last) / 200
    assert distortion == pytest.approx(7.0, abs=0.25)


# Free bits


def test_divergence_of_units_is_the_closed_form_and_sums_to_the_whole() -> None:
    torch.manual_seed(0)
    loc, scale = torch.randn(4, 3, dtype=DOUBLE), torch.rand(4, 3, dtype=DOUBLE) + 0.5
    q, p = DiagonalNormal(loc, scale), DiagonalNormal(torch.zeros(3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))
    units = divergence_units(q, p)
    assert torch.allclose(units, 0.5 * (loc**2 + scale**2 - 1) - scale.log())
    assert torch.allclose(units.sum(-1), kl_divergence(q, p))


def test_free_bits_by_hand() -> None:
    units = torch.tensor([[0.1, 0.9, 2.0], [0.5, 0.3, 0.0]], dtype=DOUBLE, requires_grad=True)
    free = torch.tensor(0.5)
    each = free_bits(units, free)
    assert each.tolist() == pytest.approx([0.5 + 0.9 + 2.0, 0.5 + 0.5 + 0.5])
    gradient = torch.autograd.grad(each.sum(), units)[0]
    assert gradient[0].tolist() == [0, 1, 1], "a unit below its free bits feels no pull"
    assert float(free_bits(units.detach().mean(0), free)) == pytest.approx(0.5 + 0.6 + 1.0)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("groups", [None, 1])
def test_the_objective_pays_for_free_bits_as_the_formula_says(average: bool, groups: int | None) -> None:
    """The maximum is taken group by group, never of their sum, and in nats, never of a mean over units."""
    model, x = small("free_bits_vae", free_bits=0.2, average=average, groups=groups), bits(8)
    step, q = _step(model, x), model.posterior(x).base_dist
    units = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).detach()
    if groups == 1:
        units = units.sum(-1, keepdim=True)
    rows = [units.mean(0)] if average else list(units)
    paid = sum(max(0.2, float(unit)) for row in rows for unit in row) / len(rows)
    distortion = float(step.logs["distortion"].detach())
    assert float(step.losses["model"].detach()) == pytest.approx(distortion + paid)
    assert float(step.losses["model"].detach()) >= -float(step.logs["elbo"].detach()), "a lower bound on the ELBO"
    assert float(step.logs["rate"].detach()) == pytest.approx(float(units.sum(-1).mean())), "the rate itself is logged"


def test_beta_its_schedule_and_free_bits_act_at_once() -> None:
    schedule = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 100}}
    model, x = small("free_bits_vae", free_bits=0.2, beta=3.0, schedule=schedule).requires_grad_(False), bits(8)
    logs = model.step(x, None, torch.tensor(50.0)).logs
    torch.manual_seed(2)
    step = model.step(x, None, torch.tensor(50.0))
    units = divergence_units(model.posterior(x), model.prior()).mean(0)
    paid = float(free_bits(units, torch.tensor(0.2)))
    assert float(logs["beta"]) == 1.5
    assert float(step.losses["model"]) == pytest.approx(float(step.logs["distortion"]) + 1.5 * paid)


def test_no_free_bits_leave_the_elbo() -> None:
    model, x = small("free_bits_vae", free_bits=0.0).requires_grad_(False), bits(8)
    torch.manual_seed(2)
    step = model.step(x, None, torch.tensor(0.0))
    assert float(step.losses["model"]) == pytest.approx(-float(step.logs["elbo"]), abs=1e-12)


def test_the_groups_of_a_hierarchy_are_its_levels() -> None:
    model, x = small("ladder_vae", free_bits=2.0).requires_grad_(False), bits(8)
    torch.manual_seed(2)
    step = model.step(x, None, torch.tensor(0.0))
    paid = sum(max(2.0, float(step.logs[f"rate_{level}"])) for level in (1, 2))
    assert float(step.losses["model"]) == pytest.approx(float(step.logs["distortion"]) + paid)


def test_averaging_over_the_batch_comes_before_the_maximum() -> None:
    """Two images, rates 0 and 1, λ = 1/2: the mean pays nothing more, each image alone does."""
    units = torch.tensor([[0.0], [1.0]])
    free = torch.tensor(0.5)
    assert float(free_bits(units.mean(0), free)) == 0.5
    assert float(free_bits(units, free).mean()) == 0.75


def test_free_bits_keep_every_unit_in_use() -> None:
    model = small("free_bits_vae", free_bits=0.5)
    _learn(model, 500)
    q = model.posterior(bits(64))
    units = divergence_units(q, model.prior()).mean(0)
    assert (units > 0.45).all()


def test_units_that_do_not_divide_into_groups_are_refused() -> None:
    with pytest.raises(UserError, match="cannot split 2 latent units into 3"):
        small("free_bits_vae", groups=3)


class _Full(LazyDistribution):
    """A posterior with a full covariance."""

    def __init__(self, data: Shape, latent: Shape) -> None:
        super().__init__()
        self.net = torch.nn.Linear(math.prod(data), latent[0])

    def forward(self, c: Any = None) -> MultivariateNormal:
        loc = self.net(c.flatten(1))
        return MultivariateNormal(loc, torch.eye(loc.shape[-1]))


class _FullPrior(LazyDistribution):
    def __init__(self, latent: Shape, *_: Any) -> None:
        super().__init__()
        self.size = latent[0]

    def forward(self, c: Any = None) -> MultivariateNormal:
        return MultivariateNormal(torch.zeros(self.size), torch.eye(self.size))


def test_free_bits_refuse_what_does_not_factorise_and_say_why() -> None:
    with pytest.raises(UserError, match="the posterior, MultivariateNormal, does not factorise"):
        BetaVAE(SPEC, free_bits=0.1, latent=2, posterior=_Full)
    with pytest.raises(UserError, match="the prior, MultivariateNormal, does not factorise"):
        BetaVAE(SPEC, free_bits=0.1, latent=2, prior=_FullPrior)


@pytest.mark.parametrize(("rate", "weight"), [(0.9, 0.45), (1.0, 0.5), (1.04, 0.5), (1.06, 0.55), (50.0, 0.55)])
def test_soft_free_bits_by_hand(rate: float, weight: float) -> None:
    now = (torch.tensor(v, dtype=DOUBLE) for v in (0.5, rate, 1.0, 0.1, 0.05))
    assert float(soft_free_bits(*now)) == pytest.approx(weight)


def test_soft_free_bits_never_weigh_the_rate_above_one() -> None:
    full = torch.tensor(1.0), torch.tensor(9.0), torch.tensor(1.0), torch.tensor(0.1), torch.tensor(0.05)
    assert float(soft_free_bits(*full)) == 1.0


def test_soft_free_bits_steer_the_rate_to_its_target() -> None:
    """A plain VAE on the same images writes less; the weight falls until the target is reached."""
    plain, steered = (_learn(model, 600)[-100:] for model in (small("vae"), small("soft_free_bits_vae", free=7.0)))
    rates = [sum(float(s.logs["rate"].detach()) for s in steps) / 100 for steps in (plain, steered)]
    assert rates[0] < 4
    assert rates[1] == pytest.approx(7.0, rel=0.07)
    assert all(float(s.logs["weight"]) < 1 for s in steered)


@pytest.mark.parametrize("name", ["capacity_vae", "geco", "beta_vae", "soft_free_bits_vae"])
def test_annealed_families_build_from_their_defaults(name: str) -> None:
    posterior = {"class_path": "vaebench.posteriors.DiagonalGaussian", "init_args": {"net": NET}}
    model = vb.build(name, Source(SPEC), posterior=posterior)
    assert all(math.isfinite(float(v.detach())) for v in noisy_step(model.double(), bits(4), seed=0).values())
