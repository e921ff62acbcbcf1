"""Draws the figures of `objectives.md`, `latents.md` and `kl_weight.md` from their Python blocks, others from records.

    python docs/figures.py              # all of them into docs/figures/
    python docs/figures.py collapse     # only some; a page's blocks run where one of its figures is asked for

Needs the extra `dev`. The same code on the same machine gives the same files.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vaebench.evaluation.drawing.pictures import COLUMNS, PAIRS
from vaebench.files import write_atomically
from vaebench.leaderboard.boards import Row, boards
from vaebench.leaderboard.forest import forest
from vaebench.records import RunRecord, read_records

HERE = Path(__file__).parent
PAGE, LATENTS, WEIGHT = HERE / "objectives.md", HERE / "latents.md", HERE / "kl_weight.md"
FIGURES, RECORDS = HERE / "figures", HERE.parent / "results"
COLLAPSE = ("collapse", "strong_decoder")  # benchmarks whose verdicts, rates and bounds are drawn
BOARD, MADE, MENDED = "digits", "vae", "bias_at_mean"  # the README's board, and two of its variants to look at
SHOWN = 7  # test images of the README's picture
BLUE, RED, GREY, GREEN = "#1f77b4", "#d62728", "#888888", "#2ca02c"
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "vaebench", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False,
}  # fmt: skip

Page = Mapping[str, Any]


def run_page(page: Path = PAGE) -> dict[str, Any]:
    """Executes a page's Python blocks in order and returns the variables that they leave."""
    variables: dict[str, Any] = {}
    for index, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
        exec(compile(block, f"{page.name}, block {index + 1}", "exec"), variables)
    return variables


def signs(page: Page) -> Figure:
    """Section 1: the bound and the loss against the encoder's error."""
    figure, (left, right) = _panels(2)
    shift, bound, evidence = page["shift"].numpy(), page["bound"].numpy(), float(page["evidence"])
    for axes, sign, name, exact in ((left, 1, "ELBO", "log p(x)"), (right, -1, "loss = rate + distortion", "nll")):
        axes.axhline(sign * evidence, color=GREY, linestyle="--", label=exact)
        axes.plot(shift, sign * bound, color=BLUE if sign > 0 else RED, label=name)
        axes.set(xlabel="encoder's mean − exact posterior's", ylabel="nats")
        axes.legend()
    left.set_title("maximised")
    right.set_title("minimised")
    return figure


def beta(page: Page) -> Figure:
    """Section 2: rate and squared error for each β, trained in both ways."""
    figure, (axes,) = _panels(1)
    looks: list[dict[str, Any]] = [{"marker": "o", "markersize": 10, "color": GREY}, {"marker": "x", "color": RED}]
    for look, (name, points) in zip(looks, page["curve"].items(), strict=True):
        axes.plot(*zip(*points, strict=True), linestyle="", label=name, **look)
    for value, (rate, squares) in zip(page["betas"], page["curve"]["VAE, σ² = β"], strict=True):
        axes.annotate(f"β = {value:g}", (rate, squares), (8, 6), textcoords="offset points")
    axes.margins(0.12)
    axes.set(xlabel="rate (nats an image)", ylabel="squared error of an image")
    axes.legend()
    return figure


def penalty(page: Page) -> Figure:
    """Section 3: the two penalties, and what an objective claims against what it should bound."""
    figure, (left, middle, right) = _panels(3)
    sigma = np.logspace(-3, 0.4, 200)
    left.plot(sigma, -np.log(sigma) + (sigma**2 - 1) / 2, color=BLUE, label="KL, μ = 0")
    left.plot(sigma, (sigma - 1) ** 2, color=RED, label="moments, μ = 0")
    left.set(xscale="log", xlabel="σ of the code", ylabel="nats; penalty")
    middle.plot(page["sharpness"], page["truth"], color=BLUE, label="log p(x) = ELBO")
    middle.plot(page["sharpness"], page["claimed"], color=RED, label="moments' objective")
    middle.set(xscale="log", xlabel="noise of the decoder", ylabel="nats", title="exact, one pixel")
    names = ("objective", "true ELBO", "log p(x)")
    for offset, colour, (name, values) in zip((-0.2, 0.2), (BLUE, RED), page["judged"].items(), strict=True):
        bars = right.bar(np.arange(3) + offset, values, 0.38, color=colour, label=name)
        right.bar_label(bars, fmt="%.0f", padding=2)
    right.set(xticks=range(3), xticklabels=names, ylabel="nats an image", title="trained on digits")
    right.margins(y=0.12)
    for axes in (left, middle, right):
        axes.legend()
    return figure


def pixels(page: Page) -> Figure:
    """Section 4: the rate and the verdict under each reduction."""
    figure, (axes,) = _panels(1)
    rates, verdicts = zip(*page["reductions"].values(), strict=True)
    names = [
        f"{name}\nβ = {value:g}\n{rate:.2f} nats\ncollapse: {verdict}"
        for name, value, rate, verdict in zip(page["reductions"], (1, 8, 64), rates, verdicts, strict=True)
    ]
    axes.bar(names, rates, 0.6, color=[GREEN if verdict != "full" else RED for verdict in verdicts])
    axes.set(xlabel="over pixels, over units", ylabel="rate (nats an image)")
    return figure


