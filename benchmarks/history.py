"""Keeps the speed of each commit on each machine in history.csv, and compares it with the release before.

    python benchmarks/history.py [--rounds 15] [--dry]

Each work is timed by the seconds of the processor, in turn with a bare PyTorch loop's training step, and noted in units
of it: such ratios hold from day to day on one machine. A line is added for this machine and commit (or written anew).
Where the latest line of an earlier version on this machine had less than 1/1.05 of a ratio, the script says so and ends
with code 1. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from work import Bare, in_turn, spread

HISTORY = Path(__file__).with_suffix(".csv")
TOLERANCE = 1.05
ABOUT = ("machine", "commit", "version", "date", "load")
BASE = "bare step"
WORKS = ("vae step", "iwae step", "likelihood", "population step", "validation", "reading", "take")

Line = dict[str, str]


def slower(lines: Sequence[Line], new: Line) -> list[str]:
    """A sentence for each work that is slower than in the release before, on the same machine.

    Args:
        lines: of the history.
        new: the line to judge.
    """
    earlier = [line for line in lines if line["machine"] == new["machine"] and _number(line) < _number(new)]
    if not earlier:
        return []
    before = max(earlier, key=lambda line: (_number(line), line["date"]))
    return [
        f"{work} takes {float(new[work]) / float(before[work]):.2f} of what it took in {before['version']} "
        f"({before['commit']}): expected at most {TOLERANCE}"
        for work in WORKS
        if before.get(work) and float(new[work]) > TOLERANCE * float(before[work])
    ]


def _number(line: Line) -> tuple[int, ...]:
    return tuple(int(part) for part in line["version"].split("."))


def added(lines: Sequence[Line], new: Line) -> list[Line]:
    """The history with a line, which replaces one of the same machine and commit."""
    key = ("machine", "commit")
    return [line for line in lines if any(line[name] != new[name] for name in key)] + [new]


def read(path: Path = HISTORY) -> list[Line]:
    """The lines of a history; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(lines: Sequence[Mapping[str, str]], path: Path = HISTORY) -> None:
    """Writes a history."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [*ABOUT, *WORKS], lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


def timed(work: Callable[[], object], count: int = 1) -> float:
    """Seconds of the processor for one repetition."""
    start = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - start) / count


def works() -> dict[str, Callable[[], float]]:
    """What is timed, by name, each as seconds for one step, image, reading or take."""
    import growth
    from objectives import _steps

    from vaebench.data.binarized_mnist import BinarizedMNIST

    x = (torch.rand(128, 784) < 0.2).float()
    model, vae = Bare(), growth.model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def bare() -> None:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()

    def families(name: str) -> Callable[[], float]:
        run = _steps(name, 128, 10)
        return lambda: timed(run) / 10

    def reading() -> None:
        data = BinarizedMNIST()
        assert data.hashes
        assert data.warnings() == []

    images = x.view(-1, 1, 28, 28)
    return {
        BASE: partial(timed, bare, 10),
        "vae step": families("vae"),
        "iwae step": families("iwae"),
        "likelihood": partial(timed, growth.likelihood(1000)),
        "population step": partial(timed, growth.population(8), 5),
        "validation": partial(timed, lambda: vae.held_out(images, None, torch.tensor(0.0), 1), 5),
        "reading": partial(timed, reading),
        "take": partial(timed, growth.take(running=64), 8),
    }


def measured(rounds: int) -> tuple[dict[str, float], float]:
    """Each work in units of a bare step, medians of rounds in turn; and the largest spread in percent."""
    seconds = in_turn(works(), rounds)
    ratios = {
        name: [own / base for own, base in zip(values, seconds[BASE], strict=True)]
        for name, values in seconds.items()
        if name != BASE
    }
    return {name: statistics.median(own) for name, own in ratios.items()}, max(map(spread, ratios.values()))


def line(rounds: int) -> Line:
    """Measures this commit on this machine."""
    import vaebench as vb
    from vaebench.training.machine import load, machine

    here = machine(torch.device("cpu"))
    git = partial(subprocess.check_output, cwd=HISTORY.parent, text=True)
    commit = git(["git", "rev-parse", "--short=9", "HEAD"]).strip()
    changed = bool(git(["git", "status", "--porcelain", "--", "../vaebench"]).strip())
    about = {
        "machine": f"{here['processor']}, {here['cores']} cores, {here['threads']} threads, torch {torch.__version__}",
        "commit": commit + ("+" if changed else ""),
        "version": vb.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "load": str(load()),
    }
    ratios, wide = measured(rounds)
    print(f"spread of the ratios: up to ± {wide:.0f} %")
    return about | {name: f"{ratio:.3f}" for name, ratio in ratios.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dry", action="store_true", help="measure and compare, and write nothing")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    lines, new = read(), line(arguments.rounds)
    for name in WORKS:
        print(f"{name:16} {new[name]:>9} bare steps")
    if not arguments.dry:
        write(added(lines, new))
    found = slower(lines, new)
    print("\n".join(found) or "nothing is slower than in the release before, or there is none on this machine")
    return int(bool(found))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.exit(main())
