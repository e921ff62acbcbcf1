"""Mistakes that are told before torch is imported, what a shell completes, and how far a training is."""

from __future__ import annotations

import inspect
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vaebench.cli import main
from vaebench.commands.completion import ZSH, words
from vaebench.configuration.discovery import find_class, names
from vaebench.configuration.early import arguments_of, require_known
from vaebench.configuration.explain import _parameters, explained
from vaebench.configuration.shipped import shipped
from vaebench.display import terminal
from vaebench.errors import UserError
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.models import build
from vaebench.training.parser import expand_names
from vaebench.training.progress import training_bar

MISTAKES = [
    "--data digits --model beta_vaee",
    "--data digts --model vae",
    "--data=digits --model=vae --model.latnt=3",
    "--data digits --model vae --model.latent x",
    "--data digits --model beta_vae --model.beta two",
    "--data digits --model vae --trainer.max_epoch 3",
    "--data digits --data.mesure binary --model vae",
    "--data digits --model vae --model.prior vamppp",
    "--data digits --model vae --model.clip abc",
    "--data digits --model vae --optimizer Adamm",
    "--data digits --model vae --model.surrogate perhaps",
]


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_answered_as_the_parser_answers_it(typed: str) -> None:
    with pytest.raises(UserError) as early:
        require_known(typed.split())
    with pytest.raises(UserError) as late, explained():
        Experiment(list(expand_names(typed.split())))
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(
    ("typed", "ordered"),
    [
        ("--model.latent 4 --data digits --model vae", "--data digits --model vae --model.latent 4"),
        ("--data.batch_size 9 --data=digits --model.prior.components 5 --model.prior vamp --model vae",
         "--data digits --data.batch_size 9 --model vae --model.prior vamp --model.prior.components 5"),
        ("--model.latent 4 --model vamp_vae --data digits", "--model vamp_vae --model.latent 4 --data digits"),
    ],
)  # fmt: skip
def test_a_class_may_be_named_after_its_settings(typed: str, ordered: str) -> None:
    """Defect: "'model' cannot be '4': expected null"."""
    assert experiment(typed.split()).plain == experiment(ordered.split()).plain


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"init_args": {}}, "which names no class"),
        ({"components": 5}, "which names no class"),
        ({"class_path": "vamp", "components": 5}, "'components' beside its class_path"),
        ({"class_path": "vamp", "init_args": "text"}, "where a table of settings of VampPrior is expected"),
    ],
)
def test_a_table_that_is_no_class_with_its_settings_is_refused(prior: Any, said: str) -> None:
    """Defect: a table without a class took the default part."""
    with pytest.raises(UserError, match=said):
        build("vae", "digits", prior=prior)


@pytest.mark.parametrize("kind", ["family", "data set"])
def test_settings_in_the_source_are_those_of_the_constructors(kind: str) -> None:
    for name in names(kind):
        cls = find_class(kind, name)
        taken = (
            _parameters(f"{cls.__module__}.{cls.__name__}") if kind == "family" else inspect.signature(cls).parameters
        )
        assert set(arguments_of(kind, name)) == set(taken), name


def test_every_configuration_of_the_suite_is_known() -> None:
    for name in shipped():
        if name.startswith("configs/family/"):
            require_known([f"--model={name.rpartition('/')[2]}", "--data=digits"])


@pytest.mark.parametrize("typed", [
    "--data digits --model my_vae.MyVAE --model.weight 0.7",
    "--config mine.yaml --model.anything 3",
    "--model beta_vae --data folder --data.root pngs --data.crop square --model.schedule linear --model.schedule.end 3",
    "--model vae --model.clip null --model.prior {class_path: vamp} --model.lr 1e-3 --seed_everything 3 --help",
    "--model vae --optimizer AdamW --optimizer.weight_decay 0.1 --trainer.max_epochs 3",
])  # fmt: skip
def test_what_is_right_or_not_known_here_is_left_to_the_parser(typed: str) -> None:
    require_known(typed.split())


def test_a_mistake_in_fit_needs_no_torch() -> None:
    script = (
        "import sys; from vaebench.cli import main; code = main(['fit', '--data', 'digits', '--model', 'vaee']); "
        "print(code, [m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "2 []"


COMPLETED = {
    ("fam",): ["families"],
    ("fit", "--model", "beta_"): ["beta_tc_vae", "beta_vae"],
    ("fit", "--data", "dig"): ["digits"],
    ("fit", "--model", "beta_vae", "--model.be"): ["--model.beta"],
    ("fit", "--data=digits", "--data.b"): ["--data.batch_size"],
    ("fit", "--data", "=", "dig"): ["digits"],
    ("fit", "--data="): [f"--data={name}" for name in names("data set")],
    ("fit", "--model.prior", "Vamp"): ["VampPrior"],
    ("fit", "--trainer.max_ep"): ["--trainer.max_epochs"],
    ("parts", "pri"): ["prior"],
    ("bench", "digi"): ["digits"],
}


@pytest.mark.parametrize("typed", COMPLETED)
def test_a_shell_completes(typed: tuple[str, ...]) -> None:
    assert words(typed, ["families", "fit"], {}) == COMPLETED[typed]


SHELLS = {"bash": "", "zsh": "emulate sh -o kshglob -o noshglob -o braceexpand; complete() { :; }"}  # as bashcompinit


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_script_and_asks_the_command(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Defect: zsh took `COMP_CWORD` without a dollar for a modifier, so that it completed nothing."""
    if (program := shutil.which(shell)) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"{shell} is not installed; `make test` installs it where it may"
        )
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out.removeprefix(ZSH)
    (tmp_path / "vaebench").write_text(f'#!/bin/sh\nexec {sys.executable} -m vaebench "$@"\n')
    (tmp_path / "vaebench").chmod(0o755)
    asked = f"""{SHELLS[shell]}
{script}
COMP_WORDS=(vaebench evaluate --protocol qu); COMP_CWORD=3; _vaebench; echo "${{COMPREPLY[@]}}" """
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([program, "-c", asked], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == ["quick"]


def test_without_a_terminal_there_is_a_line_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    said = io.StringIO()
    with training_bar("digits-vae-s0", console=Console(file=said)) as update:
        for step in range(5):
            now[0] = 10.0 * step
            bound = {"val/elbo": -20.0 - step, "train/rate": 3.0, "train/distortion": 17.0}
            update(step / 4, {"epoch": step + 1.0, "images/s": 31_415.9, **bound})
    assert said.getvalue() == (
        "digits-vae-s0: 75%, epoch 4, held-out bound -23.00 nats (highest -20.00), in training rate 3.0 and distortion "
        "17.0, 31,416 images/s\n"
    )


def test_a_number_in_the_place_of_a_key_ends_in_a_sentence(newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: a file that says `1: 2` ended in a traceback, found by the fuzz."""
    (newcomer / "own.yaml").write_text("1: 2\n")
    assert main(["fit", "--config=own.yaml", "--data=digits", "--model=vae", f"--out={newcomer}"]) == 2
    assert capsys.readouterr().err.startswith("vaebench: ")
