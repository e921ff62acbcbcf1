"""What the pages show for a reader to type, in its order: blocks of code, commands in blocks, commands in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = r"(?:vaebench|make|python3?|pip|sbatch|torchrun|wandb|hf|optuna-dashboard|\.venv/bin/\S+) \S"
SHOWN = re.compile(
    r"^```(?P<kind>\w*)\n(?P<block>.*?)^```$"
    r"|^(?: {4}(?:\w+=\S+ )?(?P<command>[^\n]*)$)"
    rf"|`(?P<named>{PROGRAM}[^`]*)`",
    re.DOTALL | re.MULTILINE,
)


class Shown(NamedTuple):
    """One thing that a page shows.

    Attributes:
        kind: of a block its language; 'command', 'named' for a command in the text, or 'notation'.
        text: the block, or the command without its comment.
    """

    kind: str
    text: str


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def shown(page: Path) -> Iterator[Shown]:
    """What a page shows; in a block of a console the commands, whose output other tests hold to them."""
    for found in SHOWN.finditer(page.read_text("utf-8")):
        if found["kind"] == "console":
            commands = re.findall(r"^\$ (.*)$", found["block"], re.MULTILINE)
            yield from (Shown("command", command) for command in commands)
        elif found["kind"] is not None:
            yield Shown(found["kind"], found["block"])
        elif found["named"] is not None:
            text = " ".join(found["named"].split())
            if not re.fullmatch(r"(vaebench|hf|wandb) \w+( (status|push))?", text):  # the name of a command
                yield Shown("named", text)
        else:
            text = found[0].strip().split(" #")[0].strip()
            yield Shown("command" if re.match(rf"(\w+=\S+ )?{PROGRAM}", text) else "notation", text)


def example(page: str, file: str) -> str:
    """The block of a page whose first line names a file."""
    return next(block.text for block in shown(ROOT / page) if block.text.startswith(f"# {file}\n"))


INSTALLS = "changes what is installed; tests/packaging and `make release` install vaebench"
HOURS = "hours of training; tests/docs/test_repeats.py reads the file, and holds the table to its records"
WRITES = "writes the repository's pages, which a test holds to what it would write"
TAKES_LONG = "minutes to hours, and its own file or folder"
RAY = "a Ray cluster; tests/sweep/test_sweep_engines.py has one"
NOT_RUN = {  # and why
    "make test": "this is it",
    "make lint": ".ci/run does",
    "make nightly": "this is it",
    "make docs": "tests/docs/test_site.py builds the site by the same script",
    "make release": "minutes, an index of packages; tests/docs/test_release.py has its rules",
    "make matrix": "minutes an environment, an index of packages, several Pythons",
    "make lock": "asks the public index",
    "make audit": "asks a public list of holes",
    "make runs": "hours of training",
    ".venv/bin/pre-commit install": "changes the clone's hooks",
    'pip install "vaebench[explore]"': INSTALLS,
    'pip install "vaebench[hf]"': INSTALLS,
    'pip install "vaebench[hub]"': INSTALLS,
    'pip install "vaebench[postgres]"': INSTALLS,
    'pip install "vaebench[ray,postgres]"': INSTALLS,
    'pip install "vaebench[slurm,postgres]"': INSTALLS,
    'pip install "vaebench[tensorboard]"': INSTALLS,
    'pip install "vaebench[wandb]"': INSTALLS,
    "pip install mlflow": INSTALLS,
    "pip install vaebench[judge]": INSTALLS,
    "python -m pip install --require-hashes --no-deps -r requirements.lock": INSTALLS,
    "python -m pip install -c constraints.txt torch": INSTALLS,
    "python -m pip install --no-deps -e .": INSTALLS,
    "hf auth login": "needs an account",
    "python benchmarks/bits_back.py FILE": TAKES_LONG,
    "python benchmarks/features.py FILE": TAKES_LONG,
    "python benchmarks/memory.py": TAKES_LONG,
    "python benchmarks/photographs.py FOLDER": TAKES_LONG,
    "python benchmarks/refined.py FILE… --images 32 --certify 32": TAKES_LONG,
    "python benchmarks/rezende.py": TAKES_LONG,
    "python benchmarks/storage.py": TAKES_LONG,
    "python docs/figures.py": WRITES,
    "python docs/findings.py": WRITES,
    "python docs/notebooks.py": WRITES,
    "python docs/peers.py": WRITES,
    "python docs/repeats.py": WRITES,
    "python docs/tables.py": WRITES,
    "python tests/leaderboard/test_comparison_page.py": WRITES,
    **{f"vaebench bench configs/repeat/{stem}.yaml": HOURS for stem in (
        "burda_iwae", "burda_vae", "burda_vae_paper_adam", "davidson", "mathieu", "norouzi", "norouzi_exemplar",
        "norouzi_fashion", "rainforth", "rezende", "townsend",
    )},
    "vaebench fit --data hf --data.name ylecun/mnist --model vae": "downloads",
    "vaebench fit --data torch --data.dataset torchvision.datasets.FashionMNIST --data.root fashion --data.train "
    "'{train: true, download: true}' --data.test '{train: false}' --model vae": "downloads, and needs torchvision",
    "vaebench evaluate --adapter pythae:FOLDER --data binarized_mnist":
        "tests/packaging/test_users.py runs it on such a folder",
    "vaebench evaluate --adapter multivae:FOLDER:MODALITY --data binarized_mnist":
        "tests/adapters/test_folders.py reads such a folder",
    "vaebench evaluate --adapter diffusers:FOLDER --data folder --data.root pngs --data.crop square --data.resize 256":
        "tests/packaging/test_users.py runs it on such a folder",
    "vaebench evaluate --adapter diffusers:FOLDER --data folder --data.root photographs --data.crop square "
    "--data.resize 256 --protocol tokenizer": "needs photographs and weights; tests/evaluation measures small ones",
    "vaebench verify RECORD --adapter MODEL": "tests/running/test_foreign.py runs it",
    "vaebench fit --config": "an option's name",
    "vaebench sweep … --engine ray --storage postgresql://…": RAY,
    "vaebench sweep sweeps/beta.yaml --engine ray --storage postgresql://me@db/sweeps --results /shared/results "
    "--work /shared/runs": RAY,
    "optuna-dashboard sqlite:///results/beta/sweep.db": "another program's server",
    "python -m vaebench.sweep.workers.solo FILE --results … --work …": "what every local engine starts",
    "wandb sync runs/wandb/offline-run-*": "tests/loggers/test_wandb.py runs it on such a folder",
}  # fmt: skip
NOTATION = (  # a formula, a drawing, a quotation: nothing to run
    "README.md: The vaebench contributors.",
    "CONTRIBUTING.md: data  →  family",
    "CONTRIBUTING.md: ↑",
    "CONTRIBUTING.md: training",
    "docs/comparison.md: y_si =",
    "docs/comparison.md: (S − 1) s²",
    "docs/comparison.md: log σ²",
    "docs/comparison.md: V =",
    "docs/comparison.md: |D_ij|",
    "docs/comparison.md: compare: [[iwae, vae], [dreg, vae]]",  # a line of the file that the next command names
    "docs/comparison.md: |change(A)",
    "docs/objectives.md: loss = −ELBO",
)
AS_NOTEBOOK = "docs/test_notebooks.py::test_a_notebook_runs_from_top_to_bottom"
IN_ORDER = "docs/test_your_pages.py::test_the_blocks_of_the_page_run_one_after_another"
ADAPTERS, PROTOCOLS = "evaluation/test_adapters.py", "evaluation/test_evaluation_protocol.py"
OBJECTIVES, LATENTS = "docs/test_objectives_page.py", "docs/test_latents_page.py"
AT_NIGHT = ("vaebench push", "vaebench pull")  # of a page whose other commands run elsewhere
ELSEWHERE = {  # pages, kinds, and the test that runs them
    "README.md": {"python text": "docs/test_readme.py::test_it_answers_which_of_two_models_is_better_in_six_lines"},
    "docs/adapters.md": {
        "python": f"{ADAPTERS}::test_the_page_runs_and_both_adapters_give_the_same_networks_the_same_figures",
    },
    "docs/commands.md": {"python": "docs/test_readme.py::test_the_python_beside_the_commands_runs"},
    "docs/comparison.md": {"python": "leaderboard/test_comparison_page.py::test_its_python_runs"},
    "docs/discrete.md": {"python": "docs/test_discrete_page.py::test_the_pages_block_runs_and_its_assertions_hold"},
    "docs/evaluation.md": {
        "python": f"{PROTOCOLS}::test_the_page_s_curve_over_beta_is_drawn_from_the_records",
        "yaml": f"{PROTOCOLS}::test_the_page_on_evaluation_names_every_measurement_and_its_example_is_a_protocol",
    },
    "docs/kl_weight.md": {"python": f"{OBJECTIVES}::test_a_mean_over_pixels_leaves_no_direction_that_pays"},
    "docs/latents.md": {
        "python": f"{LATENTS}::test_the_table_is_that_of_the_block",
        "yaml": f"{LATENTS}::test_its_configuration_trains",
    },
    "docs/metrics.md": {"python": f"{ADAPTERS}::test_a_pythae_callback_notes_what_the_harness_records"},
    "docs/objectives.md": {"python": f"{OBJECTIVES}::test_the_moments_objective_is_no_bound_and_the_kls_is"},
    "docs/publishing.md": {"command": IN_ORDER},
    "docs/your-data.md": {"python yaml command": IN_ORDER},
    "docs/your-family.md": {
        "python yaml command": IN_ORDER,
        "toml": "configuration/test_own_code.py::"
        "test_a_plugin_of_an_installed_package_is_listed_without_being_imported",
    },
    "docs/your-model.md": {"python yaml command": IN_ORDER},
    "docs/wandb.md": {
        "yaml": "docs/test_shown_commands.py::test_what_the_agent_of_a_wandb_sweep_starts_is_understood",
    },
    **{
        f"docs/tutorials/{stem}.md": {"python yaml command": AS_NOTEBOOK}
        for stem in ("collapse", "compare", "first_run", "own_family", "sweep")
    },
}


def elsewhere(page: Path, found: Shown) -> str | None:
    """The test that runs it, where it is not the nightly one of all pages."""
    if found.text.startswith(AT_NIGHT):
        return None
    return next((test for kinds, test in ELSEWHERE.get(name(page), {}).items() if found.kind in kinds.split()), None)
