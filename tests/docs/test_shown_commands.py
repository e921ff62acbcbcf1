"""Every command that a page shows is understood: its options exist, and so do the files of the suite that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vaebench import cli
from vaebench.commands.fit import _own
from vaebench.configuration.early import require_known

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("your-", "publishing", "own_family")  # by test_your_pages.py and as a notebook, with files that they write
SHOWN = re.compile(r"^(?: {4}|\$ )vaebench (.*)$", re.MULTILINE)


def shown(page: Path) -> list[list[str]]:
    """The words of its commands, up to what is the shell's."""
    lines = [] if page.stem.startswith(RUN) else SHOWN.findall(page.read_text("utf-8"))
    return [shlex.split(re.split(r" [|>] | && ", line)[0], comments=True) for line in lines]


def _understand(words: list[str]) -> int:
    """In place of a training: the look at its arguments that comes before torch is imported."""
    _, rest = _own(words)
    require_known(rest)
    return 0


@pytest.mark.usefixtures("newcomer")  # what commands name is trusted, and data are looked for there, only until its end
@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.stem)
def test_every_command_of_a_page_is_understood(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for name, module in cli.commands().items():
        if hasattr(module, "raw"):
            monkeypatch.setattr(module, "raw", _understand if name == "fit" else lambda _: 0)
        else:
            monkeypatch.setattr(module, "run", lambda _: 0)
    for words in shown(page):
        assert cli.main(words) == 0, f"vaebench {shlex.join(words)}: {capsys.readouterr().err}"


def test_the_files_of_the_suite_that_commands_name_exist() -> None:
    named = {word for page in PAGES for words in shown(page) for word in words if re.match("(configs|sweeps)/", word)}
    assert len(named) > 3
    assert not [word for word in named if "NAME" not in word and not (ROOT / word).is_file()]
