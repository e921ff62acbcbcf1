"""A population's members equal their solo runs under `vaebench fit`, whoever trains beside them."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, final

import pytest
import torch
from helpers import FAMILIES
from populations import SMALL, args, entered, equal_to_solo, trained
from torch import Tensor

import vaebench as vb
from vaebench.cli import main
from vaebench.core import Family, Step
from vaebench.core.rules import Rules
from vaebench.data.digits import Digits
from vaebench.errors import UserError
from vaebench.running.recording import record_run
from vaebench.training.experiment import experiment
from vaebench.training.keeper import Keeper
from vaebench.training.population import Member, Population
from vaebench.training.population.adam import Adam, clip
from vaebench.training.population.threads import side_by_side


@pytest.mark.parametrize("family", [*FAMILIES, "rvq_vae"])
def test_a_member_equals_its_solo_run_in_every_family(family: str, tmp_path: Path) -> None:
    population = Population(lanes=2)
    runs = [args(family, seed, lr=lr) for seed, lr in ((0, 1e-3), (1, 4e-3))]
    members = entered(population, runs, tmp_path)
    trained(population)
    equal_to_solo(members[1], runs[1], tmp_path / "solo")


def test_members_hold_the_images_once(tmp_path: Path) -> None:
    """Each parsed and hashed the data set, and kept a copy: 55 MB a member of static MNIST."""
    members = entered(Population("cpu"), [args(seed=seed) for seed in range(3)], tmp_path)
    images = [member.data._split(split).images for member in members for split in ("train", "val", "test")]
    assert len({image.data_ptr() for image in images if isinstance(image, Tensor)}) == 3
    assert len({id(member.data.hashes) for member in members}) == 1


def test_lanes_on_cores_of_their_own_train_as_alone(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        population = Population()
        runs = [args("iwae", seed) for seed in range(4)]
        members = entered(population, runs, tmp_path)
        population.epoch()
        assert len(population._lanes) >= 2
        trained(population)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    equal_to_solo(members[3], runs[3], tmp_path / "solo")


def test_an_error_on_another_core_reaches_the_caller_and_gives_the_cores_back() -> None:
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            side_by_side([lambda: 1, lambda: 1 // 0], torch.device("cpu"))
        assert side_by_side([lambda: 1, lambda: 2, torch.get_num_threads], torch.device("cpu")) == [1, 2, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_members_that_enter_leave_and_differ_equal_their_solo_runs(tmp_path: Path) -> None:
    population = Population(lanes=3)
    schedule = {"schedule": "Linear"}
    runs = [
        args(seed=3, epochs=5, beta=1, lr=1e-3, **schedule, **{"schedule.length": 4}),
        args(seed=4, epochs=3, beta=4, lr=5e-3, **schedule, **{"schedule.length": 30}),
        args(seed=5, epochs=5, beta=0.5, lr=2e-3, clip=1.0, **schedule),
        args(seed=3, epochs=4, beta=2, clip=5.0, **schedule),
        args(seed=6, epochs=2, beta=9, **schedule),
    ]
    first = entered(population, runs[:4], tmp_path)
    population.epoch()
    population.epoch()
    population.drop(first[2])
    dropped = [curve["value"] for curve in first[2].history.curves.values()]
    late = population.add(experiment(runs[4]), tmp_path / "late")
    trained(population)
    assert [member.epoch for member in (*first, late)] == [5, 3, 2, 4, 2]
    assert [curve["value"] for curve in first[2].history.curves.values()] == dropped
    runs[2].append("--trainer.max_epochs=2")
    for i, (member, run) in enumerate(zip((*first, late), runs, strict=True)):
        info = equal_to_solo(member, run, tmp_path / f"solo{i}")
        assert member.bound == info["curves"]["val/elbo"]["value"][-1]


def test_early_stopping_stops_a_member_where_it_stops_its_solo_run(tmp_path: Path) -> None:
    stop = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/objective",
            "--trainer.callbacks.mode=max", "--trainer.callbacks.patience=1"]  # fmt: skip
    population = Population(lanes=2)
    runs = [[*args(seed=1, epochs=30, lr=0.1), *stop], args(seed=2, epochs=8)]
    members = entered(population, runs, tmp_path)
    trained(population)
    assert members[0].epoch < 30
    assert members[1].epoch == 8
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        equal_to_solo(member, run, tmp_path / f"solo{i}", tolerance=1e-6)


def test_members_of_any_structure_train_in_one_population(tmp_path: Path) -> None:
    population = Population()
    runs = [args("iwae"), args("iwae", k=3), args("iwae", lr=1e-2), args("vae"), args("vae", latent=2),
            args("beta_vae", beta=2), args("beta_vae", beta=3), args("beta_vae", schedule="Linear")]  # fmt: skip
    members = entered(population, runs, tmp_path)
    assert len({member.structure for member in members}) == 6
    assert members[0].structure == members[2].structure, "learning rates are free"
    assert members[5].structure == members[6].structure, "buffers are free"
    trained(population)
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        equal_to_solo(member, run, tmp_path / f"solo{i}")


def test_an_interrupted_population_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: Any) -> None:
    runs = [args("geco", seed, epochs=4) for seed in (0, 1)]
    first = Population(lanes=2)
    entered(first, runs, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "EVERY", math.inf)  # saved when this test says so
        first.epoch()
        first.epoch()
        for member in first.members:
            member.save()
        first.epoch()
    second = Population(lanes=1)
    members = entered(second, runs, tmp_path)
    assert [member.epoch for member in members] == [2, 2]
    trained(second)
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        equal_to_solo(member, run, tmp_path / f"solo{i}")
        assert sorted(path.name for path in member.work.iterdir()) == ["config.yaml", "model.ckpt"]


def test_an_exported_member_is_an_ordinary_record_that_says_how_it_was_trained(tmp_path: Path) -> None:
    population = Population(lanes=2)
    runs = [[*args(seed=seed), "--trainer.precision=32-true"] for seed in (0, 1)]
    members = entered(population, runs, tmp_path)
    trained(population)
    records = [
        record_run(member.export(), tmp_path / "results" / str(i), {"k": 8, "seed": 0, "limit": 50}, progress=False)
        for i, member in enumerate(members)
    ]
    assert [record.seed for record in records] == [0, 1]
    assert records[0].config["engine"] == {"name": "population", "order": None}
    assert len(vb.read_records(tmp_path / "results")) == 2
    model, data = vb.load(members[0].work / "model.ckpt"), Digits(batch_size=500)
    bounds = []
    for index, (x, _) in enumerate(data.val_dataloader()):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(Family.VALIDATION_SEED + index)
            bounds.append((model.draw(x).log_w.mean() * len(x), len(x)))
    assert members[0].bound == pytest.approx(sum(float(b) for b, _ in bounds) / sum(n for _, n in bounds), abs=1e-4)
    identities = [job.identity(members[0].data) for job in (members[0].job, experiment(runs[0]))]
    assert identities[0] != identities[1], "another engine is another run"


def test_one_order_for_all_gives_all_the_same_batches(tmp_path: Path) -> None:
    population = Population(order=7, lanes=2)
    members = entered(population, [args(seed=seed) for seed in (0, 1)], tmp_path)
    population.epoch()
    (lane,) = population._lanes
    batches = members[0].data.training_batches(7)
    batches.epoch = lambda: 1
    for (x, y), (own, labels) in zip(lane.batches(population._batches[members[0].source][0]), batches, strict=True):
        assert len(x) == 1
        assert torch.equal(x[0], own)
        assert torch.equal(y[0], labels)
    assert not torch.equal(*(member.model.posterior.net.layers[0].weight for member in members))


@pytest.mark.parametrize(
    ("compile", "epochs", "asked", "lanes"),
    [
        (False, 1, [(1, False), (2, False), (4, False), (5, False)], [2, 3]),
        (None, 1, [(1, False), (2, False), (4, False), (5, False)], [2, 3]),
        (None, 10**6, [(1, False), (2, False), (4, False), (5, False), (1, True), (2, True), (4, True)], [1, 2, 2]),
        (True, 1, [(1, False), (2, False), (4, False), (5, False), (1, True), (2, True), (4, True)], [1, 2, 2]),
    ],
)
def test_what_is_fastest_and_fits_the_memory_is_taken(
    compile: bool | None, epochs: int, asked: list[Any], lanes: list[int], tmp_path: Path, monkeypatch: Any
) -> None:
    """Speeds are given here: 4 at once are fastest and 5 do not fit, but compiled, 2 are, and 4 are slower again.

    Of those that are nearly as fast the largest is taken, and compiling is tried where training takes minutes.
    """
    tried = []

    def speed(_: Population, __: str, ___: list[Member], size: int, compiled: bool) -> float:
        tried.append((size, compiled))
        if size > 4:
            raise torch.OutOfMemoryError
        return {1: 10.0, 2: 199.0, 4: 120.0}[size] if compiled else {1: 10.0, 2: 99.0, 4: 100.0}[size]

    monkeypatch.setattr(Population, "_speed", speed)
    population = Population(compile=compile)
    entered(population, [args(seed=seed, epochs=epochs) for seed in range(5)], tmp_path)
    population._arrange(population.members)
    assert tried == asked
    assert sorted(len(lane.members) for lane in population._lanes) == lanes
    assert all((lane.compiled is not None) == asked[-1][1] for lane in population._lanes)
    population._arrange(population.members[:3])
    assert tried == asked, "fewer members tell nothing new"


def stepped(runs: list[list[str]], work: Path, compile: bool) -> list[dict[str, Tensor]]:
    """Parameters and buffers of members after an epoch, and what they have logged."""
    population = Population(lanes=len(runs), compile=compile)
    members = entered(population, runs, work)
    population.epoch()
    curves = [{name: torch.tensor(curve["value"]) for name, curve in m.history.curves.items()} for m in members]
    return [{**dict(m.model.state_dict()), **curve} for m, curve in zip(members, curves, strict=True)]


@pytest.mark.parametrize("family", [*FAMILIES, "rvq_vae"])
def test_the_graph_of_a_step_is_the_step_in_every_family(family: str, tmp_path: Path, monkeypatch: Any) -> None:
    """One course of a family's code stands for all its steps, at every stage: no value decides what is computed."""
    graphs = []

    def compiled(graph: torch.fx.GraphModule, **_: Any) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", compiled)
    runs = [args(family, seed, epochs=1, lr=lr) for seed, lr in ((0, 1e-3), (1, 4e-3))]
    plain, traced = stepped(runs, tmp_path / "plain", False), stepped(runs, tmp_path / "traced", True)
    assert len(graphs) == 1
    for own, other in zip(plain, traced, strict=True):
        for name, value in own.items():
            assert torch.allclose(other[name], value, rtol=1e-9, atol=1e-9, equal_nan=True), name


