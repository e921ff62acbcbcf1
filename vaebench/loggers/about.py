"""Description of a run for loggers: its name, group, tags and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaebench.configuration.parts import name_of, part_at
from vaebench.records import RunRecord, identity, setting_identity

if TYPE_CHECKING:
    from vaebench.data.base import ImageData
    from vaebench.training.experiment import Experiment

LONGEST = 64  # characters of a tag, the limit of Weights & Biases


@dataclass(frozen=True)
class RunDescription:
    """The description of a run.

    Attributes:
        id: 16 hex digits; logging the same id again replaces the run.
        name: variant and seed; outside benchmarks also β and the family's other settings that are not defaults.
        group: common to runs that differ only in the seed: benchmark and variant; outside benchmarks data set, family
            and six hex digits of the settings.
        job: 'fit', 'bench', 'sweep' or 'record'.
        tags: family, data set, benchmark, job.
        config: every setting, flattened: 'model/posterior/net/width'; 'setting' identifies settings under one variant's
            name.
    """

    id: str
    name: str
    group: str
    job: str
    tags: tuple[str, ...]
    config: dict[str, Any]


def of_training(
    run: Experiment, data: ImageData, job: str, record: str = "", benchmark: str | None = None, variant: str = ""
) -> RunDescription:
    """The description of a run before training.

    Args:
        run: the parsed run.
        data: its data module.
        job: the command that trains it.
        record: id of its future record; '' without one.
        benchmark, variant: of its future record.
    """
    config, measure = run.plain, data.spec.measure
    return _about(record or run.identity(data), config, run.seed, (data.name, measure), job, benchmark, variant, record)


def of_record(record: RunRecord) -> RunDescription:
    """The description of a recorded run, with the id of its training's log."""
    data = record.data["name"], record.data["measure"]
    return _about(record.id, record.config, record.seed, data, "record", record.benchmark, record.variant, record.id)


def _about(
    number: str,
    config: Mapping[str, Any],
    seed: int,
    data: tuple[str, str],
    job: str,
    benchmark: str | None,
    variant: str,
    record: str,
) -> RunDescription:
    family = name_of(config["model"]["class_path"])
    place = benchmark or data[0]
    row = variant or family
    settings = flat(config)
    setting = f"{row} {setting_identity(family, config)[:6]}"
    named = {"family": family, "variant": row, "benchmark": benchmark, "dataset": data[0], "measure": data[1],
             "seed": seed, "setting": setting, "record": record}  # fmt: skip
    return RunDescription(
        id=identity(run=number, benchmark=benchmark, variant=row) if record else number,
        name=f"{row if benchmark else ' '.join([row, *_chosen(config['model'])])}-s{seed}"[:128],
        group=f"{place}/{row if benchmark else setting}"[:128],
        job=job,
        tags=tuple(dict.fromkeys(tag[:LONGEST] for tag in (family, data[0], place, job))),
        config=named | settings,
    )


def _chosen(model: Mapping[str, Any]) -> Iterator[str]:
    """A model's β, and its other numbers and choices that are not the family's defaults: 'beta=2', 'latent=10'."""
    from vaebench.configuration.explain import _parameters  # with torch, which whoever names a run has at hand

    given, path = model.get("init_args", {}), str(model["class_path"])
    known = _parameters(path) if part_at(path) else {}  # not of a class that a foreign record names
    defaults = {name: parameter.default for name, parameter in known.items()} | {"keep": "last"}  # which None means
    for name in sorted(given, key=lambda name: name != "beta"):
        value = given[name]
        if isinstance(value, bool | int | float | str) and (name == "beta" or value != defaults.get(name, value)):
            yield f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"


def flat(config: Any, path: str = "") -> dict[str, Any]:
    """Flattens nested tables; a part is under its own key, and its settings below it.

    >>> flat({"model": {"class_path": "vaebench.families.vae.VAE", "init_args": {"latent": 3}}})
    {'model': 'VAE', 'model/latent': 3}
    """
    if not isinstance(config, Mapping):
        return {path: config}
    if "class_path" in config:
        own = str(config["class_path"])
        short = own.rpartition(".")[2] if own.startswith("vaebench.") else own
        settings = {**config.get("init_args", {}), **config.get("dict_kwargs", {})}
        return {path: short, **flat(settings, path)}
    flattened: dict[str, Any] = {}
    for key, value in config.items():
        flattened |= flat(value, f"{path}/{key}" if path else str(key))
    return flattened
