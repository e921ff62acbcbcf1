"""A board as a table: cells of text with footnotes, for the page, and the same as Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vaebench.judging.scores import COLUMNS, judged_columns, pooled
from vaebench.leaderboard.boards import METRICS, Board, Row
from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD, NLL
from vaebench.leaderboard.kinds import kind
from vaebench.leaderboard.pareto import rate_distortion_front
from vaebench.leaderboard.statistics import Estimate
from vaebench.leaderboard.training import epochs, trained
from vaebench.leaderboard.trust import CHANGE, ESTIMATED, GAPS, UNTRUSTED
from vaebench.records import RunRecord
from vaebench.records.claims import imported

NAMES = {  # heading, unit, decimals
    LOG_LIKELIHOOD: ("log-likelihood", "nats", 2),
    ELBO: ("ELBO", "nats", 2),
    NLL: ("NLL", "nats", 2),
    "rate": ("rate", "nats", 2),
    "distortion": ("distortion", "nats", 2),
    BITS: ("bits/dim", "", 3),
    "active_units": ("active units", "", 1),
    "mig": ("MIG", "", 4),
    CHANGE: ("rise from K/10 to K", "nats", 2),
    "bracket_gap": ("bracket by AIS", "nats", 2),
    "certificate_gap": ("certificate", "nats", 2),
    "ess": ("effective samples", "", 1),
    "encoder_price": ("price of the encoder", "nats", 2),
    UNTRUSTED: ("images with k̂ > 0.7", "%", 0),
}
DECIMALS = {"": 4, "nats": 2, "dB": 2, "units": 1, "codes": 1, "samples": 1, "images": 0}  # of other figures, by unit
LEGEND = (
    "± seeds and ± images are standard errors: over trainings with other seeds, and over test images. "
    "A shared rank such as 1–2 is a tie: the difference on the same images is inside the noise of images and seeds. "
    "All pairs of a board are compared at once, with a chance of 5 % that any two equal variants are told apart. "
    "Provisional rows have no rank, for nothing measured says how far their trainings scatter. That they are below the "
    "best (of the best: above the next) holds for these trainings, and for others up to the standard deviation over "
    "seeds that is given; a tie does not hold even for these. "
    "Nats are per image; log-likelihood and ELBO are better the higher they are."
)
NONE = "–"
LEVELS = {  # of the columns that are shown first where there is little room; rank, variant and score are always there
    1: ("rank", "variant"),
    2: ("seeds", "turns", "gap"),
    3: ("over_seeds", "over_images", "epochs", UNTRUSTED),
    4: ("elbo", "rate", "distortion", "active_units"),
}


@dataclass(frozen=True)
class Column:
    """A heading, its unit, and whether it holds words; `page` columns are left out of Markdown."""

    key: str
    heading: str
    unit: str = ""
    words: bool = False
    page: bool = False


@dataclass(frozen=True)
class Cell:
    """What is shown, what it sorts by (None: last), and the numbers of its footnotes."""

    text: str
    sort: float | str | None
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A board's columns, one list of cells for each of its rows, and the footnotes, numbered from 1."""

    columns: list[Column]
    cells: list[list[Cell]]
    notes: list[str]


def title(board: Board) -> str:
    """Data set, measure, K or another figure, and in what the trainings differ, in one line."""
    parts = [board.data["name"], board.data["measure"]]
    if board.wanted != LOG_LIKELIHOOD:
        parts.append(shown_name(board)[0])
    if (k := board.estimator.get("k")) is not None:
        parts.append(f"K = {number(k)}")
    if len(board.epochs) > 1:
        parts.append(f"{', '.join(board.epochs[:-1])} and {board.epochs[-1]} epochs")
    if board.surrogate:
        parts.append("surrogate likelihoods")
    if board.trials:
        parts.append(f"trials of {', '.join(board.trials)}")
    return " · ".join(parts)