@pytest.mark.timeout(900)  # compiling takes minutes on a crowded machine
@pytest.mark.parametrize("family", ["vae", "factor_vae", "aggressive_vae"])
def test_members_of_a_compiled_population_equal_their_solo_runs(family: str, tmp_path: Path) -> None:
    """One loss; two groups of parameters; a group that pauses. Lanes on two cores share what was compiled."""
    torch.set_num_threads(2)
    try:
        population = Population(lanes=1, compile=True)
        runs = [args(family, seed) for seed in (0, 1)]
        members = entered(population, runs, tmp_path)
        trained(population)
        (compiled,) = population._compiled.values()
        assert compiled._fast is not None
    finally:
        torch.set_num_threads(1)
    equal_to_solo(members[1], runs[1], tmp_path / "solo")


@pytest.mark.timeout(900)
def test_lanes_of_several_structures_are_compiled_before_they_run_at_once(tmp_path: Path) -> None:
    """torch's tracer changes `nn.Module` for all threads: a lane that ran meanwhile broke, or got into the graph."""
    torch.set_num_threads(2)
    try:
        population = Population(lanes=1, compile=True)
        runs = [args("vae"), args("vae", latent=2), args("beta_vae"), args("iwae")]
        members = entered(population, runs, tmp_path)
        population._arrange(population.members)
        assert all(lane.compiled is not None and lane.compiled._fast is not None for lane in population._lanes)
        trained(population)
    finally:
        torch.set_num_threads(1)
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        equal_to_solo(member, run, tmp_path / f"solo{i}")


