"""At night the commands that a page shows run one after another in a folder, as its reader would type them.

The folder is that of somebody who has a clone and has worked with it: small copies of the suite's benchmarks and
sweeps, some records, a trained VAE, and the files of `your-family.md` and `your-model.md`. `STANDS_FOR` says what
stands for what a page leaves open or what would take minutes, `BUDGET` what is added; nothing else differs from what
is shown.
`tests/shown.py` names what runs elsewhere or nowhere, and why.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import fake_hub
import fake_slurm
import fake_wandb
import pytest
import yaml
from data_layouts import write_tiny
from fake_records import write_board
from postgres import Server
from shown import NOT_RUN, PAGES, ROOT, elsewhere, example, name, shown

import vaebench as vb
from vaebench.cli import main
from vaebench.running import explore
from vaebench.sweep.engines import slurm

VAE, DIGITS = "runs/trained/*/model.ckpt", "results/digits/vae-s0-*"
STANDS_FOR: dict[str, dict[str, str]] = {
    "": {
        "runs/…/model.ckpt": VAE,
        "results/shapes/…": DIGITS,
        "results/shapes/vae-s30-9c5a5589": DIGITS,  # whose training takes minutes
        "--metric mig": "--metric mse",  # digits have no factors
        "make demo": "vaebench bench configs/benchmark/digits.yaml --results runs/demo"
        " && vaebench leaderboard runs/demo --html runs/demo/leaderboard.html",  # its recipe, which a test compares
    },
    "CONTRIBUTING.md": {"benchmark/NAME": "benchmark/digits", "&& make test && make lint": ""},
    "docs/commands.md": {
        "s0-…/model": "s0-*/model",
        "--trainer.max_epochs 100": "--trainer.max_epochs 1",
        "bench digits": "bench configs/benchmark/digits.yaml",
        "sweep beta_freebits": "sweep sweeps/beta_freebits.yaml",
        "submissions/…": "submission/submissions/*",
        "submit card": "submit card --out submission",
        "import card": "import card --results others",  # another researcher's
        "judge results/shapes/… results/shapes/…": "judge results/collapse/vae-s0-* results/collapse/capacity-s0-*",
        "pull OWNER/NAME": "pull me/vae --results elsewhere",
        "OWNER/NAME": "me/vae",
        "wandb pull ENTITY/PROJECT": "wandb push me/vaes --results results/digits"
        " && vaebench wandb pull me/vaes --results pulled",
    },
    "docs/comparison.md": {
        " A B": " bias_at_mean capacity",
        "FILE --until": "until.yaml --until",
        "FILE --calibrate": "until.yaml --calibrate",
        "--most-seeds 20": "--most-seeds 3",
    },
    "docs/discrete.md": {"--protocol codes": f"{VAE} --protocol codes"},
    "docs/evaluation.md": {"limit 2000": "limit 10"},
    "docs/judging.md": {
        "results/shapes/vae-s30-9c5a5589 results/shapes/factor_vae-s30-80db64db":
            "results/collapse/vae-s0-* results/collapse/capacity-s0-*",
    },
    "docs/publishing.md": {"results/digits/vae-s0-…": DIGITS},
    "docs/reproduction.md": {
        "results/imported/vae-s0-1a2b3c4d": DIGITS,
        "import cards/vae --results results": "import cards/vae --results others",  # another researcher's
    },
    "docs/scaling.md": {
        "postgresql://me@db/sweeps": "$POSTGRES",
        "/shared/": "shared/",
        "--engine slurm --storage postgresql://…": "--engine slurm --storage $POSTGRES --dry-run",
        "sweep … ": "sweep sweeps/joint.yaml ",
        "--workers 2": "--workers 2 --resume",  # fewer workers in the place of the line above
        "sweeps/beta.yaml --engine slurm --storage postgresql://me@db/sweeps --dry-run":
            "sweeps/digits.yaml --engine slurm --storage $POSTGRES --dry-run",
        "sweeps/beta.yaml --engine slurm": "sweeps/annealing.yaml --engine slurm",
        "bench digits": "bench configs/benchmark/digits.yaml",
    },
    "docs/security.md": {
        "vaebench evaluate runs/mine/": "vaebench fit --data digits --model mypkg.MyVAE --out runs/mine"
        " && vaebench evaluate runs/mine/*/",
    },
    "docs/speed.md": {"evaluate --precision": f"evaluate {VAE} --precision"},
    "docs/tutorials/own_family.md": {
        "--model half_beta_vae": "--model mypkg.HalfBetaVAE --data digits",
        "--model mypkg.HalfBetaVAE": "--model mypkg.HalfBetaVAE --data digits",
    },
    "docs/wandb.md": {
        "fit --trainer.logger=CSVLogger":
            "fit --data digits --model vae --trainer.logger=CSVLogger --trainer.log_every_n_steps 5",
        "sweep FILE": "sweep sweeps/joint.yaml",
    },
    "docs/your-data.md": {"help NAME": "help celeba"},
}  # fmt: skip
BUDGET = {"fit": "--trainer.max_epochs 1", "evaluate": "--limit 20 --k 20"}  # after a command's own words
SERVICES: dict[str, tuple[str, ...]] = {
    "docs/commands.md": ("hub", "wandb"),
    "docs/publishing.md": ("hub",),
    "docs/scaling.md": ("postgres", "slurm"),
    "docs/wandb.md": ("wandb",),
}


def commands(page: Path) -> list[str]:
    """What is to be run of a page."""
    left = (found for found in shown(page) if found.kind in ("command", "named") and found.text not in NOT_RUN)
    return list(dict.fromkeys(found.text for found in left if not elsewhere(page, found)))


def _small(source: Path, target: Path) -> None:
    """Copies the suite's benchmarks and sweeps: one seed, one epoch, 20 images, three trials on digits."""
    shutil.copytree(source / "configs", target / "configs")
    shutil.copytree(source / "sweeps", target / "sweeps")
    for file in (*target.glob("configs/benchmark/*.yaml"), *target.glob("sweeps/*.yaml")):
        content = yaml.safe_load(file.read_text("utf-8").replace("data/binarized_mnist", "data/digits"))
        if "sweep" in content:
            content |= {"stop": {"trials": 3}, "constraints": []}
            content["protocol"] = {**content.get("protocol", {}), "limit": 20}
        else:
            content |= {"seeds": [0], "protocol": {"k": 10, "limit": 20}}
            for variant in (content, *content["runs"].values()):
                variant["overrides"] = {**variant.get("overrides", {}), "trainer.max_epochs": 1}
        file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it is before a page is read."""
    place = tmp_path_factory.mktemp("clone")
    _small(ROOT, place)
    shutil.copytree(ROOT / "docs", place / "docs", ignore=shutil.ignore_patterns("notebooks"))
    for records in ("collapse", "strong_decoder"):
        shutil.copytree(ROOT / "results" / records, place / "results" / records)
    write_board(place / "results" / "board", {"iwae": 1.0, "vae": 0.0})
    with contextlib.chdir(place):
        checkpoint = vb.fit("vae", "digits", "runs/trained", trainer={"max_epochs": 15}, latent=4)
        assert main(["evaluate", str(checkpoint), "--protocol", "quick", "--limit", "40"]) == 0
    for page, file in (("your-family", "my_vae.py"), ("your-model", "theirs.py")):
        (place / file).write_text(example(f"docs/{page}.md", file), "utf-8")
    (place / "mine.yaml").write_text("limit: 10\nmeasurements:\n  likelihood: {k: 10}\n", "utf-8")
    until = yaml.safe_load((place / "configs/benchmark/collapse.yaml").read_text("utf-8"))
    until |= {"configs": ["configs/data/digits.yaml"], "compare": [["vae", "capacity"]]}
    until["runs"] = {"vae": {"configs": ["configs/family/vae.yaml"]},
                     "capacity": {"configs": ["configs/family/capacity_vae.yaml"]}}  # fmt: skip
    (place / "until.yaml").write_text(yaml.safe_dump(until), "utf-8")
    (place / "mypkg").mkdir()
    (place / "mypkg" / "__init__.py").write_text(
        example("docs/your-family.md", "my_vae.py") + "\n\n" + next(shown(ROOT / "docs/tutorials/own_family.md")).text
    )
    (place / "mypkg" / "networks.py").write_text("from vaebench.networks import MLP\n\n\nclass Net(MLP):\n    pass\n")
    return place


@pytest.fixture
def here(clone: Path, newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(clone, newcomer, dirs_exist_ok=True)
    write_tiny(newcomer / "data", monkeypatch, "binarized_mnist")
    monkeypatch.setattr(explore, "FILES", [replace(file, url=None) for file in explore.FILES])  # no network
    return newcomer


@contextlib.contextmanager
def _served(service: str, here: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page needs of others: the Hub, W&B, a PostgreSQL server, SLURM; the first two and the last are fakes."""
    if service == "hub":
        with fake_hub.answering(here, patch):
            yield
    elif service == "wandb":
        with fake_wandb.alone(here / "wandb", patch), fake_wandb.answering(patch):
            yield
    elif service == "postgres":
        server = Server()
        patch.setenv("POSTGRES", server.address)
        yield
        with warnings.catch_warnings():  # the process of a command ends, and with it what is open
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        server.close()
    else:
        environment = fake_slurm.install(here / "slurm")
        for key, value in environment.items():
            patch.setenv(key, value)
        patch.setattr(slurm, "require_server", lambda _: None)  # the cluster is this machine
        cluster = fake_slurm.Cluster(environment)
        yield
        while cluster.jobs("PENDING", "RUNNING"):
            signal.sigtimedwait([], 0.2)
        cluster.close()


