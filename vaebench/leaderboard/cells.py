"""Columns and cells of a table, and the cells of one row of a board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vaebench.judging.scores import COLUMNS, pooled
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.comparable import ELBO
from vaebench.leaderboard.display import NONE, display, error, number, score_display
from vaebench.leaderboard.kinds import kind
from vaebench.leaderboard.statistics import Estimate
from vaebench.leaderboard.training import epochs, trained
from vaebench.leaderboard.trust import ESTIMATED
from vaebench.records import RunRecord
from vaebench.records.claims import imported


@dataclass(frozen=True)
class Column:
    """A column's heading, its unit, and whether it holds text; `page` columns are left out of Markdown."""

    key: str
    heading: str
    unit: str = ""
    words: bool = False
    page: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell's text, its sort key (None: last), and the numbers of its footnotes."""

    text: str
    sort: float | str | None
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """Columns, one list of cells per row, and the footnotes, numbered from 1."""

    columns: list[Column]
    cells: list[list[Cell]]
    notes: list[str]


def _note(notes: dict[str, int], text: str) -> int:
    return notes.setdefault(text, len(notes) + 1)


def metric_column(metric: str) -> Column:
    heading, unit, _ = display(metric)
    return Column(metric, heading, unit)


def rank_cell(board: Board, row: Row, notes: dict[str, int]) -> Cell:
    heading = score_display(board).heading
    if row.claimed:
        claim = "claimed: it came on a card and has no rank until `vaebench verify` or `vaebench reproduce` agrees"
        return Cell("claimed", None, (_note(notes, claim),))
    if not row.records:
        return Cell(NONE, None, (_note(notes, _lost(row)),))
    if row.provisional:
        lost = (_note(notes, f"the runs that survived: {_lost(row)}"),) if row.failures else ()
        return Cell("provisional", board.rows.index(row), (_note(notes, _why_provisional(board)), *lost))
    if row.undecided:
        return Cell("not decided", None, (_note(notes, f"not decided: {row.undecided}"),))
    if row.rank is None:
        whole = " of every image" if board.images else ""
        return Cell(NONE, None, (_note(notes, f"not ranked: not every run has a {heading}{whole}"),))
    first, last = row.rank
    text = str(first) if first == last else f"{first}–{last}"
    alone = "one seed: how far its trainings scatter is taken from other variants, and allowed to be far more"
    notes_of = [] if len(row.seeds) > 1 else [_note(notes, alone)]
    if row.failures:
        notes_of.append(_note(notes, f"ranked by the runs that survived: {_lost(row)}"))
    return Cell(text, board.rows.index(row), tuple(notes_of))


def _why_provisional(board: Board) -> str:
    if board.noise.two_cannot_decide:
        return "no rank: noise over trainings plainly differs between the variants, and two seeds cannot say how much"
    return "no rank: with one seed nothing says how far its trainings scatter; train it with more seeds"


def _lost(row: Row) -> str:
    """The number of seeds without a record, and the reasons."""
    reasons = "; ".join(f"seed {failure.seed}: {failure.reason}" for failure in row.failures)
    return f"{lost_seeds(row)}; {reasons}"


def lost_seeds(row: Row) -> str:
    """Such as "diverged: 1 of 3 seeds"."""
    every = len({*row.seeds, *(failure.seed for failure in row.failures)})
    kinds = Counter(failure.kind for failure in row.failures)
    return ", ".join(f"{kind}: {count} of {every} seeds" for kind, count in sorted(kinds.items()))


def variant_cell(row: Row, notes: dict[str, int]) -> Cell:
    cards = not row.claimed and any(imported(record) for record in row.records)
    shown = (_note(notes, "a run of it came on a card, and was verified here"),) if cards else ()
    lost = f" ({lost_seeds(row)})" if row.failures else ""
    return Cell(row.variant + lost, row.variant.casefold(), shown)


def seeds_cell(row: Row, notes: dict[str, int]) -> Cell:
    seeds = row.seeds
    repeated = "a seed was run more than once: its runs were averaged first, and count as one"
    return Cell(str(len(seeds)), len(seeds), (_note(notes, repeated),) if len(seeds) < len(row.records) else ())


def usual_definition(board: Board) -> str:
    """The commonest definition of the score, where it is an estimate or a bound; empty for other metrics."""
    if board.score not in (*ESTIMATED, ELBO):
        return ""
    definitions = Counter(text for record in board.records if (text := _definition(record, board.score)))
    return definitions.most_common(1)[0][0] if definitions else ""


def _definition(record: RunRecord, score: str) -> str:
    return str(record.metrics[score].get("definition") or "") if record.value(score) is not None else ""


def metric_cell(row: Row, metric: str, notes: dict[str, int], decimals: int, usual: str = "") -> Cell:
    """The mean of a metric; a row with another definition than `usual` gets a footnote with its own."""
    estimate = row.estimates.get(metric)
    missing = [record for record in row.records if record.value(metric) is None]
    reasons = "; ".join(dict.fromkeys(record.reason(metric) for record in missing))
    if not row.records:
        return Cell(NONE, None)
    if estimate is None:
        return Cell("unavailable", None, (_note(notes, f"unavailable: {reasons}"),))
    others = {text for record in row.records if (text := _definition(record, metric)) != usual} if usual else set()
    partly = f"of {len(row.records) - len(missing)} in {len(row.records)} runs; unavailable in the others: {reasons}"
    texts = ([partly] if missing else []) + [f"not as in most rows: {text}" for text in sorted(others - {""})]
    return Cell(number(estimate.mean, decimals), estimate.mean, tuple(_note(notes, text) for text in texts))


