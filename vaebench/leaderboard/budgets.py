"""Boards at equal budget: the best variants for a number of parameters, FLOPs, seconds or tuning trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np

from vaebench.curves import BOUND
from vaebench.errors import Unavailable, unknown
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.cells import Cell, Column, Table
from vaebench.leaderboard.costs import BUDGETS, doubts, machines
from vaebench.leaderboard.display import number, score_display
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.markdown_tables import markdown_table
from vaebench.leaderboard.pareto import front, within
from vaebench.records import RunRecord
from vaebench.records.validation import COMBINE, MAXIMISE, read_validation

TRIALS = "trials"


@dataclass(frozen=True)
class Place:
    """One variant of a board at its budget.

    Attributes:
        row: the variant.
        cost: mean over its runs; None where it has none.
        why: why it has no cost; empty otherwise.
        on_front: no other variant is better at no higher cost, or as good and cheaper, by the means over seeds.
        best: the best by the mean over seeds among all that cost no more; None without a cost.
        tie: whether the difference from `best` is inside the noise.
        provisional: whether that is unknown, because one of the two is provisional.
    """

    row: Row
    cost: float | None
    why: str = ""
    on_front: bool = False
    best: Row | None = None
    tie: bool = False
    provisional: bool = False


def places(board: Board, budget: str) -> list[Place]:
    """The ranked variants of a board, the cheapest first, then those without a cost.

    Args:
        board: from `boards`.
        budget: one of `BUDGETS`.

    Raises:
        UserError: there is no such budget.
    """
    if budget not in BUDGETS:
        raise unknown("budget", budget, [*BUDGETS, TRIALS])
    ranked = [row for row in board.rows if row.rank or row.provisional]
    usual = Counter(machine for row in ranked for machine in machines(row)).most_common(1)
    costs = [_cost(row, budget, usual[0][0] if usual else "") for row in ranked]
    known = [(row, cost) for row, cost in zip(ranked, costs, strict=True) if not isinstance(cost, str)]
    known.sort(key=lambda pair: pair[1])
    prices, scores = [cost for _, cost in known], [board.sign * row.estimates[board.score].mean for row, _ in known]
    on_front = front(np.column_stack([prices, np.negative(scores)]))
    entries = []
    for (row, cost), yes, index in zip(known, on_front, within(prices, scores), strict=True):
        best = known[index][0]
        provisional = row is not best and (row.provisional or best.provisional)
        tie = not provisional and best.variant not in row.beaten_by
        entries.append(Place(row, cost, "", bool(yes), best, tie, provisional))
    return entries + [Place(row, None, why) for row, why in zip(ranked, costs, strict=True) if isinstance(why, str)]


def _cost(row: Row, budget: str, usual: str) -> float | str:
    """A row's cost, or why it has no comparable one."""
    try:
        known = [BUDGETS[budget].of(record) for record in row.records]
    except Unavailable as error:
        return f"unavailable: {error}"
    if budget == "seconds" and (others := sorted(machines(row) - {usual})):
        return f"unavailable: measured on {', '.join(others)}, the other variants on {usual}"
    return float(np.mean(known))


# Tuning trials ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """The best score of a sweep for a family on a board, as a function of the number of trials.

    Attributes:
        sweep, family: of the trials.
        trials: their number on the board.
        figure: of the validation images, by which trials are chosen.
        expected: {k: expected score of the trial that this figure selects among k random ones}.
    """

    sweep: str
    family: str
    trials: int
    figure: str
    expected: dict[int, float]


def tuned(board: Board) -> tuple[list[Tuned], dict[str, str]]:
    """The sweeps of a board, and why other variants have no number of trials.

    Records of a sweep carry the number of their trial in `cost.trial`. Trials are chosen as their sweep chose them, by
    the figure in `validation.json`; where a record of the sweep has none, all of them by the held-out bound.
    """
    sweeps: dict[tuple[str, str], list[Row]] = {}
    why: dict[str, str] = {}
    for row in board.rows:
        if not (row.rank or row.provisional):
            why[row.variant] = "unavailable: it is not ranked"
        elif any("trial" not in record.cost for record in row.records):
            why[row.variant] = "unavailable: its record does not say after how many trials its settings were chosen"
        elif any(_chosen_by(record) is None for record in row.records):
            why[row.variant] = f"unavailable: its record has no {BOUND} of the weights that it measured"
        elif any((own := read_validation(record)) and len(own.objectives) > 1 for record in row.records):
            why[row.variant] = "unavailable: its sweep has several objectives, which choose no single trial"
        else:
            first = row.records[0]
            sweeps.setdefault((str(first.benchmark), first.family), []).append(row)
    searches = []
    for (sweep, family), rows in sorted(sweeps.items()):
        figure, chosen_by = _choice(rows)
        scores = [row.estimates[board.score].mean for row in rows]
        ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if k < len(rows)} | {len(rows)})
        searches.append(Tuned(sweep, family, len(rows), figure, {k: best_of(k, chosen_by, scores) for k in ks}))
    return searches, why


def _choice(rows: Sequence[Row]) -> tuple[str, list[float]]:
    """The figure that chooses among a sweep's rows, and a value a row, of which the highest is chosen."""
    found = [[one for record in row.records if (one := _chosen_by(record))] for row in rows]
    if len(figures := {one.figure for row in found for one in row}) == 1:
        return figures.pop(), [float(COMBINE[row[0].combine]([one.value for one in row])) for row in found]
    bounds = [[record.held_out(BOUND) for record in row.records] for row in rows]
    return BOUND, [float(np.mean([-math.inf if one is None else one for one in row])) for row in bounds]


