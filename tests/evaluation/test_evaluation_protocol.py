"""Protocols, and evaluations that are interrupted or shared."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SPEC, bits, small
from oracles import Data, OneLatent
from piece_worker import work
from processes import FORKED, wait

import vaebench as vb
from vaebench.configuration.discovery import protocols
from vaebench.core import DataSpec
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators import likelihood
from vaebench.evaluation.measurements import likelihood as measured
from vaebench.evaluation.protocol import measurement, measurements, read_protocol
from vaebench.evaluation.store import Pieces, Store
from vaebench.evaluation.subject import Subject


@pytest.mark.parametrize("name", protocols())
def test_every_shipped_protocol_is_complete(name: str) -> None:
    plan = read_protocol(name)
    assert plan.name == name
    assert plan.measurements
    for key, settings in plan.measurements.items():
        assert key in measurements()
        assert all(value is not ... for value in settings.values())
    assert read_protocol(name).config == plan.config


@pytest.mark.parametrize("name", measurements())
def test_every_measurement_explains_its_figures(name: str) -> None:
    module = measurement(name)
    assert module.__doc__
    assert module.measure.__doc__
    for kind in module.KINDS.values():
        assert kind.definition
        assert kind.higher_is_better in (True, False, None)


def test_a_protocol_from_a_file_and_its_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("limit: 7\nmeasurements: {likelihood: {k: 11}, units: }\n")
    plan = read_protocol(path)
    assert (plan.name, plan.limit, plan.seed, plan.config["k"]) == ("mine", 7, 0, 11)
    changed = read_protocol(path, seed=3, limit=2, k=5, measurements={"units": None, "collapse": {}})
    assert (changed.seed, changed.limit) == (3, 2)
    assert list(changed.measurements) == ["likelihood", "collapse"]
    assert changed.measurements["likelihood"] == {"k": 5, "precision": "f32", "compile": False, "corrections": False}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("measurements: {likelihod: {}}", "measurement 'likelihod'.*did you mean likelihood"),
        ("measurements: {likelihood: {K: 5}}", "setting 'K'.*measurement 'likelihood'"),
        ("measurements: {likelihood: {k: 0}}", "likelihood.k is 0"),
        ("measurements: {likelihood: {k: many}}", "likelihood.k is 'many'"),
        ("measures: {}", "has no measurements"),
        ("measurements: {}\nlimits: 3", "key 'limits'"),
        ("measurements: [", "not YAML"),
        ("limit: 0\nmeasurements: {units: }", "limit is 0"),
    ],
)
def test_a_senseless_file_is_refused_with_its_place(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(body)
    with pytest.raises(UserError, match=f"(?i){message}"):
        read_protocol(path)


def test_an_unknown_protocol_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"protocol 'quik'.*quick"):
        read_protocol("quik")


# Interrupted and shared -------------------------------------------------------------------------------------------


def _data(n: int) -> Data:
    return Data(bits(n), SPEC)


def _equal(a: vb.Report, b: vb.Report) -> None:
    assert a.metrics == b.metrics
    assert (a.units, a.collapse, a.tables, a.warnings) == (b.units, b.collapse, b.tables, b.warnings)
    for kind in ("per_image", "pictures"):
        assert getattr(a, kind).keys() == getattr(b, kind).keys()
        for name, values in getattr(a, kind).items():
            np.testing.assert_array_equal(getattr(b, kind)[name], values)


def test_an_interrupted_evaluation_goes_on_at_the_next_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "SHARD", 2000)
    model, data = small("vae"), _data(230)
    whole = vb.evaluate(model, data, k=40)
    scored: list[int] = []
    usual = likelihood.estimate

    def counted(model: object, x: torch.Tensor, *args: object, start: int = 0, **options: object) -> object:
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(start)
        return usual(model, x, *args, start=start, **options)

    monkeypatch.setattr(measured, "estimate", counted)
    with pytest.raises(KeyboardInterrupt):
        vb.evaluate(model, data, k=40, work=tmp_path)
    assert scored == [0, 50, 100]
    scored.clear()
    _equal(vb.evaluate(model, data, k=40, work=tmp_path), whole)
    assert scored == [150, 200]
    scored.clear()
    _equal(vb.evaluate(model, data, k=40, work=tmp_path), whole)
    assert scored == []


def test_pieces_of_another_model_protocol_or_data_are_not_taken(tmp_path: Path) -> None:
    data = _data(60)
    for model, options in ((small("vae"), {}), (small("vae", seed=1), {}), (small("vae"), {"seed": 4})):
        _equal(vb.evaluate(model, data, k=30, work=tmp_path, **options), vb.evaluate(model, data, k=30, **options))
    assert len(list(tmp_path.iterdir())) == 3


def test_models_of_equal_weights_and_models_without_any_do_not_share_pieces(tmp_path: Path) -> None:
    """Only the weights were looked at: another activation, or two models of functions, took the same figures."""
    bent = small("vae")
    for module in bent.modules():
        if hasattr(module, "activation"):
            module.activation = "relu"
    functions = [OneLatent(), OneLatent()]
    functions[1].phase = functions[1].phase + 1
    for models, data in (
        ([small("vae"), bent], _data(30)),
        (functions, Data(functions[0].images(30), DataSpec(OneLatent.shape))),
    ):
        first, second = (vb.evaluate(model, data, k=30, work=tmp_path) for model in models)
        assert first.metrics != second.metrics
        _equal(vb.evaluate(models[0], data, k=30, work=tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 4


def test_several_processes_share_the_work_and_a_dead_one_is_no_loss(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    stuck = FORKED.Process(target=work, args=(tmp_path / "store", log, "3"), daemon=True)
    stuck.start()
    wait((log / "3").exists, stuck)
    others = [FORKED.Process(target=work, args=(tmp_path / "store", log, None)) for _ in range(2)]
    for other in others:
        other.start()
    wait(lambda: len(list(log.iterdir())) == 20, *others)  # all pieces but the third are done, which is claimed
    os.kill(stuck.pid, signal.SIGKILL)
    for process in (stuck, *others):
        process.join(120)
    assert [other.exitcode for other in others] == [0, 0]
    done = sorted(log.iterdir())
    assert [path.name for path in done] == sorted(map(str, range(20)))
    computed = [len(path.read_text().split()) for path in done]
    assert computed == [2 if path.name == "3" else 1 for path in done]


def test_processes_that_evaluate_one_model_share_the_shards_of_a_measurement(tmp_path: Path) -> None:
    first, second = (
        Subject(small("vae"), Data(_data(20).images("test"), SPEC), store=Store(tmp_path)) for _ in range(2)
    )
    measured = [iter(Pieces(subject.store, ["likelihood"])) for subject in (first, second)]
    assert next(measured[0]) == "likelihood"
    with second.store.claim("likelihood", wait=False) as mine:
        assert not mine, "what is not in shards is made by one"
    shards = [first.shards("part", size=5)]
    assert next(measured[1]) == "likelihood", "this waited until the other had finished"
    shards.append(second.shards("part", size=5))
    loops = [iter(one) for one in shards]
    for start in range(0, 20, 5):  # in turn
        shard = next(loops[start // 5 % 2])
        assert shard == slice(start, start + 5)
        shards[start // 5 % 2].add(shard, {"row": torch.arange(20)[shard]})
    for loop, one in zip(loops, shards, strict=True):
        assert list(loop) == []
        assert one.figures()["row"].tolist() == list(range(20))


def test_a_shard_that_cannot_be_computed_is_claimed_no_longer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):  # two measurements that read the same shards: the second waited for the first
        with suppress(Unavailable):
            for _ in Pieces(store, ["shard"]):
                raise Unavailable("no density")
        with store.claim("shard", wait=False) as mine:
            assert mine


def test_the_page_on_evaluation_names_every_measurement_and_its_example_is_a_protocol(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    table = page[page.index("| measurement |") :].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(measurements())
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    assert read_protocol(tmp_path / "mine.yaml").config["k"] == 1000
    everywhere = [set(read_protocol(name).measurements) for name in protocols() if name != "tokenizer"]
    assert set.intersection(*everywhere) == {"likelihood", "units", "collapse", "reconstruction", "samples"}
    assert {*read_protocol("full").measurements, "tokenizer"} == set(measurements())


def test_the_page_s_curve_over_beta_is_drawn_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "evaluation.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    rates, distortions = zip(*names["curve"], strict=True)
    assert len(rates) == 5
    assert sorted(distortions, reverse=True) == list(distortions), "more rate, less distortion"
    betas = sorted(names["records"], key=lambda record: float(record.variant.removeprefix("beta_")))
    assert [record.value("rate") for record in betas] == sorted(rates, reverse=True), "a larger β buys less rate"
    best = max(betas, key=lambda record: record.value("elbo"))
    assert best.variant == "beta_1", "the plain bound is best where it was trained for"
    assert names["picture"].dtype == np.uint8


@pytest.mark.parametrize("measurements", [-1, ["ais"], "ais"])
def test_measurements_that_are_no_table_are_refused_in_a_sentence(measurements: Any) -> None:
    with pytest.raises(UserError, match="where a table of measurements and their settings is expected"):
        read_protocol("quick", measurements=measurements)


@pytest.mark.parametrize("wrong", ["cut", "empty", "flipped", "of another piece", "of another program"])
def test_a_piece_that_is_damaged_or_anothers_is_made_anew(tmp_path: Path, wrong: str) -> None:
    """Defect: a cut piece was a traceback at every later evaluation, and another's content stood for the images'."""

    def pieces() -> dict[int, float]:
        found = Pieces(Store(tmp_path), ["a", "b"])
        for name in found:
            found[name] = {"x": np.full(1, float("ab".index(name)))}
        return {i: float(piece["x"][0]) for i, piece in enumerate(found.finished())}

    assert pieces() == {0: 0.0, 1: 1.0}
    file, other = tmp_path / "a.piece", tmp_path / "b.piece"
    good = file.read_bytes()
    np.savez(tmp_path / "c.npz", x=np.full(1, 7.0))
    bad = {"cut": good[: len(good) // 2], "empty": b"", "flipped": good[:-30] + b"!" + good[-29:],
           "of another piece": other.read_bytes(), "of another program": (tmp_path / "c.npz").read_bytes()}  # fmt: skip
    file.write_bytes(bad[wrong])
    assert pieces() == {0: 0.0, 1: 1.0}
    assert file.read_bytes() == good


@pytest.mark.parametrize("k", [2**32, 10**30])
def test_samples_that_no_machine_draws_are_refused(k: int) -> None:
    with pytest.raises(UserError, match=rf"^likelihood\.k is {k}: expected at most 1,000,000,000; lower"):
        read_protocol("quick", k=k)