def bits(page: Page) -> Figure:
    """Section 5: bits per dimension, with the nats beside them."""
    figure, (axes,) = _panels(1, width=6.0)
    values = list(page["bits"].values())
    bars = axes.barh(list(page["bits"]), values, color=BLUE)
    axes.bar_label(bars, [f"{v:.2f} bits/dim = {v * 64 * np.log(2):.0f} nats" for v in values], padding=4)
    axes.set(xlabel="bits per dimension (64 pixels of 17 levels); lower is better", xlim=(0, 9))
    axes.invert_yaxis()
    return figure


def surgery(page: Page) -> Figure:
    """Section 6: the three parts of the rate for each β."""
    figure, (axes,) = _panels(1)
    names = ("index-code information", "total correlation", "dimension-wise KL")
    labels, below = [f"β = {value:g}" for value in page["surgery"]], np.zeros(len(page["surgery"]))
    for name, colour, values in zip(names, (BLUE, RED, GREY), zip(*page["surgery"].values(), strict=True), strict=True):
        axes.bar(labels, values, 0.6, below, color=colour, label=name)
        below = below + np.array(values)
    limit = np.log(len(page["pixels"]))
    axes.axhline(limit, color=BLUE, linestyle="--")
    axes.annotate("log N: most that information can be", (3.4, limit), (0, 3), textcoords="offset points", ha="right")
    axes.set(ylabel="rate (nats an image)")
    axes.legend()
    return figure


def spectrum(page: Page) -> Figure:
    """`kl_weight.md`: eigenvalues of the images' covariance, and the least that pays under each loss."""
    figure = Figure(figsize=(8.0, 3.0))
    axes = figure.subplots()
    values = page["spectrum"][:40]
    axes.plot(np.arange(1, len(values) + 1), values, "o", color=BLUE, markersize=4)
    looks = zip(page["thresholds"].items(), (RED, GREY, RED, GREEN), ("--", "-", ":", "-"), strict=True)
    for (name, threshold), colour, style in looks:
        axes.axhline(threshold, color=colour, linestyle=style, label=f"{name}: {page['paying'][name]} pay")
    axes.set(yscale="log", xlabel="direction, the widest first", ylabel="variance of digits along it", ylim=(5e-3, 1e2))
    figure.legend(loc="outside right upper", title="a direction pays above βσ²")
    return figure


def bimodal(page: Page) -> Figure:
    """`latents.md`: the exact posterior of one image, and under it what each q makes of it."""
    figure = Figure(figsize=(10.0, 7.2))
    panels = figure.subplots(3, 4, sharex=True, sharey=True)
    size, axis = len(page["axis"]), page["axis"].numpy()[::2]
    densities = {name: density.reshape(size, size).numpy().T[::2, ::2] for name, density in page["densities"].items()}
    for axes, (name, density) in zip(panels.flat, densities.items(), strict=False):
        gap = page["gaps"].get(name)
        axes.contourf(axis, axis, densities["exact"], levels=[0.05, np.inf], colors=["#dddddd"])
        if gap is not None:
            axes.contour(axis, axis, density, levels=[0.05, 0.3], colors=[BLUE], linewidths=0.9)
        axes.set_title(name if gap is None else f"{name}: {gap:.2f} nats", fontsize=9)
        axes.set(xlim=(-3, 3), ylim=(-2, 3.5))
    for axes in list(panels.flat)[len(densities) :]:
        axes.set_axis_off()
    figure.supxlabel("$z_1$")
    figure.supylabel("$z_2$")
    return figure


def collapse(records: Sequence[RunRecord]) -> Figure:
    """Verdict, rate and bound of every run: one row a variant in the order of the mean bound, one mark a seed."""
    variants: dict[str, list[RunRecord]] = {}
    for record in records:
        variants.setdefault(record.variant, []).append(record)
    rows = sorted(variants.items(), key=lambda item: np.mean([_known(r, "elbo") for r in item[1]]))
    figure, panels = _panels(3, height=0.6 + 0.35 * len(rows), sharey=True)
    for row, (_, runs) in enumerate(rows):
        for axes, metric in zip(panels, ("units", "rate", "elbo"), strict=True):
            for place, run in enumerate(sorted(runs, key=lambda run: run.seed)):
                dead = len(run.collapse["units"])
                value = dead if metric == "units" else _known(run, metric)
                colour = RED if run.collapse["verdict"] == "full" else GREEN if dead == 0 else BLUE
                height = row + 0.25 * (place - (len(runs) - 1) / 2)
                axes.plot(value, height, "o", color=colour, markersize=5)
    units = max(len(run.units["decoder_drop"]) for run in records)
    panels[0].set(xlabel=f"collapsed units of {units}", yticks=range(len(rows)), yticklabels=[name for name, _ in rows])
    panels[1].set(xlabel="rate (nats an image)")
    panels[2].set(xlabel="ELBO (nats an image)")
    for axes in panels:
        axes.locator_params(axis="x", nbins=4, integer=axes is panels[0])
        axes.grid(axis="x", color="#dddddd")
    for verdict, colour in (("full", RED), ("partial", BLUE), ("none", GREEN)):
        panels[2].plot([], [], "o", color=colour, label=verdict)
    figure.legend(title="collapse", loc="outside right upper")
    return figure


