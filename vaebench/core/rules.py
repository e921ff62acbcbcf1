"""Optimisation of a parameter group, for solo training and populations alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vaebench.errors import UserError

OptimizerFactory = Callable[..., Optimizer]  # (parameters, lr) -> optimiser
SchedulerFactory = Callable[[Optimizer], LRScheduler]
ADAM: OptimizerFactory = partial(torch.optim.Adam, fused=True)


@dataclass(frozen=True)
class Rules:
    """The optimisation of one parameter group.

    Attributes:
        lr: initial learning rate.
        clip: largest norm of the gradient; None does not clip.
        skip: norm of the gradient above which a step is skipped; None skips none.
        optimizer: builds the optimiser from parameters and `lr`.
        scheduler: builds the scheduler, which changes options per epoch; None uses none.
    """

    lr: float
    clip: float | None = None
    skip: float | None = None
    optimizer: OptimizerFactory = ADAM
    scheduler: SchedulerFactory | None = None

    def options(self, epoch: int) -> dict[str, Any]:
        """The optimiser's options in an epoch, counted from 0, by torch's names: 'lr', 'betas', 'eps', ….

        They depend on the epoch alone, so that an interrupted run resumes with the same ones.

        Raises:
            UserError: the scheduler ends before that epoch.
        """
        while len(self._epochs) <= epoch:
            optimizer, scheduler = self._course
            if scheduler is not None:
                optimizer.step()  # without gradients; torch warns otherwise
                try:
                    scheduler.step()
                except ValueError as error:
                    raise UserError(
                        f"lr_scheduler {type(scheduler).__name__} ends before epoch {len(self._epochs) + 1} of the run "
                        f"({str(error).rstrip('.')}): expected one as long as the run; give it more epochs"
                    ) from error
            self._epochs.append(_options(optimizer))
        return self._epochs[epoch]

    @property
    def kind(self) -> type[Optimizer]:
        """The class of the optimiser."""
        return type(self._course[0])

    @cached_property
    def _course(self) -> tuple[Optimizer, LRScheduler | None]:
        """A dummy optimiser and its scheduler, whose options are computed epoch by epoch."""
        optimizer = self.optimizer([torch.zeros(1)], lr=self.lr)
        return optimizer, None if self.scheduler is None else self.scheduler(optimizer)

    @cached_property
    def _epochs(self) -> list[dict[str, Any]]:
        return [_options(self._course[0])]


def _options(optimizer: Optimizer) -> dict[str, Any]:
    return {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}


@dataclass(frozen=True)
class Recipe:
    """Optimisers and schedulers of a run by parameter group; '' applies to groups without an entry.

    Attributes:
        optimizers: default: Adam.
        schedulers: default: none.
    """

    optimizers: Mapping[str, OptimizerFactory] = field(default_factory=dict)
    schedulers: Mapping[str, SchedulerFactory] = field(default_factory=dict)

    def rules(self, group: str, lr: float, clip: float | None, skip: float | None) -> Rules:
        """The rules of a group."""
        optimizer = self.optimizers.get(group, self.optimizers.get("", ADAM))
        return Rules(lr, clip, skip, optimizer, self.schedulers.get(group, self.schedulers.get("")))
