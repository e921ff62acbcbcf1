"""The leaderboard: ranks runs that were measured in the same way, as Markdown or an HTML page. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vaebench.configuration.callable import callable_package
from vaebench.display.tables import escaped
from vaebench.judging.scores import read_scores
from vaebench.leaderboard.boards import Board, boards
from vaebench.leaderboard.budgets import budget_markdown
from vaebench.leaderboard.markdown_tables import markdown
from vaebench.records import Records, read_records
from vaebench.records.failures import read_failures

__all__ = ["LEFT_OUT", "Board", "boards", "leaderboard", "markdown", "presented", "ranked", "without"]

callable_package(__name__, "vaebench.interface.commands")  # vb.leaderboard

LEFT_OUT = "**Left out, damaged:** "  # start of a Markdown line that names a damaged record


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
        html: path of the page, which needs no network; its pictures go to a folder beside it. None writes no page.
        metric: ranking metric; None: that of each benchmark, or the log-likelihood; see `boards`.
        budget: parameters, flops, seconds, steps or trials: shows the best variants at equal cost instead.
        judgements: a file written by `vaebench judge`, whose scores become columns.
        trials: rank trials of sweeps among the other runs.
        single: embed pictures in the page, which then needs no other file.

    Returns:
        Markdown: damaged records that were left out, then the boards.

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
    """The Markdown of `leaderboard`, from the records and boards of `ranked`."""
    if html is not None:
        from vaebench.leaderboard.page import write_page

        write_page(Path(html), ranking, records, single)
    lines = [f"{LEFT_OUT}{escaped(str(damage))}\n" for damage in records.damaged]
    if missing := without(records, ranking):
        lines.append(f"**Left out:** {missing}\n")
    return "\n".join([*lines, markdown(ranking) if budget is None else budget_markdown(ranking, budget)])


def without(records: Records, ranking: list[Board]) -> str:
    """Number of runs on no board, in words, because no run of theirs has the metric; empty where there are none."""
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
        people = read_scores(Path(judgements))
        ranking = [replace(board, judged=people) for board in ranking]
    return records, ranking
