"""Sweep files: every mistake is answered with its line before anything starts; a point is a command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import Source as Data

import vaebench as vb
from vaebench.cli import main
from vaebench.data.binarized_mnist import BinarizedMNIST
from vaebench.data.digits import Digits
from vaebench.errors import UserError, unknown
from vaebench.measures import DataSpec
from vaebench.sweep.check import check, check_figures
from vaebench.sweep.spec.methods import PRUNERS, SAMPLERS
from vaebench.sweep.spec.spec import COMBINE, KEYS, STOPS, Constraint, Sweep, read_sweep
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
GOOD = f"""\
sweep: tiny
configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]
overrides: {{trainer.max_epochs: 2}}
space:
  model.beta: {{float: [0.1, 10], log: true}}
  model.schedule: {{choice: [Constant, Linear, Cyclical]}}
  model.schedule.length: {{int: [10, 40], step: 10, when: {{model.schedule: [Linear, Cyclical]}}}}
  model.schedule.cycles: {{int: [1, 3], when: {{model.schedule: Cyclical}}}}
objectives: {{val/elbo: maximise}}
constraints: [active_units >= 1, collapse != full]
sampler: tpe
pruner: {{name: asha, factor: 3}}
stop: {{trials: 4}}
protocol: {{k: 10, limit: 40}}
"""


def _file(folder: Path, text: str = GOOD) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


BETA, LENGTH = "{float: [0.1, 10], log: true}", "{int: [10, 40], step: 10, when: {model.schedule: [Linear, Cyclical]}}"

MISTAKES = [
    ("sweep: tiny", "swep: tiny", 1, "unknown key 'swep'; did you mean sweep"),
    ("sweep: tiny", "sweep: a/b", 1, "the sweep is named 'a/b': expected what can be a folder's name"),
    ("beta_vae.yaml", "beta_vea.yaml", 2, "unknown configuration file"),
    ("beta_vae.yaml", "beta_vae.yaml, x.yaml", 2, "unknown configuration file 'x.yaml'"),
    ("max_epochs", "max_epoch", 3, "did you mean trainer.max_epochs"),
    ("overrides: {trainer.max_epochs: 2}", "overrides: [a]", 3, "overrides are ['a']: expected a table"),
    ("factor: 3", "factor: 1", 12, "'factor' is 1: expected at least 2"),
    ("asha, factor: 3", "hyperband, min_epochs: 5, max_epochs: 2", 12, "min_epochs is above max_epochs"),
    ("  model.beta:", "  seed_everything: {int: [0, 4]}\n  model.beta:", 5, "write seeds: [0, 1, 2] in its place"),
    (BETA, "[0.1, 10]", 5, "expected 'model.beta' to have one of float, int, choice"),
    (BETA, "{float: [10, 0.1]}", 5, "the range [10.0, 0.1] of 'model.beta' is empty"),
    (BETA, "{float: [1, 1]}", 5, "is empty"),
    (BETA, "{float: [0, 10], log: true}", 5, "cannot be searched by its logarithm"),
    (BETA, "{float: [0.1, ten]}", 5, "'ten' is no number"),
    (BETA, "{float: [0.1, 10], lgo: true}", 5, "unknown key 'lgo'; did you mean log"),
    (BETA, "{float: [0.1, .inf]}", 5, "'inf' is no number"),
    (BETA, "{float: 3}", 5, "expected [LOW, HIGH]"),
    ("model.beta:", "model.bta:", 5, "unknown key 'bta'; did you mean beta"),
    ("model.beta:", "model.latent:", 5, "'model.latent' cannot be 0.1"),
    ("model.beta:", "modle.beta:", 5, "did you mean model"),
    ("[Constant", "[Constnat", 6, "did you mean Constant"),
    ("[Constant, Linear, Cyclical]", "[]", 6, "the choices of 'model.schedule' are []"),
    ("[Constant, Linear, Cyclical]", "[Linear, Linear]", 6, "of different names"),
    (LENGTH, "{int: [10, 40], step: 99}", 7, "does not fit its range"),
    (LENGTH, "{int: [10, 40.5]}", 7, "'40.5' is no whole number"),
    (LENGTH, "{int: [10, 40]}", 7, "unknown key 'length'"),
    ("length: {int: [10", "length: {int: [-10", 7, "expected at least 0"),
    ("{model.schedule: Cyclical}", "{model.schedul: Cyclical}", 8, "unknown choice 'model.schedul'"),
    ("{model.schedule: Cyclical}", "{model.schedule: Cyclic}", 8, "did you mean Cyclical"),
    ("{model.schedule: Cyclical}", "{model.beta: 1}", 8, "names a choice that stands above it"),
    ("objectives: {val/elbo", "objectives: {val/ebo", 9, "unknown objective 'val/ebo'; did you mean val/elbo"),
    ("val/elbo: maximise", "elbo: maximize", 9, "did you mean maximise"),
    ("val/elbo: maximise", "test/elbo: maximise", 9, "reads the test images, which select nothing"),
    ("val/elbo: maximise", "val/collapse: maximise", 9, "unknown objective 'val/collapse'"),
    ("active_units >= 1", "actve_units >= 1", 10, "unknown figure 'val/actve_units'; did you mean val/active_units"),
    ("active_units >= 1", "active_units > 1", 10, "is no constraint"),
    ("active_units >= 1", "active_units >= many", 10, "expected a number"),
    ("collapse != full", "collapse != ful", 10, "can never hold"),
    ("sampler: tpe", "sampler: tep", 11, "unknown sampler 'tep'; did you mean tpe"),
    ("sampler: tpe", "sampler: {name: tpe, startup: 0}", 11, "expected a whole number above 0"),
    ("sampler: tpe", "sampler: {name: tpe, population: 8}", 11, "unknown key 'population'"),
    ("sampler: tpe", "sampler: grid", 13, "a grid is tried whole"),
    ("name: asha", "name: ahsa", 12, "unknown pruner 'ahsa'; did you mean asha"),
    ("val/elbo: maximise", "val/rate: minimise", 12, "pruning compares the held-out bound"),
    ("val/elbo: maximise", "val/elbo: maximise, val/rate: minimise", 12, "pruning compares the held-out bound"),
    ("{trials: 4}", "{trails: 4}", 13, "unknown key 'trails'; did you mean trials"),
    ("{trials: 4}", "{trials: 0}", 13, "expected a number above 0"),
    ("{trials: 4}", "{trials: 4.5}", 13, "expected a number above 0"),
    ("{trials: 4}", "{}", 13, "nothing ends this sweep"),
    ("{k: 10", "{kk: 10", 14, "unknown key 'kk'; did you mean k"),
    ("{k: 10", "{name: quik", 14, "unknown protocol 'quik'"),
    ("{k: 10", "{measurements: {units: null}", 10, "unknown figure 'val/active_units'"),
    ("sampler: tpe", "seeds: [1, 1]", 11, "each once"),
    ("sampler: tpe", "combine: max", 11, "did you mean"),
    ("sampler: tpe", "engine: raay", 11, "unknown engine 'raay'"),
    ("sampler: tpe", "heartbeat: 0.5", 11, "whole seconds above 0"),
    ("sampler: tpe", "sweep: again", 11, "'sweep' stands here for the second time, first in line 1"),
]


@pytest.mark.parametrize(("good", "bad", "line", "message"), MISTAKES)
def test_a_mistake_exits_with_2_and_its_line(
    good: str, bad: str, line: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert good in GOOD
    path = _file(tmp_path, GOOD.replace(good, bad, 1))
    assert main(["sweep", str(path), f"--results={tmp_path}/results", f"--work={tmp_path}/work"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert f"line {line}:" in captured.err
    assert message in captured.err
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"], "nothing was started"


@pytest.mark.parametrize(("text", "message"), [("space: [", "is not YAML"), ("- 1", "expected a table"), ("", "space")])
def test_what_is_no_sweep_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_sweep(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sweep", "nowhere.yaml"], "unknown sweep file 'nowhere.yaml'"),
        (["sweep", "stauts", "x.yaml"], "unknown action 'stauts'; did you mean status"),
        (["sweep", "status", "FILE"], "start the sweep"),
        (["sweep", "FILE", "--workers=0"], "expected at least 1"),
        (["sweep", "FILE", "--storage=journal.log"], "is no storage with heartbeats"),
        (["sweep", "FILE", "--storage=postgresql://postgres@127.0.0.1:1/x"], "the storage does not answer"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(_file(tmp_path)) if arg == "FILE" else arg for arg in argv]
    assert main([*argv, f"--results={tmp_path}/results"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def _sweep(tmp_path: Path) -> Sweep:
    return read_sweep(_file(tmp_path))


def test_a_point_becomes_arguments_with_classes_before_their_settings(tmp_path: Path) -> None:
    point: dict[str, Any] = {"model.schedule.length": 20, "model.schedule": "Linear", "model.beta": 0.5}
    job = experiment(_sweep(tmp_path).arguments(point, seed=3))
    assert job.seed == 3
    model = job.plain["model"]["init_args"]
    assert model["beta"] == 0.5
    assert model["schedule"] == {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 20.0}}
    assert job.plain["trainer"]["max_epochs"] == 2


def test_the_page_on_scaling_lists_every_key_sampler_pruner_and_rule() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    table = page[page.index("## The sweep file") : page.index("## One machine")]
    assert set(KEYS) <= set(re.findall(r"`(\w+)`", table))
    settings = {name for known in (SAMPLERS, PRUNERS) for name, own in known.items() for name in (name, *own.settings)}
    for name in {*settings, *STOPS, *COMBINE, "float", "int", "choice", "when", "log", "step"}:
        assert re.search(rf"\b{name}\b", table), name


def test_the_grid_has_every_combination_that_the_conditions_allow(tmp_path: Path) -> None:
    points = _sweep(tmp_path).space.points()
    betas, lengths, cycles = 5, 4, 3
    assert len(points) == betas * (1 + lengths + lengths * cycles)
    assert len({tuple(point.items()) for point in points}) == len(points)
    for point in points:
        assert ("model.schedule.length" in point) is (point["model.schedule"] != "Constant")
        assert ("model.schedule.cycles" in point) is (point["model.schedule"] == "Cyclical")
    assert sorted({point["model.beta"] for point in points}) == pytest.approx([0.1, 10**-0.5, 1, 10**0.5, 10])


def test_every_corner_of_every_setting_is_probed_where_it_exists(tmp_path: Path) -> None:
    space = _sweep(tmp_path).space
    probed = {(key, point[key], point["model.schedule"]) for key, point in space.probes()}
    for parameter in space.parameters:
        assert {value for key, value, _ in probed if key == parameter.key} == set(parameter.corners())
    assert {kind for key, _, kind in probed if key == "model.schedule.length"} == {"Linear", "Cyclical"}
    assert {kind for key, _, kind in probed if key == "model.schedule.cycles"} == {"Cyclical"}


def test_a_choice_may_stand_for_whole_files(tmp_path: Path) -> None:
    text = GOOD.replace(f", {ROOT}/configs/family/beta_vae.yaml]", "]")
    space = text[text.index("  model.beta:") : text.index("objectives")]
    family = f"{ROOT}/configs/family"
    choices = f"  config: {{choice: {{plain: {family}/vae.yaml, free: {family}/free_bits_vae.yaml}}}}\n"
    path = _file(
        tmp_path, text.replace(space, f"{choices}  model.free_bits: {{float: [0, 1], when: {{config: free}}}}\n")
    )
    sweep = read_sweep(path)
    check(sweep)
    families = {
        point["config"]: experiment(sweep.arguments(point, 0)).plain["model"]["class_path"].rpartition(".")[2]
        for _, point in sweep.space.probes()
    }
    assert families == {"plain": "VAE", "free": "BetaVAE"}


def test_a_space_of_models_whose_log_likelihood_is_measured_in_two_ways_is_refused(tmp_path: Path) -> None:
    """A model of codes has the encoder's bound, others a refined estimate: the search would choose the estimator."""
    family = f"{ROOT}/configs/family"
    text = f"""\
configs: [{ROOT}/configs/data/digits.yaml]
space: {{config: {{choice: {{gaussian: {family}/vae.yaml, codes: {family}/categorical_vae.yaml}}}}}}
stop: {{trials: 4}}
protocol: {{limit: 4}}
"""
    with pytest.raises(UserError, match=r"tiny\.yaml.*2.*by proposals refined for each image for some models"):
        check(read_sweep(_file(tmp_path, text)))
    check(read_sweep(_file(tmp_path, text + "objectives: {val/elbo: maximise}\n")))
    check(read_sweep(_file(tmp_path, text.replace("gaussian: " + family + "/vae.yaml, ", ""))))


