"""Schedules: pure functions of the optimiser step, and the modules that hold their settings as buffers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vaebench.ranges import SHARE, Range, require_ranges


def linear(t: Tensor, length: Tensor) -> Tensor:
    """min(1, t / length); 1 at once where length is 0.

    Args:
        t: step, counted from 0.
        length: steps until 1 is reached.
    """
    return torch.where(length > 0, (t / length.clamp(min=1e-12)).clamp(max=1.0), torch.ones_like(length))


def sigmoid(t: Tensor, length: Tensor, steepness: Tensor) -> Tensor:
    """σ(steepness (t / length − 1/2)): 1/2 half-way, and 1 only in the limit; 1 at once where length is 0.

    Args:
        t: step, counted from 0.
        length: steps of the rise.
        steepness: 12 makes it rise from 0.0025 to 0.9975 over `length` steps.
    """
    rise = torch.sigmoid(steepness * (t / length.clamp(min=1e-12) - 0.5))
    return torch.where(length > 0, rise, torch.ones_like(length))


def cosine(t: Tensor, length: Tensor) -> Tensor:
    """Half a cosine from 0 at t = 0 to 1 at t = length, with level ends; 1 at once where length is 0.

    Args:
        t: step, counted from 0.
        length: steps until 1 is reached.
    """
    return 0.5 * (1 - torch.cos(math.pi * linear(t, length)))


def held(t: Tensor, wait: Tensor, length: Tensor) -> Tensor:
    """0 for `wait` steps, then a linear rise over `length` steps, then 1.

    Args:
        t: step, counted from 0.
        wait: steps at 0.
        length: steps of the rise; 0 is a jump.
    """
    return torch.where(t >= wait, linear((t - wait).clamp(min=0), length), torch.zeros_like(wait))


def cyclical(t: Tensor, length: Tensor, cycles: Tensor, ratio: Tensor) -> Tensor:
    """`cycles` times a linear rise from 0 to 1 in the first part of a cycle, and 1 for the rest of it; 1 afterwards.

    Args:
        t: step, counted from 0.
        length: steps of all cycles together; 1 at once where it is 0.
        cycles: M, their number.
        ratio: R, the rising part of each, in [0, 1].
    """
    phase = torch.remainder(t * cycles / length.clamp(min=1e-12), 1.0)
    return torch.where(t < length, linear(phase, ratio), torch.ones_like(length))


class Round(NamedTuple):
    """The state of a round of encoder steps, all 0-dim; the initial state without arguments. See `continued`.

    Attributes:
        taken: encoder steps so far.
        window: sum of the losses in the current window.
        before: mean loss of the previous window, nats.
        done: 1 when the round has ended and the decoder trains.
    """

    taken: Any = 0.0
    window: Any = 0.0
    before: Any = math.inf
    done: Any = 0.0


def continued(now: Round, loss: Tensor, check: Tensor, cap: Tensor) -> Round:
    """The round after one more encoder step: done when a window's mean loss exceeds the last one's, or at the cap.

    The inner loop of He et al. 2019 (https://arxiv.org/abs/1901.05534), without branches.

    Args:
        now: the round so far.
        loss: of this batch, nats.
        check: steps of a window.
        cap: largest number of steps of a round.
    """
    taken, window = now.taken + 1, now.window + loss
    look = torch.remainder(taken, check) == 0
    mean = window / check
    stalled = look & (mean > now.before)
    return Round(
        taken,
        torch.where(look, 0.0, window),
        torch.where(look, mean, now.before),
        (stalled | (taken >= cap)).to(loss.dtype),
    )


class Watch(NamedTuple):
    """The state of a plateau detector, all 0-dim; the initial state without arguments. See `watched`.

    Attributes:
        total: sum of the values since the last check.
        seen: number of these values.
        best: highest mean at a check.
        misses: checks at which the mean was below the best.
    """

    total: Any = 0.0
    seen: Any = 0.0
    best: Any = 0.0
    misses: Any = 0.0


def watched(now: Watch, value: Tensor, every: float) -> Watch:
    """The plateau detector after one more value.

    Args:
        now: its state so far.
        value: of the monitored quantity.
        every: values per check.
    """
    total, seen = now.total + value, now.seen + 1
    look, mean = seen >= every, total / seen
    return Watch(
        torch.where(look, 0.0, total),
        torch.where(look, 0.0, seen),
        torch.where(look, torch.maximum(mean, now.best), now.best),
        now.misses + (look & (mean < now.best)),
    )


class Schedule(nn.Module):
    """t -> a factor in [0, 1]."""

    RANGES: ClassVar[Mapping[str, Range]] = {}

    def hyper(self, **scalars: float) -> None:
        """Registers scalars as 0-dim buffers, in which members of a population may differ.

        Raises:
            UserError: one is outside its range.
        """
        require_ranges(type(self), scalars, "the schedule's ", f"{type(self).__name__}.")
        for name, value in scalars.items():
            self.register_buffer(name, torch.tensor(float(value)))

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """The factor at step t (0-dim)."""

    @property
    def end(self) -> float:
        """The step from which the factor is constant; inf, the default, where it never is."""
        return math.inf


class Constant(Schedule):
    """1 at every step."""

    @property
    def end(self) -> float:
        return 0.0

    def forward(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class Linear(Schedule):
    """min(1, t / length): a warm-up (Sønderby et al. 2016, https://arxiv.org/abs/1602.02282).

    Args:
        length: optimiser steps until the factor is 1; 0 or more.
    """

    length: Tensor

    def __init__(self, length: float = 10_000) -> None:
        super().__init__()
        self.hyper(length=length)

    def forward(self, t: Tensor) -> Tensor:
        return linear(t, self.length)

    @property
    def end(self) -> float:
        return float(self.length)


class Sigmoid(Schedule):
    """σ(steepness (t / length − 1/2)): the annealing of Bowman et al. 2016 (https://arxiv.org/abs/1511.06349).

    Args:
        length: optimiser steps of the rise, twice those until the factor is 1/2; 0 or more.
        steepness: 12 rises from 0.0025 to 0.9975 over `length`; 0 or more.
    """

    length: Tensor
    steepness: Tensor

    def __init__(self, length: float = 10_000, steepness: float = 12.0) -> None:
        super().__init__()
        self.hyper(length=length, steepness=steepness)

    def forward(self, t: Tensor) -> Tensor:
        return sigmoid(t, self.length, self.steepness)

    @property
    def end(self) -> float:
        """The step from which the factor rounds to 1."""
        last = math.log(8 / torch.finfo(self.length.dtype).eps)  # of the sigmoid's argument
        return float(self.length) * (0.5 + last / float(self.steepness)) if self.steepness else 0.0


class Cosine(Schedule):
    """(1 − cos(π min(1, t / length))) / 2.

    Args:
        length: optimiser steps until the factor is 1; 0 or more.
    """

    length: Tensor

    def __init__(self, length: float = 10_000) -> None:
        super().__init__()
        self.hyper(length=length)

    def forward(self, t: Tensor) -> Tensor:
        return cosine(t, self.length)

    @property
    def end(self) -> float:
        return float(self.length)


class MonotonicThenHold(Schedule):
    """0 for `wait` optimiser steps, a linear rise over `length`, then 1: no rate term until the code is in use.

    Args:
        wait: steps at 0; 0 or more.
        length: steps of the rise; 0 or more.
    """

    wait: Tensor
    length: Tensor

    def __init__(self, wait: float = 0, length: float = 10_000) -> None:
        super().__init__()
        self.hyper(wait=wait, length=length)

    def forward(self, t: Tensor) -> Tensor:
        return held(t, self.wait, self.length)

    @property
    def end(self) -> float:
        return float(self.wait + self.length)


class Cyclical(Schedule):
    r"""Cyclical annealing, linear within a cycle, then 1.

    .. math:: s(t) = \min(1, \tau / R), \qquad \tau = (t M / T) \bmod 1

    Fu et al. 2019 (https://arxiv.org/abs/1903.10145), with their M and R.

    Args:
        length: T, optimiser steps of all cycles together; 0 or more.
        cycles: M.
        ratio: R in [0, 1], the rising part of a cycle; at 0 the factor is always 1.

    Raises:
        UserError: a setting lies outside its range.
    """

    RANGES = {"ratio": SHARE}

    length: Tensor
    cycles: Tensor
    ratio: Tensor

    def __init__(self, length: float = 40_000, cycles: int = 4, ratio: float = 0.5) -> None:
        super().__init__()
        self.hyper(length=length, cycles=cycles, ratio=ratio)

    def forward(self, t: Tensor) -> Tensor:
        return cyclical(t, self.length, self.cycles, self.ratio)

    @property
    def end(self) -> float:
        return float(self.length)
