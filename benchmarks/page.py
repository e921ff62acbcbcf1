"""How long the page of 500 runs on 10,000 test images takes to make, and to load in Chromium.

    python benchmarks/page.py [--runs 500] [--images 10000] [--seeds 5] [--rounds 5]

Records are generated: per-image figures, curves of 100 points and two pictures a run as large as those of MNIST. The
page is loaded from file:// by Debian's Chromium, started anew each time. `sortable` is when the table answers, `plots`
how long after scrolling to it the first rate–distortion plane stands. Each stage is printed as it ends, in seconds of
the clock and of the processor: on a busy machine the former says little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))  # its generated records and its browser

POINTS = 100
TIMES = """() => {
  const at = (name) => performance.getEntriesByName(name)[0]?.startTime;
  return [at("first-contentful-paint"), at("sortable"), performance.getEntriesByType("navigation")[0].loadEventEnd];
}"""


def write(results: Path, runs: int, images: int, seeds: int) -> None:
    """Writes the records, `seeds` runs a variant."""
    from fake_records import fake_arrays, fake_body, fake_grids

    from vaebench.records import write_record

    rng = np.random.default_rng(0)
    for index in range(runs):
        variant, seed = f"variant_{index // seeds}", index % seeds
        arrays = fake_arrays(rng, mean=0.05 * (index // seeds), n=images)
        body = fake_body(arrays, variant=variant, seed=seed)
        curve = {"step": list(range(POINTS)), "value": rng.normal(-90, 1, POINTS).round(4).tolist()}
        body["curves"] = dict.fromkeys(("train/elbo", "train/rate", "train/distortion", "val/elbo"), curve)
        write_record(results / f"{variant}-s{seed}", body, arrays, fake_grids(rng, 28))


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Runs a block, and prints its times."""
    clock, busy = time.perf_counter(), time.process_time()
    yield
    spent = f"{time.perf_counter() - clock:.1f} s, {time.process_time() - busy:.1f} of the processor"
    print(f"{name}: {spent}", flush=True)


def make(results: Path, html: Path) -> None:
    """Makes the page in one file."""
    from vaebench.leaderboard import boards
    from vaebench.leaderboard.page import page
    from vaebench.records import read_records

    with stage("records read"):
        records = read_records(results)
    with stage("ranked"):
        ranked = boards(records)
    with stage("page made"):
        html.write_text(page(ranked, records), encoding="utf-8")
    print(f"{html.stat().st_size / 2**20:.1f} MiB", flush=True)


def load(html: Path, rounds: int) -> None:
    """Loads the page `rounds` times and prints medians of milliseconds."""
    from browser import chromium

    found: dict[str, list[float]] = {"first paint": [], "sortable": [], "loaded": [], "plots": []}
    for _ in range(rounds):
        with stage("loaded in a new Chromium"), chromium() as browser:
            page = browser.new_page()
            page.goto(f"{html.as_uri()}#board-digits-binary-k-1000", wait_until="load")
            times = page.evaluate(TIMES)
            for name, value in zip(found, times, strict=False):
                found[name].append(value or float("nan"))
            start = time.perf_counter()
            page.locator("[data-plot=plane]").first.scroll_into_view_if_needed()
            page.locator("[data-plot=plane] .main-svg").first.wait_for()
            found["plots"].append(1000 * (time.perf_counter() - start))
    print(", ".join(f"{name} {median(values):.0f} ms (to {max(values):.0f})" for name, values in found.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="a folder for the records and the page (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "results").is_dir():
            with stage("records written"):
                write(folder / "results", options.runs, options.images, options.seeds)
        make(folder / "results", folder / "page.html")
        load(folder / "page.html", options.rounds)
