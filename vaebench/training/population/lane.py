"""Members that step together: their tensors are stacked, and each member has views of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from vaebench.core import Family
from vaebench.core.captured import Captured
from vaebench.core.compiled import Compiled
from vaebench.core.divergence import EVERY
from vaebench.core.means import Means
from vaebench.curves import TRAIN
from vaebench.data._batches import Batch, Batches, TrainingBatches
from vaebench.errors import Unavailable, UserError, require_kernels
from vaebench.training.population.adam import Adam, clip
from vaebench.training.population.member import Member
from vaebench.training.population.noise import NoiseReplay, Request, drawn, requested
from vaebench.training.population.skeleton import Skeleton

Logs = dict[str, Tensor]


class _StepResults(NamedTuple):
    """Results of a step of n members, (n, …) each.

    Attributes:
        losses: of each group.
        gradients: of a group's parameters, in their order.
        logs: what they log.
        state: new values of buffers.
        active: members for which a group is active, where not all.
    """

    losses: Logs
    gradients: dict[str, list[Tensor]]
    logs: Logs
    state: Logs
    active: Logs


class Lane:
    """Members of one structure, stacked.

    Args:
        members: at least one; their models' tensors become rows of the lane's.
        compiled: compiles its steps, shared by lanes of equal size and structure; None does not compile.
        capture: repeats its steps as a CUDA graph.

    Attributes:
        parameters, buffers: (n, *shape) each, by name.
        length, validation: batches of the members' next epoch, and of a validation.
    """

    def __init__(self, members: Sequence[Member], compiled: Compiled | None = None, capture: bool = False) -> None:
        self.members, self.compiled = list(members), compiled
        self.length, self.validation = members[0].length, members[0].budget.validation
        model = members[0].model
        self.device, self.dtype = model.lr.device, model.lr.dtype
        what = f"the step of {len(members)} runs of {type(model).__name__}"
        self.captured = Captured(what, self.device) if capture else None
        self.parameters = {name: _stack([m.model.get_parameter(name) for m in members])
                           for name, _ in model.named_parameters()}  # fmt: skip
        self.buffers = {name: _stack([m.model.get_buffer(name) for m in members]) for name, _ in model.named_buffers()}
        self._tensors = [*self.parameters.values(), *self.buffers.values()]
        self._skeleton = Skeleton(model, [*self.parameters, *self.buffers])
        self._skeleton.model.train()
        named = {group: [name for name in self.parameters if name.startswith(prefixes)]
                 for group, prefixes in model.groups().items()}  # fmt: skip
        self.groups = {group: names for group, names in named.items() if names}
        self.adam = {group: self._adam(group) for group in self.groups}
        rules = {group: [member.rules[group] for member in members] for group in self.groups}
        self.clip = {group: self._limits([own.clip for own in each]) for group, each in rules.items()}
        self.skip = {group: self._limits([own.skip for own in each]) for group, each in rules.items()}
        self.scheduled = [group for group, each in rules.items() if any(own.scheduler for own in each)]
        self.t = torch.tensor([float(m.model.steps) for m in members], dtype=self.dtype, device=self.device)
        self.generators = [member.generator for member in members]
        self._requests: dict[tuple[int, ...], list[Request]] = {}
        self._count = 0  # steps of the epoch
        self._bad: list[tuple[int, str, Tensor]] = []  # members with non-finite losses since the last check

    def _limits(self, norms: Sequence[float | None]) -> Tensor | None:
        """Limits of the members' gradients, (n,); None where no member has one."""
        if all(norm is None for norm in norms):
            return None
        limits = [torch.inf if norm is None else norm for norm in norms]
        return torch.tensor(limits, dtype=self.dtype, device=self.device)

    def _options(self, group: str) -> list[dict[str, Any]]:
        """Options of every member's optimiser in its next epoch."""
        return [member.rules[group].options(member.epoch) for member in self.members]

    def _adam(self, group: str) -> Adam:
        names = self.groups[group]
        means, squares = ([_stack([m.moments[f"{moment}.{name}"] for m in self.members]) for name in names]
                          for moment in ("mean", "square"))  # fmt: skip
        taken = _stack([m.taken[group] for m in self.members])
        return Adam([self.parameters[name] for name in names], means, squares, taken, self._options(group))

    # One step -----------------------------------------------------------------------------------------------------

    def step(self, x: Tensor, y: Tensor | None) -> Logs:
        """One optimiser step of every member, as in `Learner._learn`; returns their logs, (n,) each.

        Args:
            x: images, (n, b, *data), or (1, b, *data) for all members.
            y: labels, (n, b) or (1, b), or None.
        """
        x = x.to(self.dtype)
        noise = drawn(self.requests(x, y), self.generators)  # outside of a graph, which would fill in each seed apart
        if self.captured is None:
            logs, bad = self._one(x, y, noise)
        else:
            logs, bad = self.captured(self._one, x, y, noise)
        self._bad += [(self._count, group, wrong.clone()) for group, wrong in bad.items()]
        self._count += 1
        return logs

    @torch.no_grad()
    def _one(self, x: Tensor, y: Tensor | None, noise: tuple[Tensor, ...]) -> tuple[Logs, Logs]:
        """Steps once, which can be captured as a CUDA graph; returns logs, and by group whose losses are not finite."""
        arguments = self._tensors, x, y, self.t, noise
        results = self._compute(*arguments) if self.compiled is None else self.compiled(self._compute, *arguments)
        for group, gradients in results.gradients.items():
            mask = self._taken(gradients, results.active.get(group), self.skip[group])
            if (largest := self.clip[group]) is not None:
                clip(gradients, largest)
            self.adam[group].step(gradients, mask)
        for name, value in results.state.items():
            self.buffers[name].copy_(value)
        self.t += 1
        bad = {group: ~results.losses[group].isfinite() for group in results.gradients}
        return results.logs, {group: wrong & results.active[group] if group in results.active else wrong
                              for group, wrong in bad.items()}  # fmt: skip

    def _taken(self, gradients: list[Tensor], mask: Tensor | None, skip: Tensor | None) -> Tensor | None:
        """Which members step: active ones whose gradient `Learner._skips` would not skip."""
        if skip is None:
            return mask
        norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        fits, learns = norms <= skip, torch.ones_like(norms, dtype=torch.bool) if mask is None else mask
        self.buffers["skipped"] += (learns & ~fits).to(self.buffers["skipped"].dtype)
        return learns & fits

    @torch.enable_grad()
    def _compute(
        self, tensors: Sequence[Tensor], x: Tensor, y: Tensor | None, t: Tensor, noise: tuple[Tensor, ...]
    ) -> _StepResults:
        """Results of a step, as a pure function of the members' tensors.

        A group that is inactive for all members has no gradients, except in a compiled step, whose graph is fixed, and
        on a GPU, which would wait for the decision.
        """

        def one(tensors: list[Tensor], x: Tensor, y: Tensor | None, t: Tensor, noise: tuple[Tensor, ...]) -> Any:
            model = self._skeleton.of(tensors)
            with NoiseReplay(noise):
                step = model.step(x, y, t)
            logs, new = ({name: value.detach() for name, value in d.items()} for d in (step.logs, step.state))
            return dict(step.losses), logs, new, model.active(t)

        common = len(x) == 1 < len(self.members)
        if common:
            x, y = x[0], None if y is None else y[0]
        axis = None if common else 0
        in_dims = (0, axis, None if y is None else axis, 0, 0)
        own = dict(zip(self.parameters, (p.detach().requires_grad_() for p in tensors), strict=False))
        given = [*own.values(), *tensors[len(own) :]]
        losses, logs, state, active = vmap(one, in_dims, randomness="error")(given, x, y, t, noise)
        gradients, fixed = {}, self.compiled is not None or self.device.type != "cpu"
        for group, names in self.groups.items():
            if fixed or group not in active or bool(active[group].any()):
                inputs, more = [own[name] for name in names], len(self.groups) > 1
                gradients[group] = list(torch.autograd.grad(losses[group].sum(), inputs, retain_graph=more))
        return _StepResults({name: loss.detach() for name, loss in losses.items()}, gradients, logs, state, active)

    def requests(self, x: Tensor, y: Tensor | None) -> list[Request]:
        """The noise that a step of one member draws for such a batch.

        Raises:
            UserError: the family's step does not work under vmap.
        """
        if x.shape[1:] not in self._requests:
            model = self._skeleton.of([tensor[0] for tensor in self._tensors])
            self._requests[x.shape[1:]] = requested(lambda: model.step(x[0], None if y is None else y[0], self.t[0]))
        return self._requests[x.shape[1:]]

    @torch.no_grad()
    def compile(self, training: TrainingBatches) -> None:
        """Compiles the step before lanes run concurrently, by computing one without applying it."""
        assert self.compiled is not None
        x, y = next(iter(self.batches(training)))
        x, n = x.to(self.dtype), len(self.members)
        noise = tuple(torch.full((n, *shape), 0.5, dtype=dtype, device=self.device)
                      for _, shape, dtype in self.requests(x, y))  # fmt: skip
        self.compiled(self._compute, self._tensors, x, y, self.t, noise)

    # One epoch ----------------------------------------------------------------------------------------------------

    def batches(self, training: TrainingBatches) -> Iterator[Batch]:
        """The batches of the members' next epoch: x (n, b, *data), or (1, b, *data) where they are shared."""
        streams = [(member.order, member.epoch) for member in self.members]
        return islice(training.side_by_side(streams[:1] if len(set(streams)) == 1 else streams), self.length)

    def train(self, training: TrainingBatches) -> Logs:
        """Trains every member for an epoch in its own order; returns the means of their logs, (n,) each."""
        self._count, means = 0, Means()
        for group in self.scheduled:
            self.adam[group].set(self._options(group))
        for x, y in self.batches(training):
            means.add(self.step(x, y), x.shape[1])
            if self._count % EVERY == 0:
                self._look()
        self._look()
        for member in self.members:
            member.model.steps += self.length
        return {f"{TRAIN}{name}": value for name, value in means.take().items()}

    def _look(self) -> None:
        """Reports non-finite losses since the last check to the members."""
        if self._bad:
            for (step, group, _), row in zip(self._bad, torch.stack([b for *_, b in self._bad]).tolist(), strict=True):
                for member, wrong in zip(self.members, row, strict=True):
                    member.see(member.model.steps + step, group, wrong)
            self._bad.clear()

    def each(self, metrics: Logs) -> list[dict[str, float]]:
        """Metrics (n,) by member."""
        columns = {name: value.expand(len(self.members)).tolist() for name, value in metrics.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(self.members))]

    @torch.no_grad()
    def validate(self, batches: Batches) -> Logs:
        """`Learner.validation_step` for every member, with the same fixed noise: the means over all images, (n,).

        It sets torch's random state for all threads, so lanes must validate in turn.
        """

        def one(tensors: list[Tensor], x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> Logs:
            return self._skeleton.of(tensors).held_out(x, y, t, seed)

        if not self.validation:
            return {}
        t = torch.tensor([member.model.final for member in self.members], dtype=self.dtype, device=self.device)
        self._skeleton.model.eval()
        means, axes = Means(), (0, None, None, 0, None)
        for index, (x, y) in enumerate(islice(batches, self.validation)):
            arguments = self._tensors, x.to(self.dtype), y, t, Family.VALIDATION_SEED + index
            means.add(vmap(one, axes, randomness="same")(*arguments), len(x))
        self._skeleton.model.train()
        return means.take()


def require_stackable(member: Member, training: TrainingBatches) -> None:
    """Refuses a member whose family cannot train in a population; leaves it unchanged.

    Raises:
        UserError: its step does not work under vmap.
    """
    x, y = next(training.side_by_side([(member.order, 0)]))
    try:
        trial = Lane([member.twin(), member.twin()])
        with require_kernels():
            trial.step(x[:, :4], None if y is None else y[:, :4])
    except UserError:
        raise
    except (RuntimeError, Unavailable, TypeError, ValueError, StopIteration) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UserError(
            f"{type(member.model).__name__} cannot train as part of a population ({reason}); train it by itself, with "
            "`vaebench fit` or a sweep's local engine"
        ) from error


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor (n, *shape); the given tensors become views of its rows."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, row in zip(tensors, stacked.unbind(0), strict=True):
        tensor.data = row
    return stacked
