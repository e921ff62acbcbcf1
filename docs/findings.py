"""Writes docs/findings.md, what the records say on one page, and its pictures; every figure comes from the records.

python docs/findings.py
"""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import matplotlib
from figures import BLUE, GREY, STYLE
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.stats import f_oneway, ncf, spearmanr

from vaebench.files.atomic import rewrite, write_atomically
from vaebench.leaderboard.boards import Board, Row, boards
from vaebench.leaderboard.budgets import places
from vaebench.leaderboard.comparable import ELBO, LOG_LIKELIHOOD
from vaebench.leaderboard.display import number
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.kinds import KINDS, kind
from vaebench.leaderboard.versus import rows_versus
from vaebench.leaderboard.versus_text import amount, signed
from vaebench.records import read_records

ROOT = Path(__file__).parent.parent
PAGE, FIGURES, RESULTS = ROOT / "docs" / "findings.md", ROOT / "docs" / "figures", ROOT / "results"
MARKED = re.compile(r"(<!-- (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NAMED = 20  # nats between bound and likelihood from which a variant's dot has its name
SCORES = {"mig": "MIG", "local_mig": "local MIG", "sap": "SAP", "modularity": "modularity",
          "dci_disentanglement": "DCI disentanglement", "irs": "IRS", "factor_vae_score": "FactorVAE score",
          "beta_vae_score": "β-VAE score"}  # fmt: skip
DATA, OTHER, BASELINE = "binarized_mnist", "fashion_mnist", "vae"


def main_board(ranked: Sequence[Board], data: str = DATA) -> Board:
    """Static MNIST, or other images, under a proposal made for each image, one budget for all."""
    (board,) = (
        one for one in ranked
        if one.data["name"] == data and one.estimator.get("proposal") == "refined" and not one.trials
    )  # fmt: skip
    return board


def scored(board: Board) -> list[Row]:
    """The rows with a score, the best first."""
    return [row for row in board.rows if board.score in row.estimates and not row.claimed]


def by_kind(board: Board) -> dict[str, list[Row]]:
    """The rows of each kind that has some, the best first."""
    found: dict[str, list[Row]] = {}
    for row in scored(board):
        found.setdefault(kind(row.records[0]), []).append(row)
    return {name: found[name] for name in KINDS if name in found}


def mean(row: Row, metric: str = LOG_LIKELIHOOD) -> float:
    return float(row.estimates[metric].mean)


def kinds(ranked: Sequence[Board]) -> str:
    """A line a kind: its best variant, and by how much it is ahead of the plain VAE."""
    board = main_board(ranked)
    lines = ["| kind | variants | the best of them | log p(x) (nats) | less the VAE's (95 % interval) | verdict |",
             "| :-- | --: | :-- | --: | --: | :-- |"]  # fmt: skip
    for name, rows in sorted(by_kind(board).items(), key=lambda item: -mean(item[1][0])):
        best = rows[0]
        cells = [name, str(len(rows)), best.variant, number(mean(best), 2), *_ahead(board, best)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def elsewhere(ranked: Sequence[Board]) -> str:
    """The variants of the board of other images beside the same on static MNIST, and how far their orders agree."""
    here, there = main_board(ranked), main_board(ranked, OTHER)
    known = {row.variant: row for row in scored(here)}
    rows = [row for row in scored(there) if row.variant in known]
    rho = spearmanr([mean(row) for row in rows], [mean(known[row.variant]) for row in rows]).statistic
    less = "less the VAE's (95 % interval) | verdict"
    lines = [f"| variant | Fashion-MNIST, log p(x) (nats) | {less} | static MNIST, {less} |",
             "| :-- | --: | --: | :-- | --: | :-- |"]  # fmt: skip
    for row in rows:
        cells = [row.variant, number(mean(row), 2), *_ahead(there, row), *_ahead(here, known[row.variant])]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        f"\nBetween the means of the two boards the rank correlation over these variants is {signed_number(rho)}."
    )
    return "\n".join(lines) + "\n"


def _ahead(board: Board, row: Row) -> tuple[str, str]:
    if row.variant == BASELINE:
        return "–", "–"
    one = rows_versus(board, row, _baseline(board))
    low, high = one.result.interval
    difference = f"{signed(one, one.result.difference)} ({signed(one, low)} to {signed(one, high)})"
    if one.result.turns is not None:
        return difference, f"{one.verdict}, provisionally: unless seeds scatter by over {amount(one, one.result.turns)}"
    return difference, one.verdict


def _baseline(board: Board) -> Row:
    (found,) = (row for row in board.rows if row.variant == BASELINE)
    return found


def fronts(ranked: Sequence[Board]) -> str:
    """The variants that nothing cheaper matches, by FLOPs of a training."""
    board = main_board(ranked)
    lines = ["| training (TFLOPs) | variant | log p(x) (nats) |", "| --: | :-- | --: |"]
    for place in places(board, "flops"):
        if place.on_front and place.cost is not None:
            lines.append(f"| {number(place.cost, 1)} | {place.row.variant} | {number(mean(place.row), 2)} |")
    return "\n".join(lines) + "\n"


def collapse(ranked: Sequence[Board]) -> str:
    """Sentences on units that carry nothing."""
    board = main_board(ranked)
    rows = [row for row in scored(board) if all(record.collapse.get("units") is not None for record in row.records)]
    share = {
        row.variant: statistics.mean(len(run.collapse["units"]) / len(run.units["decoder_drop"]) for run in row.records)
        for row in rows
    }
    verdicts = [row.records[0].collapse["verdict"] for row in rows]
    most = sorted(rows, key=lambda row: -share[row.variant])[:3]
    rho = spearmanr([share[row.variant] for row in rows], [mean(row) for row in rows]).statistic
    counted = ", ".join(f"{verdicts.count(name)} {name}" for name in ("none", "partial", "full") if name in verdicts)
    named = ", ".join(f"{row.variant} ({100 * share[row.variant]:.0f} %)" for row in most)
    return (
        f"Of {len(rows)} variants the verdicts on collapse are: {counted}. Most units carry nothing in {named}. "
        f"Between the share of such units and log p(x) the rank correlation over variants is {signed_number(rho)}.\n"
    )


def bounds(ranked: Sequence[Board]) -> str:
    """The variants whose place by the ELBO differs most from that by log p(x)."""
    board = main_board(ranked)
    rows = [row for row in scored(board) if ELBO in row.estimates]
    order = {metric: sorted(rows, key=lambda row: -mean(row, metric)) for metric in (LOG_LIKELIHOOD, ELBO)}
    place = {metric: {row.variant: n for n, row in enumerate(some, 1)} for metric, some in order.items()}
    moved = sorted(rows, key=lambda row: -abs(place[ELBO][row.variant] - place[LOG_LIKELIHOOD][row.variant]))[:6]
    rho = spearmanr([mean(row) for row in rows], [mean(row, ELBO) for row in rows]).statistic
    lines = [
        f"Over the {len(rows)} variants that have both, the rank correlation is {signed_number(rho)}. Most moved:\n",
        "| variant | place by the ELBO | place by log p(x) | log p(x) less ELBO (nats) |",
        "| :-- | --: | --: | --: |",
    ]
    for row in moved:
        gap = number(mean(row) - mean(row, ELBO), 1)
        lines.append(f"| {row.variant} | {place[ELBO][row.variant]} | {place[LOG_LIKELIHOOD][row.variant]} | {gap} |")
    return "\n".join(lines) + "\n"


def undecided(ranked: Sequence[Board]) -> str:
    """A line a board of several variants: how many of its pairs are decided, and whether its leader is."""
    lines = ["| board | variants | of several seeds | pairs decided | the leader |",
             "| :-- | --: | --: | --: | :-- |"]  # fmt: skip
    for board in ranked:
        rows = [row for row in scored(board) if row.rank is not None]
        if board.trials or len(scored(board)) < 2:
            continue
        pairs = list(combinations([row.variant for row in rows], 2))
        beaten = {row.variant: row.beaten_by for row in rows}
        decided = sum(a in beaten[b] or b in beaten[a] for a, b in pairs)
        several = sum(len(row.seeds) > 1 for row in scored(board))
        share = f"{100 * decided / len(pairs):.0f} % of {len(pairs)}" if pairs else "none: no row has a rank"
        cells = [title(board), str(len(scored(board))), str(several), share, _leader(rows)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def disentangled(ranked: Sequence[Board]) -> str:
    """The share of methods in the variance of each score on data of known factors, a table a board."""
    parts = []
    for board in ranked:
        rows = [row for row in board.rows if len(row.records) > 2]
        runs = [one for row in rows for one in row.records]
        names = [name for name in SCORES if all(one.value(name) is not None for one in runs)]
        if len(rows) < 2 or not names:
            continue
        parts += [
            f"On {board.data['name']}, {', '.join(f'{row.variant} ({len(row.records)})' for row in rows)}:",
            "",
            f"| score | {' | '.join(row.variant for row in rows)} | share of the method (95 % interval) |",
            f"| :-- |{' --: |' * (len(rows) + 1)}",
        ]
        for name in names:
            groups = [[float(one.value(name) or 0) for one in row.records] for row in rows]
            share, low, high = share_of_groups(groups)
            means = " | ".join(f"{statistics.mean(g):.3f} ± {statistics.stdev(g):.3f}" for g in groups)
            parts.append(f"| {SCORES[name]} | {means} | {share:.0%} ({low:.0%} to {high:.0%}) |".replace("%", " %"))
        parts.append("")
    return "\n".join(parts)


def share_of_groups(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The share of groups in the variance of independent normal values of one variance, ω², and its 95 % interval.

    ω² is 0 where the estimate is below it. The interval holds the shares λ / (λ + N) for which F of one-way analysis of
    variance is not in the outer 2.5 % of the noncentral F distribution of noncentrality λ: Steiger 2004,
    https://doi.org/10.1037/1082-989X.9.2.164.
    """
    n, k = sum(map(len, groups)), len(groups)
    between, within = k - 1, n - k
    f = float(f_oneway(*groups).statistic)
    estimate = max(0.0, between * (f - 1) / (between * (f - 1) + n))

    def bound(tail: float) -> float:
        def excess(noncentrality: float) -> float:
            return float(ncf.cdf(f, between, within, noncentrality)) - tail

        if excess(0.0) <= 0:
            return 0.0
        top = 1.0
        while excess(top) > 0:
            top *= 2
        found = brentq(excess, 0.0, top)
        return found / (found + n)

    return estimate, bound(0.975), bound(0.025)


def _leader(rows: Sequence[Row]) -> str:
    if not rows:
        return "provisional"
    others = sum(rows[0].variant not in row.beaten_by for row in rows[1:])
    if not others:
        return f"{rows[0].variant}, decided"
    return f"{rows[0].variant}, not decided from {others} other{'s' if others > 1 else ''}"


def signed_number(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value, 2)}"


def kinds_figure(board: Board) -> Figure:
    """log p(x) of every variant, a line a kind; hollow marks have one seed."""
    figure = Figure((6.5, 2.6))
    axes = figure.subplots()
    groups = by_kind(board)
    for height, rows in enumerate(reversed(groups.values())):
        for row in rows:
            filled = BLUE if len(row.seeds) > 1 else "none"
            axes.plot(mean(row), height, "o", color=BLUE, markerfacecolor=filled)
    axes.axvline(mean(_baseline(board)), color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(groups)), list(reversed(groups)))
    axes.set(xlabel="log p(x), nats an image; the dashed line is the plain VAE", ylim=(-0.6, len(groups) - 0.4))
    return figure


def bounds_figure(board: Board) -> Figure:
    """ELBO against log p(x), a dot a variant."""
    figure = Figure((6.5, 3.2))
    axes = figure.subplots()
    rows = [row for row in scored(board) if ELBO in row.estimates]
    x, y = [mean(row, ELBO) for row in rows], [mean(row) for row in rows]
    axes.plot(x, y, "o", color=BLUE)
    for row in rows:
        if mean(row) - mean(row, ELBO) > NAMED:
            axes.annotate(row.variant, (mean(row, ELBO), mean(row)), (5, 4), textcoords="offset points")
    low = min(y)
    axes.plot([low, max(y)], [low, max(y)], color=GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="ELBO (nats)", ylabel="log p(x) (nats)")
    return figure


SECTIONS = {"kinds": kinds, "fronts": fronts, "elsewhere": elsewhere, "collapse": collapse, "bounds": bounds,
            "disentangled": disentangled, "undecided": undecided}  # fmt: skip
DRAWN = {"kinds": kinds_figure, "bound_and_likelihood": bounds_figure}


def written(page: str, ranked: Sequence[Board]) -> str:
    """The page with what stands between its marks as the records have it."""
    return MARKED.sub(lambda found: f"{found[1]}{SECTIONS[found[2]](ranked)}{found[4]}", page)


def main() -> None:
    ranked = boards(read_records(RESULTS))
    board = main_board(ranked)
    rewrite(PAGE, lambda page: written(page, ranked))
    with matplotlib.rc_context(STYLE):
        for name, draw in DRAWN.items():
            content = io.BytesIO()
            draw(board).savefig(content, format="svg", metadata={"Date": None, "Creator": None})
            write_atomically(FIGURES / f"{name}.svg", content.getvalue())


if __name__ == "__main__":
    main()