def test_a_population_that_cannot_be_compiled_trains_all_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler on this machine\nand a long story")

    runs = [args(seed=seed, epochs=1) for seed in (0, 1)]
    plain = stepped(runs, tmp_path / "plain", False)
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.warns(UserWarning, match="2 runs of BetaVAE could not be compiled and runs uncompiled.*machine$"):
        other = stepped(runs, tmp_path / "compiled", True)
    assert all(torch.equal(other[i][name], value) for i in range(2) for name, value in plain[i].items())


@pytest.mark.parametrize("how", ["_each", "_together"])
def test_adam_equals_torchs_member_by_member(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, counts of steps and pauses differ; `_together` is what a GPU runs."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    rates, shapes = [1e-3, 0.1, 3e-2], [(4, 3), (3,), ()]
    stacks = [draw(3, *shape) for shape in shapes]
    alone = [[torch.nn.Parameter(stack[i].clone()) for stack in stacks] for i in range(3)]
    kinds = (partial(torch.optim.Adam), partial(torch.optim.Adam, eps=1e-4, betas=(0.0, 0.9), weight_decay=0.3),
             partial(torch.optim.AdamW, betas=(0.5, 0.99), weight_decay=0.2))  # fmt: skip
    optimizers = [kind(own, lr=lr) for kind, own, lr in zip(kinds, alone, rates, strict=True)]
    zeros = [[torch.zeros_like(stack) for stack in stacks] for _ in range(2)]
    rules = [Rules(lr, optimizer=kind) for kind, lr in zip(kinds, rates, strict=True)]
    adam = Adam(stacks, *zeros, torch.zeros(3), [own.options(0) for own in rules])
    if how == "_together":
        monkeypatch.setattr(adam, "_each", lambda gradients, _: adam._together(gradients, learning))
    for step in range(6):
        learning = None if step == 3 else torch.tensor([True, step % 2 == 0, step > 3])
        gradients = [draw(3, *shape) for shape in shapes]
        adam.step(gradients, learning)
        for i, optimizer in enumerate(optimizers):
            if learning is None or learning[i]:
                for parameter, gradient in zip(alone[i], gradients, strict=True):
                    parameter.grad = gradient[i].clone()
                optimizer.step()
    for stack, *own in zip(stacks, *alone, strict=True):
        assert torch.allclose(stack, torch.stack([p.detach() for p in own]), rtol=0, atol=1e-12)


def test_gradients_are_clipped_member_by_member() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn((3, *shape), generator=generator, dtype=torch.float64) for shape in ((4, 2), (5,))]
    expected = []
    for i, largest in enumerate((0.5, 100.0, torch.inf)):
        parameters = [torch.nn.Parameter(torch.zeros_like(g[i])) for g in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient[i].clone()
        torch.nn.utils.clip_grad_norm_(parameters, largest)
        expected.append([parameter.grad for parameter in parameters])
    clip(gradients, torch.tensor([0.5, 100.0, torch.inf], dtype=torch.float64))
    for gradient, *own in zip(gradients, *expected, strict=True):
        assert torch.allclose(gradient, torch.stack(own), rtol=0, atol=1e-12)


@final
class Branching(Family):
    """Decides by a value."""

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        loss = -self.draw(x).log_w.mean()
        return Step({"model": loss if float(loss.detach()) > 0 else 2 * loss})


@final
class Foreign(Family):
    """Draws noise in a way that is not torch.rand or torch.randn."""

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        return Step({"model": -self.draw(x).log_w.mean() * torch.bernoulli(torch.full((), 0.5))})


@pytest.mark.parametrize(("family", "reason"), [(Branching, "item"), (Foreign, "random")])
def test_a_family_that_cannot_is_refused_by_name(family: type[Family], reason: str, tmp_path: Path) -> None:
    run = [*SMALL, f"--model={__name__}.{family.__name__}", "--trainer.max_epochs=1"]
    with pytest.raises(UserError, match=f"{family.__name__} cannot train as part of a population.*{reason}"):
        Population().add(experiment(run), tmp_path)


@pytest.mark.parametrize(
    "setting",
    ["gradient_clip_val=1", "max_time=00:00:01:00", "check_val_every_n_epoch=2", "precision=bf16-mixed",
     "devices=2", "callbacks=ModelCheckpoint", "accumulate_grad_batches=2", "max_epochs=-1"],
)  # fmt: skip
def test_what_lightning_would_do_and_a_population_does_not_is_refused(setting: str, tmp_path: Path) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=f"trainer.{key} "):
        Population().add(experiment([*args(), f"--trainer.{setting}"]), tmp_path)


