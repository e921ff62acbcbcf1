"""Planning of comparisons: seeds, images and core-minutes that detect a difference, from existing records."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaebench.errors import UserError
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.cells import Cell, Column, Table
from vaebench.leaderboard.display import error, number, score_display
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.markdown_tables import markdown_table
from vaebench.leaderboard.moderation import Trainings
from vaebench.leaderboard.noise import LEVEL
from vaebench.leaderboard.power import MOST, Size, Variation, assumed, variation
from vaebench.leaderboard.versus import Side, meetings
from vaebench.records import RunRecord
from vaebench.records.calibration import read_calibration

SEEDS = (2, 3, 5, 8, 12, 20, 30)
SHARES = (0.1, 0.2, 0.5, 1.0)  # of the test images


@dataclass(frozen=True)
class Price:
    """Core-minutes of one run of a variant, means over its records.

    Attributes:
        training: of its training.
        image: of evaluating one image.
        calibrated: whether trainings are priced by steps that were timed beside the plain VAE's, not by the clock.
    """

    training: float
    image: float
    calibrated: bool


@dataclass(frozen=True)
class Plan:
    """The cost of detecting a difference between two variants of one board.

    Attributes:
        board: the common board.
        sides: the two variants.
        difference: to detect, ≥ 0, in the metric's unit. given: whether the user set it; otherwise it is the measured
            one.
        power: probability of detecting it.
        comparisons: number of simultaneous comparisons in the correction.
        assumed: whether the user set the noise over trainings.
        variation: the components of the difference's error.
        images: in the test split.
        prices: of the two; None where a record lacks its run's duration.
    """

    board: Board
    sides: tuple[Side, Side]
    difference: float
    given: bool
    power: float
    comparisons: int
    assumed: bool
    variation: Variation
    images: int
    prices: list[Price] | None

    @property
    def level(self) -> float:
        """Level of the interval that must exclude 0."""
        return 1 - (1 - LEVEL) / self.comparisons

    @property
    def measured(self) -> int:
        """Number of images in the records."""
        return int(self.sides[0].figures.shape[-1])

    def seeds_for(self, images: int) -> int | None:
        """The fewest seeds per variant that detect the difference; None where none suffice."""
        return self.variation.seeds_for(self.difference, images, self.power, self.level)

    def more(self, seeds: int) -> list[int]:
        """Number of missing trainings of each variant."""
        return [max(seeds - len(side.seeds), 0) for side in self.sides]

    def minutes(self, size: Size) -> float | None:
        """Core-minutes of the missing trainings and of all evaluations that they or further images need."""
        if self.prices is None:
            return None
        again = size.images > self.measured
        return sum(
            lacking * price.training + (lacking + again * len(side.seeds)) * size.images * price.image
            for lacking, side, price in zip(self.more(size.seeds), self.sides, self.prices, strict=True)
        )


def plans(
    first: str,
    second: str,
    results: str | Path,
    metric: str | None = None,
    difference: float | None = None,
    power: float = 0.8,
    comparisons: int = 1,
    deviation: float | None = None,
) -> list[Plan]:
    """Plans the comparison of two variants on every board they share.

    Args:
        first, second, results, metric: as in `versus`.
        difference: to detect, in the metric's unit; None: the measured one.
        power: probability of detecting it, in (0, 1).
        comparisons: number of simultaneous comparisons in the correction.
        deviation: standard deviation over trainings, instead of the records'.

    Raises:
        UserError: as in `versus`, an argument is out of range, or the noise over trainings is unknown.
    """
    for name, value, low, high in (
        ("difference", difference, 0, np.inf),
        ("power", power, 0, 1),
        ("sd", deviation, 0, np.inf),
    ):
        if value is not None and not low < value < high:
            ends = f"between {low} and {high}" if np.isfinite(high) else f"above {low}"
            raise UserError(f"--{name} cannot be {value:g}: expected a number {ends}; mend that value")
    if comparisons < 1:
        raise UserError(f"--comparisons cannot be {comparisons}: expected a whole number from 1; mend that value")
    met = meetings(first, second, results, metric)
    return [
        _plan(board, (one, other), noise, difference, power, comparisons, deviation) for board, one, other, noise in met
    ]


def _plan(
    board: Board,
    sides: tuple[Side, Side],
    noise: Trainings | None,
    difference: float | None,
    power: float,
    comparisons: int,
    deviation: float | None,
) -> Plan:
    first, second = (side.figures for side in sides)
    if deviation is not None:
        parts = assumed(first, second, deviation)
    elif noise is not None and noise.known.all():
        parts = variation(first, second, noise)
    else:
        raise UserError(
            f"nothing measured says how far trainings of '{sides[0].name}' and '{sides[1].name}' scatter: expected "
            f"several seeds on the board {title(board)}; run some, or assume a standard deviation with --sd"
        )
    seen, n = abs(float(first.mean(dtype=np.float64) - second.mean(dtype=np.float64))), first.shape[-1]
    images = int(sides[0].records[0].data.get("sizes", {}).get(str(board.estimator["split"]), n))
    return Plan(
        board,
        sides,
        seen if difference is None else difference,
        difference is not None,
        power,
        comparisons,
        deviation is not None,
        parts,
        max(images, n) if board.images else n,
        _prices([side.records for side in sides], n),
    )


def _prices(sides: Sequence[Sequence[RunRecord]], images: int) -> list[Price] | None:
    """The price of a run of each side; None where a record lacks it."""
    prices = []
    for records in sides:
        minutes = [_minutes_of(record) for record in records]
        if None in minutes:
            return None
        training, evaluation = np.mean(np.array(minutes, dtype=np.float64), 0)
        steps = [_calibrated(record) for record in records]
        timed = [own for own in steps if own is not None]
        whole = len(timed) == len(records)
        prices.append(Price(float(np.mean(timed)) if whole else float(training), float(evaluation) / images, whole))
    return prices


def _minutes_of(record: RunRecord) -> tuple[float, float] | None:
    """Core-minutes of a record's training and of its evaluation, by the clock."""
    seconds = [record.times.get(name) for name in ("train_seconds", "evaluate_seconds")]
    threads = record.cost.get("threads")
    if seconds[0] is None or seconds[1] is None or threads is None:
        return None
    return seconds[0] * threads / 60, seconds[1] * threads / 60


