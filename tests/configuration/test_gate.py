"""A file from a stranger runs nothing: what a checkpoint, a record or a card names is the suite's own or the user's."""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from committed import trained_here
from fake_records import write_fake

import vaebench as vb
from vaebench.cli import commands, main
from vaebench.configuration import gate, registered
from vaebench.configuration.former import current_run
from vaebench.configuration.options import COSMETIC, COUNTED, PASSED, REFUSED
from vaebench.configuration.parts import canonical_config
from vaebench.errors import UserError
from vaebench.loggers.transfer import _kept
from vaebench.publishing.referee import judge_cards
from vaebench.records.content import digest_of, rendered
from vaebench.records.record import RECORD
from vaebench.running import run
from vaebench.training.experiment import Experiment
from vaebench.training.solo import train

ROOT = Path(__file__).parents[2]
MLP = {"class_path": "vaebench.networks.MLP", "init_args": {"width": 8}}
CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "vaebench.families.vae.VAE",
        "init_args": {
            "latent": 2,
            "posterior": {"class_path": "vaebench.posteriors.DiagonalGaussian", "init_args": {"net": MLP}},
            "prior": {"class_path": "vaebench.priors.StandardNormal"},
            "likelihood": {"class_path": "vaebench.likelihoods.Bernoulli", "init_args": {"net": MLP}},
        },
    },
    "data": {"class_path": "vaebench.data.digits.Digits", "init_args": {"measure": "binary"}},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
    "lr_scheduler": {"class_path": "vaebench.optimizers.StepwiseDecay", "init_args": {"base": 2}},
    "trainer": {
        "max_epochs": 1,
        "callbacks": [
            {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/elbo"}}
        ],
    },
}
SPEC = {"class_path": "vaebench.measures.DataSpec", "init_args": {"shape": [1, 8, 8], "measure": "binary", "size": 9}}
SLOTS = {
    "family": ("model",),
    "likelihood": ("model", "init_args", "likelihood"),
    "posterior": ("model", "init_args", "posterior"),
    "prior": ("model", "init_args", "prior"),
    "nested net": ("model", "init_args", "likelihood", "init_args", "net"),
    "a word": ("model", "init_args", "latent"),
    "keywords": ("model", "init_args", "likelihood", "dict_kwargs"),
    "optimizer": ("optimizer",),
    "a setting of the optimizer": ("optimizer", "init_args", "momentum"),
    "scheduler": ("lr_scheduler",),
    "data": ("data",),
    "a setting of the data": ("data", "init_args", "measure"),
    "a callback": ("trainer", "callbacks", 0),
    "what a callback monitors": ("trainer", "callbacks", 0, "init_args", "monitor"),
    "logger": ("trainer", "logger"),
    "strategy": ("trainer", "strategy"),
    "plugins": ("trainer", "plugins"),
    "engine": ("engine",),
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that hostile names would make: by a command, or by a module that writes it when it is imported."""
    marker = tmp_path / "ran"
    (tmp_path / "hostile.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\ndef Net(): ...\n")
    (tmp_path / "pointer").write_text("class_path: hostile.Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registered, "REGISTERED", set())
    yield marker
    assert "hostile" not in sys.modules
    assert not marker.exists()


def _payloads(marker: Path) -> list[Any]:
    touch = f"touch {marker}"
    names = [
        "os.system", "posix.system", "subprocess.run", "builtins.exec", "hostile.Net", "hostile",
        "vaebench.files.atomic.os.system", "vaebench.likelihoods.torch.os.system",
        "vaebench.running.processes.multiprocessing.Process",
        "vaebench.evaluation.store.Store", "vaebench.files.write_atomically", "torch.hub.load",
        "jsonargparse.lazy_instance", "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.loggers.CSVLogger", "..os.system", "os.system\n", "vaebench.networks.__builtins__.exec",
    ]  # fmt: skip
    dicts = [
        {"class_path": name, "init_args": {"command": touch, "args": touch, "folder": str(marker)}} for name in names
    ]
    texts = [json.dumps(dicts[0]), "class_path: hostile.Net", "!!python/object/apply:os.system [true]", "pointer",
             "./pointer", str(marker.with_name("pointer")), f"file://{marker.with_name('pointer')}", "http://127.0.0.1:9/x.yaml",
             "${oc.env:HOME}", "~/x", "\0"]  # fmt: skip
    odd = [
        {"class_path": ["os", "system"]},
        {"__path__": "pointer"},
        {"class_path": "hostile.Net", "__default_config__": "x"},
        {"class_path.x": 1},
        {"init_args": {"net": "hostile.Net"}},
        b"os.system",
        {1: 2},
    ]
    return [*dicts, *(name for name in names if "." in name), *texts, *odd]


def _placed(value: Any, place: tuple[Any, ...]) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    inside: Any = config
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return config


def _checkpoint(folder: Path, model_of: dict[str, Any], config: dict[str, Any]) -> Path:
    """A checkpoint with the model of one configuration, which `load` builds, and another as that of its run."""
    model: Any = model_of["model"] if isinstance(model_of["model"], dict) else {"class_path": model_of["model"]}
    parts = model.get("init_args", {})
    hyper = {"_class_path": model.get("class_path"), "data": SPEC, **(parts if isinstance(parts, dict) else {})}
    path = folder / "model.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": hyper, "vaebench": {"config": config, "seed": 0}}, path)
    return path


def _record(folder: Path, config: dict[str, Any]) -> Path:
    """A record with a configuration, signed by one who does not look at it."""
    place = Path(write_fake(folder / "run", np.random.default_rng(0)).path or "")
    body = {**json.loads((place / RECORD).read_bytes()), "config": config}
    (place / RECORD).write_bytes(rendered({**body, "digest": digest_of(body)}))
    return place


def _load(folder: Path, config: dict[str, Any]) -> int:
    with pytest.raises(UserError) as error:
        vb.load(_checkpoint(folder, config, config if config["model"] == CONFIG["model"] else CONFIG))
    print(error.value, file=sys.stderr)
    return 2


def _pull(folder: Path, config: dict[str, Any]) -> int:
    _record(folder, config)
    pulled = _kept("run", folder / "run", folder / "results", {}, "me/vaes/1")
    assert pulled.directory is None
    assert not (folder / "results").exists()
    print(pulled.reason, file=sys.stderr)
    return 2


def _card(folder: Path, config: dict[str, Any]) -> int:
    if main(["export", str(_record(folder, config)), f"--out={folder}/card"]) == 2:
        return 2  # no record at all
    code = main(["import", f"{folder}/card", f"--results={folder}/results"])
    assert not (folder / "results").exists()
    return code


def _submit(folder: Path, config: dict[str, Any]) -> int:
    if main(["export", str(_record(folder, config)), f"--out={folder}/card"]) == 2:
        return 2
    code = main(["submit", f"{folder}/card", f"--out={folder}/submission"])
    assert not (folder / "submission").exists()
    return code


def _referee(folder: Path, config: dict[str, Any]) -> int:
    """Of a card with the checkpoint of another run, which is not opened where the record is not let through."""
    place = _record(folder, config)
    _checkpoint(place, CONFIG, CONFIG)
    if main(["export", str(place), f"--out={folder}/card", "--checkpoint"]) == 2:
        return 2
    (verdict,) = judge_cards([folder / "card"], folder / "out", folder / "results")
    assert verdict.verdict == "refused"
    assert not (folder / "results").exists()
    print(verdict.reason, file=sys.stderr)
    return 2


READERS: dict[str, Callable[[Path, dict[str, Any]], int]] = {
    "load": _load,
    "evaluate": lambda folder, config: main(
        ["evaluate", str(_checkpoint(folder, CONFIG, config)), f"--results={folder}/results"]
    ),
    "explore": lambda folder, config: main(
        ["explore", str(_checkpoint(folder, CONFIG, config)), f"--out={folder}/page"]
    ),
    "verify": lambda folder, config: main(
        [
            "verify",
            str(_record(folder, config)),
            "--checkpoint",
            str(_checkpoint(folder, CONFIG, CONFIG)),
            f"--out={folder}/out",
        ]
    ),
    "reproduce": lambda folder, config: main(["reproduce", str(_record(folder, config)), f"--out={folder}/out"]),
    "import": _card,
    "submit": _submit,
    "referee": _referee,
    "pull": _pull,
}


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_names_what_is_not_the_suites_runs_nothing(
    reader: str, slot: str, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payloads = _payloads(marker)
    if reader not in ("load", "evaluate"):  # records: the same walk, and JSON is not all of it
        payloads = [*payloads[:: len(payloads) // 4], payloads[4], "pointer"]
    for index, payload in enumerate(payloads):
        if slot == "keywords" and isinstance(payload, dict) and "class_path" not in payload and "init_args" in payload:
            continue  # a table of settings
        folder = tmp_path / str(index)
        folder.mkdir()
        assert READERS[reader](folder, _placed(payload, SLOTS[slot])) == 2, payload
        assert not marker.exists(), payload
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1, said
        assert "expected" in said[0]


# Commands that show records and build nothing; `{}` is the folder of records.
SHOWING = {
    "leaderboard": [["leaderboard", "{}", "--html=page.html"], ["leaderboard", "{}", "--format=bibtex"]],
    "compare": [["compare", "vae", "iwae", "--results={}", "--html=page.html"]],
    "plan": [["plan", "vae", "iwae", "--results={}", "--sd=1"]],
    "export": [["export", "{}/run", "--out=card-{}"]],
    "site": [["site", "{}", "--out=site-{}"]],
}
USERS = {"fit", "bench", "sweep"}  # their configuration is the user's; what they reuse, `read_checkpoint` opens
ELSEWHERE = {"judge", "wandb", "push", "pull"}  # test_judging_attacks.py; the reader "pull"; test_hub.py
LISTING = {"parts", "families", "datasets", "configs", "init", "completion", "check"}  # open no file of anybody else's


def test_every_command_is_tried_with_hostile_names_or_reads_none() -> None:
    """A new command is caught here: say what it reads, and try it."""
    tried = [READERS.keys() - {"load", "pull"}, SHOWING.keys(), USERS, ELSEWHERE, LISTING]
    assert sorted(name for names in tried for name in names) == sorted(commands())


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"load"}))
def test_a_dataset_of_torch_that_a_file_names_is_not_imported(reader: str, marker: Path, tmp_path: Path) -> None:
    data = {"class_path": "vaebench.data.torch.Torch", "init_args": {"dataset": "hostile.Net", "settings": {}}}
    assert READERS[reader](tmp_path, _placed(data, SLOTS["data"])) == 2
    assert not marker.exists()


def test_what_shows_a_record_imports_nothing_that_it_names(marker: Path, tmp_path: Path) -> None:
    for index, (slot, payload) in enumerate({"family": 4, "nested net": 0, "a callback": 9}.items()):
        results = tmp_path / str(index)
        write_fake(results / "other", np.random.default_rng(1), variant="iwae")
        _record(results, json.loads(json.dumps(_placed(_payloads(marker)[payload], SLOTS[slot]), default=str)))
        for words in (words for several in SHOWING.values() for words in several):
            assert main([word.replace("{}", str(index)) for word in words]) in (0, 2), words
            assert not marker.exists(), words
            assert "hostile" not in sys.modules, words


@pytest.mark.usefixtures("marker")
def test_a_benchmark_that_finds_a_hostile_checkpoint_beside_a_record_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark with another protocol measures the weights beside its former records anew."""
    (tmp_path / "own.yaml").write_text(
        "overrides: {data: digits, model: vae, model.latent: 2, trainer.max_steps: 2}\nseeds: [0]\nruns: {vae: {}}\n"
        "protocol: {name: quick, k: 2, limit: 4}\n"
    )
    read: list[Path] = []
    opened = run.read_checkpoint
    monkeypatch.setattr(run, "read_checkpoint", lambda path: read.append(path) or opened(path))
    place = tmp_path / "results" / "own" / "vae-s0-00000000"
    place.mkdir(parents=True)
    hostile = _placed({"class_path": "hostile.Net"}, SLOTS["likelihood"])
    _checkpoint(place, hostile, hostile)
    assert main(["bench", "own.yaml", "--results=results", "--work=work"]) == 0
    assert place / "model.ckpt" in [path.resolve() for path in read]


GUARDED = {
    "adapters/diffusers.py": "diffusers by its name, and two classes of it",
    "adapters/folders.py": "tensors alone",
    "training/models.py": "read_checkpoint, behind the gate",
    "configuration/built.py": "what `vb.build` was given by the user, or has from behind the gate",
    "cli.py": "the suite's own commands",
    "__init__.py": "the suite's own names",
    "configuration/discovery.py": "the suite's own families and data sets",
    "configuration/explain.py": "classes that a parsed configuration has",
    "configuration/own.py": "names of the command line and of what the user installed",
    "configuration/registered.py": "what the user has registered",
    "data/_stored.py": "arrays alone, which it has written itself",
    "data/arrays.py": "arrays alone",
    "configuration/callable.py": "the suite's own functions",
    "data/torch.py": "data.dataset, which the gate admits from a file only where the user has named it",
    "evaluation/protocol.py": "the suite's own measurements",
    "evaluation/store.py": "arrays alone",
    "evaluation/estimators/features.py": "files of VAEBENCH_WEIGHTS, which the user trusts",
    "evaluation/estimators/lpips.py": "a download with a checksum, tensors alone",
    "loggers/__init__.py": "the suite's own loggers",
    "records/arrays.py": "arrays alone",
    "sweep/engines/__init__.py": "the suite's own engines",
    "sweep/spec/engine.py": "the suite's own engines",
    "running/foreign.py": "data that the command line names",
    "display/tables.py": "pandas by its name",
    "training/experiment.py": "a configuration of the user's own",
    "training/population/member.py": "a save that `Saves` has looked through, tensors alone",
    "training/recipe.py": "classes that a parsed configuration has",
    "training/saves.py": "tensors alone",
}
DOORS = {"import_module", "__import__", "instantiate", "instantiate_classes", "parse_object", "exec", "import_object",
         "run_path", "run_module", "unsafe_load", "full_load"}  # fmt: skip
LOADERS = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False", "torch.jit.load": "", "pickle.load": "",
           "pickle.loads": "", "yaml.load": "", "joblib.load": ""}  # fmt: skip