def test_a_family_keeps_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = Digits.raw
    monkeypatch.setattr(Digits, "raw", lambda self: {k: v._replace(labels=None) for k, v in raw(self).items()})
    with pytest.raises(UserError, match="AuxiliaryVAE predicts labels"):
        Population().add(experiment(args("auxiliary_vae")), tmp_path)


BENCHMARK = """
benchmark: tiny
seeds: [0, 1]
protocol: {{k: 10, limit: 40}}
configs: [{root}/configs/data/digits.yaml]
overrides: {{trainer.max_epochs: 2, trainer.accelerator: cpu}}
runs:
  vae: {{configs: [{root}/configs/family/vae.yaml], overrides: {{model.latent: 3}}}}
  branching: {{configs: [branching.yaml], overrides: {{model.latent: 3}}}}
"""


def test_a_benchmark_trained_as_a_population_gives_the_records_of_solo_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "tiny.yaml").write_text(BENCHMARK.format(root=root))
    (tmp_path / "branching.yaml").write_text(f"model: {{class_path: {__name__}.Branching}}")
    found = {}
    for engine in ("solo", "population"):
        folder = [f"--results={tmp_path}/{engine}", f"--work={tmp_path}/work", f"--engine={engine}"]
        assert main(["bench", str(tmp_path / "tiny.yaml"), *folder]) == 0
        found[engine] = vb.read_records(tmp_path / engine)
    assert capsys.readouterr().err.count("trains by itself: Branching cannot train as part of a population") == 2
    assert [(r.variant, r.seed) for r in found["population"]] == [(r.variant, r.seed) for r in found["solo"]]
    for own, alone in zip(found["population"], found["solo"], strict=True):
        assert (own.id == alone.id) is (own.variant == "branching")
        assert ("engine" in own.config) is (own.variant == "vae")
        assert own.selection == alone.selection
        assert own.value("log_likelihood") == pytest.approx(alone.value("log_likelihood"), abs=1e-3)
    assert main(["bench", str(tmp_path / "tiny.yaml"), *folder]) == 0
    assert capsys.readouterr().out.count("finished before") == 4
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
