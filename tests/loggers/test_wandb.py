"""Weights & Biases: its real client against a server on loopback that keeps what it is sent (`fake_wandb`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_records import write_board
from fake_wandb import KEY, FakeWandb, alone, answering, serving
from logged_runs import BENCHMARK, ONE, VAE, _points

from vaebench.cli import main
from vaebench.leaderboard import boards
from vaebench.loggers import Logbook, of_record
from vaebench.loggers.figures import logged_figures
from vaebench.loggers.transfer import pull, push
from vaebench.records import RunRecord, read_records
from vaebench.records.claims import claimed
from vaebench.running.bench import bench
from vaebench.running.benchmark import read_benchmark


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for all that the client keeps; no key and no server."""
    with alone(tmp_path, monkeypatch):
        yield tmp_path


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A server, its address and a key for it."""
    assert place.is_dir()
    with answering(monkeypatch) as state:
        yield state


def _bench(folder: Path, text: str, engine: Any = "solo", choice: str = "wandb:me/vaes") -> list[RunRecord]:
    (folder / "tiny.yaml").write_text(text)
    book = Logbook(choice, folder / "work")
    for _ in bench(read_benchmark(folder / "tiny.yaml"), folder / "results", folder / "work", False, engine, book):
        pass
    return list(read_records(folder / "results"))


def _config(server: FakeWandb, run: str) -> dict[str, Any]:
    return {k: v["value"] for k, v in json.loads(server.runs[run]["config"]).items() if k != "_wandb"}


def _check(server: FakeWandb, record: RunRecord, job: str) -> None:
    """A run on the server is the record: history, summary, settings, pictures, files."""
    about = of_record(record)
    run = server.runs[about.id]
    assert (run["displayName"], run["groupName"], run["jobType"]) == (about.name, about.group, job)
    assert set(run["tags"]) == {*about.tags[:-1], job}
    assert _config(server, about.id) == about.config
    rows = [{k: v for k, v in row.items() if k[0] != "_"} for row in server.history[about.id]]
    *curves, media = rows
    assert [(row.pop("step"), row) for row in curves] == _points(record.curves)
    summary = server.summary[about.id]
    assert {name: summary[name] for name in logged_figures(record)} == logged_figures(record)
    assert summary["outcome"] == "finished"
    assert server.exit[about.id] == 0
    for name, path in record.pictures().items():
        shown = media[f"pictures/{name}"]["path"]
        assert server.files[f"/upload/run/{about.id}/{shown}"] == path.read_bytes()
    table = server.files[f"/upload/run/{about.id}/{media['units/kl_table']['path']}"]
    assert [kl for _, kl in json.loads(table)["data"]] == record.units["kl"]
    assert record.path is not None
    artifact = server.artifact(f"record-{about.id}")
    assert artifact is not None
    assert artifact["committed"]
    for name in ("record.json", *record.files):
        assert server.content(artifact, name) == (record.path / name).read_bytes()
    images = json.loads(server.content(artifact, "per_image.table.json"))
    column = [row[images["columns"].index("elbo")] for row in images["data"]]
    assert column == record.per_image()["elbo"].tolist()


def test_a_run_is_logged_while_it_trains_and_holds_its_record_and_checkpoint(server: FakeWandb, place: Path) -> None:
    (record,) = _bench(place, ONE)
    _check(server, record, "bench")
    model = server.artifact(f"model-{of_record(record).id}")
    assert model is not None
    assert model["artifactTypeName"] == "model"
    assert record.path is not None
    assert server.content(model, "model.ckpt") == (record.path / "model.ckpt").read_bytes()


def test_members_of_a_population_are_runs_of_their_own(server: FakeWandb, place: Path) -> None:
    records = _bench(place, BENCHMARK, "population")
    assert len(records) == len(server.runs) == 2
    for record in records:
        _check(server, record, "bench")


def test_without_a_key_runs_are_kept_and_synced_later(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *VAE, "--trainer.max_epochs=2", f"--out={place}/work", "--logger=wandb"]) == 0
    out, err = capsys.readouterr()
    assert "runs are not sent to Weights & Biases but kept (there is no key); `wandb sync" in err
    checkpoint = Path(out.splitlines()[0])
    (record,) = write_board(place / "results", {"vae": 0.0}, seeds=1)
    list(push(place / "results", "me/vaes", place / "work"))
    with serving() as server:
        _sync(server, place / "work", 2)
        _check(server, record, "record")
        (fit,) = server.runs.keys() - {of_record(record).id}
        assert server.runs[fit]["project"] == "vaebench"
        assert _config(server, fit)["model/latent"] == 3
        assert [row["step"] for row in server.history[fit]] == [11, 22]
        model = server.artifact(f"model-{fit}")
        assert model is not None
        assert server.content(model, "model.ckpt") == checkpoint.read_bytes()
        assert not server.unknown


def test_a_run_that_was_kept_twice_is_synced_as_one(place: Path) -> None:
    (record,) = write_board(place / "results", {"vae": 0.0}, seeds=1)
    log = Logbook("wandb:me/vaes", place / "work").open(of_record(record))
    log.history({"val/elbo": {"step": [100, 200, 300], "value": record.curves["val/elbo"]["value"][:3]}})
    log.close("interrupted")
    list(push(place / "results", "me/vaes", place / "work"))
    with serving() as server:
        _sync(server, place / "work", 2)
        assert list(server.runs) == [of_record(record).id]
        _check(server, record, "record")


def _sync(server: FakeWandb, folder: Path, expected: int) -> None:
    """`wandb sync` of all that was kept."""
    environment = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    runs = sorted(map(str, (folder / "wandb").glob("offline-run-*")))
    assert len(runs) == expected
    sync = [str(Path(sys.executable).with_name("wandb")), "sync", *runs]
    subprocess.run(sync, env=environment, check=True, capture_output=True, timeout=120)


def test_a_run_that_is_logged_again_takes_the_place_of_the_first(server: FakeWandb, place: Path) -> None:
    (record,) = write_board(place / "results", {"vae": 0.0}, seeds=1)
    book = Logbook("wandb:me/vaes", place / "work")
    log = book.open(of_record(record))
    log.history({"val/elbo": {"step": [100, 200, 300], "value": record.curves["val/elbo"]["value"][:3]}})
    log.close("interrupted")
    assert server.summary[of_record(record).id]["outcome"] == "interrupted"
    assert server.exit[of_record(record).id] == 1
    list(push(place / "results", "me/vaes", place / "work"))
    assert list(server.runs) == [of_record(record).id]
    _check(server, record, "record")


def test_errors_and_silences_of_the_server_lose_nothing(
    server: FakeWandb, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of request fails once, and two are not answered in time."""
    for part in ("GRAPHQL", "FILE_STREAM"):
        monkeypatch.setenv(f"WANDB_X_{part}_TIMEOUT_SECONDS", "2")
    kinds = ("UpsertBucket", "file_stream", "CreateRunFiles", "CreateArtifact", "CreateArtifactManifest",
             "CreateArtifactFiles", "CommitArtifact", "upload")  # fmt: skip
    for kind in kinds:
        server.fail(kind)
    server.stall("file_stream", 3.0)
    server.stall("CommitArtifact", 3.0)
    (record,) = write_board(place / "results", {"vae": 0.0}, seeds=1)
    list(push(place / "results", "me/vaes", place / "work"))
    assert not [kind for kind in kinds if server.asked[kind] < 2], server.asked
    _check(server, record, "record")