def facts(board: Board) -> dict[str, str]:
    """All that the runs of a board have in common, in words."""
    shown = ("k", "n", "split", "protocols", "version")
    settings = {name: value for name, value in board.estimator.items() if name not in shown}
    hashes, k = board.data["hashes"].items(), board.estimator.get("k")
    return {
        "images": f"{number(board.estimator['n'])} of the {board.estimator['split']} split",
        "measure": f"{board.data['measure']}{', surrogate likelihoods' if board.surrogate else ''}",
        **({"samples an image": f"K = {number(k)}"} if k is not None else {}),
        "ranked by": _ranked_by(board),
        **({"what it measures": told} if (told := _measures(board)) else {}),
        "noise over trainings": _noise(board),
        "settings": ", ".join(f"{name} {words(value)}" for name, value in sorted(settings.items())) or "none",
        "data": ", ".join(f"{split} {str(value)[:8]}" for split, value in sorted(hashes)),
    }


def _measures(board: Board) -> str:
    """What an estimate of the likelihood from an encoder's samples is, and on how many images it is to be trusted."""
    if board.score not in ESTIMATED:
        return ""
    shares = sorted(one.mean for row in board.rows if (one := row.estimates.get(UNTRUSTED)))
    bound = "L_K with samples of the encoder, a lower bound that measures the encoder too"
    if board.estimator.get("proposal") == "refined":
        bound = (
            "L_K with samples of a Gaussian refined for each image, a lower bound in expectation, of the model alone"
        )
    if not shares:
        return bound
    ends = dict.fromkeys(f"{share:.0f}" for share in (shares[0], shares[-1]))
    return f"{bound}: its weights are not to be trusted (k̂ > 0.7) on {'–'.join(ends)} % of a row's images"


def _noise(board: Board) -> str:
    """Where it comes from that of rows with one seed, or why nothing is known of it."""
    several = sum(len(row.seeds) > 1 and board.score in row.estimates and not row.claimed for row in board.rows)
    if board.noise.two_cannot_decide:
        return "two seeds cannot decide: it plainly differs between the variants, so that none has a rank"
    if board.borrowed:
        return f"from other boards of these data: seeds of {', '.join(board.borrowed)}"
    if not several:
        return "unknown, as no variant has several seeds; all are provisional"
    known = f"from the seeds of {several} variant{'s' if several > 1 else ''}"
    return known if board.noise.known.all() else f"{known}, too few for those of one seed, which are provisional"


def words(value: Any) -> str:
    """Plain JSON as words.

    >>> words({"active": [0.01, 0.1], "kl": 0.01})
    '(active (0.01, 0.1), kl 0.01)'
    """
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {words(inner)}' for name, inner in value.items())})"
    return f"({', '.join(map(words, value))})" if isinstance(value, list) else str(value)


def _ranked_by(board: Board) -> str:
    better = f"{shown_name(board)[0]}, {'higher' if board.sign > 0 else 'lower'} is better"
    if not board.images:
        better += "; a figure of each run, so that differences are judged over seeds alone"
    return better if board.score == board.wanted else f"{better}; no variant has a {named(board.wanted)[0]}"


def named(metric: str, unit: str = "") -> tuple[str, str, int]:
    """Heading, unit and decimals of a metric; `unit` is that of a metric that has no name of its own here."""
    return NAMES.get(metric, (metric.replace("_", " "), unit, DECIMALS.get(unit, 4)))


def shown_name(board: Board) -> tuple[str, str, int]:
    """Heading, unit and decimals of a board's score."""
    return named(board.score, board.unit)


def number(value: float | None, decimals: int = 0) -> str:
    """A number with its thousands grouped and a true minus sign; a dash for None.

    >>> number(-1234.5, 2), number(None)
    ('−1,234.50', '–')
    """
    return NONE if value is None else f"{value:,.{decimals}f}".replace("-", "−")


def error(value: float | None, decimals: int = 0) -> str:
    """A standard error, which is never shown as zero unless it is.

    >>> error(0.034, 2), error(0.001, 2), error(0.0, 2)
    ('0.03', '<0.01', '0.00')
    """
    small = value is not None and 0 < value < 0.5 * 10**-decimals
    return f"<{10**-decimals:.{decimals}f}" if small else number(value, decimals)


