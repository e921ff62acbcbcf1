"""A run's identity: canonical names and settings, whatever module defines a class and however it is named."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from committed import committed, trained_here
from fake_records import write_fake

from vaebench.configuration import part_kinds, parts
from vaebench.configuration.former import FORMER
from vaebench.leaderboard.boards import boards
from vaebench.loggers.about import of_record
from vaebench.networks import MLP
from vaebench.records import read_records, run_identity, setting_identity
from vaebench.reproduction.comparison import altered
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
GOLDEN = yaml.safe_load((Path(__file__).parent / "golden_ids.yaml").read_text(encoding="utf-8"))
HASHES = {"train": "0" * 64, "val": "1" * 64, "test": "2" * 64}
BASE = ["--data=digits", "--model=beta_vae"]


def id_of(*args: str, seed: int = 0) -> str:
    return run_identity(experiment([*BASE, *args]).plain, seed, HASHES)


class ForeignNetwork(MLP):
    """A network that is not the suite's."""


# The index --------------------------------------------------------------------------------------------------------


def test_every_canonical_name_is_unique_and_its_class_is_where_the_index_says() -> None:
    counts = Counter(part.canonical for part in parts.index())
    assert [name for name, count in counts.items() if count > 1] == []
    for part in parts.index():
        module, _, name = part.path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        assert (cls.__module__, cls.__name__) == (module, part.name)
        assert not (part.choosable and inspect.isabstract(cls)), part.path
        assert (inspect.getdoc(cls) or "") == part.doc


