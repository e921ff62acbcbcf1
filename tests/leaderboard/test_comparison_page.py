"""docs/comparison.md shows what the commands print; `python tests/leaderboard/test_comparison_page.py` renews it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from vaebench.cli import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "comparison.md"


def renewed(page: str) -> str:
    """The page with every console block holding what its command prints."""
    return re.sub(r"(?<=```console\n)\$ (vaebench .*)\n(?:[^`]*)", _block, page)


def _block(found: re.Match[str]) -> str:
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):
        assert main(found[1].split()[1:]) == 0
    return f"$ {found[1]}\n{out.getvalue()}"


def test_the_examples_are_what_the_commands_print() -> None:
    page = PAGE.read_text()
    assert page.count("$ vaebench compare ") >= 2
    assert renewed(page) == page


def test_its_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):
        exec(compile(code, str(PAGE), "exec"), {})
    assert re.match(r"(better|worse|tie) -?[\d.]+ \(", out.getvalue())


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