def table(board: Board) -> Table:
    """The cells of a board; its score comes first, with both standard errors."""
    known = {name for row in board.rows for name in row.estimates}
    refined = board.score in ESTIMATED and board.estimator.get("proposal") == "refined"
    asked = [name for name in (CHANGE, *GAPS, "ess", "encoder_price") if refined and name in known]
    others = [*asked, *(metric for metric in METRICS if metric != board.score)]
    early = any((chosen := r.measured) and not chosen.last for row in board.rows for r in row.records)
    provisional = any(row.gap.provisional for row in board.rows if row.gap is not None)
    people = judged_columns(board.judged, [r.digest for r in board.records])
    more = sorted(known - {board.score, UNTRUSTED, *others})
    trust = board.score in ESTIMATED and any(UNTRUSTED in row.estimates for row in board.rows)
    columns = [
        Column("rank", "rank"),
        Column("variant", "variant", words=True),
        Column("seeds", "seeds"),
        *(
            Column(board.score, *shown_name(board)[:2]),
            Column("over_seeds", "± seeds"),
            Column("over_images", "± images"),
        ),
        Column("interval", "95 % interval", shown_name(board)[1], page=True),
        Column("gap", "difference from best", "95 % interval", page=True),
        *([Column("turns", "holds up to a seed sd of", shown_name(board)[1])] if provisional else []),
        *([_metric_column(UNTRUSTED)] if trust else []),
        *(_metric_column(metric) for metric in others),
        Column("front", "rate–distortion front", words=True, page=True),
        *(Column(name, *COLUMNS[name][:2]) for name in people),
        Column("collapse", "collapse", words=True),
        Column("parameters", "parameters"),
        Column("epochs", "epochs"),
        Column("steps", "steps", page=True),
        Column("shown", "images shown", page=True),
        Column("train", "training", "s"),
        *([Column("measured", "measured at step")] if early else []),
        Column("kind", "kind", words=True, page=True),
        *(Column(name, named(name)[0], page=True) for name in more),
    ]
    notes: dict[str, int] = {}
    usual = _usual_definition(board)
    cells, front = [], rate_distortion_front(board)
    for row in board.rows:
        score, decimals = row.estimates.get(board.score), shown_name(board)[2]
        cells.append(
            [
                _rank(board, row, notes),
                _variant(row, notes),
                _seeds(row, notes),
                _metric(row, board.score, notes, shown_name(board)[2], usual),
                _error(score.over_seeds if score else None, decimals),
                _error(score.over_images if score else None, decimals),
                _interval(score, decimals),
                _gap(row, decimals),
                *([_turns(board, row, decimals)] if provisional else []),
                *([_share(row.estimates.get(UNTRUSTED))] if trust else []),
                *(_metric(row, metric, notes, named(metric)[2]) for metric in others),
                _yes(row.variant in front),
                *(_judged(board, row, name, notes) for name in people),
                _collapse(row),
                _mean([record.cost.get("parameters") for record in row.records], 0),
                *_budget(row),
                _mean([record.times.get("train_seconds") for record in row.records], 1),
                *([_measured(row, notes)] if early else []),
                _kind(row),
                *(_known(row, name) for name in more),
            ]
        )
    return Table(columns, cells, list(notes))


def level(board: Board, key: str) -> int:
    """From how much room on a column is shown: 1 is always, 5 where there is room for all or the reader asks for it."""
    return 1 if key == board.score else next((level for level, keys in LEVELS.items() if key in keys), 5)


def _note(notes: dict[str, int], text: str) -> int:
    return notes.setdefault(text, len(notes) + 1)


def _metric_column(metric: str) -> Column:
    heading, unit, _ = named(metric)
    return Column(metric, heading, unit)


def _rank(board: Board, row: Row, notes: dict[str, int]) -> Cell:
    heading = shown_name(board)[0]
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
    """How many seeds have no record, and why."""
    reasons = "; ".join(f"seed {failure.seed}: {failure.reason}" for failure in row.failures)
    return f"{lost_seeds(row)}; {reasons}"


def lost_seeds(row: Row) -> str:
    """Such as "diverged: 1 of 3 seeds"."""
    every = len({*row.seeds, *(failure.seed for failure in row.failures)})
    kinds = Counter(failure.kind for failure in row.failures)
    return ", ".join(f"{kind}: {count} of {every} seeds" for kind, count in sorted(kinds.items()))