@pytest.mark.parametrize("kind", part_kinds.KINDS)
def test_the_index_lacks_no_class_of_a_kind(kind: str) -> None:
    """Every public class that python finds below the folder of a kind, and that derives from its bases."""
    folder, bases = part_kinds.KINDS[kind].folder, part_kinds.KINDS[kind].bases
    known = {part.path for part in parts.index() if part.kind == kind}
    assert known or parts.of_kind(kind)
    place = parts.PACKAGE / folder
    for file in sorted(place.rglob("*.py")) or [place.with_suffix(".py")]:
        name = ".".join(["vaebench", *file.relative_to(parts.PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for cls in vars(importlib.import_module(name)).values():
            if inspect.isclass(cls) and cls.__module__ == name and cls.__name__[0] != "_" and cls.__name__ not in bases:
                derived = {parent.__name__ for parent in cls.__mro__} & set(bases)
                assert not derived or f"{name}.{cls.__name__}" in known


def _paths(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from [value] if key == "class_path" else _paths(value)


def test_every_class_of_every_configuration_and_record_has_a_canonical_name() -> None:
    configs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("configs/*/*.yaml")]
    configs += [record.config for record in trained_here()]
    found = {path for config in configs for path in _paths(config) if path.startswith("vaebench.")}
    assert len(found) > 80
    found -= FORMER.keys()  # families that are settings of others now; see test_former.py
    assert [path for path in found if parts.part_at(path) is None] == []


# One run, one id --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["arguments"], ids=lambda case: " ".join(case["args"])[:60])
def test_the_ids_of_these_runs_never_change(case: dict[str, Any]) -> None:
    """Records that are there keep their ids: who changes one of these makes every run of theirs anew."""
    args = [arg.replace("--config=", f"--config={ROOT}/") for arg in case["args"]]
    assert run_identity(experiment(args).plain, case["seed"], HASHES) == case["id"]


@pytest.mark.parametrize("case", GOLDEN["configurations"], ids=lambda case: case["id"])
def test_the_ids_of_these_configurations_never_change(case: dict[str, Any]) -> None:
    """As above, with the configuration as a record has it: no default of a later version is added to it."""
    assert run_identity(case["config"], case["seed"], HASHES) == case["id"]


@pytest.mark.parametrize(
    "ways",
    [
        [[], ["--model.posterior=DiagonalGaussian"], ["--model.posterior=vaebench.posteriors.DiagonalGaussian"],
         ["--model.posterior.net=MLP"], ["--model.posterior.net=vaebench.networks.MLP"],
         ["--model.posterior.net=vaebench.posteriors.MLP"], ["--model.posterior.net.width=200"],
         ["--model.latent=50", "--trainer.max_epochs=100", "--data.batch_size=128"]],
        [["--model.beta=1"], ["--model.beta=1.0"], ["--model.beta=1e0"]],
        [["--model.clip=1"], ["--model.clip=1.0"]],
        [["--model.likelihood=LogCosh", "--model.likelihood.exponent=2"],
         ['--model.likelihood={"class_path": "LogCosh", "init_args": {"exponent": 2.0}}']],
    ],
    ids=["defaults", "float", "optional float", "part"],
)  # fmt: skip
def test_every_way_of_asking_for_a_run_has_one_id(ways: list[list[str]]) -> None:
    assert len({id_of(*way) for way in ways}) == 1


def test_a_file_and_arguments_that_say_the_same_have_one_id(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model:\n  class_path: BetaVAE\n  init_args: {beta: 2, posterior: {class_path: Delta}}\n")
    assert id_of(f"--config={file}") == id_of("--model.beta=2.0", "--model.posterior=Delta")


@pytest.mark.parametrize("setting", [
    "--trainer.log_every_n_steps=7", "--trainer.default_root_dir=elsewhere",
])  # fmt: skip
def test_what_cannot_change_what_is_learnt_is_no_part_of_the_id(setting: str) -> None:
    assert id_of(setting) == id_of()


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def test_any_other_setting_seed_or_data_has_another_id() -> None:
    config = experiment([*BASE, "--model.schedule=Linear", "--trainer.limit_train_batches=1"]).plain
    ids = [run_identity(config, 0, HASHES), run_identity(config, 1, HASHES)]
    ids += [run_identity(config, 0, {**HASHES, split: "3" * 64}) for split in HASHES]
    paths = list(_leaves(config))
    for *above, last in paths:
        changed = deepcopy(config)
        place = changed
        for key in above:
            place = place[key]
        place[last] = "vaebench.networks.ResNet" if last == "class_path" else "another"
        ids.append(run_identity(changed, 0, HASHES))
    assert len(paths) > 15
    assert len(set(ids)) == len(ids)


def test_one_batch_and_the_whole_epoch_are_not_one_setting() -> None:
    """Lightning reads a limit of 1 as one batch and of 1.0 as all of them."""
    assert id_of("--trainer.limit_train_batches=1") != id_of("--trainer.limit_train_batches=1.0")


def test_a_setting_that_a_later_version_adds_leaves_ids_as_they_are() -> None:
    """As long as its default is None: what was run without it keeps its id."""
    config = experiment(BASE).plain
    later = deepcopy(config)
    later["model"]["init_args"]["setting_of_a_later_version"] = None
    assert run_identity(later, 0, HASHES) == run_identity(config, 0, HASHES)
    later["model"]["init_args"]["setting_of_a_later_version"] = 1
    assert run_identity(later, 0, HASHES) != run_identity(config, 0, HASHES)


def test_a_class_of_another_package_counts_by_its_class_path() -> None:
    path = f"{ForeignNetwork.__module__}.{ForeignNetwork.__qualname__}"
    plain = experiment([*BASE, f"--model.posterior.net={path}"]).plain
    assert parts.canonical_config(plain)["model"]["init_args"]["posterior"]["init_args"]["net"]["class_path"] == path
    assert id_of(f"--model.posterior.net={path}") != id_of()


# Moved classes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path: Path) -> Callable[[str, str], Path]:
    """Copies the package and moves modules in it: (from, to) gives the copy's folder."""

    def move(old: str, new: str) -> Path:
        package = Path(shutil.copytree(parts.PACKAGE, tmp_path / "vaebench", ignore=shutil.ignore_patterns("*.pyc")))
        (package / new).parent.mkdir(parents=True, exist_ok=True)
        (package / old).rename(package / new)
        return package

    return move


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("priors/vamp.py", "priors/mixtures/pseudo_inputs.py"),
        ("families/beta_vae.py", "families/weighted/beta.py"),
        ("schedules.py", "schedules/shapes.py"),
        ("data/digits.py", "data/small/digits.py"),
        ("networks/__init__.py", "networks/common.py"),
    ],
)
def test_a_class_that_moves_to_another_module_keeps_its_canonical_name(
    moved: Callable[[str, str], Path], old: str, new: str
) -> None:
    package = moved(old, new)
    before = ".".join(["vaebench", *Path(old).with_suffix("").parts]).removesuffix(".__init__")
    after = ".".join(["vaebench", *Path(new).with_suffix("").parts])
    classes = [part for part in parts.index() if part.path.rpartition(".")[0] == before]
    assert classes
    for part in classes:
        for path in (part.path, f"{after}.{part.name}"):
            found = parts.part_at(path, package)
            assert found is not None
            assert found.canonical == part.canonical
            assert found.path == f"{after}.{part.name}", "which is imported"


def test_a_run_whose_prior_moved_to_another_module_keeps_its_id(moved: Callable[[str, str], Path]) -> None:
    """Trained by a copy of the package, in a process of its own, in which the module has another name."""
    package = moved("priors/vamp.py", "priors/pseudo_inputs.py")
    args = [*BASE, "--model.prior=vamp"]
    code = ("from vaebench.training.experiment import experiment; from vaebench.records import run_identity; "
            f"plain = experiment({args}).plain; print(plain['model']['init_args']['prior']['class_path']); "
            f"print(run_identity(plain, 0, {HASHES}))")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package.parent, check=True)
    assert out.stdout.split() == ["vaebench.priors.pseudo_inputs.VampPrior", id_of("--model.prior=vamp")]


@pytest.mark.parametrize("path", [
    "os.system", "vaebench.files.locks.os", "vaebench.networks.Linear", "vaebench.distributions.Bernoulli", "vaebench",
    "VAE", "vaebench.VAE", "vaebench.priors.vamp.VampPrior.forward", "vaebench...VampPrior", "",
    "vaebench.families.iwae.VAE",
])  # fmt: skip
def test_what_is_no_part_of_the_suite_has_no_canonical_name(path: str) -> None:
    assert parts.part_at(path) is None


# Records ----------------------------------------------------------------------------------------------------------


def test_records_of_former_schemas_keep_their_ids_and_are_not_taken_for_altered() -> None:
    records = committed()
    assert not records.damaged
    assert {record.path.name: altered(record) for record in records if record.path and altered(record)} == {}
    assert any(record.schema < 3 for record in records)


def test_runs_of_one_setting_share_a_row_whether_recorded_before_or_after_a_move() -> None:
    record = next(record for record in committed() if record.variant == "vampprior")
    text = json.dumps(record.config).replace("vaebench.priors.vamp.", "vaebench.priors.elsewhere.")
    assert setting_identity(record.family, json.loads(text)) == setting_identity(record.family, record.config)
    assert "vaebench.priors.elsewhere." in text


def test_a_board_and_weights_and_biases_call_a_setting_by_the_same_digits(tmp_path: Path) -> None:
    """Defect: the board said f16794 where Weights & Biases said 2321af."""
    rng = np.random.default_rng(0)
    for index, values in enumerate([(1, 1, 1, 1), (2, 2, 2, 1), (2, 2, 2, 2)]):  # no three of them tell all apart
        settings = dict(zip("abcd", values, strict=True))
        config = {
            "model": {"class_path": "vaebench.families.vae.VAE", "init_args": settings},
            "data": {},
            "trainer": {},
        }
        write_fake(tmp_path / str(index), rng, config=config, variant="vae")
    (board,) = boards(read_records(tmp_path))
    assert len(board.rows) == 3
    for row in board.rows:
        (record,) = row.records
        assert f"vae ({of_record(record).config['setting'].removeprefix('vae ')})" == row.variant
