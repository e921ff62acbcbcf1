"""Writes the tables of the pages of docs/ that stand between marks, from the records in results/.

    python docs/tables.py

A mark names folders of results/, the one protocol of theirs after an @, one variant of them after a slash, and metrics;
rows are means over seeds, the best of the first metric first:

    <!-- table: latents objectives@likelihood/vae: log_likelihood rate -->
    <!-- end -->

`place:METRIC` is a row's place by that metric, 1 for the best, whether or not noise separates it from the next.

`<!-- folders: configs/benchmark configs/repeat -->` is followed by the folders of results/ that the files of these
folders made, in results/README.md.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vaebench.files import rewrite
from vaebench.leaderboard.display import display, number
from vaebench.records import RunRecord, read_records

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]
MARKED = re.compile(r"(<!-- table: ([^:>]+): ([^>]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FOLDERS = re.compile(r"(<!-- folders: ([^>]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
DEAD = "collapsed_units"  # no metric, but a count of the record's verdict on collapse


def written(page: str) -> str:
    """The page with its marked tables as the records have them."""
    page = MARKED.sub(lambda found: f"{found[1]}{_table(found[2].split(), found[3].split())}{found[5]}", page)
    return FOLDERS.sub(lambda found: f"{found[1]}{_folders(found[2].split())}{found[4]}", page)


def _folders(places: Sequence[str]) -> str:
    """The folders of results/ that the files of some folders made, a line each."""
    lines = [_line(["folder", "what", "data", "variants", "runs", "seeds", "protocol", "made by"]),
             _line([":--", ":--", ":--", "--:", "--:", ":--", ":--", ":--"])]  # fmt: skip
    for file in sorted(path for place in places for path in (ROOT / place).glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        command, name = re.findall(r"^(benchmark|sweep): *(\S+)", text, re.MULTILINE)[0]
        if not (ROOT / "results" / name).is_dir():
            continue
        records = read_records(ROOT / "results" / name)
        head = " ".join(line.strip("# ") for line in text[: text.index(f"{command}: ")].splitlines())
        seeds = sorted({record.seed for record in records})
        lines.append(_line([
            f"[{name}]({name})", re.findall(r"^.*?(?<! al)[.:?](?= |$)", head)[0].rstrip(".:"),
            _several(f"{record.data['name']} · {record.data['measure']}" for record in records),
            str(len({record.variant for record in records})), str(len(records)),
            f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
            _several(record.protocol["name"] for record in records),
            f"`vaebench {command.replace('benchmark', 'bench')} {file.relative_to(ROOT).as_posix()}`",
        ]))  # fmt: skip
    return "".join(line + "\n" for line in lines)


def _several(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _table(sources: Sequence[str], metrics: Sequence[str]) -> str:
    variants: dict[str, list[RunRecord]] = {}
    for source in sources:
        place, _, variant = source.partition("/")
        folder, _, protocol = place.partition("@")
        for record in read_records(ROOT / "results" / folder):
            if (not variant or record.variant == variant) and (not protocol or record.protocol["name"] == protocol):
                variants.setdefault(record.variant, []).append(record)
    better = next(iter(variants.values()))[0].metrics[metrics[0]]["higher_is_better"]
    known = {metric: _known(variants, metric) for metric in metrics}
    rows = [(name, len(runs), [known[metric].get(name) for metric in metrics]) for name, runs in variants.items()]
    rows.sort(key=lambda row: (row[2][0] is None, (row[2][0] or 0.0) * (-1 if better else 1)))
    shown = ["run", "seeds", *(_heading(metric) for metric in metrics)]
    lines = [_line(shown), _line([":--", *["--:"] * (len(shown) - 1)])]
    for name, seeds, values in rows:
        cells = (number(value, _decimals(metric)) for metric, value in zip(metrics, values, strict=True))
        lines.append(_line([name, str(seeds), *cells]))
    return "".join(line + "\n" for line in lines)


def _known(variants: Mapping[str, Sequence[RunRecord]], metric: str) -> dict[str, float]:
    """The values, or the places, of the variants that have one."""
    _, place, ranked = metric.rpartition("place:")
    values = {name: mean for name, runs in variants.items() if (mean := _mean(runs, ranked)) is not None}
    if not place:
        return values
    better = next(iter(variants.values()))[0].metrics[ranked]["higher_is_better"]
    order = sorted(values, key=values.__getitem__, reverse=better)
    return {name: float(number) for number, name in enumerate(order, 1)}


def _mean(runs: Sequence[RunRecord], metric: str) -> float | None:
    """The mean over the runs, None where one of them does not have it."""
    values = [len(run.collapse["units"]) if metric == DEAD else run.value(metric) for run in runs]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def _heading(metric: str) -> str:
    if metric.startswith("place:"):
        return f"place by {display(metric.removeprefix('place:')).heading}"
    heading, unit, _ = display(metric)
    return f"{heading} ({unit})" if unit else heading


def _decimals(metric: str) -> int:
    if metric.startswith("place:"):
        return 0
    return 1 if metric == DEAD or metric.startswith("code_perplexity") else display(metric).decimals


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    for path in PAGES:
        if rewrite(path, written):
            print(path)


if __name__ == "__main__":
    main()