def _calibrated(record: RunRecord) -> float | None:
    """Core-minutes of a record's training by its calibration, where it has one."""
    calibration, steps = read_calibration(record), record.measured.of if record.measured else None
    if calibration is None or steps is None:
        return None
    return steps * calibration.step_seconds * float(calibration.machine.get("threads", 1)) / 60


# In words ---------------------------------------------------------------------------------------------------------


def planned(made: Sequence[Plan]) -> str:
    """Every plan as text with two tables, board by board."""
    return "\n\n".join("\n".join(_lines(one)) for one in made) + "\n"


def _lines(one: Plan) -> Iterator[str]:
    heading, unit, _ = score_display(one.board)
    yield title(one.board)
    images = f"; measured on {number(one.measured)} images" if one.board.images else ""
    yield f"{heading}{f' in {unit}' if unit else ''}{images}"
    yield ""
    for sentence in (_known(one), _answer(one), _paid(one)):
        yield from textwrap.wrap(sentence, 110, break_long_words=False, break_on_hyphens=False)
    yield ""
    yield markdown_table(_by_seeds(one)).rstrip()
    if one.board.images:
        yield ""
        yield markdown_table(_by_images(one)).rstrip()


def _known(one: Plan) -> str:
    """The current components of the error."""
    who = " and ".join(f"{s.name} ({len(s.seeds)} seed{'s' if len(s.seeds) > 1 else ''})" for s in one.sides)
    low, middle, high = np.quantile(np.sqrt(one.variation.trainings.mean(1)), [0.05, 0.5, 0.95])
    scatter = f"{_amount(one, middle)} (sd)" + (
        ", which is assumed" if one.assumed else f", with 90 % probability {_bare(one, low)} to {_bare(one, high)}"
    )
    images = f"; test images add a standard error of {_amount(one, np.sqrt(one.variation.images / one.measured))}"
    return f"{who}: trainings scatter by {scatter}{images if one.board.images else ''}."


