"""The leaderboard: runs that were measured in the same way, ranked, as Markdown and as one HTML page. No torch here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vaebench.judging.scores import judged
from vaebench.leaderboard.boards import Board, boards
from vaebench.leaderboard.budgets import budget_markdown
from vaebench.leaderboard.markdown_tables import escaped, markdown
from vaebench.records import Records, read_records
from vaebench.records.failures import read_failures

__all__ = ["LEFT_OUT", "Board", "boards", "leaderboard", "markdown", "presented", "ranked", "without"]

LEFT_OUT = "**Left out, damaged:** "  # how a line of Markdown begins that names a damaged record


def leaderboard(
    path: str | Path,
    html: str | Path | None = None,
    metric: str | None = None,
    budget: str | None = None,
    judgements: str | Path | None = None,
    trials: bool = False,
    single: bool = False,
) -> str:
    """Ranks the records below a directory.

    Args:
        path: the directory.
        html: where to write the page, which needs no network, with its pictures in a folder beside it; None: no page.
        metric: what to rank by; None: what each benchmark names, or else the log-likelihood; see `boards`.
        budget: parameters, flops, seconds or trials: instead of the boards' tables, who is best at equal cost.
        judgements: a file that `vaebench judge` wrote, whose scores become columns.
        trials: rank trials of sweeps among the other runs.
        single: pictures in the page itself, which then needs no other file.

    Returns:
        Markdown: what was damaged and left out first, then the boards.

    Raises:
        UserError: there is no such directory, or no record in it, or no run has that metric, or no such budget.
    """
    records, ranking = ranked(path, metric, judgements, trials)
    return presented(records, ranking, html, budget, single)


def presented(
    records: Records,
    ranking: list[Board],
    html: str | Path | None = None,
    budget: str | None = None,
    single: bool = False,
) -> str:
    """What `leaderboard` makes of records and their boards that are `ranked`."""
    if html is not None:
        from vaebench.leaderboard.page import write_page

        write_page(Path(html), ranking, records, single)
    lines = [f"{LEFT_OUT}{escaped(str(damage))}\n" for damage in records.damaged]
    if missing := without(records, ranking):
        lines.append(f"**Left out:** {missing}\n")
    return "\n".join([*lines, markdown(ranking) if budget is None else budget_markdown(ranking, budget)])


def without(records: Records, ranking: list[Board]) -> str:
    """How many runs are on no board, because none on theirs has the figure; empty where all are."""
    missing = len(records) - sum(len(board.records) for board in ranking)
    return f"{missing} of {len(records)} runs, on whose boards none has this figure." if missing else ""


def ranked(
    path: str | Path, metric: str | None = None, judgements: str | Path | None = None, trials: bool = False
) -> tuple[Records, list[Board]]:
    """The records below a directory and their boards; arguments and errors are those of `leaderboard`."""
    records, (failures, damaged) = read_records(path), read_failures(Path(path))
    records.damaged += damaged
    ranking = boards(records, metric, failures, trials)
    if judgements is not None:
        people = judged(Path(judgements))
        ranking = [replace(board, judged=people) for board in ranking]
    return records, ranking