def test_no_server_loses_no_record(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("vaebench.loggers.server.ANSWER", 1)
    (record,) = _bench(place, ONE)
    assert record.value("elbo") is not None
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vaebench: ")]
    assert "kept" in line
    assert "wandb sync" in line
    assert len(list((place / "work" / "wandb").glob("offline-run-*"))) == 1


def test_a_key_that_is_none_stops_no_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "too short")
    (record,) = write_board(place / "results", {"vae": 0.0}, seeds=1)
    assert main(["wandb", "push", "me/vaes", f"--results={place}/results", f"--work={place}/work"]) == 0
    assert "vaebench: runs are not sent to Weights & Biases but kept (WANDB_API_KEY" in capsys.readouterr().err
    assert [path.name.endswith(of_record(record).id) for path in (place / "work" / "wandb").glob("off*")] == [True]
    assert main(["wandb", "pull", "me/vaes"]) == 2
    assert "WANDB_API_KEY" in capsys.readouterr().err


# Pull -----------------------------------------------------------------------------------------------------------------


def _same(first: Path, second: Path) -> bool:
    besides = {"model.ckpt", "imported.json"}
    names = {path.name for path in first.iterdir()} - besides
    return names == {path.name for path in second.iterdir()} - besides and all(
        (first / name).read_bytes() == (second / name).read_bytes() for name in names
    )


