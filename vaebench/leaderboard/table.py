"""A board as a table: cells of text with footnotes, for the page, the terminal and Markdown."""

from __future__ import annotations

from vaebench.judging.scores import COLUMNS, judged_columns
from vaebench.leaderboard.boards import METRICS, Board
from vaebench.leaderboard.cells import (
    Column,
    Table,
    budget_cells,
    collapse_cell,
    error_cell,
    extra_cell,
    gap_cell,
    interval_cell,
    judged_cell,
    kind_cell,
    mean_cell,
    measured_cell,
    metric_cell,
    metric_column,
    rank_cell,
    seeds_cell,
    share_cell,
    turns_cell,
    usual_definition,
    variant_cell,
    yes_cell,
)
from vaebench.leaderboard.display import display, score_display
from vaebench.leaderboard.pareto import rate_distortion_front
from vaebench.leaderboard.trust import CHANGE, ESTIMATED, GAPS, UNTRUSTED

LEGEND = (
    "± seeds and ± images are standard errors: over trainings with other seeds, and over test images. "
    "A shared rank such as 1–2 is a tie: the difference on the same images is inside the noise of images and seeds. "
    "All pairs of a board are compared at once; with probability 95 %, no two equal variants are declared different. "
    "Provisional rows have no rank, because their variance over trainings is unknown. That they are below the best "
    "(the best: above the next) holds for these trainings, and for others up to the given standard deviation over "
    "seeds; a tie does not hold even for these. "
    "Nats are per image; log-likelihood and ELBO are better the higher they are."
)
LEVELS = {  # priority of columns where space is limited; rank, variant and score are always shown
    1: ("rank", "variant"),
    2: ("seeds", "turns", "gap"),
    3: ("over_seeds", "over_images", "epochs", UNTRUSTED),
    4: ("elbo", "rate", "distortion", "active_units"),
}


def table(board: Board) -> Table:
    """The cells of a board; its score comes first, with both standard errors."""
    known = {name for row in board.rows for name in row.estimates}
    refined = board.score in ESTIMATED and board.estimator.get("proposal") == "refined"
    diagnostics = [name for name in (CHANGE, *GAPS, "ess", "encoder_price") if refined and name in known]
    others = [*diagnostics, *(metric for metric in METRICS if metric != board.score)]
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
            Column(board.score, *score_display(board)[:2]),
            Column("over_seeds", "± seeds"),
            Column("over_images", "± images"),
        ),
        Column("interval", "95 % interval", score_display(board).unit, page=True),
        Column("gap", "difference from best", "95 % interval", page=True),
        *([Column("turns", "holds up to a seed sd of", score_display(board).unit)] if provisional else []),
        *([metric_column(UNTRUSTED)] if trust else []),
        *(metric_column(metric) for metric in others),
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
        *(Column(name, display(name).heading, page=True) for name in more),
    ]
    notes: dict[str, int] = {}
    usual = usual_definition(board)
    cells, front = [], rate_distortion_front(board)
    for row in board.rows:
        score, decimals = row.estimates.get(board.score), score_display(board).decimals
        cells.append(
            [
                rank_cell(board, row, notes),
                variant_cell(row, notes),
                seeds_cell(row, notes),
                metric_cell(row, board.score, notes, score_display(board).decimals, usual),
                error_cell(score.over_seeds if score else None, decimals),
                error_cell(score.over_images if score else None, decimals),
                interval_cell(score, decimals),
                gap_cell(row, decimals),
                *([turns_cell(board, row, decimals)] if provisional else []),
                *([share_cell(row.estimates.get(UNTRUSTED))] if trust else []),
                *(metric_cell(row, metric, notes, display(metric).decimals) for metric in others),
                yes_cell(row.variant in front),
                *(judged_cell(board, row, name, notes) for name in people),
                collapse_cell(row),
                mean_cell([record.cost.get("parameters") for record in row.records], 0),
                *budget_cells(row),
                mean_cell([record.times.get("train_seconds") for record in row.records], 1),
                *([measured_cell(row, notes)] if early else []),
                kind_cell(row),
                *(extra_cell(row, name) for name in more),
            ]
        )
    return Table(columns, cells, list(notes))


def level(board: Board, key: str) -> int:
    """Priority of a column: 1 is always shown, 5 only with enough space or on request."""
    return 1 if key == board.score else next((level for level, keys in LEVELS.items() if key in keys), 5)
