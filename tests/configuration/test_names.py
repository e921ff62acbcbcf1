"""Parts by their names: on the command line, in files and from Python; and what is said of names that are none."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vaebench as vb
from vaebench.cli import main
from vaebench.configuration import part_kinds, parts
from vaebench.configuration.discovery import names
from vaebench.errors import UserError
from vaebench.posteriors.flows import InverseAutoregressive
from vaebench.posteriors.gaussian import FullGaussian
from vaebench.priors.vamp import VampPrior
from vaebench.sweep.check import check
from vaebench.sweep.spec.spec import read_sweep
from vaebench.training.experiment import experiment
from vaebench.training.models import data_module

BASE = ["--data=digits", "--model=vae"]
INIT = "model.init_args."


def chosen(job_or_config: Any, *keys: str) -> str:
    """The class that stands under a part of a model, without its module."""
    place = job_or_config.plain["model"]
    for key in keys:
        place = place["init_args"][key]
    return str(place["class_path"]).rpartition(".")[2]


def refusal(*args: str) -> str:
    with pytest.raises(UserError) as caught:
        experiment([*BASE, *args])
    return str(caught.value)


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", part_kinds.KINDS)
def test_every_part_is_found_by_each_of_its_names_in_any_case(kind: str) -> None:
    assert parts.of_kind(kind)
    for part in parts.of_kind(kind).values():
        for name in (part.name, part.listed, part.path, *part.short):
            for spelling in (name, name.upper(), name.lower()) if "." not in name else (name,):
                assert parts.find_part(kind, spelling) == part, f"{kind} {spelling}"


def test_no_two_parts_of_a_kind_have_a_name_of_their_own_in_common() -> None:
    for kind in part_kinds.KINDS:
        own = [parts.plain_name(name) for part in parts.of_kind(kind).values() for name in {part.name, *part.also}]
        assert len(set(own)) == len(own)


def test_families_and_data_sets_are_listed_by_the_names_of_their_files() -> None:
    for kind in ("family", "data set"):
        assert sorted(part.listed for part in parts.of_kind(kind).values()) == names(kind)


def test_an_argument_takes_one_kind_of_part_wherever_it_stands() -> None:
    kinds = parts.part_arguments()
    assert {kinds[name] for name in ("posterior", "prior", "likelihood", "net", "schedule")} == {
        "posterior", "prior", "likelihood", "network", "schedule",
    }  # fmt: skip
    for part in parts.index():
        if part.choosable:
            cls = vars(__import__(part.path.rpartition(".")[0], fromlist=["_"]))[part.name]
            for name, parameter in inspect.signature(cls).parameters.items():
                if isinstance(parameter.default, type) and (
                    default := parts.find_part("", parts_path(parameter.default))
                ):
                    assert kinds[name] == default.kind, f"{part.path} {name}"


def parts_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.mark.parametrize(
    ("args", "keys", "name"),
    [
        (["--model.prior", "VampPrior"], ["prior"], "VampPrior"),
        (["--model.prior", "vamp"], ["prior"], "VampPrior"),
        (["--model.prior=vamp_prior", "--model.prior.components=3"], ["prior"], "VampPrior"),
        (["--model.prior", "RealNVP"], ["prior"], "RealNVP"),
        (['--model.prior={"class_path": "lars", "init_args": {"net": "resnet"}}'], ["prior", "net"], "ResNet"),
        (["--model.prior={class_path: MAF}"], ["prior"], "MaskedAutoregressiveFlow"),
        (["--model.posterior", "iaf"], ["posterior"], "InverseAutoregressive"),
        (["--model.posterior", "full-gaussian", "--model.posterior.net", "resnet"], ["posterior", "net"], "ResNet"),
        (["--model.posterior.net", "ResNet"], ["posterior", "net"], "ResNet"),
        (["--model.likelihood", "logcosh", "--data.measure", "continuous"], ["likelihood"], "LogCosh"),
        (["--model", "beta", "--model.schedule", "cyclical"], ["schedule"], "Cyclical"),
        (["--model", "BetaVAE"], [], "BetaVAE"),
        (["--model.prior.class_path", "vamp"], ["prior"], "VampPrior"),
    ],
)
def test_parts_are_found_by_name_on_the_command_line(args: list[str], keys: list[str], name: str) -> None:
    """Defect: `VampPrior` was answered "did you mean StandardNormal?", `RealNVP` with a parser's dump."""
    assert chosen(experiment([*BASE, *args]), *keys) == name


def test_parts_are_found_by_name_in_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: Digits\nmodel:\n  class_path: iwae\n  init_args:\n    prior: vamp\n"
                    "    posterior: {class_path: iaf, init_args: {net: {class_path: resnet}}}\n")  # fmt: skip
    job = experiment([f"--config={file}"])
    assert [chosen(job), chosen(job, "prior"), chosen(job, "posterior", "net")] == ["IWAE", "VampPrior", "ResNet"]
    (tmp_path / "short.yaml").write_text("model: beta\ndata: digits\n")
    assert chosen(experiment([f"--config={tmp_path}/short.yaml"])) == "BetaVAE"


def test_parts_are_found_by_name_in_a_sweep_file(tmp_path: Path) -> None:
    sweep = {"overrides": {"data": "digits", "model": "beta", "model.latent": 2, "model.prior": "vamp",
                           "model.prior.components": 2},
             "space": {"model.schedule": {"choice": ["linear", "Cosine"]}}, "stop": {"trials": 1}}  # fmt: skip
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(sweep))
    job = check(read_sweep(tmp_path / "s.yaml"))
    assert [chosen(job, "prior"), chosen(job, "schedule")] == ["VampPrior", "Cosine"]


