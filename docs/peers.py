"""Writes the table of docs/peers.md on models that pythae and vaebench trained, from the records in results/peers.

    python docs/peers.py

It stands between `<!-- trained -->` and `<!-- end -->`. benchmarks/peers.py makes pythae's records.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from vaebench.files.atomic import rewrite
from vaebench.leaderboard.display import number
from vaebench.leaderboard.versus import Side, Versus, versus
from vaebench.leaderboard.versus_text import signed
from vaebench.records import RunRecord

ROOT = Path(__file__).parent.parent
PAGE, RESULTS = ROOT / "docs" / "peers.md", ROOT / "results" / "peers"
MARKED = re.compile(r"(<!-- trained -->\n)(.*?)(<!-- end -->)", re.DOTALL)
COLUMNS = ("model", "log p(x), here", "± seeds", "by pythae", "± seeds", "here less pythae", "95 % interval", "verdict",
           "`get_nll` less L_K here")  # fmt: skip
MODELS = ("vae", "beta_vae", "iwae", "vampprior", "iaf")


def written(page: str) -> str:
    """The page with its table as the records have it."""
    return MARKED.sub(lambda found: found[1] + "".join(lines()) + found[3], page)


def lines() -> Iterator[str]:
    """The lines of the table: a model each."""
    own = json.loads((RESULTS / "get_nll.json").read_text())
    yield _line(*COLUMNS)
    yield _line(":--", *["--:"] * 6, ":--", "--:")
    for model in MODELS:
        (one,) = versus(f"vaebench_{model}", f"pythae_{model}", RESULTS)
        gaps = [own["nats"][one.second.name][str(run.seed)] - _bound(run, own["images"]) for run in one.second.records]
        gap = f"{number(statistics.mean(gaps), 3)} ± {number(statistics.stdev(gaps) / len(gaps) ** 0.5, 3)}"
        low, high = one.result.interval
        yield _line(
            model, *_side(one.first), *_side(one.second), signed(one, one.result.difference),
            f"{signed(one, low)} to {signed(one, high)}", _verdict(one), gap,
        )  # fmt: skip


def _bound(record: RunRecord, images: int) -> float:
    """L_K of the first test images with samples of the model's own encoder, in nats."""
    return float(record.per_image()["encoder_log_likelihood"][:images].mean(dtype=float))


def _side(side: Side) -> tuple[str, str]:
    means = side.figures.mean(1, dtype=float)
    return number(means.mean(), 2), number(statistics.stdev(means) / len(means) ** 0.5, 2)


def _verdict(one: Versus) -> str:
    return {"tie": "a tie", "better": "here is better", "worse": "pythae is better"}[one.verdict]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    rewrite(PAGE, written)
