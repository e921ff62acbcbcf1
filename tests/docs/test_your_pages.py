"""The pages on a user's own images, code and models: their blocks are programs that run in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from shown import AT_NIGHT, NOT_RUN, ROOT, shown

from vaebench.cli import main

FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")


@pytest.mark.parametrize("page", ["your-data.md", "your-family.md", "your-model.md", "publishing.md"])
def test_the_blocks_of_the_page_run_one_after_another(
    page: str, newcomer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program: dict[str, object] = {}
    ran = 0
    for found in shown(ROOT / "docs" / page):
        if named := FILE.match(found.text):
            (newcomer / named[1]).write_text(found.text.removeprefix(named[0]))
        elif found.kind == "python":
            exec(found.text, program)
        elif found.kind == "command" and found.text not in NOT_RUN and not found.text.startswith(AT_NIGHT):
            words = shlex.split(found.text)
            with monkeypatch.context() as patch:
                while "=" in words[0]:
                    patch.setenv(*words.pop(0).split("=", 1))
                matches = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words[1:]]
                assert main([word for match in matches for word in match]) == 0, found.text
            ran += 1
    assert ran >= 2
