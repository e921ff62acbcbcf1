"""The training loop of every family: gradients group by group, clipping, skipped steps, optimisers and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from vaebench.core.contract import Step, batches
from vaebench.core.divergence import DivergenceWatch
from vaebench.core.means import Means
from vaebench.core.rules import Recipe, Rules
from vaebench.curves import TRAIN


class Learner(LightningModule, ABC):
    """A LightningModule that learns from the `Step` of every batch, each parameter group from its own loss.

    `Family` adds the model. How each group learns is in `rules`, which populations read as well.

    Attributes:
        lr, clip: learning rate and largest norm of a gradient; see `Family`.
        recipe: optimisers and schedulers of the run; default: Adam at a constant learning rate.
        steps: batches learnt from.
        accumulate: batches of one step of the optimisers.
        watch: ends a run that diverges; None does not look.
        means: of what steps log, until they are taken.
    """

    VALIDATION_SEED = 0  # noise of the held-out bound: the same at every validation of every run

    lr: Tensor
    clip: float | None

    def __init__(self) -> None:
        super().__init__()
        self.recipe = Recipe()
        self.steps, self.accumulate = 0, 1
        self.watch: DivergenceWatch | None = None
        self.means = Means()
        self._members: dict[str, list[nn.Parameter]] = {}
        self._rules: dict[str, Rules] = {}
        self._images: dict[str, int] = {}  # that each group has gradients of
        self.automatic_optimization = False  # one loop for one group and for many

    # What a family says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        """The losses of one batch; see `Family.step`."""

    @abstractmethod
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Parameter groups by name prefix; see `Family.groups`."""

    @abstractmethod
    def active(self, t: Tensor) -> dict[str, Tensor]:
        """Which groups learn at step t; see `Family.active`."""

    @abstractmethod
    def held_out(self, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
        """What validation measures; see `Family.held_out`."""

    @property
    @abstractmethod
    def final(self) -> float:
        """The step whose objective validation measures; see `Family.final`."""

    # How its groups learn -------------------------------------------------------------------------------------------

    def members(self, group: str) -> list[nn.Parameter]:
        """The parameters of one group."""
        return [p for name, p in self.named_parameters() if name.startswith(self.groups()[group])]

    def rules(self) -> dict[str, Rules]:
        """How each group that has parameters learns.

        A group may have a learning rate of its own, in a buffer `lr_<group>`, and a family a limit on gradients above
        which it leaves a step out, in a buffer `skip`.
        """
        own = dict(self.named_buffers(recurse=False))
        skip = float(own["skip"]) if "skip" in own else None
        return {
            group: self.recipe.rules(group, float(own.get(f"lr_{group}", self.lr)), self.clip, skip)
            for group in self.groups()
            if self.members(group)
        }

    def configure_optimizers(self) -> Any:
        self._rules = self.rules()
        self._members = {group: self.members(group) for group in self._rules}
        optimizers = [rules.optimizer(self._members[group], lr=rules.lr) for group, rules in self._rules.items()]
        return optimizers[0] if len(optimizers) == 1 else optimizers

    def on_train_epoch_start(self) -> None:
        for rules, optimizer in zip(self._rules.values(), self._built(), strict=True):
            if rules.scheduler is not None:
                optimizer.param_groups[0].update(rules.options(self.current_epoch))

    def _built(self) -> list[Optimizer]:
        optimizers = cast("list[Optimizer] | Optimizer", self.optimizers())
        return optimizers if isinstance(optimizers, list) else [optimizers]

    # The loop -------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Sequence[Any], index: int) -> None:
        """Learns from a batch (x, y), or from each of a block: Lightning's cost is paid once a call.

        The optimisers step after every `accumulate` batches, and at the end of the block.
        """
        block = batches(batch)
        for index, (x, y) in enumerate(block, 1):
            t = torch.tensor(float(self.steps), device=x.device)
            step = self.step(x, y, t)
            self._learn(step, t, len(x), index % self.accumulate == 0 or index == len(block))
            self.means.add(step.logs, len(x))
            self.steps += 1
        if self.trainer.is_last_batch or self.trainer._logger_connector.should_update_logs:
            self.log_dict({f"{TRAIN}{name}": value.detach() for name, value in step.logs.items()}, batch_size=len(x))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps"] = self.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps = checkpoint["steps"]

    def _learn(self, step: Step, t: Tensor, images: int = 1, last: bool = True) -> None:
        """Differentiates each loss with respect to its own group only, steps the active groups, writes the state.

        Args:
            step: of a batch.
            t: its number.
            images: it has, by which gradients are weighed where several batches make one step of the optimisers.
            last: whether the optimisers step.
        """
        active = self.active(t)
        for name, members in self._members.items():  # all before the first step, which changes what others see
            if name not in active or bool(active[name]):
                loss = step.losses[name] if self.accumulate == 1 else step.losses[name] * images
                loss.backward(inputs=members, retain_graph=len(self._members) > 1)
                if self.watch is not None:
                    self.watch.take(self.steps, name, loss)
                self._images[name] = self._images.get(name, 0) + images
        if last:
            self._move()
        for name, value in self._everywhere(step.state).items():
            self.get_buffer(name).copy_(value.detach())

    def _move(self) -> None:
        """Steps the optimisers of the groups that have gradients, which it clears."""
        for (name, members), optimizer in zip(self._members.items(), self._built(), strict=True):
            if name not in self._images:
                continue
            gradients = [p.grad for p in members if p.grad is not None]
            if self.accumulate > 1:
                torch._foreach_div_(gradients, float(self._images[name]))  # sums over images are means now
            if self._trainer is not None and self.trainer.world_size > 1:
                for p in members:  # which DDP leaves to a family that steps by itself
                    p.grad = cast(Tensor, self.trainer.strategy.reduce(p.grad, reduce_op="mean"))
            rules = self._rules[name]
            skips = rules.skip is not None and self._skips(members, rules.skip)
            if rules.clip is not None:
                nn.utils.clip_grad_norm_(members, rules.clip)
            if not skips:
                optimizer.step()
            optimizer.zero_grad()
        self._images.clear()

    def _skips(self, members: list[nn.Parameter], limit: float) -> bool:
        """Whether a step is left out, for a gradient whose norm exceeds the limit; counted in the buffer `skipped`."""
        norm = nn.utils.get_total_norm([p.grad for p in members if p.grad is not None])
        taken = bool(norm <= limit)  # a norm that is not a number is left out too
        self.get_buffer("skipped").add_(not taken)
        return not taken

    def _everywhere(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """State as means over all processes."""
        if self._trainer is None or self.trainer.world_size == 1:
            return state
        reduce = self.trainer.strategy.reduce
        return {name: cast(Tensor, reduce(value.detach().clone(), reduce_op="mean")) for name, value in state.items()}

    def validation_step(self, batch: tuple[Tensor, Tensor | None], index: int) -> None:
        """Logs what `held_out` gives under fixed noise."""
        x, y = batch
        metrics = self.held_out(x, y, torch.tensor(self.final, device=x.device), self.VALIDATION_SEED + index)
        self.log_dict(metrics, batch_size=len(x), on_epoch=True, sync_dist=True)
