"""The title of a board, and what all of its runs have in common, in words."""

from __future__ import annotations

from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.comparable import LOG_LIKELIHOOD
from vaebench.leaderboard.display import display, number, score_display, words
from vaebench.leaderboard.trust import ESTIMATED, UNTRUSTED


def title(board: Board) -> str:
    """One line with data set, measure, K and its proposal or another metric, and differences between the trainings."""
    parts = [board.data["name"], board.data["measure"]]
    if board.wanted != LOG_LIKELIHOOD:
        parts.append(score_display(board).heading)
    if (k := board.estimator.get("k")) is not None:
        parts.append(f"K = {number(k)}{', refined' if _refined(board) else ''}")
    if len(board.epochs) > 1:
        parts.append(f"{', '.join(board.epochs[:-1])} and {board.epochs[-1]} epochs")
    if board.surrogate:
        parts.append("surrogate likelihoods")
    if board.trials:
        parts.append(f"trials of {', '.join(board.trials)}")
    return " · ".join(parts)


def facts(board: Board) -> dict[str, str]:
    """Common properties of the runs of a board, as text."""
    shown = ("k", "n", "split", "protocols", "version")
    settings = {name: value for name, value in board.estimator.items() if name not in shown}
    hashes, k = board.data["hashes"].items(), board.estimator.get("k")
    return {
        "images": f"{number(board.estimator['n'])} of the {board.estimator['split']} split",
        "measure": f"{board.data['measure']}{', surrogate likelihoods' if board.surrogate else ''}",
        **({"samples an image": f"K = {number(k)}"} if k is not None else {}),
        "ranked by": _ranked_by(board),
        **({"what it measures": text} if (text := _measures(board)) else {}),
        "noise over trainings": _noise(board),
        "settings": ", ".join(f"{name} {words(value)}" for name, value in sorted(settings.items())) or "none",
        "data": ", ".join(f"{split} {str(value)[:8]}" for split, value in sorted(hashes)),
    }


def _refined(board: Board) -> bool:
    """Whether the samples are of a proposal made for each image, and not of the encoder."""
    return board.estimator.get("proposal") == "refined"


def _measures(board: Board) -> str:
    """The meaning of a log-likelihood estimate by its proposal, and the share of images on which it is unreliable."""
    if board.score not in ESTIMATED:
        return ""
    shares = sorted(one.mean for row in board.rows if (one := row.estimates.get(UNTRUSTED)))
    bound = "L_K with samples of the encoder, a lower bound that measures the encoder too"
    if _refined(board):
        bound = (
            "L_K with samples of a Gaussian refined for each image, a lower bound in expectation, of the model alone"
        )
    if not shares:
        return bound
    ends = dict.fromkeys(f"{share:.0f}" for share in (shares[0], shares[-1]))
    return f"{bound}: its weights are not to be trusted (k̂ > 0.7) on {'–'.join(ends)} % of a row's images"


def _noise(board: Board) -> str:
    """The source of the noise over trainings for rows with one seed, or why it is unknown."""
    several = sum(len(row.seeds) > 1 and board.score in row.estimates and not row.claimed for row in board.rows)
    if board.noise.two_cannot_decide:
        return "two seeds cannot decide: it plainly differs between the variants, so that none has a rank"
    if board.borrowed:
        return f"from other boards of these data: seeds of {', '.join(board.borrowed)}"
    if not several:
        return "unknown, as no variant has several seeds; all are provisional"
    known = f"from the seeds of {several} variant{'s' if several > 1 else ''}"
    return known if board.noise.known.all() else f"{known}, too few for those of one seed, which are provisional"


def _ranked_by(board: Board) -> str:
    better = f"{score_display(board).heading}, {'higher' if board.sign > 0 else 'lower'} is better"
    if not board.images:
        better += "; a figure of each run, so that differences are judged over seeds alone"
    return better if board.score == board.wanted else f"{better}; no variant has a {display(board.wanted).heading}"
