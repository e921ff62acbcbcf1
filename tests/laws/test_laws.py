"""The laws that every family obeys, whatever its paper."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from helpers import (
    BOUNDS,
    EXACT,
    FAMILIES,
    INEXACT,
    LAWFUL,
    SPEC,
    Source,
    bits,
    family_of,
    images_of,
    labels,
    neutral,
    noisy_step,
    small,
)

import vaebench as vb
from vaebench.core import DataSpec, draw
from vaebench.running import laws

ROOT = Path(__file__).parents[2]
every_family = pytest.mark.parametrize("name", LAWFUL)


@pytest.mark.parametrize("name", BOUNDS)
def test_objective_is_the_elbo_at_its_neutral_setting(name: str) -> None:
    model, x = neutral(name), bits(1).expand(1_000, *SPEC.shape)  # pairs of images, in some families, fill memory
    torch.manual_seed(0)
    with torch.no_grad():
        steps = [model.step(x, labels(len(x)), torch.tensor(0.0)) for _ in range(20)]
        loss = sum(float(next(iter(step.losses.values()))) for step in steps) / len(steps)
        log_w = torch.cat([draw(model.given(labels(len(x))), x).log_w for _ in steps])
    error = 2 * float(log_w.std()) / log_w.numel() ** 0.5  # both sides are estimates, with at most this deviation
    assert -loss == pytest.approx(float(log_w.mean()), abs=4 * error + 1e-9)  # no deviation where q is a point mass
    assert error < 0.05


@pytest.mark.parametrize("name", EXACT)
def test_loss_is_the_derivative_it_claims(name: str) -> None:
    """Each group's gradient under fixed noise equals the central difference of its loss under the same noise."""
    model, x = small(name), bits(8)
    generator = torch.Generator().manual_seed(3)
    for group in model.groups():
        shapes = {name: parameter.shape for name, parameter in laws.derived(model, group).items()}
        direction = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
        slope, difference = laws.slopes(model, group, direction, x, labels(len(x)), seed=5)
        assert slope == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("name", INEXACT)
def test_mean_gradient_is_the_derivative_of_the_mean_loss(name: str) -> None:
    """Gradient estimators: under the same noise they may differ from the loss's difference, in the mean they do not."""
    model, x = small(name), bits(1).expand(1000, *SPEC.shape)
    for group in model.groups():
        y = labels(len(x))
        direction = laws.gradient(model, group, x, y, seed=99)
        slopes = [laws.slopes(model, group, direction, x, y, seed) for seed in range(20)]
        pairs = torch.tensor(slopes, dtype=torch.float64)
        gap, difference = pairs[:, 0] - pairs[:, 1], abs(float(pairs[:, 1].mean()))
        error = float(gap.std()) / len(gap) ** 0.5
        assert abs(float(gap.mean())) < 4 * error + 1e-5 * difference
        assert error < 0.02 * difference, "the test can tell"


@every_family
def test_every_parameter_learns_from_its_own_groups_loss_and_no_other(name: str) -> None:
    model, x = small(name), bits(8)
    losses = noisy_step(model, x, seed=0)
    assert set(losses) == set(model.groups())
    members = {group: model.members(group) for group in model.groups()}
    listed = [id(p) for group in members.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters()), "each parameter is in exactly one group"
    for group, parameters in members.items():
        gradients = torch.autograd.grad(losses[group], parameters, retain_graph=True, allow_unused=True)
        assert all(g is not None and float(g.abs().sum()) > 0 for g in gradients)


@every_family
def test_step_is_pure(name: str) -> None:
    model, x = small(name), bits(8)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    first, second = noisy_step(model, x, seed=2), noisy_step(model, x, seed=2)
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


@every_family
def test_members_under_vmap_equal_their_solo_steps(name: str) -> None:
    members = [small(name, seed=s) for s in range(3)]
    x, t = bits(8), torch.tensor(10.0, dtype=torch.float64)
    together = laws.together(members, x, labels(len(x)), t, seed=7)
    for i, member in enumerate(members):
        for group, loss in noisy_step(member, x, seed=7, t=10.0).items():
            assert float(together[group][i].detach()) == pytest.approx(float(loss.detach()), abs=1e-6)
    apart = laws.together(members, x, labels(len(x)), t, seed=7, randomness="different")
    assert all(torch.isfinite(v).all() for v in apart.values())


@every_family
def test_a_step_reads_no_number_and_moves_no_tensor(name: str) -> None:
    """Without g++; `test_device_laws.py` tries it with numbers."""
    laws.step_elsewhere(small(name), bits(8), labels(8))


@every_family
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model, x = small(name), bits(64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with torch.no_grad():
        start = sum(float(v) for v in noisy_step(model, x, seed=0).values())
    for step in range(60):
        optimizer.zero_grad()
        sum(noisy_step(model, x, seed=step + 1).values()).backward()
        optimizer.step()
    with torch.no_grad():
        end = sum(float(v) for v in noisy_step(model, x, seed=0).values())
    assert end < start - 0.5


@every_family
def test_the_decoder_starts_at_the_training_mean(name: str) -> None:
    model = small(name)
    assert model.likelihood.started
    with torch.no_grad():
        for parameter in model.likelihood.net.parameters():
            if parameter is not model.likelihood.net.output_bias:
                parameter.zero_()
        given = model.given(labels(1))
        mean = given.likelihood(given.prior().sample((1,))).mean
    assert torch.allclose(mean[0], SPEC.mean.double(), atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_file_reads_like_its_paper(name: str) -> None:
    cls = vb.families()[name]
    doc = inspect.getdoc(cls) or ""
    assert getattr(cls, "__final__", False), "a family is final"
    assert "Reference:" in doc
    assert "http" in doc
    assert ".. math::" in doc
    assert len(Path(inspect.getfile(cls)).read_text().splitlines()) <= 80


@every_family
def test_family_has_its_configuration(name: str) -> None:
    cls = family_of(name)
    config = yaml.safe_load((ROOT / "configs" / "family" / f"{name}.yaml").read_text())["model"]
    assert config["class_path"] == f"{cls.__module__}.{cls.__qualname__}"
    spec = DataSpec((1, 28, 28), images_of(name).measure, torch.full((1, 28, 28), 0.3), size=1000)
    model = vb.build(cls.__module__.split(".")[-1], Source(spec), **config["init_args"])
    assert isinstance(model, cls)