def extra_cell(row: Row, metric: str) -> Cell:
    """The mean of a metric that only the page shows; a dash where a row has none."""
    estimate = row.estimates.get(metric)
    return Cell(number(estimate.mean, display(metric).decimals), estimate.mean) if estimate else Cell(NONE, None)


def kind_cell(row: Row) -> Cell:
    return Cell(text := kind(row.records[0]), text) if row.records else Cell(NONE, None)


def share_cell(estimate: Estimate | None) -> Cell:
    return Cell(number(estimate.mean), estimate.mean) if estimate else Cell(NONE, None)


def budget_cells(row: Row) -> list[Cell]:
    """Training epochs, steps and images, means over the runs."""
    budgets = [one for record in row.records if (one := trained(record))]
    if not budgets:
        return [Cell(NONE, None)] * 3
    passes = sum(one.epochs for one in budgets) / len(budgets)
    rest = [mean_cell([one.steps for one in budgets], 0), mean_cell([one.images for one in budgets], 0)]
    return [Cell(epochs(passes), passes), *rest]


def judged_cell(board: Board, row: Row, name: str, notes: dict[str, int]) -> Cell:
    """The human judgements of a row's runs."""
    scores = [score for r in row.records if (score := board.judged.get(r.digest, {}).get(name)) is not None]
    if not scores:
        return Cell(NONE, None)
    said, (heading, _, decimals, definition) = pooled(scores), COLUMNS[name]
    if said.value is None:
        return Cell("unavailable", None, (_note(notes, f"unavailable: {said.unavailable}"),))
    ends = "" if said.low is None else f" ({number(said.low, decimals)} to {number(said.high, decimals)})"
    judged = f"; judged: {len(scores)} of {len(row.records)} runs" if len(row.records) > 1 else ""
    return Cell(number(said.value, decimals) + ends, said.value, (_note(notes, f"{heading}: {definition}{judged}"),))


def error_cell(value: float | None, decimals: int) -> Cell:
    return Cell(error(value, decimals), value)


def interval_cell(score: Estimate | None, decimals: int) -> Cell:
    """The interval of the mean, marked where it does not cover both kinds of noise."""
    if score is None or score.interval is None:
        return Cell(NONE, None)
    alone = "" if score.covers == "seeds and images" else f" ({score.covers} alone)"
    return Cell(" to ".join(number(end, decimals) for end in score.interval) + alone, score.interval[0])


def gap_cell(row: Row, decimals: int) -> Cell:
    if row.gap is None:
        return Cell(NONE, 0.0 if row.rank or row.provisional else None)
    low, high = (number(end, decimals) for end in row.gap.interval)
    return Cell(f"{number(row.gap.difference, decimals)} ({low} to {high})", row.gap.difference)


def turns_cell(board: Board, row: Row, decimals: int) -> Cell:
    """The largest sd over trainings at which the difference from the best, or the best one's from the next, holds."""
    gap = board.rows[1].gap if row is board.rows[0] and len(board.rows) > 1 else row.gap
    if gap is None or not gap.provisional:
        return Cell(NONE, None)
    return Cell("a tie" if gap.turns is None else error(gap.turns, decimals), gap.turns or 0.0)


def yes_cell(value: bool) -> Cell:
    return Cell("yes" if value else NONE, 0.0 if value else None)


def collapse_cell(row: Row) -> Cell:
    """The verdict, or the number of runs with each."""
    if not row.records:
        return Cell(NONE, None)
    verdicts = Counter(str(record.collapse.get("verdict", "unknown")) for record in row.records)
    alike = len(verdicts) == 1
    text = ", ".join(verdict if alike else f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return Cell(text, text)


def mean_cell(values: Sequence[float | None], decimals: int) -> Cell:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    return Cell(number(mean, decimals), mean)


def measured_cell(row: Row, notes: dict[str, int]) -> Cell:
    """The training step of the measured weights, of how many; a footnote on the selection where it is not the last."""
    chosen = [selection for record in row.records if (selection := record.measured)]
    if not chosen or all(one.last for one in chosen):
        return Cell("last" if chosen else NONE, 1.0 if chosen else None)
    ends = [sorted({one.step for one in chosen}), sorted({one.of for one in chosen if one.of is not None})]
    steps, of = ("–".join(number(n) for n in dict.fromkeys((some[0], some[-1]))) for some in ends)
    by = dict.fromkeys(r.selection.partition(" step ")[0].removesuffix(" at").rstrip(",") for r in row.records)
    note = _note(notes, f"not the last weights but those of the {' or '.join(by)}")
    return Cell(f"{steps} of {of}", min(one.step / (one.of or one.step) for one in chosen), (note,))