def test_every_place_that_imports_builds_or_unpacks_by_name_is_known() -> None:
    """A new one is caught here: say how it is guarded, in docs/security.md too, and add its reader to `READERS`."""
    found = set()
    root = Path(vb.__file__).parent
    for path in root.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name in LOADERS or name == "eval" or name.rpartition(".")[2] in DOORS:
                found.add(path.relative_to(root).as_posix())
            if name in LOADERS:
                assert LOADERS[name] in ast.unparse(call), f"{path}: {ast.unparse(call)}"
    assert found == GUARDED.keys()


def test_a_checkpoint_that_names_os_system_runs_nothing(marker: Path, tmp_path: Path) -> None:
    """As it was found: any model.ckpt with a likelihood that is a command."""
    command = {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}}
    path = _checkpoint(tmp_path, _placed(command, SLOTS["likelihood"]), CONFIG)
    with pytest.raises(UserError, match=r"likelihood 'os\.system': expected a class of vaebench's"):
        vb.load(path)


def test_many_settings_that_are_one_in_the_file_end_the_walk(tmp_path: Path) -> None:
    bomb: Any = "x"
    for _ in range(30):
        bomb = [bomb, bomb]
    with pytest.raises(UserError, match="expected at most"):
        vb.load(_checkpoint(tmp_path, _placed(bomb, SLOTS["a word"]), CONFIG))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UserError, match="expected at most"):
        gate.vetted(_placed(loop, SLOTS["a word"])["model"], "x")


