"""Pages of the site that are made: one a family, and the reference."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

import vaebench
from vaebench.configuration.discovery import families
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.display import error, number, score_display
from vaebench.leaderboard.facts import title
from vaebench.records import RunRecord

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "family"
PARTS = ("posteriors", "priors", "likelihoods", "networks", "schedules", "optimizers")
TOOLS = ("functional", "distributions", "metrics", "evaluation.estimators", "measures", "errors")
PICTURES = ("reconstructions", "samples")


def family_pages(boards: Sequence[Board], source: Path) -> Iterator[tuple[str, str]]:
    """Paths and texts; pictures are copied beside them."""
    configured = {path.stem: _class(path) for path in sorted(CONFIGS.glob("*.yaml"))}
    for name, cls in sorted(families().items()):
        path = f"{cls.__module__}.{cls.__qualname__}"
        own = [stem for stem, used in configured.items() if used == path]
        rows = [(board, row) for board in boards for row in board.rows if row.records[0].family == name]
        yield f"families/{name}.md", "".join((
            f"# {name}\n\n", _directives(f".. autoclass:: {path}\n"),
            *(_configuration(stem) for stem in own),
            _results(rows),
            *_pictures(name, rows, source),
        ))  # fmt: skip


def _class(config: Path) -> str:
    return yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["class_path"]


def _configuration(stem: str) -> str:
    text = (CONFIGS / f"{stem}.yaml").read_text(encoding="utf-8")
    command = f"vaebench fit --config configs/data/DATA.yaml --config configs/family/{stem}.yaml"
    return f"\n## {stem}.yaml\n\n    {command}\n\n```yaml\n{text}```\n"


def _results(rows: Sequence[tuple[Board, Row]]) -> str:
    if not rows:
        return "\n## On boards\n\nNo record in `results/` is of this family yet.\n"
    lines = [
        "\n## On boards\n\nWhat it measured and what it cost; ranks are those that the noise leaves open. "
        "[All boards](../results.md).\n\n",
        "| board | variant | rank | seeds | score | ± seeds | ± images | parameters | training (s) |\n",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |\n",
    ]
    for board, row in rows:
        heading, unit, decimals = score_display(board)
        score = row.estimates.get(board.score)
        first = row.records[0]
        cells = (
            f"{title(board)}: {heading}{f' ({unit})' if unit else ''}", row.variant,
            "–".join(map(str, dict.fromkeys(row.rank))) if row.rank else "none", str(len(row.seeds)),
            number(score.mean if score else None, decimals), error(score.over_seeds if score else None, decimals),
            error(score.over_images if score else None, decimals), f"{first.cost['parameters']:,}",
            f"{statistics.mean(record.times['train_seconds'] for record in row.records):,.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(lines)


def _pictures(name: str, rows: Sequence[tuple[Board, Row]], source: Path) -> Iterator[str]:
    """Of the run on the most pixels: what it makes of test images, and what it dreams up."""
    records = [record for _, row in rows for record in row.records if record.path]
    pictured = [record for record in records if all((record.path / f"{kind}.png").is_file() for kind in PICTURES)]
    if not pictured:
        return
    chosen = max(pictured, key=_pixels)
    yield f"\n## Pictures\n\nOf `{chosen.variant}`, seed {chosen.seed}, on {chosen.data['name']}.\n"
    for kind in PICTURES:
        place = source / "families" / "pictures" / f"{name}-{kind}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(chosen.path / f"{kind}.png", place)
        yield f"\n![{kind} of {chosen.variant}](pictures/{place.name})\n"


def _pixels(record: RunRecord) -> int:
    shape = record.data["shape"]
    return shape[0] * shape[1] * shape[2]


def reference_pages() -> Iterator[tuple[str, str]]:
    """The Python interface, then the modules of parts and tools, from their docstrings."""
    functions = sorted(set(vaebench.__all__) - {"Report", "families", "__version__"})
    interface = "".join(f".. autofunction:: vaebench.{name}\n" for name in functions)
    report = ".. autoclass:: vaebench.evaluation.Report\n   :members:\n"
    yield "reference/api.md", f"# vaebench\n\n{_directives(interface + report)}"
    for package in (*PARTS, *TOOLS):
        name, *inside = _modules(f"vaebench.{package}")
        headed = (f"\n## {module}\n\n{_automodule(module)}" for module in inside)
        yield f"reference/{package}.md", f"# {name}\n\n{_automodule(name)}{''.join(headed)}"


def _automodule(module: str) -> str:
    return _directives(f".. automodule:: {module}\n   :members:\n")


def _directives(text: str) -> str:
    return f"```{{eval-rst}}\n{text}```\n"


def _modules(name: str) -> list[str]:
    module = importlib.import_module(name)
    inside = pkgutil.iter_modules(getattr(module, "__path__", []))
    return [name, *(f"{name}.{found.name}" for found in inside if not found.name.startswith("_"))]
