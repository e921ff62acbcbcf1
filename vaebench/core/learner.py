"""The training loop of every family: gradients group by group, clipping, skipped steps, optimisers and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD, Adam, AdamW, Optimizer

from vaebench.core.captured import Captured
from vaebench.core.contract import Step, batches
from vaebench.core.divergence import DivergenceWatch
from vaebench.core.gauge import Gauge
from vaebench.core.means import ImageMean, Means
from vaebench.core.rules import Recipe, Rules
from vaebench.curves import STEP, TRAIN

CAPTURABLE = (Adam, AdamW, SGD)  # whose fused kernels count steps on the device, or not at all
BUCKET = 2**25  # bytes that processes exchange at a time


class Learner(LightningModule, ABC):
    """A LightningModule trained by the `Step` of every batch, each parameter group by its own loss.

    `Family` adds the model. `rules` has the optimisation of each group, for populations as well.

    Attributes:
        lr, clip: learning rate and largest norm of a gradient; see `Family`.
        recipe: optimisers and schedulers of the run; default: Adam at a constant learning rate.
        steps: number of training batches so far.
        accumulate: batches per step of the optimisers.
        watch: ends a run that diverges; None does not check.
        means: of the logs of steps since they were last taken.
        logged: the metrics of an epoch that Lightning computes, by name, as soon as they are logged.
        gauge: records learning rates, gradient norms and speed for a logger; None records none.
        captured: repeats the step as a CUDA graph; None does not capture it.
    """

    VALIDATION_SEED = 0  # of the held-out bound's noise, equal in every validation of every run

    lr: Tensor
    clip: float | None

    def __init__(self) -> None:
        super().__init__()
        self.recipe = Recipe()
        self.steps, self.accumulate = 0, 1
        self.watch: DivergenceWatch | None = None
        self.means = Means()
        self.logged: dict[str, ImageMean] = {}
        self.gauge: Gauge | None = None
        self.captured: Captured | None = None
        self._members: dict[str, list[nn.Parameter]] = {}
        self._rules: dict[str, Rules] = {}
        self._optimizers: list[Optimizer] = []
        self._images: dict[str, int] = {}  # images in the gradients of each group
        self._settings: dict[str, Tensor] = {}  # copies of a GPU's 0-dim buffers, from which the host decides
        self._turns = True  # whether there are groups that do not always learn
        self.automatic_optimization = False  # one loop for any number of groups

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
        """Validation metrics; see `Family.held_out`."""

    @property
    @abstractmethod
    def final(self) -> float:
        """The step of the objective in validation; see `Family.final`."""

    # How its groups learn -------------------------------------------------------------------------------------------

    def members(self, group: str) -> list[nn.Parameter]:
        """The parameters of one group."""
        return [p for name, p in self.named_parameters() if name.startswith(self.groups()[group])]

    def rules(self) -> dict[str, Rules]:
        """The optimisation of each group that has parameters.

        A buffer `lr_<group>` overrides the learning rate of a group; a buffer `skip` holds the gradient norm above
        which a step is skipped.
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
        self._optimizers = [rules.optimizer(self._members[group], lr=rules.lr) for group, rules in self._rules.items()]
        scalars = {name: value for name, value in self.named_buffers(recurse=False) if not value.dim()}
        self._settings = {name: value.cpu() for name, value in scalars.items() if value.device.type != "cpu"}
        self._turns = bool(self.active(torch.zeros((), device=self.lr.device)))
        if self.captured is not None and (reason := self._uncapturable()):
            self.captured.give_up(reason)
        return self._optimizers[0] if len(self._optimizers) == 1 else self._optimizers

    def _uncapturable(self) -> str | None:
        """Why the step cannot be captured, as far as that is known before one is made."""
        others = {type(one).__name__ for one in self._optimizers if not isinstance(one, CAPTURABLE)}
        others |= {type(one).__name__ for one in self._optimizers if not one.defaults.get("fused")}
        if others:
            return f"{' and '.join(sorted(others))} counts its steps on the host"
        return None if self.accumulate == 1 else "the gradients of several batches make one step"

    def on_train_epoch_start(self) -> None:
        for rules, optimizer in zip(self._rules.values(), self._built(), strict=True):
            if rules.scheduler is not None:
                group, options = optimizer.param_groups[0], rules.options(self.current_epoch)
                if self.captured is not None and any(
                    group.get(name, value) != value for name, value in options.items()
                ):
                    self.captured.forget()
                group.update(options)

    def _built(self) -> list[Optimizer]:
        """The optimisers, by a trainer's wrappers where there is one."""
        if self._trainer is None:
            return self._optimizers
        optimizers = cast("list[Optimizer] | Optimizer", self.optimizers())
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def gauge_every(self, steps: int) -> Gauge:
        """The gauge that takes a point at every so many steps from now on."""
        self.gauge = Gauge(steps)
        return self.gauge

    # The loop -------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Sequence[Any], index: int) -> None:
        """Trains on a batch (x, y), or on each batch of a block, which saves Lightning's overhead per call.

        The optimisers step after every `accumulate` batches, and at the end of the block.
        """
        block = batches(batch)
        for index, (x, y) in enumerate(block, 1):
            step = self.learn(x, y, index % self.accumulate == 0 or index == len(block))
        if self.trainer.loggers and self.trainer._logger_connector.should_update_logs:
            self.log_dict({f"{STEP}{name}": value.detach() for name, value in step.logs.items()}, batch_size=len(x))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs the means over an epoch's images with its last batch."""
        trainer = self.trainer
        if trainer.is_last_batch or trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step:
            images = self.means.images
            for name, mean in self.means.take().items():
                self._log_mean(f"{TRAIN}{name}", mean, images)

    def learn(self, x: Tensor, y: Tensor | None, last: bool = True) -> Step:
        """Learns from one batch: the whole of a training step, with a trainer or without one.

        Without one, `configure_optimizers` comes first.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            last: whether the optimisers step.
        """
        t = torch.full((), float(self.steps), device=x.device)  # by a kernel; `torch.tensor` would copy, and wait
        if self.gauge is not None:
            self.gauge.images += len(x)
        if self.captured is None:
            step, losses = self._one(x, y, t, last)
        elif self.gauge is not None and self.gauge.due(self.steps):
            step, losses = self.captured.alone(self._one, x, y, t, last)
        else:
            kind = tuple(self._decided().items())
            step, losses = self.captured(self._one, x, y, t, last, kind=kind)
        if self.watch is not None:
            for name, loss in losses.items():
                self.watch.take(self.steps, name, loss)
        self.means.add(step.logs, len(x))
        self.steps += 1
        return step

    def _one(self, x: Tensor, y: Tensor | None, t: Tensor, last: bool) -> tuple[Step, dict[str, Tensor]]:
        """Steps once, which can be captured as a CUDA graph; returns the losses of the groups that learnt as well."""
        step = self.step(x, y, t)
        with _capturable(self._optimizers if self.captured is not None and self.captured.recording else ()):
            return step, self._learn(step, t, len(x), last)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps"] = self.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps = checkpoint["steps"]

    def _learn(self, step: Step, t: Tensor, images: int = 1, last: bool = True) -> dict[str, Tensor]:
        """Differentiates each loss with respect to its own group only, steps the active groups, writes the state.

        Returns the losses of the active groups.

        Args:
            step: of a batch.
            t: its number.
            images: in the batch; they weigh its gradients where several batches make one step of the optimisers.
            last: whether the optimisers step.
        """
        active = self._active(t, step.state)
        learnt = [name for name in self._members if active.get(name, True)]
        losses = {name: step.losses[name] if self.accumulate == 1 else step.losses[name] * images for name in learnt}
        for name, loss in losses.items():  # all before the first step, which changes the parameters
            loss.backward(inputs=self._members[name], retain_graph=len(self._members) > 1)
            self._images[name] = self._images.get(name, 0) + images
        if last:
            self._move()
        for name, value in zip(step.state, self._averaged([*step.state.values()]), strict=True):
            self.get_buffer(name).copy_(value.detach())
        return losses

    def _active(self, t: Tensor, state: Mapping[str, Tensor]) -> dict[str, bool]:
        """`active` as decisions; of a GPU's model from copies of its settings, unless the steps change these."""
        if self._settings and self._settings.keys().isdisjoint(state):
            return self._decided()
        return _read(self.active(t))

    def _decided(self) -> dict[str, bool]:
        """`active` of a GPU's model as decisions, from copies of its settings."""
        if not self._turns:
            return {}
        here = {f"learner.{name}": value for name, value in self._settings.items()}
        return _read(functional_call(_Active(self), here, (torch.tensor(float(self.steps)),)))

    def _move(self) -> None:
        """Steps the optimisers of the groups that have gradients, and clears these."""
        built = zip(self._members.items(), self._built(), self._optimizers, strict=True)
        for (name, members), optimizer, own in built:
            if name not in self._images:
                continue
            gradients = [p.grad for p in members if p.grad is not None]
            if self.accumulate > 1:
                torch._foreach_div_(gradients, float(self._images[name]))  # sums over images are means now
            if self._several:  # DDP does not average gradients in manual optimisation
                torch._foreach_copy_(gradients, self._averaged(gradients))
            if self.gauge is not None and self.gauge.due(self.steps):
                only = len(self._members) == 1
                self.gauge.take(self.steps, "" if only else name, optimizer.param_groups[0]["lr"], gradients)
            rules = self._rules[name]
            skips = rules.skip is not None and self._skips(members, rules.skip, own)
            if rules.clip is not None:
                nn.utils.clip_grad_norm_(members, rules.clip)
            if not skips:
                optimizer.step()
            optimizer.zero_grad()
        self._images.clear()

    def _skips(self, members: list[nn.Parameter], limit: float, optimizer: Optimizer) -> bool:
        """Whether a gradient's norm exceeds the limit, so that the step is skipped; the buffer `skipped` counts it.

        A fused optimiser is told so by a tensor, which no host reads, and skips the step itself.
        """
        norm = nn.utils.get_total_norm([p.grad for p in members if p.grad is not None])
        exceeds = ~(norm <= limit)  # also for NaN
        self.get_buffer("skipped").add_(exceeds)
        if optimizer.defaults.get("fused"):
            cast(Any, optimizer).found_inf = exceeds.float()
            return False
        return bool(exceeds)

    def pooled(self, figure: Tensor) -> Tensor:
        """A figure's mean over all processes, without its gradient: what a `step` decides by must be one for all."""
        return self._averaged([figure.detach()])[0]

    def of_first(self, figure: Tensor) -> Tensor:
        """The figure of the first process, without its gradient, in all of them: what was drawn must be one for all."""
        if not self._several:
            return figure.detach()
        own = figure if self.trainer.is_global_zero else torch.zeros_like(figure)
        return self.pooled(own) * self.trainer.world_size

    @property
    def _several(self) -> bool:
        """Whether several processes train."""
        return self._trainer is not None and self.trainer.world_size > 1

    def _averaged(self, tensors: list[Tensor]) -> list[Tensor]:
        """The means of tensors over all processes, exchanged in buckets."""
        if not self._several:
            return tensors
        means: list[Tensor] = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().flatten() for tensor in bucket])
            flat = cast(Tensor, self.trainer.strategy.reduce(flat, reduce_op="mean"))
            parts = flat.split([tensor.numel() for tensor in bucket])
            means += [part.view(tensor.shape) for part, tensor in zip(parts, bucket, strict=True)]
        return means

    def validation_step(self, batch: tuple[Tensor, Tensor | None], index: int) -> None:
        """Logs `held_out` under fixed noise."""
        x, y = batch
        metrics = self.held_out(x, y, torch.full((), self.final, device=x.device), self.VALIDATION_SEED + index)
        for name, mean in metrics.items():
            self._log_mean(name, mean, len(x))

    def _log_mean(self, name: str, mean: Tensor, images: int) -> None:
        """Logs a mean over some of an epoch's images; Lightning computes and resets the metric, over all processes."""
        metric = self.logged.get(name)
        if metric is None or metric.device != mean.device:
            metric = self.logged[name] = ImageMean().to(mean.device)
        metric.update(mean, images)
        self.log(name, metric, on_step=False, on_epoch=True, batch_size=images, metric_attribute=f"logged.{name}")


def _read(active: Mapping[str, Tensor]) -> dict[str, bool]:
    """Decisions from 0-dim booleans."""
    return dict(zip(active, torch.stack([*active.values()]).tolist(), strict=True)) if active else {}


@contextmanager
def _capturable(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Within a capture, optimisers of which torch asks it say that they can be captured, as fused ones can."""
    asked = [group for one in optimizers for group in one.param_groups if "capturable" in group]
    for group in asked:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in asked:
            group["capturable"] = False


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one type, of `BUCKET` bytes or one tensor each."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


class _Active(nn.Module):
    """A learner whose call says which groups are active."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, t: Tensor) -> dict[str, Tensor]:
        return self.learner.active(t)
