"""Samplers and pruners of sweep files: their settings, and the construction of Optuna's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Settings = Mapping[str, Any]


class Sampler(NamedTuple):
    """A way to suggest settings.

    Attributes:
        settings: names of settings in the file, besides name and seed.
        make: from the settings, the seed of one trial, and whether the space is conditional.
        batches: whether it needs nothing but trials, so that several suggestions can be made at a time in memory;
            others keep a state in the storage.
    """

    settings: tuple[str, ...]
    make: Callable[[Settings, int, bool], BaseSampler]
    batches: bool = False


class Pruner(NamedTuple):
    """A rule that ends trials early, by epochs.

    Attributes:
        settings: names of settings in the file, besides the name.
        make: from the settings.
    """

    settings: tuple[str, ...]
    make: Callable[[Settings], BasePruner]


def _tpe(own: Settings, seed: int, conditional: bool) -> BaseSampler:
    from optuna.samplers import TPESampler

    startup = own.get("startup", 10)
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=conditional, constant_liar=True)


def _gp(own: Settings, seed: int, _: bool) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=own.get("startup", 10), warn_independent_sampling=False)


def _cma_es(own: Settings, seed: int, _: bool) -> BaseSampler:
    from optuna.samplers import CmaEsSampler

    return CmaEsSampler(seed=seed, n_startup_trials=own.get("startup", 1), warn_independent_sampling=False)


def _random(_own: Settings, seed: int, _: bool) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _nsga(own: Settings, seed: int, _: bool) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=own.get("population", 20))


SAMPLERS = {
    "tpe": Sampler(("startup",), _tpe, batches=True),
    "gp": Sampler(("startup",), _gp, batches=True),
    "cma-es": Sampler(("startup",), _cma_es),
    "random": Sampler((), _random, batches=True),
    "grid": Sampler((), _random),  # the points are queued
    "nsga-ii": Sampler(("population",), _nsga),
}


def _none(_own: Settings) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


def _asha(own: Settings) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=own.get("min_epochs", 1), reduction_factor=own.get("factor", 3))


def _hyperband(own: Settings) -> BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(own.get("min_epochs", 1), own.get("max_epochs", "auto"), own.get("factor", 3))


def _median(own: Settings) -> BasePruner:
    from vaebench.sweep.storage.pruners import Median

    return Median(own.get("startup", 5), n_warmup_steps=own.get("min_epochs", 1))


PRUNERS = {
    "none": Pruner((), _none),
    "asha": Pruner(("min_epochs", "factor"), _asha),
    "hyperband": Pruner(("min_epochs", "max_epochs", "factor"), _hyperband),
    "median": Pruner(("min_epochs", "startup"), _median),
}
