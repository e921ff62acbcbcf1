"""Schedules: pure functions of the optimiser step, and the modules that hold their settings as buffers."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn


def linear(t: Tensor, length: Tensor) -> Tensor:
    """min(1, t / length); 1 at once where length is 0.

    Args:
        t: step, counted from 0.
        length: steps until 1 is reached.
    """
    return torch.where(length > 0, (t / length.clamp(min=1e-12)).clamp(max=1.0), torch.ones_like(length))


class Schedule(nn.Module):
    """t -> a factor in [0, 1]."""

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """The factor at step t (0-dim)."""


class Constant(Schedule):
    """1 at every step."""

    def forward(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class Linear(Schedule):
    """min(1, t / length): the warm-up of Bowman et al. 2016 (https://arxiv.org/abs/1511.06349).

    Args:
        length: optimiser steps until the factor is 1; 0 or more.
    """

    length: Tensor

    def __init__(self, length: float = 10_000) -> None:
        super().__init__()
        self.register_buffer("length", torch.tensor(float(length)))

    def forward(self, t: Tensor) -> Tensor:
        return linear(t, self.length)