def _answer(one: Plan) -> str:
    what = f"a difference of {_amount(one, one.difference)}{'' if one.given else ', as large as the one measured,'}"
    seeds, share = one.seeds_for(one.measured), f"{one.power:.0%}".replace("%", " %")
    if seeds is None:
        least = one.variation.detectable(Size(MOST, one.measured), one.power, one.level)
        return (
            f"Not even {MOST} seeds each see {what} in {share} of cases on {number(one.measured)} images; the smallest "
            f"that they see is {_amount(one, least)}."
        )
    if not any(more := one.more(seeds)):
        return f"The seeds that there are see {what} in at least {share} of cases: {seeds} each would be enough."
    minutes = one.minutes(Size(seeds, one.measured))
    cost = "whose cost no record says" if minutes is None else f"about {_minutes(minutes)} core-minutes"
    trainings = " and ".join(f"{count} of {side.name}" for count, side in zip(more, one.sides, strict=True) if count)
    how = "" if one.prices is None else f" {_priced(one.prices)}"
    return f"To see {what} in {share} of cases takes {seeds} seeds each: trainings, {trainings}, {cost}.{how}"


def _priced(prices: Sequence[Price]) -> str:
    """How far the price of trainings can be trusted."""
    if all(price.calibrated for price in prices):
        return "Trainings are priced by steps that were timed beside the plain VAE's."
    return "Trainings are priced by the clock, which other work lengthens; bench --calibrate times their steps instead."


def _paid(one: Plan) -> str:
    if one.comparisons == 1:
        return "That is for one comparison, named before anybody looks; --comparisons pays for more."
    return f"That pays for {one.comparisons} comparisons, of which this is one."


def _by_seeds(one: Plan) -> Table:
    wanted = one.seeds_for(one.measured)
    rows = sorted({*SEEDS, *([wanted] if wanted else [])})
    share = f"{one.power:.0%}".replace("%", " %")
    unit = score_display(one.board).unit
    columns = [
        Column("seeds", "seeds each"),
        Column("error", "standard error", unit),
        Column("detectable", f"seen in {share} from", unit),
        Column("power", f"seen at {_bare(one, one.difference)}"),
        Column("minutes", "more core-minutes"),
    ]
    cells = []
    for seeds in rows:
        size = Size(seeds, one.measured)
        least = one.variation.detectable(size, one.power, one.level)
        seen = f"{one.variation.power(one.difference, size, one.level):.0%}".replace("%", " %")
        shown = "–" if not np.isfinite(least) else _bare(one, least)
        texts = [str(seeds), _bare(one, one.variation.error(size)), shown, seen, _minutes(one.minutes(size))]
        cells.append([Cell(text, text) for text in texts])
    return Table(columns, cells, [])


def _by_images(one: Plan) -> Table:
    """The number of seeds for fewer or more images."""
    columns = [Column("images", "images"), Column("seeds", "seeds each"), Column("minutes", "more core-minutes")]
    cells = []
    for images in sorted({*(max(2, round(share * one.images)) for share in SHARES), one.measured}):
        seeds = one.seeds_for(images)
        minutes = one.minutes(Size(seeds, images)) if seeds else None
        texts = [number(images), f"more than {MOST}" if seeds is None else str(seeds), _minutes(minutes)]
        cells.append([Cell(text, text) for text in texts])
    return Table(columns, cells, [])


def _bare(one: Plan, value: float) -> str:
    return error(
        float(value), max(score_display(one.board).decimals, 2) if score_display(one.board).decimals < 3 else 4
    )


def _amount(one: Plan, value: float) -> str:
    heading, unit, _ = score_display(one.board)
    return f"{_bare(one, value)} {unit or heading}"


def _minutes(value: float | None) -> str:
    return number(value, 0 if value is None or value >= 10 else 1)
