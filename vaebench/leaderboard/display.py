"""How figures are written: the heading, unit and decimals of a metric, numbers, standard errors and settings."""

from __future__ import annotations

from typing import Any, NamedTuple

from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD, NLL
from vaebench.leaderboard.trust import CHANGE, UNTRUSTED


class Display(NamedTuple):
    """How a metric is shown: its heading, unit and number of decimals."""

    heading: str
    unit: str
    decimals: int


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
    "encoder_log_likelihood": ("log-likelihood by the encoder", "nats", 2),
    UNTRUSTED: ("images with k̂ > 0.7", "%", 0),
}


DECIMALS = {"": 4, "nats": 2, "dB": 2, "units": 1, "codes": 1, "samples": 1, "images": 0}  # of other figures, by unit


NONE = "–"


def words(value: Any) -> str:
    """Plain JSON as words.

    >>> words({"active": [0.01, 0.1], "kl": 0.01})
    '(active (0.01, 0.1), kl 0.01)'
    """
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {words(inner)}' for name, inner in value.items())})"
    return f"({', '.join(map(words, value))})" if isinstance(value, list) else str(value)


def display(metric: str, unit: str = "") -> Display:
    """How a metric is shown; `unit` applies to metrics that are not in `NAMES`."""
    return Display(*NAMES.get(metric, (metric.replace("_", " "), unit, DECIMALS.get(unit, 4))))


def score_display(board: Board) -> Display:
    """How a board's score is shown."""
    return display(board.score, board.unit)


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
