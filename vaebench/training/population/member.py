"""One run of a population: its model, its noise and its history."""

from __future__ import annotations

import math
from copy import copy, deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from vaebench.core import Family
from vaebench.core.divergence import DivergenceWatch
from vaebench.curves import BOUND, LOG_X, TRAIN, VAL
from vaebench.errors import Diverged
from vaebench.training.checkpoint import require_loadable, write_checkpoint, write_config
from vaebench.training.experiment import Experiment
from vaebench.training.history import TrainingHistory
from vaebench.training.population.adam import require_adam
from vaebench.training.saves import Saves, require_alike
from vaebench.training.trainer import require_population_options

PRECISIONS = {None: torch.float32, "32-true": torch.float32, "32": torch.float32, 32: torch.float32,
              "64-true": torch.float64, "64": torch.float64, 64: torch.float64}  # fmt: skip
_LIGHTNINGS = set(vars(LightningModule()))


class Member:
    """One run, which starts as under `vaebench fit`, or resumes from its last save.

    Args:
        job: the parsed run.
        work: its folder, to which `export` writes model.ckpt and config.yaml.
        device: of the training.
        order: seed of the order of images; None uses the run's.

    Attributes:
        model: the family with its current weights; during training its tensors are rows of its lane's.
        data: its data module.
        source: identifies the data.
        structure: identifies the members that can train as one.
        rules: of its parameter groups.
        history: curves, weights and time so far.
        epoch: epochs trained.
        diverged: why it diverged; None where it has not.
        budget: length of the training.

    Raises:
        UserError: an option of the trainer or of an optimiser that populations do not support.
    """

    def __init__(self, job: Experiment, work: Path, device: torch.device, order: int | None = None) -> None:
        self.job, self.work = job, work
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        require_population_options(job.options, device.type)
        dtype = PRECISIONS[job.options["precision"]]
        self.model, self.data = job.build()
        require_loadable(self.model)
        self.budget = job.budget(self.data)
        self.generator = torch.Generator(device)
        if device.type == "cpu":
            self.generator.set_state(torch.get_rng_state())  # left by the construction of the model
        else:
            self.generator.manual_seed(job.seed)
        self.model.to(device, dtype)
        self.order = job.seed if order is None else order
        self.epoch, self.history = 0, TrainingHistory()
        self.moments = {f"{moment}.{name}": torch.zeros_like(p) for name, p in self.model.named_parameters()
                        for moment in ("mean", "square")}  # fmt: skip
        self.taken = {group: torch.zeros((), device=device) for group in self.model.groups()}
        self.rules = self.model.rules()
        require_adam(self.rules)
        self.stopping, self._watch = job.stopping(), DivergenceWatch()
        self.diverged: Diverged | None = None
        self.source = repr((job.plain["data"], self.data.hashes))
        self.structure = structure(self.source, self.model)
        self.saves = Saves(work, job.identity(self.data))
        if newest := self.saves.newest(self._require):
            self._load(torch.load(newest, weights_only=True, map_location="cpu"))
        self.history.note_load()

    @property
    def done(self) -> bool:
        """Whether it has trained for all of its epochs or stopped early."""
        early = self.history.stopped and self.epoch >= self.budget.least
        return (
            self.diverged is not None or early or (self.budget.epochs is not None and self.epoch >= self.budget.epochs)
        )

    @property
    def length(self) -> int:
        """Batches of its next epoch."""
        return self.budget.length(self.epoch)

    @property
    def fraction(self) -> float:
        """The fraction of training that is done."""
        return 1.0 if self.done or not self.budget.total else self.model.steps / self.budget.total

    @property
    def bound(self) -> float:
        """The held-out β = 1 bound at the last validation, nats per image; log p(x|z) where there is no bound."""
        latest = self.history.latest()
        return latest.get(BOUND, latest.get(LOG_X, -math.inf))

    def ended(self, trained: dict[str, float], held_out: dict[str, float], seconds: float, images: int) -> None:
        """Records an epoch, and applies early stopping.

        Args:
            trained: means of the logs of its steps.
            held_out: validation metrics.
            seconds: the member's share of its lane's time.
            images: in the epoch.
        """
        self.epoch += 1
        self.history.seconds, self.history.images = self.history.seconds + seconds, self.history.images + images
        self.history.note_load()
        self.history.validated(self.model, held_out)
        self.history.note(self.model.steps, trained)
        for kind, metrics in ((VAL, held_out), (TRAIN, trained)):
            self.history.stopped |= self.stopping.stops(self.model, metrics, kind)

    def see(self, step: int, group: str, wrong: bool) -> None:
        """Counts a group's non-finite losses; the run has diverged after too many consecutive ones."""
        try:
            self._watch.see(step, group, wrong)
        except Diverged as error:
            self.diverged = self.diverged or error

    def save(self) -> None:
        """Saves the state from which it can resume exactly."""
        state = {
            "model": self.model.state_dict(),
            "steps": self.model.steps,
            "moments": self.moments,
            "taken": self.taken,
            "noise": self.generator.get_state(),
            "epoch": self.epoch,
            "kept": vars(self.history),
            "stopping": self.stopping.state_dict(),
            "started": self.started,
        }
        self.saves.save(_copied(state))

    def _require(self, state: dict[str, Any]) -> None:
        """Refuses a save that does not fit this member, without restoring anything."""
        own = (self.model.state_dict(), "model"), (self.moments, "moments"), (self.taken, "taken")
        for tensors, name in own:
            require_alike(state[name], tensors)
        TrainingHistory(**state["kept"])
        if len(state["stopping"]) != len(self.stopping.stoppers):
            raise ValueError("other callbacks")

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.model.steps, self.epoch = state["steps"], state["epoch"]
        for own, saved in ((self.moments, state["moments"]), (self.taken, state["taken"])):
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        self.generator.set_state(state["noise"])
        self.history, self.started = TrainingHistory(**state["kept"]), state["started"]
        self.stopping.load_state_dict(state["stopping"])

    def twin(self) -> Member:
        """A copy with its own tensors and noise, for timing."""
        twin = copy(self)
        twin.model, twin.moments, twin.taken = deepcopy(self.model), _copied(self.moments), _copied(self.taken)
        twin.generator = torch.Generator(self.generator.device)
        twin.generator.set_state(self.generator.get_state())
        return twin

    def leave(self) -> None:
        """Copies its tensors out of the lane, which can then be freed."""
        for tensor in (*self.model.parameters(), *self.model.buffers(), *self.moments.values(), *self.taken.values()):
            tensor.data = tensor.data.clone()

    def export(self) -> Path:
        """Writes `work/model.ckpt`, an ordinary checkpoint of the selected weights, and returns its path.

        Raises:
            Diverged: its weights are not finite.
        """
        if self.diverged is not None:
            raise self.diverged
        write_config(self.job, self.work)
        checkpoint = write_checkpoint(self.job, self.work, self.model, self.data, self.history, self.started)
        self.saves.remove()
        return checkpoint


def _copied(state: Any) -> Any:
    """Copies of rows of a lane, since saving a view would save all of its storage."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return state.detach().clone() if isinstance(state, Tensor) else state


def structure(source: str, model: Family) -> str:
    """Identifies data, code, constants and shapes, which members must share to train as one; buffers may differ."""
    parts = [source]
    for name, module in model.named_modules():
        parts.append(f"{name}: {type(module).__module__}.{type(module).__qualname__} {_constants(module)}")
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return "\n".join([*parts, *(f"{name}: {tuple(t.shape)} {t.dtype}" for name, t in tensors)])


def _constants(module: nn.Module) -> str:
    own = {
        key: value for key, value in vars(module).items() if key not in _LIGHTNINGS and not key.startswith("_hparams")
    }
    return repr(
        {key: value for key, value in sorted(own.items()) if key not in ("steps", "means", "clip", "keep", "recipe")}
    )
