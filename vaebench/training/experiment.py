"""A run's configuration: LightningCLI without subcommands.

Constructing an `Experiment` parses and validates; `build` seeds and builds; `vaebench.training.solo.train` trains.
"""

from __future__ import annotations

import gc
import sys
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from vaebench.configuration import own
from vaebench.configuration.discovery import datasets, families
from vaebench.configuration.explain import SECTIONS, _files, explained, require_kinds, require_values
from vaebench.configuration.options import COSMETIC, PASSED
from vaebench.configuration.registered import remember
from vaebench.configuration.seeds import EXPECTED, is_seed
from vaebench.configuration.source import Source
from vaebench.core import Family
from vaebench.core.compatibility import require_classes
from vaebench.data.base import ImageData, knowing
from vaebench.errors import UserError
from vaebench.records import run_identity
from vaebench.training.parser import (
    NAMES,
    Arguments,
    classes_first,
    expand_names,
    named_paths,
    own_paths,
    with_folder,
    with_own_defaults,
)
from vaebench.training.recipe import add_sections, give_recipe, plain_sections, require_sections, sections
from vaebench.training.silence import quiet_lightning
from vaebench.training.stopping import Stopping
from vaebench.training.trainer import (
    DEFAULTS,
    LimitedTrainer,
    TrainingBudget,
    budget,
    require_options,
    with_epochs,
)

_PARSERS: dict[tuple[str, ...], LightningArgumentParser] = {}  # of this process, by the sections that they read


class Experiment(LightningCLI):
    """One training run, given as command-line arguments (`--config FILE`, `--model.beta 4`, …).

    Args:
        args: the arguments, as typed after `vaebench fit`.

    Attributes:
        known: data with the settings of this run, if there are some already, which `build` then does not read again.
        engine: section of the configuration that names a population; empty for solo training.

    Raises:
        jsonargparse.ArgumentError: the arguments are not valid.
    """

    def __init__(self, args: list[str]) -> None:
        self.engine: dict[str, Any] = {}
        self.known: ImageData | None = None
        self._sections = sections(args, _files(args))
        families(), datasets()  # imports them, so that short class names resolve
        with quiet_lightning():
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

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Takes the parser of an earlier run with the same sections: making one takes far longer than parsing."""
        key = tuple(self._sections)
        if key not in _PARSERS:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            _PARSERS[key] = self.parser
        self.parser = _PARSERS[key]

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
        """Seeds everything, then builds the data module and the family; equal arguments give equal weights.

        Warns about images that occur in more than one split.

        Raises:
            UserError: a part cannot be built, parts do not go together, or the family has fewer classes than the data.
        """
        seed_everything(self.seed, workers=True, verbose=False)
        self._add_instantiators()  # those of the experiment parsed last would give the model its hyperparameters
        with quiet_lightning(), explained(), knowing(self.known):
            self.config_init = self.parser.instantiate_classes(self.config)  # as Lightning's own instantiators expect
        give_recipe(self.config_init.model, {key: self.config[key] for key in self._sections})
        model, data = self.config_init.model, self.config_init.data
        self.known = data
        for split in data.sizes:
            require_classes(model, data.labels(split), f"the {split} images of {data.name}")
        self.stopping()  # refuses invalid callbacks before training
        for sentence in data.warnings():
            warnings.warn(sentence, stacklevel=2)
        return model, data

    def stopping(self) -> Stopping:
        """The early stopping of the latest `build`."""
        return Stopping(listed(self.config_init.trainer.callbacks))

    @property
    def seed(self) -> int:
        return int(self.config.seed_everything)

    @property
    def plain(self) -> dict[str, Any]:
        """The configuration as plain values: model, data and optimisers in full, non-default options of the trainer.

        With the SHA-256 of modules of the user's own, where it names some.
        """
        sources = own.hashed(self.sources)
        return {**self._plain, **self.engine, **({"sources": sources} if sources else {})}

    @property
    def options(self) -> dict[str, Any]:
        """All of the Trainer's options as plain values."""
        return dict(self._full["trainer"])

    @cached_property
    def _full(self) -> dict[str, Any]:
        dumped = self.parser.dump(self.config, skip_unset=False, format="yaml", skip_validation=True)  # parsed: valid
        return cast("dict[str, Any]", yaml.safe_load(dumped))

    @cached_property
    def _plain(self) -> dict[str, Any]:
        full = self._full
        trainer = {k: v for k, v in full["trainer"].items() if v != DEFAULTS.get(k) and k not in COSMETIC}
        return {"model": full["model"], "data": full["data"], "trainer": trainer, **plain_sections(full)}

    def budget(self, data: ImageData, world: int = 1) -> TrainingBudget:
        """The run's budget.

        Args:
            data: its data module.
            world: number of processes.

        Raises:
            UserError: a share of the batches is less than one batch.
        """
        return budget(self.options, data.batches("train", world), data.batches("val", world))

    @property
    def sources(self) -> dict[str, str]:
        """The texts of the modules of the user's own that the run is made of, by name."""
        return own.sources(self._plain)

    def identity(self, data: ImageData) -> str:
        """16 hex digits of configuration, the sources of the user's own code, seed and the data's hashes."""
        return run_identity(self.plain, self.seed, data.hashes)

    def lightning_trainer(self, work: Path, callbacks: list[Callback]) -> Trainer:
        """Lightning's Trainer with the options that are passed on; limits are set once the size of an epoch is known.

        Args:
            work: the run's folder.
            callbacks: replace those of the configuration.

        Raises:
            UserError: Lightning refuses it, for example for a missing device.
        """
        config = {name: value for name, value in dict(self.config_init.trainer).items() if name in PASSED}
        config |= {"callbacks": None, "max_epochs": -1, "enable_checkpointing": False, "enable_progress_bar": False}
        config["default_root_dir"] = config["default_root_dir"] or str(work)
        with quiet_lightning():
            try:
                return self._instantiate_trainer(config, callbacks)
            except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
                reason = str(error).rstrip(".!")
                raise UserError(
                    f"there is no such trainer: {reason}; change trainer.accelerator, trainer.devices or what it names"
                ) from error

    def release(self) -> None:
        """Frees the trainer, model and data that `build` made, which refer to one another, and their images."""
        self.config_init = self.known = None
        gc.collect()


def listed(callbacks: Any) -> list[Any]:
    """The callbacks of a trainer's configuration as a list."""
    return callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []


def _stops_early(callback: Any) -> bool:
    """Whether a callback's configuration is that of early stopping."""
    module, _, name = callback.class_path.rpartition(".")
    return issubclass(vars(sys.modules[module])[name], EarlyStopping)  # parsing has imported it


def experiment(args: list[str]) -> Experiment:
    """Parses arguments, in which families, data sets and parts may have short names.

    Raises:
        UserError: the arguments are not valid.
    """
    args = list(with_own_defaults(expand_names(classes_first(args))))
    named = own_paths(args)
    for file in _files(args):
        if not isinstance(content := Source(file, "configuration file").content, dict):
            raise UserError(f"'{file}' is no table: expected keys such as {', '.join(SECTIONS[1:])}; mend that file")
        named += named_paths(content)
    for path in named:
        own.require_class(path)
    with explained():
        job = Experiment(with_folder(args, "runs"))
    require_kinds(job.config.as_dict()["model"])
    remember(job.config.as_dict())  # the user's own configuration: its checkpoints may be loaded again
    return job