def test_parts_are_found_by_name_from_python() -> None:
    assert isinstance(vb.build("vae", "digits", prior="vamp").prior, VampPrior)
    spec = {"class_path": "IAF", "init_args": {"net": "mlp", "steps": 1}}
    assert isinstance(vb.build("VAE", "Digits", posterior=spec).posterior, InverseAutoregressive)


def test_a_name_of_the_suites_is_no_class_of_another_library() -> None:
    """Defect: `RealNVP` was zuko's, which is no prior."""
    path = experiment([*BASE, "--model.prior=RealNVP"]).plain["model"]["init_args"]["prior"]["class_path"]
    assert path == "vaebench.priors.flows.RealNVP"


# Names that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("--model.prior=VampPriorr", ["unknown prior 'VampPriorr'; did you mean VampPrior", "`vaebench parts prior`"]),
        ("--model.posterior=IAFF", ["unknown posterior 'IAFF'", "`vaebench parts posterior`"]),
        ("--model.posterior=vaebench.posteriors.flows.Planar", ["unknown posterior 'Planar'; did you mean PlanarFlow"]),
        ("--model.posterior.net=resnett", ["unknown network 'resnett'; did you mean ResNet"]),
        ("--model.posterior.net=os.system", ["unknown network 'os.system'", "`vaebench parts network`"]),
        ("--model.likelihood=Gausian", ["unknown likelihood 'Gausian'; did you mean Gaussian"]),
        ("--model.prior=vaebench.posteriors.gaussian.FullGaussian", ["unknown prior 'FullGaussian'", "a posterior."]),
        ("--model.prior=FullGaussian", ["unknown prior 'FullGaussian'", "It is a posterior."]),
        ('--model.prior={"class_path": "vampp"}', ["unknown prior 'vampp'; did you mean VampPrior"]),
        ("--model=digits", ["unknown family 'digits'", "It is a data set.", "`vaebench families`"]),
        ("--model=vaee", ["unknown family 'vaee'; did you mean vae"]),
        ("--data=mnst", ["unknown data set 'mnst'; did you mean mnist", "`vaebench datasets`"]),
    ],
)
def test_a_wrong_name_gets_one_sentence_with_its_kind_and_near_misses(arg: str, words: list[str]) -> None:
    sentence = refusal(arg)
    assert [word for word in words if word not in sentence] == [], sentence
    assert "\n" not in sentence
    assert len(sentence) < 400


def test_a_part_of_another_kind_is_refused_from_python_as_well() -> None:
    with pytest.raises(UserError, match=r"unknown prior 'FullGaussian'.*It is a posterior\."):
        vb.build("vae", "digits", prior="vaebench.posteriors.gaussian.FullGaussian")


def test_a_wrong_schedule_is_called_one() -> None:
    with pytest.raises(UserError, match=r"unknown schedule 'Lin'; did you mean Linear .*`vaebench parts schedule`"):
        experiment(["--data=digits", "--model=beta_vae", "--model.schedule=Lin"])


# Places that are gone ---------------------------------------------------------------------------------------------


def test_a_class_path_of_a_module_that_is_gone_is_read_by_the_name_of_its_class() -> None:
    gone = ["--model.posterior.net=vaebench.networks.perceptrons.MLP", "--model.prior=vaebench.priors.pseudo.VampPrior"]
    assert experiment([*BASE, *gone]).plain == experiment([*BASE, "--model.prior=vamp"]).plain
    assert experiment(["--data=vaebench.data.small.Digits", "--model=vae"]).plain == experiment(BASE).plain
    assert data_module({"class_path": "vaebench.data.small.digits.Digits"}).name == "digits"


def test_a_checkpoint_from_before_a_move_is_loaded(tmp_path: Path) -> None:
    model = vb.build("vae", "digits", prior="vamp", posterior="full_gaussian", latent=2)
    posterior = {"class_path": "vaebench.posteriors.dense.FullGaussian"}
    moved = {"_class_path": "vaebench.families.plain.vae.VAE", "prior": "vaebench.priors.old.VampPrior"}
    settings = {**model.hparams, **moved, "posterior": posterior}
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": settings}, tmp_path / "model.ckpt")
    loaded = vb.load(tmp_path / "model.ckpt")
    assert isinstance(loaded.prior, VampPrior)
    assert isinstance(loaded.posterior, FullGaussian)


# Lists ------------------------------------------------------------------------------------------------------------


def test_parts_are_listed_with_a_line_and_a_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in parts.index():
        if part.choosable and part.kind not in ("family", "data set"):
            assert part.name in shown
            assert part.doc.split()[0] in shown
    assert "arxiv.org/abs/1705.07120" in shown
    assert main(["parts", "Priors"]) == 0
    shown = capsys.readouterr().out
    assert "VampPrior" in shown
    assert "FullGaussian" not in shown
    assert main(["parts", "prio"]) == 2
    assert "unknown kind of part 'prio'; did you mean prior" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["parts", "families", "datasets"])
def test_lists_are_shown_without_torch(command: str) -> None:
    code = f"import sys; from vaebench.cli import main; main(['{command}']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"


@pytest.mark.parametrize("args", [["--model.help", "beta"], ["--help"], [*BASE, "--model.prior.help", "vamp"]])
def test_help_shows_names_in_the_place_of_class_paths(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        experiment(args)
    shown = " ".join(capsys.readouterr().out.split())
    assert "vaebench.priors.flows." not in shown
    wanted = {"--model.help": "VampPrior, WrappedNormal)", "--help": "beta_vae, capacity_vae"}
    assert wanted.get(args[0], "--prior.components") in shown


def test_what_python_saves_of_a_model_says_where_its_parts_are() -> None:
    hparams = vb.build("vae", "digits", prior="vamp").hparams
    assert json.dumps(hparams["prior"]) == '"vaebench.priors.vamp.VampPrior"'