def _variant(row: Row, notes: dict[str, int]) -> Cell:
    cards = not row.claimed and any(imported(record) for record in row.records)
    shown = (_note(notes, "a run of it came on a card, and was verified here"),) if cards else ()
    lost = f" ({lost_seeds(row)})" if row.failures else ""
    return Cell(row.variant + lost, row.variant.casefold(), shown)


def _seeds(row: Row, notes: dict[str, int]) -> Cell:
    seeds = row.seeds
    repeated = "a seed was run more than once: its runs were averaged first, and count as one"
    return Cell(str(len(seeds)), len(seeds), (_note(notes, repeated),) if len(seeds) < len(row.records) else ())


def _usual_definition(board: Board) -> str:
    """How most runs define the score, where that is an estimate or a bound; empty for other figures."""
    if board.score not in (*ESTIMATED, ELBO):
        return ""
    found = Counter(text for record in board.records if (text := _definition(record, board.score)))
    return found.most_common(1)[0][0] if found else ""


def _definition(record: RunRecord, score: str) -> str:
    return str(record.metrics[score].get("definition") or "") if record.value(score) is not None else ""


def _metric(row: Row, metric: str, notes: dict[str, int], decimals: int, usual: str = "") -> Cell:
    """The mean of a metric; `usual` is how most of the board define it, and a row that does not says what it has."""
    estimate = row.estimates.get(metric)
    missing = [record for record in row.records if record.value(metric) is None]
    reasons = "; ".join(dict.fromkeys(record.reason(metric) for record in missing))
    if not row.records:
        return Cell(NONE, None)
    if estimate is None:
        return Cell("unavailable", None, (_note(notes, f"unavailable: {reasons}"),))
    others = {text for record in row.records if (text := _definition(record, metric)) != usual} if usual else set()
    partly = f"of {len(row.records) - len(missing)} in {len(row.records)} runs; unavailable in the others: {reasons}"
    told = ([partly] if missing else []) + [f"not as in most rows: {text}" for text in sorted(others - {""})]
    return Cell(number(estimate.mean, decimals), estimate.mean, tuple(_note(notes, text) for text in told))


def _known(row: Row, metric: str) -> Cell:
    """The mean of a metric that is on the page alone; nothing where a row has none."""
    found = row.estimates.get(metric)
    return Cell(number(found.mean, named(metric)[2]), found.mean) if found else Cell(NONE, None)


def _kind(row: Row) -> Cell:
    return Cell(text := kind(row.records[0]), text) if row.records else Cell(NONE, None)


def _share(estimate: Estimate | None) -> Cell:
    return Cell(number(estimate.mean), estimate.mean) if estimate else Cell(NONE, None)


def _budget(row: Row) -> list[Cell]:
    """Epochs, steps and images that its runs were trained for, means over them."""
    found = [one for record in row.records if (one := trained(record))]
    if not found:
        return [Cell(NONE, None)] * 3
    passes = sum(one.epochs for one in found) / len(found)
    rest = [_mean([one.steps for one in found], 0), _mean([one.images for one in found], 0)]
    return [Cell(epochs(passes), passes), *rest]


def _judged(board: Board, row: Row, name: str, notes: dict[str, int]) -> Cell:
    """What people said of a row's runs."""
    found = [score for r in row.records if (score := board.judged.get(r.digest, {}).get(name)) is not None]
    if not found:
        return Cell(NONE, None)
    said, (heading, _, decimals, definition) = pooled(found), COLUMNS[name]
    if said.value is None:
        return Cell("unavailable", None, (_note(notes, f"unavailable: {said.unavailable}"),))
    ends = "" if said.low is None else f" ({number(said.low, decimals)} to {number(said.high, decimals)})"
    judged = f"; judged: {len(found)} of {len(row.records)} runs" if len(row.records) > 1 else ""
    return Cell(number(said.value, decimals) + ends, said.value, (_note(notes, f"{heading}: {definition}{judged}"),))


def _error(value: float | None, decimals: int) -> Cell:
    return Cell(error(value, decimals), value)


