"""Boards: the runs that may be ranked together, ranked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vaebench.configuration.parts import canonical_config
from vaebench.errors import unknown
from vaebench.judging.scores import Scores
from vaebench.leaderboard.moderation import LEAST_FREEDOM, Evidence, Trainings, evidence, trainings
from vaebench.leaderboard.ranking import better, ranks
from vaebench.leaderboard.statistics import Comparison, Estimate, compare, estimate
from vaebench.records import RunRecord, canonical, leaves, seedless, setting_identity
from vaebench.records.claims import claimed
from vaebench.records.failures import Failure

LOG_LIKELIHOOD, ELBO, NLL, BITS = "log_likelihood", "elbo", "nll", "bits_per_dim"
METRICS = (LOG_LIKELIHOOD, ELBO, "rate", "distortion", BITS, "active_units")


@dataclass(frozen=True)
class Row:
    """One variant: the runs that differ in nothing but the seed.

    Attributes:
        variant: its name, with the settings that tell it from others of the same name.
        records: its runs, by seed.
        estimates: of the metrics that at least one run has.
        rank: first and last rank it may hold among the ranked; None where it cannot be ranked.
        provisional: it has a score and no rank, because nothing measured says how far its trainings scatter.
        gap: its score less the best one's, not corrected; None for the best itself and where it has no score.
        beaten_by: names of the variants that are better beyond the noise, all pairs of the board at once.
        claimed: its runs came on cards and were not verified: it has no rank, and no part in those of others.
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

    @property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self.records})


@dataclass(frozen=True)
class Board:
    """Variants measured in the same way on the same data.

    Attributes:
        data: name, measure, shape and hashes of the data set. protocol: how all were measured, without the seed.
        surrogate: whether the likelihoods are surrogates, which never meet real ones.
        wanted: the metric it was to be ranked by.
        score: the one it is ranked by: the ELBO where a log-likelihood was wanted and no variant has one.
        sign: 1 where a higher score is better, −1 where a lower one is.
        rows: those with the score first, from the best to the worst; then those without it; then claims.
        noise: over trainings, of the rows with the score, one column each.
        borrowed: variants of other boards of the same data whose seeds say how far trainings scatter, where the seeds
            of this board are too few.
        judged: what people said of the runs; see `vaebench.judging.scores`.
    """

    data: dict[str, Any]
    protocol: dict[str, Any]
    surrogate: bool
    wanted: str
    score: str
    sign: int
    rows: tuple[Row, ...]
    noise: Trainings
    borrowed: tuple[str, ...] = ()
    judged: Scores = field(default_factory=dict)


def boards(records: Iterable[RunRecord], metric: str = LOG_LIKELIHOOD, failures: Iterable[Failure] = ()) -> list[Board]:
    """Splits runs into boards and ranks each.

    Runs share a board only if data set, shape, measure and the hashes of all its splits, the protocol (K, version,
    images, ...; not its seed), the surrogate flag and the version of the metric's definition are the same.

    Args:
        records: the runs.
        metric: what to rank by: one that has a better end and a figure for every image.
        failures: runs without a record, which go to the rows of their settings, or to rows of their own.

    Raises:
        UserError: no run has such a metric.
    """
    groups: dict[bytes, list[RunRecord]] = {}
    signs = {ELBO: 1, LOG_LIKELIHOOD: 1}
    for record in records:
        version = record.metrics.get(_from(metric), {}).get("version", 1)
        groups.setdefault(canonical([common(record), version]), []).append(record)
        signs |= _signs(record, signs)
    if metric not in signs:
        raise unknown("metric", metric, signs, "These can be ranked by: " + ", ".join(sorted(signs)) + ".")
    failures = list(failures)
    sheets = [_sheet(group, metric, signs) for _, group in sorted(groups.items())]
    found = [_with_failures(_with_claims(sheet, _borrowed(sheet, sheets)), failures) for sheet in sheets]
    return sorted(found, key=lambda b: (b.data["name"], b.data["measure"], b.surrogate, -b.protocol["k"]))


