"""Whatever a page shows is run by a test, or named with the reason why not; every command is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from shown import ELSEWHERE, NOT_RUN, NOTATION, PAGES, ROOT, Shown, elsewhere, name, shown

from vaebench import cli
from vaebench.commands.fit import _own
from vaebench.configuration.early import require_known

OWN_FILES = ("your-", "publishing", "own_family")  # their commands name files that the pages write


def _words(page: Path) -> list[list[str]]:
    """The words of its commands of the suite, up to what is the shell's."""
    texts = [found.text for found in shown(page) if found.kind == "command" and found.text.startswith("vaebench ")]
    if page.stem.startswith(OWN_FILES):
        return []
    return [shlex.split(re.split(r" [|>] | && ", text)[0], comments=True)[1:] for text in texts]


def _understand(words: list[str]) -> int:
    """In place of a training: the look at its arguments that comes before torch is imported."""
    _, rest = _own(words)
    require_known(rest)
    return 0


@pytest.mark.usefixtures("newcomer")  # what commands name is trusted, and data are looked for there, only until its end
@pytest.mark.parametrize("page", [page for page in PAGES if _words(page)], ids=lambda page: page.stem)
def test_every_command_of_a_page_is_understood(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for command, module in cli.commands().items():
        if hasattr(module, "raw"):
            monkeypatch.setattr(module, "raw", _understand if command == "fit" else lambda _: 0)
        else:
            monkeypatch.setattr(module, "run", lambda _: 0)
    for words in _words(page):
        assert cli.main(words) == 0, f"vaebench {shlex.join(words)}: {capsys.readouterr().err}"


def test_the_files_of_the_suite_that_commands_name_exist() -> None:
    texts = " ".join(found.text for page in PAGES for found in shown(page) if found.kind in ("command", "named"))
    files = set(re.findall(r"\b(?:configs|sweeps|benchmarks|docs|tests)/[\w/]+\.\w+", texts))
    assert len(files) > 20
    assert not [file for file in files if "NAME" not in file and not (ROOT / file).is_file()]


def test_all_that_a_page_shows_is_run_or_said_not_to_be() -> None:
    """Commands by `test_pages_run.py` where nothing else is said; what is listed is still there."""
    every = [(page, found) for page in PAGES for found in shown(page)]
    unknown = [f"{name(page)}: {found.kind}: {found.text}" for page, found in every if not _placed(page, found)]
    assert not unknown
    assert set(NOT_RUN) <= {found.text for _, found in every}
    notations = [f"{name(page)}: {found.text}" for page, found in every if found.kind == "notation"]
    assert all(any(text.startswith(known) for text in notations) for known in NOTATION)
    used = {elsewhere(page, found) for page, found in every}
    for test in {test for tests in ELSEWHERE.values() for test in tests.values()}:
        file, function = test.split("::")
        assert test in used
        assert f"def {function}(" in (ROOT / "tests" / file).read_text("utf-8"), test


def _placed(page: Path, found: Shown) -> bool:
    if found.kind == "notation":
        return any(f"{name(page)}: {found.text}".startswith(known) for known in NOTATION)
    return found.kind in ("command", "named") or elsewhere(page, found) is not None


def test_what_the_agent_of_a_wandb_sweep_starts_is_understood() -> None:
    (text,) = (found.text for found in shown(ROOT / "docs" / "wandb.md") if found.kind == "yaml")
    sweep = yaml.safe_load(text)
    given = [f"--{key}={value['min']}" for key, value in sweep["parameters"].items()]
    program, command, *words = sweep["command"]
    assert (program, command, words.pop()) == ("vaebench", "fit", "${args}")
    assert _understand([*words, *given]) == 0