def board(records: Sequence[RunRecord]) -> Figure:
    """The README's picture: a board as a forest plot, and what its best and a collapsed variant make of test images."""
    (found,) = (one for one in boards(records) if one.rows[0].records[0].data["name"] == BOARD)
    marks = forest(found).marks
    figure = Figure(figsize=(10.0, 4.2))
    axes, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for place, mark in enumerate(marks):
        colour, middle = GREY if mark.alone else BLUE, mark.difference
        if mark.over_both is not None:
            axes.plot([middle - mark.over_both, middle + mark.over_both], [place, place], color=colour, linewidth=1)
        axes.plot([middle - mark.over_images, middle + mark.over_images], [place, place], color=colour, linewidth=3.5)
        axes.plot(middle, place, "o", color=colour, markerfacecolor="white" if mark.alone else colour, markersize=5)
    for text, alone in (("several seeds", False), ("one seed: its scatter is borrowed", True)):
        colour = GREY if alone else BLUE
        axes.plot([], [], "o-", color=colour, markerfacecolor="white" if alone else colour, markersize=5, label=text)
    axes.axvline(0, color=GREY, linewidth=0.8)
    names = [f"{mark.row.variant} · {_rank(mark.row)}" for mark in marks]
    axes.set(yticks=range(len(marks)), yticklabels=names, xlabel="nats an image less the best (95 % intervals)")
    axes.set_title(f"{BOARD}: log-likelihood; names with the ranks that the noise allows", fontsize=9, loc="right")
    axes.grid(axis="x", color="#dddddd")
    axes.invert_yaxis()
    axes.legend(loc="upper left", title="thick: test images alone; thin: and seeds")
    strips = {mark.row.variant: _strips(mark.row.records[0]) for mark in marks if mark.row.variant in (MADE, MENDED)}
    right.imshow(np.concatenate([strips[MENDED][0], strips[MENDED][1], strips[MADE][1]]), cmap="gray")
    middles = [strips[MADE][0].shape[0] * (row + 0.5) for row in range(3)]
    right.set(xticks=[], yticks=middles, yticklabels=["test images", MENDED, MADE])
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_title(f"reconstructions: {MADE} ignores its latents", fontsize=9)
    return figure


def _rank(row: Row) -> str:
    return "provisional" if row.rank is None else "–".join(map(str, dict.fromkeys(row.rank)))


def _strips(record: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """The first `SHOWN` test images of a run's picture, and their reconstructions."""
    grid = np.asarray(Image.open(record.path / "reconstructions.png").convert("L"))
    height, width = grid.shape[0] // (2 * PAIRS), grid.shape[1] // COLUMNS
    return grid[:height, : SHOWN * width], grid[height : 2 * height, : SHOWN * width]


def _known(record: RunRecord, metric: str) -> float:
    value = record.value(metric)
    if value is None:
        raise ValueError(f"{record.variant}, seed {record.seed} has no {metric}: {record.reason(metric)}")
    return value


def _panels(count: int, height: float = 2.8, sharey: bool = False, width: float = 5.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(width, 3.0 * count), height))
    return figure, list(np.atleast_1d(figure.subplots(1, count, sharey=sharey)))


PAGES: dict[str, Callable[[Page], Figure]] = {
    function.__name__: function for function in (signs, beta, penalty, pixels, bits, surgery)
}


SOURCES: dict[Path, dict[str, Callable[[Page], Figure]]] = {
    PAGE: PAGES,
    LATENTS: {"bimodal": bimodal},
    WEIGHT: {"spectrum": spectrum},
}


def svg(draw: Callable[[Any], Figure], content: Any) -> bytes:
    """A figure as SVG with text as text, the same bytes every time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        draw(content).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pages = [name for figures in SOURCES.values() for name in figures]
    names = [*pages, *COLLAPSE, board.__name__]
    parser.add_argument(
        "figures", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all that have records"
    )
    wanted = parser.parse_args().figures or [
        *pages, *(name for name in COLLAPSE if (RECORDS / name).is_dir()), board.__name__,
    ]  # fmt: skip
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"no figure is called {', '.join(unknown)}: expected some of {', '.join(names)}")
    drawn = {name: svg(collapse, read_records(RECORDS / name)) for name in COLLAPSE if name in wanted}
    if board.__name__ in wanted:
        drawn[board.__name__] = svg(board, read_records(RECORDS))
    for source, figures in SOURCES.items():
        if asked := set(wanted) & set(figures):
            page = run_page(source)
            drawn |= {name: svg(figures[name], page) for name in asked}
    for name in wanted:
        write_atomically(FIGURES / f"{name}.svg", drawn[name])
        print(FIGURES / f"{name}.svg")


if __name__ == "__main__":
    main()
