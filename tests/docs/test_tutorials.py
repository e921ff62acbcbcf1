"""The tutorials run from top to bottom as they are written, in a folder beside copies of what they name."""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path

import pytest
import torch

from vaebench.cli import main

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(python|console|yaml)\n(.*?)```", re.DOTALL)


def run(page: Path) -> None:
    """Python blocks are one program, lines after `$ vaebench` commands, YAML blocks files named in their first line."""
    variables: dict[str, object] = {"__name__": page.stem}
    for index, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        if kind == "python":
            exec(compile(text, f"{page.name}, block {index}", "exec"), variables)
        elif kind == "yaml":
            Path(re.match(r"# (\w+\.yaml)\n", text)[1]).write_text(text)
        else:
            for line in re.findall(r"^\$ vaebench (.*)", text, re.MULTILINE):
                words = [found for word in line.split() for found in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
                assert main(words) == 0, line


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path) -> None:
    own = page.stem in ("first_run", "sweep")  # makes records of its own, and looks at those alone
    (tmp_path / "results").mkdir()
    for name in ("configs", *(() if own else ("results/collapse", "results/objectives"))):
        (tmp_path / name).symlink_to(ROOT / name)
    with contextlib.chdir(tmp_path), torch.random.fork_rng():
        run(page)