def _run(command: str) -> int:
    """Runs one line of a shell: assignments, words with * (the first match) and $, `&&`, `> FILE`; `vaebench` here."""
    for part in command.split(" && "):
        line, _, output = part.partition(" > ")
        words = shlex.split(os.path.expandvars(line), comments=True)
        with ExitStack() as stack:
            while "=" in words[0]:
                key, value = words.pop(0).split("=", 1)
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setenv(key, value)
            found = [sorted(map(str, Path().glob(word)))[:1] if "*" in word else [word] for word in words]
            program, *rest = [word for matches in found for word in matches]
            if output:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(output).open("w"))))
            code = _program(program, rest)
        if code != 0:
            return code
    return 0


def _program(program: str, words: list[str]) -> int:
    if program == "vaebench" and words[0] == "judge":
        return _interrupted([sys.executable, "-m", "vaebench", *words, "--port=0"])
    if program == "vaebench" and any(word.endswith((".help", "--version")) for word in words):
        with pytest.raises(SystemExit) as end:
            main(words)
        return int(end.value.code or 0)
    if program == "vaebench":
        return main([*words, *shlex.split(BUDGET.get(words[0], ""))])
    return subprocess.run([sys.executable if program == "python" else program, *words], check=False).returncode


def _interrupted(words: list[str]) -> int:
    """Starts a server, waits for its address, and presses Ctrl-C."""
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=surroundings) as process:
        assert process.stdout is not None
        address = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    return 0 if address.startswith("http") and process.returncode in (0, 130) else process.returncode or 1