def common(record: RunRecord) -> dict[str, Any]:
    """What runs must have in common to share a board."""
    return {
        "data": {name: record.data.get(name) for name in ("name", "measure", "shape", "hashes")},
        "protocol": {name: value for name, value in record.protocol.items() if name not in ("seed", "limit")},
        "surrogate": record.surrogate,
    }


def _signs(record: RunRecord, known: Collection[str]) -> dict[str, int]:
    """The metrics of a run that can be ranked by, with 1 where higher is better and −1 where lower is."""
    directed = {
        name: 1 if metric["higher_is_better"] else -1
        for name, metric in record.metrics.items()
        if name not in known and metric.get("value") is not None and metric.get("higher_is_better") is not None
    }
    arrays = record.per_image() if directed else {}
    return {name: sign for name, sign in directed.items() if _from(name) in arrays}


@dataclass(frozen=True)
class _Sheet:
    """The runs of a board before they are ranked.

    variants, claims: runs by variant: those that were measured or verified here, and those that are only claimed.
    scored: the score's figures of those that have it, (seeds, n). evidence: of the same, on how far trainings scatter.
    """

    common: dict[str, Any]
    wanted: str
    score: str
    sign: int
    variants: dict[str, tuple[RunRecord, ...]]
    claims: dict[str, tuple[RunRecord, ...]]
    scored: dict[str, np.ndarray]
    evidence: Evidence


def _sheet(records: list[RunRecord], wanted: str, signs: dict[str, int]) -> _Sheet:
    claims = _variants([record for record in records if claimed(record)])
    variants = _variants([record for record in records if not claimed(record)])
    for score in (wanted, ELBO) if wanted == LOG_LIKELIHOOD else (wanted,):
        found = {name: figures(runs, score) for name, runs in (variants or claims).items()}
        scored = {name: values for name, values in found.items() if values is not None}
        if scored:
            break
    if not variants:
        scored = {}
    known = evidence(list(scored.values()))
    return _Sheet(common(records[0]), wanted, score, signs[score], variants, claims, scored, known)


def _borrowed(sheet: _Sheet, sheets: Sequence[_Sheet]) -> tuple[tuple[str, ...], Evidence | None]:
    """The variants with several seeds on other boards of the same data, and what these say; none where not needed."""
    if sheet.evidence.freedom.sum() >= LEAST_FREEDOM:
        return (), None
    names, found = [], []
    for other in sheets:
        same = all(other.common[key] == sheet.common[key] for key in ("data", "surrogate"))
        if other is not sheet and same and other.score == sheet.score:
            several = np.flatnonzero(other.evidence.freedom > 0)
            names += [list(other.scored)[index] for index in several]
            found.append(Evidence(*(part[several] for part in other.evidence)))
    return tuple(dict.fromkeys(names)), sum(found[1:], found[0]) if names else None


def _with_claims(sheet: _Sheet, borrowed: tuple[tuple[str, ...], Evidence | None]) -> Board:
    """The board of the runs that were measured or verified here, and below them those that are only claimed."""
    board = _board(sheet, *borrowed)
    rows = [
        Row(f"{name} (claimed)", runs, _estimates(runs, board.score), claimed=True)
        for name, runs in sorted(sheet.claims.items())
    ]
    return replace(board, rows=(*board.rows, *rows))