def test_a_study_by_the_former_defaults_is_not_mistaken_for_one_by_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defaults are part of the fingerprint, and a file that names them has the one that it always had."""
    bare = GOOD.replace("objectives: {val/elbo: maximise}\n", "")
    assert read_sweep(_file(tmp_path, bare)).objectives == {"val/log_likelihood": "maximise"}
    said = bare + "objectives: {val/log_likelihood: maximise}\n"
    assert read_sweep(_file(tmp_path, bare)).fingerprint == read_sweep(_file(tmp_path, said)).fingerprint
    assert read_sweep(_file(tmp_path, bare)).fingerprint != read_sweep(_file(tmp_path)).fingerprint
    sweep = read_sweep(_file(tmp_path, bare))
    now = sweep.fingerprint
    monkeypatch.setattr("vaebench.sweep.spec.spec.DEFAULTS", {})
    assert sweep.fingerprint != now, "without the defaults, as of studies before them"


def test_the_fingerprint_changes_with_what_figures_depend_on_and_with_nothing_else(tmp_path: Path) -> None:
    first = _sweep(tmp_path).fingerprint
    same = [("trials: 4", "trials: 9"), ("sampler: tpe", "sampler: random"), ("sweep: tiny", "# about\nsweep: tiny")]
    for old, new in same:
        assert read_sweep(_file(tmp_path, GOOD.replace(old, new))).fingerprint == first
    for old, new in [
        ("max_epochs: 2", "max_epochs: 3"),
        ("k: 10", "k: 11"),
        ("0.1, 10", "0.1, 9"),
        ("vae.yaml", "tc_vae.yaml"),
    ]:
        assert read_sweep(_file(tmp_path, GOOD.replace(old, new))).fingerprint != first


@pytest.mark.parametrize(
    ("constraint", "held", "broken"),
    [
        (Constraint("val/active_units", ">=", 10.0), [10.0, 11.0], [9.0]),
        (Constraint("val/rate", "<=", 30.0), [30.0, -1.0], [30.1]),
        (Constraint("val/collapse", "==", "none"), ["none"], ["partial", "full"]),
        (Constraint("val/collapse", "!=", "full"), ["none", "partial"], ["full"]),
    ],
)
def test_a_constraint_holds_where_its_violation_is_not_above_0(
    constraint: Constraint, held: list[Any], broken: list[Any]
) -> None:
    assert all(constraint.violation(value) <= 0 for value in held)
    assert all(constraint.violation(value) > 0 for value in broken)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid_at_every_corner(path: Path) -> None:
    sweep = read_sweep(path)
    check_figures(sweep)
    assert path.read_text().startswith("# "), "it begins by saying what it is for"
    assert sweep.name == path.stem
    small = Digits().spec
    large = DataSpec((1, 28, 28), "binary", small.mean.mean().expand(1, 28, 28), size=50_000)
    for _, point in sweep.space.probes():
        plain = experiment(sweep.arguments(point, 0)).plain
        spec = {"Digits": small, BinarizedMNIST.__name__: large}[plain["data"]["class_path"].rpartition(".")[2]]
        vb.build(plain["model"]["class_path"].split(".")[-2], Data(spec), **plain["model"]["init_args"])


def test_a_condition_on_a_list_inside_a_list_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD.replace("when: {model.schedule: Cyclical}", "when: {model.schedule: [[Cyclical]]}"))
    assert path.read_text() != GOOD
    with pytest.raises(UserError, match=r"unknown choice of 'model\.schedule'"):
        read_sweep(path)


def test_a_name_without_end_is_repeated_in_part() -> None:
    assert len(str(unknown("data set", "[" * 5000, ["digits"]))) < 400