def _interval(score: Estimate | None, decimals: int) -> Cell:
    """Of the mean; it says where it does not cover both kinds of noise."""
    if score is None or score.interval is None:
        return Cell(NONE, None)
    alone = "" if score.covers == "seeds and images" else f" ({score.covers} alone)"
    return Cell(" to ".join(number(end, decimals) for end in score.interval) + alone, score.interval[0])


def _gap(row: Row, decimals: int) -> Cell:
    if row.gap is None:
        return Cell(NONE, 0.0 if row.rank or row.provisional else None)
    low, high = (number(end, decimals) for end in row.gap.interval)
    return Cell(f"{number(row.gap.difference, decimals)} ({low} to {high})", row.gap.difference)


def _turns(board: Board, row: Row, decimals: int) -> Cell:
    """Up to which sd over trainings its difference from the best, or the best one's from the next, would hold."""
    gap = board.rows[1].gap if row is board.rows[0] and len(board.rows) > 1 else row.gap
    if gap is None or not gap.provisional:
        return Cell(NONE, None)
    return Cell("a tie" if gap.turns is None else error(gap.turns, decimals), gap.turns or 0.0)


def _yes(value: bool) -> Cell:
    return Cell("yes" if value else NONE, 0.0 if value else None)


def _collapse(row: Row) -> Cell:
    """The verdict, or how many runs came to each."""
    if not row.records:
        return Cell(NONE, None)
    verdicts = Counter(str(record.collapse.get("verdict", "unknown")) for record in row.records)
    alike = len(verdicts) == 1
    text = ", ".join(verdict if alike else f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return Cell(text, text)


def _mean(values: Sequence[float | None], decimals: int) -> Cell:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    return Cell(number(mean, decimals), mean)


def _measured(row: Row, notes: dict[str, int]) -> Cell:
    """The steps whose weights a row's runs are measured with, of how many; where it is not the last, what chose it."""
    chosen = [found for record in row.records if (found := record.measured)]
    if not chosen or all(one.last for one in chosen):
        return Cell("last" if chosen else NONE, 1.0 if chosen else None)
    ends = [sorted({one.step for one in chosen}), sorted({one.of for one in chosen if one.of is not None})]
    steps, of = ("–".join(number(n) for n in dict.fromkeys((some[0], some[-1]))) for some in ends)
    by = dict.fromkeys(r.selection.partition(" step ")[0].removesuffix(" at").rstrip(",") for r in row.records)
    note = _note(notes, f"not the last weights but those of the {' or '.join(by)}")
    return Cell(f"{steps} of {of}", min(one.step / (one.of or one.step) for one in chosen), (note,))


# Markdown ---------------------------------------------------------------------------------------------------------


def markdown(boards: Iterable[Board]) -> str:
    """Every board as a Markdown table with its footnotes, and one legend."""
    return "\n".join([*(_markdown(board) for board in boards), LEGEND, ""])


def _markdown(board: Board) -> str:
    told = escaped("; ".join(f"{name}: {value}" for name, value in facts(board).items()))
    return f"### {escaped(title(board))}\n\n{told}\n\n{markdown_table(table(board))}"


def markdown_table(sheet: Table) -> str:
    """A table and its footnotes as Markdown."""
    shown = [index for index, column in enumerate(sheet.columns) if not column.page]
    headings = [
        escaped(c.heading + (f" ({c.unit})" if c.unit else "")) for c in (sheet.columns[index] for index in shown)
    ]
    lines = [
        _line(headings),
        _line([":--" if sheet.columns[index].words else "--:" for index in shown]),
        *(_line([_text(cells[index]) for index in shown]) for cells in sheet.cells),
        "",
        *(f"[{index}] {escaped(note)}\n" for index, note in enumerate(sheet.notes, 1)),
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    return " ".join([escaped(cell.text), *(f"[{note}]" for note in cell.notes)])


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(escaped("a|b <i> <0.01"))
    a\|b \<i> <0.01
    """
    return re.sub(r"([\\`*\[\]|]|<(?=[A-Za-z/!?])|&(?=[A-Za-z#]))", r"\\\1", " ".join(text.split()))