def _with_failures(board: Board, failures: Iterable[Failure]) -> Board:
    """The board with the failures on its data, of which survivors are not to be ranked in silence."""
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
    order = sorted(names, key=lambda name: (-sheet.sign * scored[name].mean(), name))
    noise = noise.of(*(names.index(name) for name in order))
    ranked = [i for i in range(len(order)) if noise.known[i] and not noise.two_cannot_decide]
    told = better([sheet.sign * scored[order[i]] for i in ranked], noise.of(*ranked)) if ranked else np.zeros((0, 0))
    found = dict(zip((order[i] for i in ranked), zip(ranks(told), told.T, strict=True), strict=True))
    rows = []
    for place, name in enumerate(order):
        gap = compare(scored[name], scored[order[0]], noise.of(place, 0)) if place else None
        rank, beaten = found.get(name, (None, ()))
        beaten_by = frozenset(order[ranked[i]] for i in np.flatnonzero(beaten))
        estimates = _estimates(sheet.variants[name], score)
        rows.append(Row(name, sheet.variants[name], estimates, rank, rank is None, gap, beaten_by))
    rows += [Row(n, runs, _estimates(runs, score)) for n, runs in sorted(sheet.variants.items()) if n not in scored]
    told_by = borrowed if noise.known.any() else ()
    return Board(
        **sheet.common,
        wanted=sheet.wanted,
        score=score,
        sign=sheet.sign,
        rows=tuple(rows),
        noise=noise,
        borrowed=told_by,
    )


def _variants(records: list[RunRecord]) -> dict[str, tuple[RunRecord, ...]]:
    """Runs that differ in nothing but the seed, under a name that tells them from all others."""
    settings: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda r: (r.seed, str(r.path))):
        setting = setting_identity(record.family, record.config)
        settings.setdefault(record.variant, {}).setdefault(setting, []).append(record)
    named: dict[str, tuple[RunRecord, ...]] = {}
    for variant, runs in settings.items():
        for setting, name in _names(variant, {s: group[0].config for s, group in runs.items()}).items():
            named[name if name not in named else f"{name} #{setting}"] = tuple(runs[setting])
    return named


def _names(variant: str, configs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """A name for each setting of one variant: its own, or with up to three of the values in which they differ."""
    if len(configs) == 1:
        return dict.fromkeys(configs, variant)
    flat = {setting: dict(leaves(canonical_config(seedless(config)))) for setting, config in configs.items()}
    keys = sorted(set().union(*flat.values()))
    told = [key for key in keys if len({canonical(values.get(key)) for values in flat.values()}) > 1][:3]
    names = {
        setting: ", ".join(f"{key.rpartition('.')[2]} = {values.get(key)}" for key in told)
        for setting, values in flat.items()
    }
    unique = len(set(names.values())) == len(names)
    return {setting: f"{variant} ({name if unique else setting[:6]})" for setting, name in names.items()}


def _by_seed(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    return [[r for r in records if r.seed == seed] for seed in sorted({r.seed for r in records})]


def figures(records: Sequence[RunRecord], score: str) -> np.ndarray | None:
    """Scores of every image, (seeds, n); None unless every run has finite ones. Runs of equal seed are averaged."""
    shape, seeds = (records[0].protocol["n"],), []
    for runs in _by_seed(records):
        arrays = [_per_image(r, score) if r.value(score) is not None else None for r in runs]
        usable = [a for a in arrays if a is not None and a.shape == shape and np.isfinite(a).all()]
        if len(usable) < len(runs):
            return None
        seeds.append(np.mean(usable, 0, dtype=np.float64))
    return np.stack(seeds) if shape[0] > 1 else None


def _from(score: str) -> str:
    """The array that a score's figures are computed from."""
    return LOG_LIKELIHOOD if score in (NLL, BITS) else score


def _per_image(record: RunRecord, score: str) -> np.ndarray | None:
    """(n,) figures, those of NLL and bits/dim from the log-likelihoods."""
    found = record.per_image().get(_from(score))
    if _from(score) == score:
        return found
    scale = math.prod(record.data["shape"]) * math.log(2) if score == BITS else 1
    return None if found is None else -found / scale


def _estimates(records: Sequence[RunRecord], score: str) -> dict[str, Estimate]:
    found = {}
    for metric in {*METRICS, score}:
        seeds = [[r for r in runs if r.value(metric) is not None] for runs in _by_seed(records)]
        values = [float(np.mean([r.value(metric) for r in runs])) for runs in seeds if runs]
        if values:
            errors = [r.error(metric) for runs in seeds for r in runs]
            found[metric] = estimate(values, errors, records[0].protocol["n"])
    return found