def test_a_packed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    """A few kilobytes that unpack to gigabytes; torch packs nothing."""
    path = _checkpoint(tmp_path, CONFIG, CONFIG)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert torch.load(tmp_path / "packed.ckpt", weights_only=True)["state_dict"] == {}
    with pytest.raises(UserError, match="not a checkpoint"):
        vb.load(tmp_path / "packed.ckpt")


def test_the_saves_of_an_interrupted_run_name_nothing(marker: Path, tmp_path: Path) -> None:
    """`last.ckpt` holds weights and counters; what else it says is not looked at."""
    args = ["--data", "vaebench.data.digits.Digits", "--model", "vaebench.families.vae.VAE", "--model.latent=2",
            "--trainer.max_epochs=1"]  # fmt: skip

    def stop(_: float, metrics: Any) -> None:
        if metrics:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(Experiment(args), tmp_path / "run", stop)
    content = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["likelihood"] = {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}}
    content["hyper_parameters"]["_class_path"] = content["hyper_parameters"]["_instantiator"] = "hostile.Net"
    torch.save(content, tmp_path / "run" / "last.ckpt")
    assert train(Experiment(args), tmp_path / "run").is_file()


# What stays allowed -----------------------------------------------------------------------------------------------


def test_every_recorded_configuration_may_be_built() -> None:
    found = [record.config for record in trained_here()]
    assert len(found) > 100
    for config in found:
        assert canonical_config(gate.vetted_run(config, "results")) == canonical_config(current_run(config))