def _as_run(page: str, command: str) -> str:
    for table in (STANDS_FOR.get(page, {}), STANDS_FOR[""]):
        for text, stands_for in table.items():
            command = command.replace(text, stands_for)
    return command


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # huggingface_hub 2.4's, of httpx
@pytest.mark.parametrize("page", [name(page) for page in PAGES if commands(page)])
def test_the_commands_of_a_page_run(
    page: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = []
    with ExitStack() as stack:
        for service in SERVICES.get(page, ()):
            stack.enter_context(_served(service, here, monkeypatch))
        for command in commands(ROOT / page):
            code = _run(_as_run(page, command))
            said = capsys.readouterr()
            if code != 0:
                failed.append(f"{command}\n  as {_as_run(page, command)}\n  exit code {code}: {said.err[-600:]}")
    assert not failed, "\n".join(failed)


def test_what_stands_for_something_is_still_shown() -> None:
    for page, table in STANDS_FOR.items():
        texts = [command for file in PAGES if page in ("", name(file)) for command in commands(file)]
        for text in table:
            assert any(text in command for command in texts), f"{page}: {text}"


def test_the_demo_is_what_the_makefile_makes() -> None:
    dry = ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/ready", "demo"]  # make may run the tests
    made = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    recipe = [line.removeprefix(".venv/bin/") for line in made.splitlines()]
    assert " && ".join(recipe) == STANDS_FOR[""]["make demo"]
