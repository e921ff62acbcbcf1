"""Training: from a configuration to a checkpoint that holds all that is needed to evaluate and repeat it.

`Experiment` is LightningCLI without subcommands. Constructing one parses and validates; `run` seeds, builds and trains.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from vaebench.configuration.discovery import datasets, families
from vaebench.configuration.explain import SECTIONS, _files, _kind, _located, explained, require_kinds, require_values
from vaebench.configuration.gate import remember
from vaebench.configuration.parts import kind_of, located, of_kind
from vaebench.configuration.seeds import EXPECTED, is_seed
from vaebench.configuration.source import Source
from vaebench.core import Family, batches
from vaebench.core.divergence import Watch, require_finite
from vaebench.curves import TRAIN, VAL
from vaebench.data.base import ImageData
from vaebench.errors import UserError, require_kernels
from vaebench.files import write_atomically
from vaebench.records import run_identity
from vaebench.training.history import Kept
from vaebench.training.recipe import add_sections, give_recipe, plain_sections, require_sections, sections
from vaebench.training.saves import Saves, require_alike, write_tensors
from vaebench.training.stopping import Stopping
from vaebench.training.trainer import (
    COSMETIC,
    DEFAULTS,
    PASSED,
    Budget,
    LimitedTrainer,
    budget,
    require_options,
    with_epochs,
)
from vaebench.training.trainer import callbacks as named_callbacks
from vaebench.traits import LikelihoodTraits

Progress = Callable[[float, Mapping[str, float]], None]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Lightning's advertisements, and warnings from inside it that no caller can act on."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.* is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", r"(?s).*(JSONARGPARSE_DEPRECATION|deprecated in v4)", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


class Keeper(Callback):
    """Keeps what `Kept` does, and saves it with the state of training.

    All of it is saved, with torch's random state, after the first epoch and then every 20 seconds, so that an
    interrupted run goes on as if it had not been.

    Args:
        path: the file to save to; see `Saves`.
        stopping: the run's early stopping.
        progress: called after each epoch and about twice a second with (fraction done, what was measured last).

    Attributes:
        total: batches after which training ends; None where only time or early stopping ends it.
    """

    EVERY = 20.0  # seconds: a checkpoint an epoch would cost as much as a short epoch

    def __init__(self, path: Path, stopping: Stopping, progress: Progress | None = None) -> None:
        self.path, self.kept, self.stopping, self.progress = path, Kept(), stopping, progress
        self.total: int | None = None
        self._saved = -math.inf
        self._noise: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        noise = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        return {**vars(self.kept), "noise": noise, "stopping": self.stopping.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._noise = state["noise"]
        self.stopping.load_state_dict(state["stopping"])
        self.kept = Kept(**{name: value for name, value in state.items() if name not in ("noise", "stopping")})

    def require(self, saved: Mapping[str, Any], model: LightningModule) -> None:
        """Refuses a save that is not of such a model and such a keeper; restores nothing.

        Raises:
            KeyError, TypeError, ValueError: it is not.
        """
        require_alike(saved["state_dict"], model.state_dict())
        Keeper(self.path, deepcopy(self.stopping)).load_state_dict(saved["callbacks"][self.state_key])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            torch.manual_seed(torch.initial_seed() + trainer.global_rank)  # else all ranks would draw the same noise
        elif self._noise is not None:
            torch.set_rng_state(self._noise["cpu"])
            torch.cuda.set_rng_state_all(self._noise["cuda"])
        self._last = self._shown = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.kept.images += sum(len(x) for x, _ in batches(batch))
        several = trainer.world_size > 1
        pl_module.watch.look(partial(trainer.strategy.reduce, reduce_op="max") if several else None)
        if self.total is not None and pl_module.steps >= self.total:
            trainer.fit_loop.min_epochs = 0  # the budget is spent, whatever else was asked for
            trainer.should_stop = True  # which validates first, also inside an epoch
        if self.progress and (now := time.perf_counter()) - self._shown > 0.5:
            self._shown = now
            self.progress(self._fraction(pl_module), self.kept.latest())

    def _fraction(self, model: Family) -> float:
        """The part of training that is done; 0 where nothing says how long it is."""
        return model.steps / self.total if self.total else 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        self.kept.seconds, self._last = self.kept.seconds + now - self._last, now
        self._measured(trainer, cast(Family, pl_module), TRAIN)
        if trainer.strategy.broadcast(now - self._saved > self.EVERY):  # saving waits for all ranks
            self._saved = now
            trainer.save_checkpoint(self.path)
        if self.progress:
            self.progress(self._fraction(cast(Family, pl_module)), self.kept.latest())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._measured(trainer, cast(Family, pl_module), VAL)

    def _measured(self, trainer: Trainer, model: Family, kind: str) -> None:
        """Notes the metrics of one kind, 'train/' or 'val/', that were measured just now, and stops early by them."""
        if kind == TRAIN:
            means = model.means.take(lambda total: cast(Tensor, trainer.strategy.reduce(total, reduce_op="sum")))
            metrics = {f"{TRAIN}{name}": float(value) for name, value in means.items()}
            self.kept.note(model.steps, metrics)
        else:
            metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(VAL)}
            self.kept.validated(model, metrics)
        stop = self.stopping.stops(model, metrics, kind)
        trainer.should_stop = trainer.should_stop or trainer.strategy.reduce_boolean_decision(stop, all=False)


class SavesIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints as all files are written, and this run's own as `Saves` does.

    Lightning's own way goes through the folder for temporary files, from which a file moves to another file system by
    being copied over the good one.

    Args:
        saves: of the run.
    """

    def __init__(self, saves: Saves) -> None:
        self.saves = saves

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        if Path(path) == self.saves.path:
            self.saves.save(checkpoint)
        else:
            write_tensors(Path(path), checkpoint)


