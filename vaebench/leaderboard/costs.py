"""What runs cost, by which budgets are compared, and how far those costs can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vaebench.errors import Unavailable
from vaebench.leaderboard.boards import Board, Row
from vaebench.records import RunRecord
from vaebench.records.calibration import read_calibration

CALIBRATE = "`vaebench bench FILE --calibrate`"
WIDE = 0.2  # width of a ratio's interval, as a share of it, beyond which it is said


class Budget(NamedTuple):
    """A cost of a run, how it is shown, and what it says.

    Attributes:
        heading, unit, decimals: as in a table.
        says: what it is.
        of: the cost of a record; Unavailable where it has none.
    """

    heading: str
    unit: str
    decimals: int
    says: str
    of: Callable[[RunRecord], float]


def _recorded(part: str, key: str) -> Callable[[RunRecord], float]:
    def of(record: RunRecord) -> float:
        value = (record.times if part == "times" else record.cost).get(key)
        if value is None:
            raise Unavailable(f"not every record has {part}.{key}")
        return float(value)

    return of


def _step_flops(record: RunRecord) -> float:
    """FLOPs of a training step, by the record or by the calibration beside it."""
    calibration = read_calibration(record)
    for found in (record.cost, calibration.flops if calibration else {}):
        if "step_flops" in found:
            return float(found["step_flops"])
        if "step_flops_unavailable" in found:
            raise Unavailable(str(found["step_flops_unavailable"]))
    raise Unavailable(f"records of older versions do not count a training step; {CALIBRATE} does")


def _flops(record: RunRecord) -> float:
    """FLOPs of a training, in TFLOPs."""
    return _step_flops(record) * _steps(record) / 1e12


def _plain_steps(record: RunRecord) -> float:
    """What a training costs, in steps of the plain VAE."""
    if (calibration := read_calibration(record)) is None:
        raise Unavailable(f"its step was not timed beside the plain VAE's; {CALIBRATE} does it")
    return calibration.ratio * _steps(record)


def _steps(record: RunRecord) -> int:
    if record.measured is None or record.measured.of is None:
        raise Unavailable("its record does not say how many steps it was trained")
    return record.measured.of


BUDGETS = {
    "parameters": Budget("parameters", "", 0, "all parameters of the model", _recorded("cost", "parameters")),
    "flops": Budget("training", "TFLOPs", 3, "FLOPs of one training as torch counts them, of all that learns", _flops),
    "seconds": Budget("training", "s", 1, "wall-clock of one training", _recorded("times", "train_seconds")),
    "steps": Budget(
        "training",
        "steps of the plain VAE",
        0,
        "steps of one training, each weighed by its seconds over those of the plain VAE's step, timed in turns",
        _plain_steps,
    ),
}


def machines(row: Row) -> set[str]:
    """The kinds of machine that the runs of a row were trained on, as far as their records say."""
    return {_machine({**r.cost, **r.times}) for r in row.records}


def _machine(of: Mapping[str, Any]) -> str:
    return f"{of.get('device', 'unknown')} with {of.get('threads', '?')} thread(s)"


def doubts(board: Board, budget: str) -> list[str]:
    """Why the costs of a board are not to be trusted, in sentences; empty where nothing says so.

    Args:
        board: from `boards`.
        budget: one of `BUDGETS`.
    """
    rows = [row for row in board.rows if row.rank or row.provisional]
    if budget == "seconds":
        return list(_doubted_seconds(rows))
    if budget == "flops":
        return list(_doubted_flops(rows))
    return list(_doubted_ratios(rows)) if budget == "steps" else []


def _doubted_seconds(rows: Sequence[Row]) -> Iterator[str]:
    records = [record for row in rows for record in row.records]
    silent = sum("load_highest" not in record.times or "cores" not in record.times for record in records)
    busy = [row.variant for row in rows if any(_busy(record.times) for record in row.records)]
    if silent:
        yield f"{silent} of {len(records)} records do not say what else their machine did: seconds may measure its load"
    if busy:
        yield f"more processes ran than the machine has cores while {_listed(busy)} trained: these seconds are too long"
    if len(kinds := sorted({record.times["processor"] for record in records if "processor" in record.times})) > 1:
        yield f"trainings ran on {_listed(kinds)}: seconds of one are not those of another"
    if (silent or busy or len(kinds) > 1) and all(read_calibration(record) is None for record in records):
        yield f"steps were not timed beside the plain VAE's; {CALIBRATE} does it, and --budget steps compares by that"


def _doubted_flops(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        missed = set[str]()
        for record in row.records:
            calibration = read_calibration(record)
            missed |= set(
                record.cost.get("uncounted") or (calibration.flops.get("uncounted") if calibration else ()) or ()
            )
        if missed:
            yield f"{row.variant}: no formula counts {_listed(sorted(missed))}"


def _doubted_ratios(rows: Sequence[Row]) -> Iterator[str]:
    known = [
        (row.variant, found)
        for row in rows
        for record in row.records
        if (found := read_calibration(record)) is not None
    ]
    kinds = sorted({f"{_machine(found.machine)} of {found.machine.get('processor', 'an unknown processor')}"
                    for _, found in known})  # fmt: skip
    if len(kinds) > 1:
        yield f"steps were timed on {_listed(kinds)}, and ratios differ from machine to machine"
    wide = list(dict.fromkeys(name for name, found in known if found.high - found.low > WIDE * found.ratio))
    if wide:
        share = f"{WIDE:.0%}".replace("%", " %")
        yield f"the ratio of {_listed(wide)} is uncertain by more than {share}; calibrate on a quieter machine"


def _busy(times: Mapping[str, Any]) -> bool:
    return float(times.get("load_highest", 0)) > float(times.get("cores", math.inf))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
