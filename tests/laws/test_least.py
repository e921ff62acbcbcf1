"""Every family learns at the least value that each of its numbers may have, or says in a sentence why it cannot."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from helpers import FAMILIES, bits, family_of, labels, small

from vaebench.core import Family
from vaebench.errors import UserError
from vaebench.ranges import Range, ranges

COMMON = {"latent", "lr", "clip"}  # of every family: tried with one
REFUSED = {  # numbers at whose least others are out of their range
    "hamiltonian_vae": {"limit"}, "two_layer_vae": {"latent"}, "two_stage_vae": {"latent"},
}  # fmt: skip
IMAGES = 6


def least(limit: Range) -> float:
    """The least number of a range, or one that is hardly above its open end."""
    low = max(limit.low, -1e3)
    return float(low + 1e-6 if limit.open_low else low)


def learns(model: Family) -> None:
    """Takes two steps of every group, and measures held-out images after each.

    Raises:
        AssertionError: a loss, a figure or a weight is not finite.
    """
    x, y = bits(IMAGES, model.data).float(), labels(IMAGES) % (model.classes or 3)
    model.float()
    optimizers = {group: rules.optimizer(model.members(group), lr=rules.lr) for group, rules in model.rules().items()}
    for t in map(torch.tensor, (0.0, 1.0)):
        step = model.step(x, y, t)
        for group in optimizers:
            step.losses[group].backward(inputs=model.members(group), retain_graph=True)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        for name, value in step.state.items():
            model.get_buffer(name).copy_(value.detach())
        found = {**step.losses, **model.held_out(x, y, t, 0), **dict(model.named_parameters())}
        assert not [name for name, value in found.items() if not torch.isfinite(value).all()]


def numbers(name: str) -> dict[str, Any]:
    """The least value of every number that a family is built with, by the argument's name."""
    kinds = signature(family_of(name)).parameters
    found = {setting: least(limit) for setting, limit in ranges(family_of(name)).items()}
    whole = {setting: int(value) if value.is_integer() else value for setting, value in found.items()}
    lists = {setting for setting in found if setting in kinds and "[" in str(kinds[setting].annotation)}
    return {setting: [value] if setting in lists else value for setting, value in whole.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_at_the_least_of_all_its_numbers_or_says_why_not(name: str) -> None:
    """All of its own at once; `test_a_family_learns_at_the_least_of_each_number` takes them one by one."""
    own = {setting: value for setting, value in numbers(name).items() if name == "vae" or setting not in COMMON}
    try:
        learns(small(name, **own))
    except UserError as error:
        if name not in REFUSED:
            raise AssertionError(f"{name} refuses {own}") from error


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_at_the_least_of_each_number(name: str) -> None:
    for setting, value in numbers(name).items():
        try:
            learns(small(name, **{setting: value}))
        except Exception as error:
            if isinstance(error, UserError) and setting in REFUSED.get(name, ()):
                continue
            raise AssertionError(f"{name} with {setting} {value}: {error!r}") from error
