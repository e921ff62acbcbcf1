"""Laws of a family's step that `vaebench check` tries on one of a user's own, and the tests on all of the suite's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from vaebench.core import Family

STEP = 1e-5  # of a central difference, in float64


def losses(model: Family, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
    """The losses of a step under fixed noise."""
    torch.manual_seed(seed)
    return dict(model.step(x, y, t).losses)


def derived(model: Family, group: str) -> dict[str, Tensor]:
    """The parameters of a group whose gradient is meant to be a derivative, by name."""
    start = model.groups()[group]
    return {name: one for name, one in model.named_parameters()
            if name.startswith(start) and not name.startswith(model.STRAIGHT_THROUGH)}  # fmt: skip


def gradient(model: Family, group: str, x: Tensor, y: Tensor | None, seed: int) -> dict[str, Tensor]:
    """The gradient of a group's loss at step 0 under fixed noise, with respect to the parameters that are `derived`."""
    parameters = derived(model, group)
    found = torch.autograd.grad(losses(model, x, y, x.new_zeros(()), seed)[group], list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def slopes(
    model: Family, group: str, direction: Mapping[str, Tensor], x: Tensor, y: Tensor | None, seed: int
) -> tuple[float, float]:
    """A group's loss along a direction under fixed noise: by its gradient, and by the central difference.

    Args:
        model: in float64.
        group: whose loss.
        direction: of the parameters that are `derived`.
        x, y: images and labels, or None.
        seed: of the noise.
    """
    found, parameters = gradient(model, group, x, y, seed), dict(model.named_parameters())

    def moved(step: float) -> float:
        shifted = {name: parameters[name].detach() + step * one for name, one in direction.items()}
        torch.manual_seed(seed)
        return float(functional_call(model, shifted, (x, y, x.new_zeros(()))).losses[group].detach())

    slope = sum(float((found[name] * one).sum()) for name, one in direction.items())
    return slope, (moved(STEP) - moved(-STEP)) / (2 * STEP)


def together(
    members: Sequence[Family], x: Tensor, y: Tensor | None, t: Tensor, seed: int, randomness: str = "same"
) -> dict[str, Tensor]:
    """The losses of several models of one kind under vmap, (n,) each, as populations train them.

    Args:
        members: the models.
        x, y, t: of their step.
        seed: of the noise.
        randomness: 'same' noise for all of them, or 'different'.
    """
    stacked = stack_module_state(list(members))

    def each(state: tuple[dict[str, Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        return dict(functional_call(members[0], state, (x, y, t)).losses)

    torch.manual_seed(seed)
    return dict(vmap(each, randomness=randomness)(stacked))


def step_elsewhere(model: Family, x: Tensor, y: Tensor | None) -> None:
    """A step on a device that has no numbers (torch's meta): it fails where something is read or lies on the CPU.

    Raises:
        RuntimeError: a number is read, or a tensor of the CPU meets one of the device.
    """
    there = torch.device("meta")
    deepcopy(model).to(there).step(x.to(there), None if y is None else y.to(there), x.new_zeros(()).to(there))
