"""The pages on a user's own images, code and models: their blocks are programs that run in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vaebench.cli import main

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(
    r"^```(?:python|yaml(?=\n# \S+\.yaml\n))\n(?:# (?P<file>\S+\.(?:py|yaml))\n)?(?P<code>(?:.*\n)*?)```$"
    r"|^ {4}(?P<command>vaebench .*)$",
    re.MULTILINE,
)


@pytest.mark.parametrize("page", ["your-data.md", "your-family.md", "your-model.md", "publishing.md"])
def test_the_blocks_of_the_page_run_one_after_another(page: str, newcomer: Path) -> None:
    program: dict[str, object] = {}
    ran = 0
    for block in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        if block["file"]:
            (newcomer / block["file"]).write_text(block["code"])
        elif block["code"]:
            exec(block["code"], program)
        elif "# not run here" not in block["command"]:
            words = shlex.split(block["command"], comments=True)[1:]
            found = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
            assert main([word for words in found for word in words]) == 0
            ran += 1
    assert ran >= 2
