"""The leader of a board, its lead, and whether more seeds could reverse it, in one sentence."""

from __future__ import annotations

from typing import Literal, NamedTuple

from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.display import error, number, score_display

State = Literal["decided", "tie", "provisional", "alone", "no score"]


class Headline(NamedTuple):
    """The headline of a board.

    Attributes:
        state: whether the lead is beyond the noise; 'provisional' where the variance over trainings is unknown.
        leader: the variant with the best mean; None where no variant has the score.
        lead: its difference from the next, with the unit; empty where there is no next.
        sentence: the headline itself.
    """

    state: State
    leader: Row | None
    lead: str
    sentence: str


def headline(board: Board) -> Headline:
    """The headline of a board."""
    heading, unit, decimals = score_display(board)
    rows = [row for row in board.rows if row.rank or row.provisional]
    if not rows:
        return Headline("no score", None, "", f"No variant has a {heading} that can be ranked.")
    leader = rows[0]
    if len(rows) == 1 or rows[1].gap is None:
        only = number(leader.estimates[board.score].mean, decimals)
        return Headline(
            "alone", leader, "", f"{leader.variant} is the only one here, with {_of(only, unit or heading)}."
        )
    second, gap = rows[1], rows[1].gap
    lead = _of(error(abs(gap.difference), decimals), unit or heading)
    if gap.provisional or leader.provisional or second.provisional:
        if gap.turns is None:
            rest = "which is a tie even on these trainings"
        else:
            rest = f"which holds unless seeds scatter by more than {_of(error(gap.turns, decimals), unit)}"
        why = "" if board.noise.two_cannot_decide else f"; {leader.variant} has {_seeds(leader)}"
        said = f"{leader.variant} leads {second.variant} by {lead}, {rest}{why}."
        return Headline("provisional", leader, lead, said)
    tied = [row.variant for row in rows[1:] if row.rank and leader.variant not in row.beaten_by]
    if not tied:
        said = f"{leader.variant} leads {second.variant} by {lead}, beyond the noise of seeds and images."
        return Headline("decided", leader, lead, said)
    others = (
        tied[0] if len(tied) == 1 else f"{len(tied)} others ({', '.join(tied[:3])}{', …' if len(tied) > 3 else ''})"
    )
    said = f"{leader.variant} is ahead by {lead}, but inside the noise of {others}: more seeds could turn it."
    return Headline("tie", leader, lead, said)


def _of(value: str, unit: str) -> str:
    return f"{value} {unit}".rstrip()


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"
