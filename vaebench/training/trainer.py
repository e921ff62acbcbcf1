"""Translation of Lightning's Trainer options, which `configuration.options` lists.

Lightning counts optimiser steps and calls of `training_step`, which here cover several batches. So options that limit
training become a `TrainingBudget`, in training batches, and Lightning only counts epochs.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning import Trainer

from vaebench.configuration.options import COUNTED, REFUSED
from vaebench.errors import UserError

EPOCHS = 100  # default length of a run, the common budget of benchmarks

POPULATION = COUNTED - {"accumulate_grad_batches"} | {
    "accelerator", "devices", "precision", "num_sanity_val_steps", "callbacks", "default_root_dir",
    "enable_model_summary", "log_every_n_steps",
}  # fmt: skip
"""Options that populations support, which have one device and validate after every epoch."""

PRECISIONS = (None, 32, "32", "32-true", 64, "64", "64-true", "bf16", "bf16-mixed", "bf16-true")
STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
STRATEGY_CLASSES = ("DDPStrategy", "SingleDeviceStrategy")
LAUNCHED = ("LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_NTASKS")  # set by launchers of one process per device

DEFAULTS = {p.name: p.default for p in list(inspect.signature(Trainer.__init__).parameters.values())[1:]}
ONE_DEVICE = (1, "1", "auto", None)  # values of `devices` that are one, where a process sees one


class LimitedTrainer(Trainer):
    """Lightning's Trainer with limits that stay whole numbers where whole numbers are given.

    1 means one batch, and 1.0 all. Lightning's annotations are ambiguous: `typing` treats Union[int, float] and
    Union[float, int] as one type, in the order of its first use in the process, and the parser tries the first.
    """

    def __init__(
        self,
        *,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            overfit_batches=overfit_batches,
            **options,
        )


@dataclass(frozen=True)
class TrainingBudget:
    """Length of a training, in training batches of every process.

    Attributes:
        batches: per epoch.
        epochs: maximum; None where only time or early stopping ends training.
        steps: maximum number of batches, which may end inside an epoch; None where only `epochs` limits it.
        least: epochs before early stopping may end it.
        accumulate: batches whose gradients are averaged for one step of the optimisers.
        validation: batches of a validation; 0: none.
    """

    batches: int
    epochs: int | None
    steps: int | None = None
    least: int = 0
    accumulate: int = 1
    validation: int = 0

    def length(self, epoch: int) -> int:
        """Batches of an epoch, counted from 0; the last one may be shorter."""
        left = self.batches if self.steps is None else self.steps - epoch * self.batches
        return max(0, min(self.batches, left))

    @property
    def total(self) -> int | None:
        """Batches of the whole run without early stopping; None where unknown."""
        whole = None if self.epochs is None else self.epochs * self.batches
        return self.steps if whole is None else whole if self.steps is None else min(whole, self.steps)


def with_epochs(trainer: Mapping[str, Any]) -> int:
    """`max_epochs`, by default `EPOCHS`, or no limit (−1) where another one is given."""
    given = trainer["max_epochs"]
    limited = trainer["max_steps"] != -1 or trainer["max_time"] is not None
    return given if given is not None else -1 if limited else EPOCHS


def require_options(trainer: Mapping[str, Any]) -> None:
    """Refuses unsupported options before anything is read or built.

    Args:
        trainer: all of the Trainer's options as plain values, by name.

    Raises:
        UserError: there is one.
    """
    for name, (neutral, why) in REFUSED.items():
        if (value := trainer.get(name, DEFAULTS[name])) not in neutral:
            raise UserError(f"trainer.{name} {value!r} is not taken: {why}")
    for name, (least, open_) in {"max_epochs": (1, -1), "max_steps": (1, -1), "min_epochs": (0, None),
                                 "min_steps": (0, None), "accumulate_grad_batches": (1, None),
                                 "fast_dev_run": (0, None)}.items():  # fmt: skip
        value = trainer.get(name, DEFAULTS[name])
        if value is not None and value != open_ and not value >= least:
            raise UserError(f"trainer.{name} is {value}: expected at least {least}; raise it")
    for name, lowest in (("limit_train_batches", "more than 0"), ("limit_val_batches", "at least 0")):
        value = trainer.get(name)
        if value is not None and (value < 0 or (value == 0 and name == "limit_train_batches") or
                                  (isinstance(value, float) and value > 1)):  # fmt: skip
            raise UserError(
                f"trainer.{name} is {value}: expected a number of batches or a share of them, {lowest} and as a share "
                "at most 1.0; mend it"
            )
    every = trainer.get("check_val_every_n_epoch", 1)
    if every is None or every < 1:
        raise UserError(
            f"trainer.check_val_every_n_epoch is {every}: expected a number of epochs, at least 1; raise it, or set "
            "trainer.limit_val_batches to 0 to go without validation"
        )
    if trainer.get("precision") not in PRECISIONS:
        raise UserError(
            f"trainer.precision {trainer['precision']} is not taken: float16 would need scaled gradients, which "
            "several parameter groups do not allow; choose bf16-mixed, 32-true or 64-true"
        )
    if trainer.get("min_steps") and trainer.get("max_time"):
        raise UserError("trainer.min_steps and trainer.max_time may contradict each other: expected one; leave one out")
    if trainer.get("logger") and trainer.get("accumulate_grad_batches", 1) > 1:
        raise UserError(
            "trainer.logger counts steps of the optimisers where trainer.accumulate_grad_batches joins batches: "
            "expected one of the two; give vaebench's own --logger"
        )
    _require_processes(trainer)
    _require_callbacks(trainer)


def _require_processes(trainer: Mapping[str, Any]) -> None:
    strategy = trainer.get("strategy", "auto")
    name = strategy["class_path"].rpartition(".")[2] if isinstance(strategy, Mapping) else strategy
    if name not in (*STRATEGIES, *STRATEGY_CLASSES):
        raise UserError(
            f"trainer.strategy {name} is not taken: processes here hold whole models and average gradients "
            f"themselves; expected {', '.join(STRATEGIES)}; choose ddp"
        )
    if (nodes := trainer.get("num_nodes", 1)) != 1 and not any(variable in os.environ for variable in LAUNCHED):
        raise UserError(
            f"trainer.num_nodes {nodes} needs a launcher that starts a process on each machine, without which training "
            "waits for ever: start it by torchrun or SLURM"
        )


def _require_callbacks(trainer: Mapping[str, Any]) -> None:
    for path in callbacks(trainer):
        name = path.rpartition(".")[2]
        if path.startswith(("lightning.", "pytorch_lightning.")) and name != "EarlyStopping":
            raise UserError(
                f"trainer.callbacks {name} is not taken: it counts or saves what this suite does itself; expected "
                "EarlyStopping or a callback of your own; leave it out"
            )
        if name == "EarlyStopping" and trainer.get("limit_val_batches") == 0:
            raise UserError(
                "trainer.callbacks EarlyStopping watches a validation, and trainer.limit_val_batches 0 runs none; "
                "raise limit_val_batches"
            )


def callbacks(trainer: Mapping[str, Any]) -> list[str]:
    """Class paths of the callbacks."""
    given = trainer.get("callbacks") or []
    return [one["class_path"] for one in (given if isinstance(given, list) else [given])]


def require_population_options(trainer: Mapping[str, Any], device: str) -> None:
    """Refuses options that populations do not support, besides those that no run supports.

    Args:
        trainer: all of the Trainer's options as plain values, by name.
        device: type of the population's device.

    Raises:
        UserError: there is one.
    """

    def refused(name: str, expected: str) -> UserError:
        return UserError(
            f"a population cannot train with trainer.{name} {trainer[name]!r}: expected {expected}; remove it, or run "
            "it by itself with `vaebench fit`"
        )

    for name in sorted(set(trainer) - POPULATION - set(REFUSED)):
        if trainer[name] != (False if name == "logger" else DEFAULTS[name]):
            raise refused(name, f"no settings of the trainer besides {', '.join(sorted(POPULATION))}")
    if trainer.get("devices") not in ONE_DEVICE:
        raise refused("devices", "one device")
    if trainer.get("accelerator", "auto") not in ("auto", device, {"cuda": "gpu"}.get(device)):
        raise refused("accelerator", f"auto or {device}, where it trains")
    if "bf16" in str(trainer.get("precision")):
        raise refused("precision", "32-true or 64-true")
    if trainer.get("max_epochs") in (-1, None) and trainer.get("max_steps", -1) == -1:
        raise refused("max_epochs", "a number of epochs, or max_steps")
    if any(path.rpartition(".")[2] != "EarlyStopping" for path in callbacks(trainer)):
        raise refused("callbacks", "no callback but EarlyStopping")


def budget(trainer: Mapping[str, Any], batches: int, validation: int) -> TrainingBudget:
    """The budget from a trainer's options and the size of an epoch.

    Args:
        trainer: the Trainer's options as plain values, by name, which pass `require_options`.
        batches: training batches of a whole epoch, per process.
        validation: batches of a whole validation.

    Raises:
        UserError: a share of the batches is less than one batch.
    """
    if quick := int(trainer.get("fast_dev_run") or 0):
        some = min(quick, batches)
        return TrainingBudget(some, 1, some, validation=min(quick, validation))
    length = _limited("limit_train_batches", trainer.get("limit_train_batches"), batches)
    most = trainer.get("max_steps", -1)
    epochs = trainer.get("max_epochs")
    limits = [limit for limit in (epochs, math.ceil(most / length)) if limit is not None and limit > 0]
    least = max(trainer.get("min_epochs") or 0, math.ceil((trainer.get("min_steps") or 0) / length))
    return TrainingBudget(
        length,
        min(limits, default=None),
        most if most > 0 else None,
        least,
        trainer.get("accumulate_grad_batches", 1),
        _limited("limit_val_batches", trainer.get("limit_val_batches"), validation),
    )


def _limited(name: str, limit: int | float | None, batches: int) -> int:
    """A number of batches: all, the given number, or a share, rounded down."""
    if limit is None:
        return batches
    limited = int(limit * batches) if isinstance(limit, float) else min(limit, batches)
    if not limited and limit:
        raise UserError(
            f"trainer.{name} {limit} is less than one of {batches} batches; raise it to at least {1 / batches:.3g}, or "
            "give a number of batches"
        )
    return limited
