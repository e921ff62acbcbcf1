"""Boards: groups of comparable runs, ranked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vaebench.errors import unknown
from vaebench.judging.scores import Scores
from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD, comparable
from vaebench.leaderboard.figures import estimates, of_images, seed_scores
from vaebench.leaderboard.moderation import LEAST_FREEDOM, Evidence, Trainings, evidence, trainings
from vaebench.leaderboard.ranking import better, ranks
from vaebench.leaderboard.statistics import Comparison, Estimate, compare
from vaebench.leaderboard.training import span, trained
from vaebench.leaderboard.trust import UNTRUSTED, open_ends, undecided
from vaebench.leaderboard.variants import variants
from vaebench.records import RunRecord, canonical, setting_identity
from vaebench.records.claims import claimed
from vaebench.records.failures import Failure
from vaebench.records.rank import read_rank

METRICS = (LOG_LIKELIHOOD, ELBO, "rate", "distortion", BITS, "active_units")


@dataclass(frozen=True)
class Row:
    """One variant: the runs that differ in nothing but the seed.

    Attributes:
        variant: its name, with the settings that distinguish it from others of the same name.
        records: its runs, by seed.
        estimates: of the metrics that at least one run has.
        rank: first and last rank it may hold among the ranked; None where it cannot be ranked.
        provisional: it has a score but no rank, because its variance over trainings is unknown.
        undecided: why its score is unreliable, so that it has no rank; empty otherwise.
        gap: its score minus the best one, without correction for multiple comparisons; None for the best itself, and
            without a score.
        beaten_by: names of the variants that are significantly better, with all pairs of the board compared at once.
        claimed: its runs were imported from cards and not verified; it has no rank and does not affect other ranks.
        failures: its runs, of other seeds, that ended without a record.
    """

    variant: str
    records: tuple[RunRecord, ...]
    estimates: dict[str, Estimate]
    rank: tuple[int, int] | None = None
    provisional: bool = False
    gap: Comparison | None = None
    beaten_by: frozenset[str] = frozenset()
    claimed: bool = False
    failures: tuple[Failure, ...] = ()
    undecided: str = ""

    @property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self.records})


@dataclass(frozen=True)
class Board:
    """Variants whose score was estimated in the same way on the same data.

    Attributes:
        data: name, measure, shape and hashes of the data set.
        estimator: how the score was estimated; see `comparable.py`.
        surrogate: whether the likelihoods are surrogates, which are never ranked with real ones.
        wanted: the requested ranking metric.
        score: the ranking metric in use: the ELBO where a log-likelihood is wanted and no variant has one.
        sign: 1 where a higher score is better, −1 where a lower one is.
        trials: sweeps whose trials the board ranks, where trials have boards of their own.
        images: whether the score has a value for every image; otherwise runs are ranked over seeds alone.
        unit: of the score.
        rows: from the best score to the worst, then those without a score, then claims.
        noise: over trainings, of the rows with the score, one column each.
        borrowed: variants of other boards of the same data that supply the variance over trainings, where this board
            has too few seeds.
        judged: human judgements of the runs; see `vaebench.judging.scores`.
    """

    data: dict[str, Any]
    estimator: dict[str, Any]
    surrogate: bool
    wanted: str
    score: str
    sign: int
    trials: tuple[str, ...]
    images: bool
    unit: str
    rows: tuple[Row, ...]
    noise: Trainings
    borrowed: tuple[str, ...] = ()
    judged: Scores = field(default_factory=dict)

    @property
    def records(self) -> list[RunRecord]:
        """The runs of all rows."""
        return [record for row in self.rows for record in row.records]

    @property
    def epochs(self) -> list[str]:
        """The distinct numbers of training epochs of its runs, ascending, as text."""
        return span(map(trained, self.records))


def boards(
    records: Iterable[RunRecord],
    metric: str | None = None,
    failures: Iterable[Failure] = (),
    trials: bool = False,
) -> list[Board]:
    """Splits runs into boards and ranks each.

    Runs share a board only if data set, shape, measure and the hashes of all its splits, the surrogate flag and the
    estimator of the score are the same: images, version of the definition, and settings such as K and precision of its
    measurement.

    Args:
        records: the runs.
        metric: ranking metric, one with a better direction; None: that of each run's benchmark, or the log-likelihood.
            Boards on which no run has the requested metric are left out.
        failures: runs without a record; they join the rows of their settings, or form rows of their own.
        trials: rank the trials of sweeps among the other runs, instead of on boards of their own.

    Raises:
        UserError: no run has such a metric.
    """
    records = list(records)
    signs = _signs(records)
    if metric is not None and metric not in signs:
        if f"{LOG_LIKELIHOOD}_{metric}" not in signs:
            raise unknown("metric", metric, signs, f"These can be ranked by: {', '.join(sorted(signs))}.")
        metric = f"{LOG_LIKELIHOOD}_{metric}"
    groups: dict[bytes, tuple[str, list[RunRecord]]] = {}
    for record in records:
        named = metric or read_rank(record)
        wanted = named if named in signs else LOG_LIKELIHOOD
        apart = not trials and trial(record)
        key = canonical([wanted, comparable(record, wanted), apart])
        groups.setdefault(key, (wanted, []))[1].append(record)
    sheets = [_sheet(group, wanted, signs, trials) for _, (wanted, group) in sorted(groups.items())]
    failures = list(failures)
    complete = [_with_failures(_with_claims(sheet, _borrowed(sheet, sheets)), failures) for sheet in sheets]
    shown = [board for board in complete if metric in (None, LOG_LIKELIHOOD) or _has_score(board)]
    return sorted(shown, key=_place)


def _place(board: Board) -> tuple[Any, ...]:
    return (
        board.data["name"], board.data["measure"], board.surrogate, bool(board.trials),
        board.wanted != LOG_LIKELIHOOD, board.wanted, -(board.estimator.get("k") or 0),
    )  # fmt: skip


def _has_score(board: Board) -> bool:
    return any(board.score in row.estimates for row in board.rows)


def trial(record: RunRecord) -> bool:
    """Whether a run is a trial of a sweep."""
    return "trial" in record.cost


def _signs(records: Iterable[RunRecord]) -> dict[str, int]:
    """The metrics with a better direction: 1 where higher is better, −1 where lower is."""
    signs = {ELBO: 1, LOG_LIKELIHOOD: 1}
    for record in records:
        for name, metric in record.metrics.items():
            if metric.get("value") is not None and metric.get("higher_is_better") is not None:
                signs.setdefault(name, 1 if metric["higher_is_better"] else -1)
    return signs


@dataclass(frozen=True)
class _Sheet:
    """The runs of a board before they are ranked.

    variants, claims: runs by variant, those measured or verified here and those only claimed.
    scored: scores of the variants that have them, (seeds, n or 1).
    evidence: of the same variants, on the variance over trainings.
    """

    common: dict[str, Any]
    records: list[RunRecord]
    wanted: str
    score: str
    sign: int
    trials: tuple[str, ...]
    images: bool
    variants: dict[str, tuple[RunRecord, ...]]
    claims: dict[str, tuple[RunRecord, ...]]
    scored: dict[str, np.ndarray]
    evidence: Evidence


def _sheet(records: list[RunRecord], wanted: str, signs: dict[str, int], together: bool) -> _Sheet:
    claims = variants(record for record in records if claimed(record))
    measured = variants(record for record in records if not claimed(record))
    for score in (wanted, ELBO) if wanted == LOG_LIKELIHOOD else (wanted,):
        images = of_images(records, score)
        scores = {name: seed_scores(runs, score, images) for name, runs in (measured or claims).items()}
        scored = {name: values for name, values in scores.items() if values is not None}
        if scored:
            break
    if not measured:
        scored = {}
    sweeps = () if together else tuple(sorted({str(record.benchmark) for record in records if trial(record)}))
    known, common = evidence(list(scored.values())), comparable(records[0], wanted)
    return _Sheet(common, records, wanted, score, signs[score], sweeps, images, measured, claims, scored, known)


def _borrowed(sheet: _Sheet, sheets: Sequence[_Sheet]) -> tuple[tuple[str, ...], Evidence | None]:
    """Variants with several seeds on other boards of the same data, and their evidence; none where not needed."""
    if sheet.evidence.freedom.sum() >= LEAST_FREEDOM:
        return (), None
    names, evidence = [], []
    for other in sheets:
        same = all(other.common[key] == sheet.common[key] for key in ("data", "surrogate"))
        if other is not sheet and same and other.score == sheet.score:
            several = np.flatnonzero(other.evidence.freedom > 0)
            names += [list(other.scored)[index] for index in several]
            evidence.append(Evidence(*(part[several] for part in other.evidence)))
    return tuple(dict.fromkeys(names)), sum(evidence[1:], evidence[0]) if names else None


def _with_claims(sheet: _Sheet, borrowed: tuple[tuple[str, ...], Evidence | None]) -> Board:
    """The board of runs measured or verified here, followed by rows that are only claimed."""
    board = _board(sheet, *borrowed)
    rows = [
        Row(f"{name} (claimed)", runs, estimates(runs, _shown(board.score, runs)), claimed=True)
        for name, runs in sorted(sheet.claims.items())
    ]
    return replace(board, rows=(*board.rows, *rows))


def _with_failures(board: Board, failures: Iterable[Failure]) -> Board:
    """The board with failures on its data, so that survivors are not ranked without notice."""
    lost: dict[str, list[Failure]] = {}
    for failure in failures:
        same = all(failure.data.get(name) == board.data.get(name) for name in ("name", "measure", "shape", "hashes"))
        if same and failure.surrogate == board.surrogate:
            lost.setdefault(setting_identity(failure.family, failure.config), []).append(failure)
    rows, benchmarks = [], {record.benchmark for row in board.rows for record in row.records}
    for row in board.rows:
        setting = setting_identity(row.records[0].family, row.records[0].config)
        own = [] if row.claimed else lost.pop(setting, [])
        rows.append(replace(row, failures=tuple(f for f in own if f.seed not in row.seeds)))
    for own in lost.values():
        if own[0].benchmark in benchmarks:
            rows.append(Row(own[0].variant, (), {}, failures=tuple(own)))
    return replace(board, rows=tuple(rows))


def _board(sheet: _Sheet, borrowed: tuple[str, ...], others: Evidence | None) -> Board:
    scored, score, names = sheet.scored, sheet.score, list(sheet.scored)
    noise = trainings(sheet.evidence, others)
    doubts = {name: undecided(sheet.variants[name], score) for name in names}
    order = sorted(names, key=lambda name: (bool(doubts[name]), -sheet.sign * scored[name].mean(), name))
    noise = noise.of(*(names.index(name) for name in order))
    opened = open_ends([sheet.variants[name] for name in order], score)
    able = [noise.known[i] and not noise.two_cannot_decide and not doubts[order[i]] for i in range(len(order))]
    ranked = [i for i, yes in enumerate(able) if yes]
    values, apart = [sheet.sign * scored[order[i]] for i in ranked], opened[np.ix_(ranked, ranked)]
    beats = better(values, noise.of(*ranked), opened=apart) if ranked else np.zeros((0, 0))
    places = dict(zip((order[i] for i in ranked), zip(ranks(beats), beats.T, strict=True), strict=True))
    rows = []
    for place, name in enumerate(order):
        gap = compare(scored[name], scored[order[0]], noise.of(place, 0), opened[place, 0]) if place else None
        rank, beaten = places.get(name, (None, ()))
        beaten_by = frozenset(order[ranked[i]] for i in np.flatnonzero(beaten))
        means = estimates(sheet.variants[name], _shown(score, sheet.variants[name]))
        provisional = rank is None and not doubts[name]
        row = Row(name, sheet.variants[name], means, rank, provisional, gap, beaten_by, undecided=doubts[name])
        rows.append(row)
    rest = [(name, runs) for name, runs in sorted(sheet.variants.items()) if name not in scored]
    rows += [Row(name, runs, estimates(runs, _shown(score, runs))) for name, runs in rest]
    told_by = borrowed if noise.known.any() else ()
    return Board(
        **sheet.common,
        wanted=sheet.wanted,
        score=score,
        sign=sheet.sign,
        trials=sheet.trials,
        images=sheet.images,
        unit=next((str(r.metrics[score]["unit"]) for r in sheet.records if r.value(score) is not None), ""),
        rows=tuple(rows),
        noise=noise,
        borrowed=told_by,
    )


def _shown(score: str, runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """The metrics with estimates in a row: those that every table shows, then all others of its runs."""
    return tuple(dict.fromkeys((score, *METRICS, UNTRUSTED, *(name for run in runs for name in sorted(run.metrics)))))
