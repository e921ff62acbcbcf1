"""The laws that a family has to fulfil, tried on one of a user's own with small images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench import evaluation
from vaebench.core import Family, Step, fixed_noise
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.running import laws
from vaebench.running.fit import fit
from vaebench.training.checkpoint import require_loadable
from vaebench.training.models import build, load

BATCH, LIMIT, K = 16, 8, 10  # images of a step, images and samples of an evaluation
TOLERANCE = 1e-3  # of a central difference, relative; a kink of a ReLU may lie in between
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Law(NamedTuple):
    """A law and what came of it.

    Attributes:
        says: what should hold.
        fault: why it does not; '' where it does.
    """

    says: str
    fault: str


def check_family(name: str, data: ImageData, data_name: str) -> Iterator[Law]:
    """Tries a family on a data set; what needs something that fails is not tried.

    Args:
        name: of the family, or its class path.
        data: the images.
        data_name: their name for `vaebench fit`.

    Raises:
        UserError: there is no such family, or it cannot be built.
    """
    with fixed_noise(0):
        model = build(name, data)
    yield _tried("its settings have types, so that a checkpoint can be built again", lambda: require_loadable(model))
    steps: list[Step] = []

    def step() -> None:
        steps.append(_step(model, data))
        _require_losses(model, steps[0])

    yield (law := _tried("a step gives a finite loss for each of its groups", step))
    if law.fault:
        return
    yield _tried("every parameter learns from the loss of its own group", lambda: _require_gradients(model, steps[0]))
    yield _tried("a step changes no weight and no buffer by itself", lambda: _require_pure(model, data))
    yield _tried("the same noise gives the same losses", lambda: _require_same(model, data))
    yield _tried("a step reads no number and moves no tensor between devices", lambda: _require_anywhere(model, data))
    yield _tried("members of a population lose what each loses alone", lambda: _require_members(name, data))
    if model.EXACT_GRADIENT:
        yield _tried("its gradient is the derivative of its loss", lambda: _require_derivative(model, data))
    with TemporaryDirectory() as folder:
        made: list[Path] = []

        def train() -> None:
            args = [f"--model={name}", f"--data={data_name}", "--trainer.max_steps=2"]
            made.append(fit(args, Path(folder), progress=False).checkpoint)

        yield (law := _tried("it trains, and its checkpoint is written", train))
        if not law.fault:
            yield _tried("its checkpoint is loaded and evaluated", lambda: _require_evaluated(made[0], data))


def _tried(says: str, try_it: Callable[[], None]) -> Law:
    try:
        with fixed_noise(0):
            try_it()
    except FAILURES as error:
        return Law(says, " ".join(str(error).split())[:300] or type(error).__name__)
    return Law(says, "")


def _batch(data: ImageData) -> tuple[Tensor, Tensor | None]:
    labels = data.labels("train")
    return data.first("train", BATCH), None if labels is None else labels[:BATCH]


def _step(model: Family, data: ImageData) -> Step:
    return model.train().step(*_batch(data), torch.zeros(()))


def _require_losses(model: Family, step: Step) -> None:
    if set(step.losses) != set(model.groups()):
        raise UserError(f"its losses are {', '.join(step.losses)}, and its groups {', '.join(model.groups())}")
    for name, loss in step.losses.items():
        if loss.dim() or not bool(torch.isfinite(loss)):
            raise UserError(
                f"the loss '{name}' has the shape {tuple(loss.shape)} or is not finite: expected one number"
            )


def _require_gradients(model: Family, step: Step) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group, loss in step.losses.items():
        members = model.members(group)
        found = torch.autograd.grad(loss, members, retain_graph=True, allow_unused=True)
        if idle := [names[id(one)] for one, slope in zip(members, found, strict=True) if slope is None]:
            raise UserError(f"the loss '{group}' does not depend on {', '.join(idle[:5])}")


def _require_pure(model: Family, data: ImageData) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _step(model, data)
    if changed := [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]:
        raise UserError(f"it changes {', '.join(changed[:5])}: return new values of buffers in Step.state")


def _require_same(model: Family, data: ImageData) -> None:
    losses = []
    for _ in range(2):
        with fixed_noise(1):
            losses.append(torch.stack([loss.detach() for loss in _step(model, data).losses.values()]))
    if not torch.equal(*losses):
        raise UserError(f"they are {losses[0].tolist()} and then {losses[1].tolist()}: draw noise through torch alone")


def _require_anywhere(model: Family, data: ImageData) -> None:
    try:
        laws.step_elsewhere(model, *_batch(data))
    except RuntimeError as error:
        raise UserError(
            f"{str(error).strip().splitlines()[0]}: keep constants in buffers, and decide nothing by a tensor's value"
        ) from error


def _require_members(name: str, data: ImageData) -> None:
    members = [build(name, data).double().train() for _ in range(2)]
    x, y = _batch(data)
    x, t = x.double(), torch.zeros((), dtype=torch.float64)
    found = laws.together(members, x, y, t, seed=7)
    for number, member in enumerate(members):
        for group, loss in laws.losses(member, x, y, t, seed=7).items():
            if not torch.isclose(found[group][number], loss, rtol=1e-6, atol=1e-6):
                raise UserError(
                    f"the loss '{group}' is {float(found[group][number]):.8g} under vmap and {float(loss):.8g} alone: "
                    "sample through vaebench.distributions, and average over images alone"
                )


def _require_derivative(model: Family, data: ImageData) -> None:
    exact = deepcopy(model).double().train()
    x, y = _batch(data)
    for group in exact.groups():
        direction = {name: torch.randn_like(one) for name, one in laws.derived(exact, group).items()}
        slope, difference = laws.slopes(exact, group, direction, x.double(), y, seed=5)
        if abs(slope - difference) > TOLERANCE * max(abs(slope), abs(difference), 1e-6):
            raise UserError(
                f"along a direction the loss '{group}' changes by {difference:.6g}, and its gradient says {slope:.6g}: "
                "expected equal ones; set EXACT_GRADIENT to False where an estimator is meant, or name what goes "
                "straight through in STRAIGHT_THROUGH"
            )


def _require_evaluated(checkpoint: Path, data: ImageData) -> None:
    report = evaluation.evaluate(load(checkpoint), data, "quick", k=K, limit=LIMIT, progress=False)
    bounds = [report.metrics[name] for name in ("log_likelihood", "distortion")]
    if all(metric.value is None for metric in bounds):
        raise UserError(f"neither its log-likelihood nor its distortion is measured: {bounds[0].unavailable}")
