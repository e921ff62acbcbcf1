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
from vaebench.leaderboard.ranking import better, ranks
from vaebench.leaderboard.statistics import Comparison, Estimate, compare, estimate
from vaebench.records import RunRecord, canonical, seedless, setting_identity
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
        rank: first and last rank it may hold; None where it cannot be ranked.
        gap: its score less the best one's, not corrected; None for the best itself and where it is not ranked.
        beaten_by: names of the variants that are better beyond the noise, by Holm over all pairs of the board.
        claimed: its runs came on cards and were not verified: it has no rank, and no part in those of others.
        failures: its runs, of other seeds, that ended without a record.
    """

    variant: str
    records: tuple[RunRecord, ...]
    estimates: dict[str, Estimate]
    rank: tuple[int, int] | None = None
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
        rows: ranked ones first, from the best to the worst; then those that cannot be ranked; then claims.
        judged: what people said of the runs; see `vaebench.judging.scores`.
    """

    data: dict[str, Any]
    protocol: dict[str, Any]
    surrogate: bool
    wanted: str
    score: str
    sign: int
    rows: tuple[Row, ...]
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
    found = [_with_failures(_with_claims(group, metric, signs), failures) for _, group in sorted(groups.items())]
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


def _with_claims(records: list[RunRecord], metric: str, signs: dict[str, int]) -> Board:
    """The board of the runs that were measured or verified here, and below them those that are only claimed."""
    claims = [record for record in records if claimed(record)]
    own = [record for record in records if not claimed(record)]
    board = _board(own or claims, metric, signs)
    rows = [
        Row(f"{name} (claimed)", runs, _estimates(runs, board.score), claimed=True)
        for name, runs in sorted(_variants(claims).items())
    ]
    return replace(board, rows=(*(board.rows if own else ()), *rows))


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


def _board(records: list[RunRecord], wanted: str, signs: dict[str, int]) -> Board:
    variants = _variants(records)
    for score in (wanted, ELBO) if wanted == LOG_LIKELIHOOD else (wanted,):
        found = {name: figures(runs, score) for name, runs in variants.items()}
        scored = {name: values for name, values in found.items() if values is not None}
        if scored:
            break
    sign = signs[score]
    order = sorted(scored, key=lambda name: (-sign * scored[name].mean(), name))
    rows, told = [], better([sign * scored[name] for name in order]) if order else np.zeros((0, 0), dtype=bool)
    for place, (name, rank) in enumerate(zip(order, ranks(told), strict=True)):
        gap = compare(scored[name], scored[order[0]]) if place else None
        beaten_by = frozenset(order[i] for i in np.flatnonzero(told[:, place]))
        rows.append(Row(name, variants[name], _estimates(variants[name], score), rank, gap, beaten_by))
    rows += [Row(name, runs, _estimates(runs, score)) for name, runs in sorted(variants.items()) if name not in scored]
    return Board(**common(records[0]), wanted=wanted, score=score, sign=sign, rows=tuple(rows))


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
    flat = {setting: dict(_leaves(canonical_config(seedless(config)))) for setting, config in configs.items()}
    keys = sorted(set().union(*flat.values()))
    told = [key for key in keys if len({canonical(leaves.get(key)) for leaves in flat.values()}) > 1][:3]
    names = {
        setting: ", ".join(f"{key.rpartition('.')[2]} = {leaves.get(key)}" for key in told)
        for setting, leaves in flat.items()
    }
    unique = len(set(names.values())) == len(names)
    return {setting: f"{variant} ({name if unique else setting[:6]})" for setting, name in names.items()}


def _leaves(config: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(config, dict):
        yield path, config
    else:
        for key, value in config.items():
            yield from _leaves(value, f"{path}.{key}")


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