def test_a_class_that_has_moved_since_is_the_class_that_it_is_now() -> None:
    moved = _placed("vaebench.gone.module.Conv", SLOTS["nested net"])
    vetted = gate.vetted_run(moved, "x")["model"]["init_args"]["likelihood"]["init_args"]["net"]
    assert vetted == {"class_path": "vaebench.networks.Conv"}


def test_short_names_are_those_of_the_suite(tmp_path: Path) -> None:
    short = {"class_path": "DiagonalGaussian", "init_args": {"net": "MLP"}}
    model = vb.build("vae", "digits", latent=2, posterior=short, prior="StandardNormal")
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, tmp_path / "model.ckpt")
    assert vb.load(tmp_path / "model.ckpt").hparams["posterior"]["init_args"]["net"] == {
        "class_path": "vaebench.networks.MLP"
    }
    for name in ("MAF", "EarlyStopping", "Network"):  # of zuko, of Lightning, and of no posterior
        with pytest.raises(UserError, match=f"posterior '{name}'"):
            gate.vetted({**CONFIG["model"], "init_args": {"posterior": name}}, "x", "family")


OWN = """\
from vaebench.networks import MLP
import os

class Net(MLP):
    pass

class Other(MLP):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's own, with a network, of which this process knows nothing."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registered, "REGISTERED", set())
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def test_what_the_user_trains_is_loaded_by_the_same_process_and_by_others_that_are_told(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data=digits", "--model=vae", "--model.latent=2", "--trainer.max_epochs=1",
            "--model.likelihood=vaebench.likelihoods.Bernoulli", f"--model.likelihood.net={own}.Net"]  # fmt: skip
    assert main(["fit", *args, f"--out={tmp_path}/runs"]) == 0
    said = capsys.readouterr().out
    (checkpoint,) = tmp_path.glob("runs/*/model.ckpt")
    assert f"vaebench evaluate {checkpoint} --trust {own}.Net" in said
    vb.load(checkpoint)
    monkeypatch.setattr(registered, "REGISTERED", set())
    evaluate = ["evaluate", str(checkpoint), "--protocol=quick", "--k=2", "--limit=4", f"--results={tmp_path}/results"]
    assert main(evaluate) == 2
    assert f"'{own}.Net'" in capsys.readouterr().err
    assert main([*evaluate, "--trust", f"{own}.Net", "--processes=2"]) == 0
    (record,) = tmp_path.glob("results/**/record.json")
    monkeypatch.setattr(registered, "REGISTERED", set())
    for command in ("verify", "reproduce"):
        assert main([command, str(record), f"--out={tmp_path}/out"]) == 2
        assert f"'{own}.Net'" in capsys.readouterr().err


def test_trust_is_of_what_is_defined_in_a_module_and_not_of_what_it_imports(own: str) -> None:
    def net(name: str) -> dict[str, Any]:
        return _placed(name, SLOTS["nested net"])

    with pytest.raises(UserError, match=r"net 'own_networks\.Net'"):
        gate.vetted_run(net(f"{own}.Net"), "x")
    vb.trust(f"{own}.Net")
    gate.vetted_run(net(f"{own}.Net"), "x")
    for name in ("Other", "os.system", "MLP", "Net.__init__", "Net.forward"):
        with pytest.raises(UserError):
            gate.vetted_run(net(f"{own}.{name}"), "x")
    vb.trust(own)
    gate.vetted_run(net(f"{own}.Other"), "x")
    for name in ("os.system", "os", "MLP", "Net.__init__"):
        with pytest.raises(UserError):
            gate.vetted_run(net(f"{own}.{name}"), "x")


def test_trust_takes_a_class_and_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered, "REGISTERED", set())
    files = _placed(str(tmp_path / "in" / "faces.npz"), SLOTS["a setting of the data"])
    outside = _placed(f"{tmp_path}/in/../faces.npz", SLOTS["a setting of the data"])
    with pytest.raises(UserError, match="measure"):
        gate.vetted_run(files, "x")
    vb.trust(f"{tmp_path}/in")
    gate.vetted_run(files, "x")
    with pytest.raises(UserError, match="measure"):
        gate.vetted_run(outside, "x")
    vb.trust(SimpleNamespace)
    assert registered.trusted() == tuple(sorted([f"{tmp_path}/in", "types.SimpleNamespace"]))
    for wrong in ("", " ", 3):
        with pytest.raises(UserError, match="cannot be trusted"):
            vb.trust(wrong)  # type: ignore[arg-type]


def test_records_may_have_the_options_that_training_knows_and_no_other() -> None:
    """Defect: the gate kept a list of its own, and let through what Lightning has but training did not know."""
    for name in sorted((COUNTED | PASSED | REFUSED.keys()) - COSMETIC):
        config = {**CONFIG, "trainer": {name: 2}}
        assert gate.vetted_run(config, "a record")["trainer"] == {name: 2}
    for name in sorted({*(COSMETIC - {"logger"}), "zzz"}):
        with pytest.raises(UserError, match=f"trainer.{name} '2'"):
            gate.vetted_run({**CONFIG, "trainer": {name: 2}}, "a record")