def test_a_projects_runs_become_the_records_that_they_were(
    server: FakeWandb, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = write_board(place / "results", {"vae": 0.0, "a/b: *": 1.0}, seeds=1)
    list(push(place / "results", "me/vaes", place / "work"))
    assert main(["wandb", "pull", "me/vaes", f"--results={place}/back"]) == 0
    fetched = server.asked["download"]
    assert main(["wandb", "pull", "me/vaes", f"--results={place}/back"]) == 0
    assert capsys.readouterr().out.count("(there already)") == 2
    assert server.asked["download"] == fetched, "what is there is not fetched again"
    back = {record.id: record for record in read_records(place / "back")}
    assert len(back) == len(records)
    for record in records:
        assert record.path is not None
        assert back[record.id].path is not None
        assert _same(record.path, back[record.id].path)  # type: ignore[arg-type]


@pytest.mark.usefixtures("server")
def test_checkpoints_are_pulled_where_they_are_asked_for(place: Path) -> None:
    (record,) = _bench(place, ONE)
    (pulled,) = pull("me/vaes", place / "back", checkpoints=True)
    assert record.path is not None
    assert pulled.directory is not None
    assert (pulled.directory / "model.ckpt").read_bytes() == (record.path / "model.ckpt").read_bytes()
    assert _same(record.path, pulled.directory)
    assert not next(pull("me/vaes", place / "back")).new


@pytest.mark.usefixtures("server")
def test_what_was_pulled_is_a_claim_unless_it_is_trusted(place: Path) -> None:
    write_board(place / "results", {"vae": 0.0}, seeds=2)
    list(push(place / "results", "me/vaes", place / "work"))
    for folder, trust in (("claims", False), ("own", True)):
        list(pull("me/vaes", place / folder, own=trust))
        assert [claimed(record) for record in read_records(place / folder)] == [not trust] * 2
        (board,) = boards(read_records(place / folder))
        assert (board.rows[0].rank is None) is not trust


def test_what_is_not_what_was_written_is_left_out_by_name(
    server: FakeWandb, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_board(place / "results", {"good": 0.0, "bad": 1.0}, seeds=1)
    list(push(place / "results", "me/vaes", place / "work"))
    bad = next(number for number in server.runs if server.runs[number]["displayName"] == "bad-s0")
    artifact = server.artifact(f"record-{bad}")
    assert artifact is not None
    path = f"/upload/artifact/{artifact['id']}/record.json"
    body = json.loads(server.files[path])
    body["metrics"]["elbo"]["value"] += 1.0
    server.files[path] = json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"
    server.runs["fit0"] = {"project": "vaes", "displayName": "vae-s0"}
    assert main(["wandb", "pull", "me/vaes", f"--results={place}/back"]) == 1
    out = capsys.readouterr().out
    assert "bad-s0: left out" in out
    assert "vae-s0: left out, it has no record" in out
    assert [record.variant for record in read_records(place / "back")] == ["good"]


@pytest.mark.usefixtures("server")
def test_a_project_that_is_not_there_is_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wandb", "pull", "me/nothing", f"--results={place}/back"]) == 2
    assert "has no project 'me/nothing'" in capsys.readouterr().err


def test_mistakes_are_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_board(place / "results", {"vae": 0.0}, seeds=1)
    for argv, message in (
        (["wandb", "pul", "me/vaes"], "unknown action 'pul'; did you mean pull"),
        (["wandb", "pull", "me/vaes"], "there is no key for Weights & Biases"),
        (["leaderboard", f"{place}/results", "--wandb=me/vaes"], "set WANDB_API_KEY or run `wandb login`"),
        (["leaderboard", f"{place}/results", "--wandb=me vaes"], "is no project of Weights & Biases"),
    ):
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


# The report -----------------------------------------------------------------------------------------------------------


def _blocks(url: str) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return wr.Report.from_url(url).blocks


def test_the_report_shows_what_was_logged_and_is_renewed(
    server: FakeWandb, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that its charts name is in the runs that its filter keeps; the second time it is the same report."""
    import wandb_workspaces.reports.v2 as wr

    records = write_board(place / "results", {"vae": 0.0}, seeds=2)
    config = {
        **records[0].config,
        "model": {"class_path": "vaebench.families.beta_vae.BetaVAE", "init_args": {"latent": 32}},
    }
    records += write_board(place / "results", {"wide": 2.0}, seeds=2, config=config)
    list(push(place / "results", "me/vaes", place / "work"))
    assert main(["leaderboard", f"{place}/results", "--wandb=me/vaes"]) == 0
    address = capsys.readouterr().out.splitlines()[-1].removeprefix("Report: ")
    found = _blocks(address)
    (board,) = boards(records)
    text = "".join(block.text for block in found if isinstance(block, wr.MarkdownBlock))
    assert all(row.variant in text for row in board.rows)
    assert "Mean over images." in text
    charts, sweep = (block for block in found if isinstance(block, wr.PanelGrid))
    assert {type(panel).__name__ for panel in charts.panels} == {"BarPlot", "LinePlot", "MediaBrowser"}
    (coordinates,) = sweep.panels
    assert [column.metric.name for column in coordinates.columns][:2] == ["model", "model/latent"]
    for grid in (charts, sweep):
        (runs,) = grid.runsets
        assert all(record.id in str(runs.filters) for record in records)
        for run in server.runs:
            assert _config(server, run)["record"] in str(runs.filters)
            for panel in grid.panels:
                _drawn(panel, server.summary[run], _config(server, run), server.history[run])
    spec = json.loads(server.views[next(iter(server.views))]["spec"])
    assert "stderr" in json.dumps(spec), "bars have intervals"
    file = place / "results" / "wide-s0" / "record.json"
    file.write_bytes(file.read_bytes().replace(b"wide", b"wild"))
    assert main(["leaderboard", f"{place}/results", "--wandb=me/vaes"]) == 0
    assert f"Report: {address}" in capsys.readouterr().out
    assert len(server.views) == 1
    assert "Left out, damaged: wide-s0" in str(_blocks(address))
    grid = next(block for block in _blocks(address) if isinstance(block, wr.PanelGrid))
    assert sum(record.id in str(grid.runsets[0].filters) for record in records) == 3, "of the records that are left"


def _drawn(panel: Any, summary: dict[str, Any], config: dict[str, Any], history: list[dict[str, Any]]) -> None:
    """Asserts that a run has all that a panel names."""
    import wandb_workspaces.reports.v2 as wr

    if isinstance(panel, wr.BarPlot):
        names = [getattr(metric, "name", metric) for metric in panel.metrics]
        assert all(name in summary for name in names)
    elif isinstance(panel, wr.LinePlot):
        assert any("val/elbo" in row and "step" in row for row in history)
    elif isinstance(panel, wr.MediaBrowser):
        assert all(any(key in row for row in history) for key in panel.media_keys)
    else:
        for column in panel.columns:
            where = config if isinstance(column.metric, wr.Config) else summary
            assert getattr(column.metric, "name", column.metric) in where


def test_the_report_outlasts_errors_and_a_project_that_is_new(server: FakeWandb, place: Path) -> None:
    from vaebench.loggers.report import write_wandb_report

    board = boards(write_board(place / "results", {"vae": 0.0}, seeds=2))
    server.fail("upsertView")
    write_wandb_report("me/new", board)
    assert "new" in server.projects
    server.fail("ProjectViews")
    write_wandb_report("me/new", board)
    assert len(server.views) == 1


def test_a_server_that_goes_on_failing_is_one_sentence(
    server: FakeWandb, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_board(place / "results", {"vae": 0.0}, seeds=1)
    monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "2")
    server.fail("GetProjects", 1000)
    assert main(["leaderboard", f"{place}/results", "--wandb=me/vaes"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Weights & Biases failed" in line
