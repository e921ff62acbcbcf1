"""Writes the table of docs/repeats.md, and the README's of what is done, from published.csv, configs/ and records.

    python docs/repeats.py

They stand between marks, `<!-- repeats: all -->` or `<!-- repeats: done -->`, and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaebench.files import rewrite
from vaebench.leaderboard.comparable import BITS
from vaebench.leaderboard.display import display, number
from vaebench.leaderboard.published import Figure, published_figures
from vaebench.leaderboard.verdicts import Repeated, repeated, same_weights
from vaebench.records import RunRecord, read_records
from vaebench.running.benchmark import BenchmarkRun, read_benchmark

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "repeats.md", ROOT / "README.md")
MARKED = re.compile(r"(<!-- repeats: (all|done) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
MINUTES = {  # in the page's order: of a seed on one core, by one epoch beside other work; None: days
    "townsend": 3, "rezende": 65, "mathieu": 20, "davidson": 100, "burda_vae": 890, "burda_vae_paper_adam": 890,
    "burda_iwae": 1280, "norouzi": 100, "norouzi_exemplar": 400, "norouzi_fashion": 100, "rainforth": None,
}  # fmt: skip
BITS_OF_MNIST = 0.05  # nats: standard error over draws of the 10,000 test images' bits; docs/repeats.md says whence
REDRAWN = {"mnist": BITS_OF_MNIST, "fashion_mnist": BITS_OF_MNIST}
COLUMNS = ("paper and setting", "claimed", "ours", "± seeds", "± images", "seeds", "verdict", "time a seed", "command")


@dataclass(frozen=True)
class Line:
    """A row: its cells, and whether something was measured."""

    cells: tuple[str, ...]
    done: bool

    def __str__(self) -> str:
        return f"| {' | '.join(self.cells)} |\n"


def lines() -> Iterator[Line]:
    """All rows, in the order of the page."""
    known = {figure.id: figure for figure in published_figures()}
    yield _weights(known["townsend_bound"])
    for stem, minutes in MINUTES.items():
        benchmark = read_benchmark(ROOT / "configs" / "repeat" / f"{stem}.yaml")
        folder = ROOT / "results" / benchmark.name
        records = read_records(folder) if folder.is_dir() else ()
        variants: dict[str, BenchmarkRun] = {run.variant: run for run in benchmark.runs}
        for variant, run in variants.items():
            own = [record for record in records if record.variant == variant]
            for claim in run.claims:
                yield _line(known[claim], variant, own, stem, minutes)


def _weights(figure: Figure) -> Line:
    """The weights that were published: nothing is trained, so that there are no seeds on either side."""
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "bits_back.json").read_text(encoding="utf-8"))
    value, error = found["bits_per_dim_of_the_bound"]
    command = "`python benchmarks/bits_back.py FILE`"
    cells = (f"{figure.source}: the published weights", _claimed(figure), f"{value:.4f}", "–", f"{error:.4f}", "–",
             same_weights(figure, value, error), f"{found['seconds']} s", command)  # fmt: skip
    return Line(cells, True)


def _line(figure: Figure, variant: str, records: list[RunRecord], stem: str, minutes: int | None) -> Line:
    what = f"{figure.source}: {figure.family} {figure.variant}, {figure.data[0]} ({variant})"
    command = f"`vaebench bench configs/repeat/{stem}.yaml`"
    if not records:
        wait = "days; wants a GPU" if minutes is None else f"about {minutes} min"
        return Line((what, _claimed(figure), "not run", "–", "–", "–", "–", wait, command), False)
    redrawn = 0.0 if figure.metric in (BITS, "active_units") else REDRAWN.get(figure.data[0], 0.0)
    found = repeated(figure, records, redrawn)
    seconds = sum(record.times["train_seconds"] + record.times["evaluate_seconds"] for record in records)
    spent = f"{seconds / len(records) / 60:,.0f} min"
    return Line((what, _claimed(figure), *_ours(figure, found), spent, command), True)


def _ours(figure: Figure, found: Repeated) -> tuple[str, ...]:
    decimals = display(figure.metric).decimals
    errors = (number(error, decimals) if error is not None else "–" for error in (found.over_seeds, found.over_images))
    return (number(_plain(figure, found.value), decimals), *errors, str(found.seeds), found.verdict)


def _plain(figure: Figure, value: float) -> float:
    """A value with the sign that papers print: nats are those of an NLL."""
    return -value if figure.value < 0 else value


def _claimed(figure: Figure) -> str:
    unit = {BITS: " bits/dim", "active_units": " active units"}.get(figure.metric, "")
    return f"{figure.written}{f' ± {figure.spread}' if figure.spread else ''}{unit}"


def table(done: bool = False) -> str:
    """The rows as Markdown, or those alone of which something was measured."""
    rows = [line for line in lines() if line.done or not done]
    return "".join(map(str, (Line(COLUMNS, True), Line((":--", *["--:"] * 5, ":--", "--:", ":--"), True), *rows)))


def written(page: str) -> str:
    """The page with its marked tables as published.csv and the records have them."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2] == 'done')}{found[4]}", page)


def main() -> None:
    for path in PAGES:
        if rewrite(path, written):
            print(path)


if __name__ == "__main__":
    main()