class Choice(NamedTuple):
    """A figure of the validation images, its value, negative where the lowest is chosen, and how seeds become one."""

    figure: str
    value: float
    combine: str


def _chosen_by(record: RunRecord) -> Choice | None:
    """What chose the trial: its sweep's objective or, in older records, the held-out bound of the measured weights."""
    if own := read_validation(record):
        (figure, way), *_ = own.objectives.items()
        return Choice(figure, own.figures[figure] if way == MAXIMISE else -own.figures[figure], own.combine)
    bound = record.held_out(BOUND)
    return None if bound is None else Choice(BOUND, bound, "mean")


def best_of(k: int, chosen_by: Sequence[float], scores: Sequence[float]) -> float:
    r"""Expected score of the trial with the highest `chosen_by` among k of T trials, drawn without replacement.

    .. math:: \sum_{r=k}^{T} \binom{r - 1}{k - 1} \Big/ \binom{T}{k} \; \text{score}_{(r)}

    with trials in ascending order of `chosen_by`.

    Reference:
        Dodge et al. 2019, https://arxiv.org/abs/1909.03004, with the unbiased weights of Tang et al. 2020,
        https://arxiv.org/abs/2004.13705.

    >>> best_of(1, [1, 2, 3], [10.0, 20.0, 60.0]), best_of(3, [1, 2, 3], [10.0, 20.0, 60.0])
    (30.0, 60.0)
    """
    order, total = np.argsort(chosen_by, kind="stable"), len(scores)
    weights = [comb(rank - 1, k - 1) / comb(total, k) for rank in range(1, total + 1)]
    return float(np.dot(weights, np.asarray(scores, dtype=np.float64)[order]))


# Tables -----------------------------------------------------------------------------------------------------------


def budget_markdown(boards: Iterable[Board], budget: str) -> str:
    """Every board at equal budgets, as Markdown.

    Raises:
        UserError: there is no such budget.
    """
    tables = [_board(board, budget, budget_table(board, budget)) for board in boards]
    if budget == TRIALS:
        return "\n".join([*tables, TRIALS_LEGEND, ""])
    return "\n".join([*tables, f"By {budget}: {BUDGETS[budget].says}. {LEGEND}", ""])


LEGEND = (
    "The cheapest come first. Front: no other variant is cheaper and at least as good, or as cheap and better, by the "
    "means over seeds; tie: not on the front, but inside the noise of the best within its budget, the best of all that "
    "cost no more; provisional: nothing measured says how far trainings of one of the two scatter."
)
TRIALS_LEGEND = (
    "Expected score of the trial that the named figure of the validation images chooses among k trials of the sweep, "
    "taken at random (Dodge et al. 2019). A sampler that learns from its trials does not take them at random."
)


def _board(board: Board, budget: str, sheet: Table | str) -> str:
    body = sheet if isinstance(sheet, str) else markdown_table(sheet)
    said = "".join(f"Not to be trusted: {doubt}.\n\n" for doubt in doubts(board, budget))
    return f"### {title(board)} · by {budget}\n\n{said}{body}\n"


def budget_table(board: Board, budget: str) -> Table | str:
    """A board at equal budgets as a table, or the reason why there is none.

    Raises:
        UserError: there is no such budget.
    """
    return _trials(board) if budget == TRIALS else _places(board, budget)


def _places(board: Board, budget: str) -> Table | str:
    kind, (name, unit, decimals), notes = BUDGETS[budget], score_display(board), dict[str, int]()
    columns = [
        Column("cost", kind.heading, kind.unit),
        Column("variant", "variant", words=True),
        Column("seeds", "seeds"),
        Column("score", name, unit),
        Column("front", "front", words=True),
        Column("best", "best within the budget", words=True),
    ]
    rows = []
    for place in places(board, budget):
        score = place.row.estimates[board.score].mean
        missing = (notes.setdefault(place.why, len(notes) + 1),) if place.why else ()
        cost = "unavailable" if place.cost is None else number(place.cost, kind.decimals)
        shown = [place.row.variant, str(len(place.row.seeds)), number(score, decimals), _front(place), _best(place)]
        rows.append([Cell(cost, place.cost, missing), *(Cell(text, text) for text in shown)])
    return Table(columns, rows, list(notes)) if rows else "No variant is ranked."


def _front(place: Place) -> str:
    if place.cost is None:
        return "–"
    return "yes" if place.on_front else "tie" if place.tie else "provisionally no" if place.provisional else "no"


def _best(place: Place) -> str:
    if place.best is None:
        return "–"
    itself = place.best.variant == place.row.variant
    doubt = " (a tie)" if place.tie else " (provisional)" if place.provisional else ""
    return "itself" if itself else place.best.variant + doubt


def _trials(board: Board) -> Table | str:
    sweeps, why = tuned(board)
    reasons = [f"{', '.join(name for name in why if why[name] == one)}: {one}" for one in dict.fromkeys(why.values())]
    if not sweeps:
        return "\n\n".join(reasons)
    ks = sorted({k for sweep in sweeps for k in sweep.expected})
    columns = [Column("sweep", "sweep", words=True), Column("family", "family", words=True), Column("trials", "trials")]
    columns.append(Column("figure", "chosen by", words=True))
    columns += [Column(f"k{k}", f"k = {k}", score_display(board).unit) for k in ks]
    rows = [
        [Cell(text, text) for text in (sweep.sweep, sweep.family, str(sweep.trials), sweep.figure)]
        + [Cell(number(sweep.expected.get(k), score_display(board).decimals), sweep.expected.get(k)) for k in ks]
        for sweep in sweeps
    ]
    return Table(columns, rows, reasons)