class Help(DefaultHelpFormatter):
    """Help that shows the names of parts in the place of all classes that python knows of."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, kind = super()._get_help_string(action), kind_of(action.dest.rpartition(".")[2])
        if not kind or ", known subclasses: " not in text:
            return text
        names = ", ".join(part.listed for part in of_kind(kind).values())
        return f"{text.partition(', known subclasses: ')[0]}, names: {names})"


class Arguments(LightningArgumentParser):
    """LightningCLI's parser, with that help also for the classes inside of classes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **settings})


NAMES = "yaml with names"  # what jsonargparse reads files by: YAML in which parts have short names
set_loader(NAMES, lambda text: located(get_loader("yaml")(text)), exceptions=(yaml.YAMLError,))

BLOCK = 16  # batches a call of Lightning's loop, which costs a tenth of a millisecond


class Experiment(LightningCLI):
    """One training run, given as command-line arguments (`--config FILE`, `--model.beta 4`, …).

    Args:
        args: the arguments, as typed after `vaebench fit`.

    Attributes:
        engine: what the configuration says besides model, data and trainer; set where Lightning does not train it.

    Raises:
        jsonargparse.ArgumentError: the arguments are not valid.
    """

    def __init__(self, args: list[str]) -> None:
        self.engine: dict[str, Any] = {}
        self._sections = sections(args, _files(args))
        families(), datasets()  # imported, so that short class names resolve
        with quiet():
            self._parse(args)

    def _parse(self, args: list[str]) -> None:
        super().__init__(
            Family,
            ImageData,
            trainer_class=LimitedTrainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            args=args,
            parser_class=Arguments,
            save_config_callback=None,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            trainer_defaults={
                "devices": 1,
                "logger": False,
                "enable_checkpointing": False,  # `Keeper` does it
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 50,
            },
            parser_kwargs={
                "allow_abbrev": False,
                "exit_on_error": False,
                "prog": "vaebench fit",
                "parser_mode": NAMES,
            },
        )
        self.config.trainer.max_epochs = with_epochs(self.config.trainer)
        require_options(self.options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data", "model.init_args.data", compute_fn=lambda module: module.spec, apply_on="instantiate"
        )
        add_sections(parser, self._sections)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)
        require_values(self.config.as_dict())
        if not is_seed(seed := self.config.seed_everything):
            shown = str(seed).lower() if isinstance(seed, bool) else seed
            raise UserError(f"'seed_everything' cannot be {shown}: expected {EXPECTED}; mend that value")
        require_sections(self.config, self._sections)
        settings = self.config.model.init_args
        if "keep" in settings and settings.keep is None:
            settings.keep = "best" if any(map(_stops_early, listed(self.config.trainer.callbacks))) else "last"

    def _set_seed(self) -> None:
        """Left to `build`: parsing must not touch the random state."""

    def instantiate_classes(self) -> None:
        """Left to `build`: construction only parses."""

    def build(self) -> tuple[Family, ImageData]:
        """Seeds everything, then builds the data module and the family; the same arguments give the same weights."""
        seed_everything(self.seed, workers=True, verbose=False)
        with quiet(), explained():
            self.config_init = self.parser.instantiate_classes(self.config)  # Lightning's own instantiators hang here
        give_recipe(self.config_init.model, {key: self.config[key] for key in self._sections})
        self.stopping()  # refused before anything is trained
        return self.config_init.model, self.config_init.data

    def stopping(self) -> Stopping:
        """The early stopping that the configuration says, of what `build` has built last."""
        return Stopping(listed(self.config_init.trainer.callbacks))

    @property
    def seed(self) -> int:
        return int(self.config.seed_everything)

    @property
    def plain(self) -> dict[str, Any]:
        """The configuration as plain values: model, data and given optimisers in full, the trainer where it differs."""
        return {**self._plain, **self.engine}

    @property
    def options(self) -> dict[str, Any]:
        """All of the Trainer's options as plain values."""
        return dict(self._full["trainer"])

    @cached_property
    def _full(self) -> dict[str, Any]:
        return cast("dict[str, Any]", yaml.safe_load(self.parser.dump(self.config, skip_unset=False, format="yaml")))

    @cached_property
    def _plain(self) -> dict[str, Any]:
        full = self._full
        trainer = {k: v for k, v in full["trainer"].items() if v != DEFAULTS.get(k) and k not in COSMETIC}
        return {"model": full["model"], "data": full["data"], "trainer": trainer, **plain_sections(full)}

    def budget(self, data: ImageData, world: int = 1) -> Budget:
        """How long the run trains, on so many processes.

        Raises:
            UserError: a share of the batches is less than one batch.
        """
        return budget(self.options, data.batches("train", world), data.batches("val", world))

    def identity(self, data: ImageData) -> str:
        """16 hex digits of all that was asked for: configuration, seed and the data's hashes."""
        return run_identity(self.plain, self.seed, data.hashes)

    def run(self, work: Path, progress: Progress | None = None, callbacks: Sequence[Callback] = ()) -> Path:
        """Trains in the folder `work` and returns `work/model.ckpt`, with the weights that `model.keep` says.

        A run that was interrupted in the same folder goes on after the last epoch saved, with the same random state.
        `callbacks` hear of training after the weights of an epoch were kept.
        """
        try:
            return self._run(work, progress, callbacks)
        finally:
            self.config_init = None  # the trainer, model and data, which refer to one another as well:
            gc.collect()  # run after run, their images would pile up

    def _run(self, work: Path, progress: Progress | None, callbacks: Sequence[Callback]) -> Path:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        torch.set_flush_denormal(True)
        model, data = self.build()
        saves = Saves(work, self.identity(data))
        stopping = self.stopping()
        keeper = Keeper(saves.path, stopping, progress)
        trainer = self._lightning(work, [*stopping.others, keeper, *callbacks])
        limits = self.budget(data, trainer.world_size)
        keeper.total, data.length, model.accumulate = limits.total, limits.length, limits.accumulate
        model.watch = Watch()
        data.block = limits.accumulate * (max(1, BLOCK // limits.accumulate) if self._blocks(trainer) else 1)
        trainer.fit_loop.max_epochs = -1 if limits.epochs is None else limits.epochs
        trainer.fit_loop.min_epochs, trainer.limit_val_batches = limits.least, limits.validation
        trainer.strategy.checkpoint_io = SavesIO(saves)
        if trainer.is_global_zero:
            self.start(work)
        newest = saves.newest(partial(keeper.require, model=model))
        try:
            with quiet(), require_kernels():
                trainer.fit(model, data, ckpt_path=newest, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C, after which it leaves the signal ignored
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        if trainer.is_global_zero:
            self.finish(work, model, data, keeper.kept, started)
            saves.remove()
        trainer.strategy.barrier()
        return work / "model.ckpt"

    def _lightning(self, work: Path, callbacks: list[Callback]) -> Trainer:
        """Lightning's Trainer with the options that pass; what counts is set once the sizes of an epoch are known."""
        config = {name: value for name, value in dict(self.config_init.trainer).items() if name in PASSED}
        config |= {"callbacks": None, "max_epochs": -1, "enable_checkpointing": False, "enable_progress_bar": False}
        config["default_root_dir"] = config["default_root_dir"] or str(work)
        with quiet():
            try:
                return self._instantiate_trainer(config, callbacks)
            except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
                reason = str(error).rstrip(".!")
                raise UserError(
                    f"there is no such trainer: {reason}; change trainer.accelerator, trainer.devices or what it names"
                ) from error

    def _blocks(self, trainer: Trainer) -> bool:
        """Whether a call of Lightning's may be of several optimiser steps: not where the user's own code hears of it.

        Several processes exchange gradients after every step, beside which a call costs little.
        """
        own = [path for path in named_callbacks(self.options) if path.rpartition(".")[2] != "EarlyStopping"]
        return trainer.world_size == 1 and not own and not self.options["profiler"] and not self.options["logger"]

    def start(self, work: Path) -> None:
        """Writes `work/config.yaml`, which `vaebench fit --config` takes."""
        write_atomically(work / "config.yaml", self.parser.dump(self.config, skip_unset=False, format="yaml").encode())

    def finish(self, work: Path, model: Family, data: ImageData, kept: Kept, started: str) -> Path:
        """Writes `work/model.ckpt`, all that is needed to evaluate the weights that the run keeps, and to repeat it.

        Args:
            work: the run's folder.
            model, data, kept: as they stand after the last step.
            started: when, ISO 8601.
        """
        require_finite(dict(model.named_parameters()), model.steps)
        if not model.steps:
            raise UserError(
                "training ended before a step was taken, so that there is nothing to measure; raise "
                "trainer.max_epochs or trainer.max_steps"
            )
        skipped = float(getattr(model, "skipped", 0.0))
        if skipped > model.steps / 2:
            warnings.warn(
                f"{skipped:g} of {model.steps} steps were left out, for gradients longer than model.skip, "
                f"{float(cast(Any, model).skip):g}: raise it",
                stacklevel=2,
            )
        selection, weights, warned = kept.chosen(model)
        info = {
            "run": self.identity(data),
            "config": self.plain,
            "seed": self.seed,
            "data": describe(data),
            "curves": kept.curves,
            "selection": str(selection),
            "warnings": warned,
            "started": started,
            "train_seconds": round(kept.seconds, 3),
            "images_per_second": round(kept.images / max(kept.seconds, 1e-9), 1),
            "started_at_mean": LikelihoodTraits.of(model.likelihood).started,
        }
        settings = dict(model.hparams)
        write_tensors(work / "model.ckpt", {"state_dict": weights, "hyper_parameters": settings, "vaebench": info})
        return work / "model.ckpt"


def listed(callbacks: Any) -> list[Any]:
    """The callbacks of a trainer's configuration, which may be one or none."""
    return callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []


def _stops_early(callback: Any) -> bool:
    """Whether a callback's configuration is that of early stopping."""
    module, _, name = callback.class_path.rpartition(".")
    return issubclass(getattr(sys.modules[module], name), EarlyStopping)  # parsing has imported it


def describe(data: ImageData) -> dict[str, Any]:
    """The data's part of a record: name, measure, shape, sizes and hashes of the splits."""
    spec = data.spec
    return {
        "name": data.name,
        "measure": spec.measure,
        "shape": list(spec.shape),
        "sizes": data.sizes,
        "hashes": data.hashes,
    }


def experiment(args: list[str]) -> Experiment:
    """`training.Experiment(args)`, with families, data sets and parts by their names and errors in one sentence.

    Raises:
        UserError: the arguments are not valid.
    """

    for file in _files(args):
        if not isinstance(Source(file, "configuration file").content, dict):
            raise UserError(f"'{file}' is no table: expected keys such as {', '.join(SECTIONS[1:])}; mend that file")
    with explained():
        job = Experiment(list(_expanded(args)))
    require_kinds(job.config.as_dict()["model"])
    remember(job.config.as_dict())  # the user's own words: what it names may be loaded again
    return job


def _expanded(args: Iterable[str]) -> Iterator[str]:
    """Replaces names of families, data sets and parts, as in `--model beta_vae`, by the paths of their classes."""
    flag = ""
    for arg in args:
        option, equals, value = arg.partition("=")
        option, value = (option, value) if equals else (flag, arg)
        flag = arg
        kind = _kind(option) if option.startswith("--") else ""
        if kind and not value.startswith("--"):
            yield f"{option}={_located(value, kind)}" if equals else _located(value, kind)
        else:
            yield arg
