"""Numbers outside their range are refused by every family, schedule and part in a sentence; those inside are taken."""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from pathlib import Path

import pytest
from helpers import FAMILIES, family_of, images_of

from vaebench import schedules
from vaebench.configuration.explain import require_values
from vaebench.configuration.part_kinds import OURS
from vaebench.configuration.parts import Part, index, torch_parts
from vaebench.errors import UserError
from vaebench.ranges import Range, ranges, require_ranges
from vaebench.schedules import Schedule
from vaebench.training.experiment import experiment
from vaebench.training.population import Population

SCHEDULES = [cls for _, cls in inspect.getmembers(schedules, inspect.isclass) if issubclass(cls, Schedule)]


def outside(limit: Range) -> list[float]:
    """Numbers just outside a range, and those that are none."""
    ends = [limit.low if limit.open_low else limit.low - 1, limit.high if limit.open_high else limit.high + 1]
    return [end for end in ends if math.isfinite(end)] + [math.nan, math.inf]


def inside(limit: Range) -> list[float]:
    """Numbers inside a range, at its ends where they belong to it."""
    low = max(limit.low, -1e6) if not limit.open_low else limit.low + 1e-6
    high = min(limit.high, 1e6) if not limit.open_high else limit.high - 1e-6
    return [low, (low + high) / 2, high]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_no_number_outside_its_range(name: str) -> None:
    """β ≥ 0 was promised, and −1 trained."""
    cls = family_of(name)
    assert {"latent", "lr", "clip"} <= ranges(cls).keys()
    for setting, limit in ranges(cls).items():
        for value in outside(limit):
            with pytest.raises(UserError, match=rf"^{setting} is .*: expected .*; \w+ model\.{setting}$"):
                cls(images_of(name), **{setting: value})
        for value in inside(limit):
            require_ranges(cls, {setting: value}, "model.")


@pytest.mark.parametrize("cls", SCHEDULES)
def test_a_schedule_takes_no_number_outside_its_range(cls: type[Schedule]) -> None:
    for setting, limit in ranges(cls).items():
        for value in outside(limit):
            with pytest.raises(UserError, match=rf"^{cls.__name__}.{setting} is .*: expected .*; \w+ the schedule's "):
                cls(**{setting: value})
        for value in inside(limit):
            cls(**{setting: value})


def test_members_of_a_population_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"beta is -1.0: expected at least 0; raise model\.beta"):
        Population().add(experiment(["--data=digits", "--model=beta_vae", "--model.beta=-1"]), tmp_path)


# Parts ------------------------------------------------------------------------------------------------------------

PARTS = [part for part in (*index(), *torch_parts()) if part.choosable and part.kind not in ("family", "schedule")]


def class_of(part: Part) -> type:
    module, _, name = part.path.rpartition(".")
    return getattr(import_module(module), name)


def scalars(part: Part) -> dict[str, Range]:
    """The numbers of a part that a configuration gives, with their ranges."""
    given = {"count", "size", *OURS} if part.kind in ("network", "optimizer", "lr_scheduler") else set()
    return {name: limit for name, limit in ranges(class_of(part)).items() if name not in given}


SCALARS = [(part, name) for part in PARTS for name in scalars(part)]
names = [f"{part.name}.{name}" for part, name in SCALARS]


@pytest.mark.parametrize(("part", "setting"), SCALARS, ids=names)
def test_a_part_takes_no_number_outside_its_range(part: Part, setting: str) -> None:
    """Defect: depth −1, width 0 or a factor below 0 trained, or ended in torch's traceback."""
    limit = scalars(part)[setting]
    for value in outside(limit):
        for given in (value, [value]):
            with pytest.raises(UserError, match=rf"{setting}.* (is|cannot be) .*: expected .*; \w+ "):
                require_values({"model": {"class_path": part.path, "init_args": {setting: given}}})
    for value in inside(limit):
        require_values({"model": {"class_path": part.path, "init_args": {setting: value}}})
