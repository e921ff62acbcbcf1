"""Nothing is lost and nothing is doubled: whoever is killed, and whenever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from fake_studies import NOOP, _alive, _check
from httpx2 import Client, WSGITransport
from noop_sweep import Noop, noop_driver, noop_file
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from postgres import Server
from processes import FORKED

from vaebench.errors import UserError
from vaebench.sweep import driver
from vaebench.sweep.spec.methods import PRUNERS, SAMPLERS
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage import queue as turns
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.queue import (
    RETRIES,
    Outcome,
    TrialGroup,
    count_states,
    first,
    mend,
    over,
    take,
    tell,
    to_do,
)
from vaebench.sweep.storage.sound import AwayError
from vaebench.sweep.storage.study import connect, create_study, default_storage, load_study, require_connections
from vaebench.sweep.workers.worker import ADDRESS, AWAY, Interruption, run_worker, work

Started = tuple[Sweep, RDBStorage, Study]


def _start(folder: Path, address: str | None = None, **settings: object) -> Started:
    patient = {"heartbeat": 60, **settings}  # a slow disk makes no trial look dead; `_age` does
    sweep = read_sweep(noop_file(folder, **patient))  # type: ignore[arg-type]
    storage = connect(sweep, address or default_storage(sweep, folder))
    return sweep, storage, create_study(sweep, storage, resume=False)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Puts back what workers in this process do with signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def started(tmp_path: Path) -> Started:
    return _start(tmp_path)


def _age(storage: RDBStorage) -> None:
    """Makes every heartbeat so far an old one."""
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'"))


def _mended(started: Started) -> Counter[str]:
    _, storage, study = started
    with study_lock(storage, study):
        return count_states(mend(storage, study))


# One process: each moment at which a worker can die ------------------------------------------------------------------


def test_a_trial_whose_worker_died_comes_back_once_with_the_same_settings(started: Started) -> None:
    sweep, storage, study = started
    trial, point = take(*started)
    assert _mended(started) == {"RUNNING": 1}, "its worker may live"
    _age(storage)
    assert _mended(started) == {"RETRIED": 1, "WAITING": 1}
    assert _mended(started) == {"RETRIED": 1, "WAITING": 1}, "once"
    again, same = take(*started)
    assert again.number != trial.number
    assert same == point
    assert tell(study, again, [1.0])
    assert sweep.stop["trials"] == 12
    assert sum("retry_of" not in t.user_attrs for t in study.trials) == 1, "a retry takes nothing from the budget"


def test_a_worker_that_dies_between_taking_and_its_first_sign_of_life_is_noticed(started: Started) -> None:
    _, storage, study = started
    study.ask()  # no heartbeat: to Optuna it would run for ever
    assert _mended(started) == {"RUNNING": 1}
    _age(storage)
    assert _mended(started) == {"RETRIED": 1, "WAITING": 1}
    assert take(*started)[1] != take(*started)[1], "seen: it and the next began from one seed, and were the same"


def test_a_process_that_dies_between_failing_a_trial_and_queueing_it_again_loses_nothing(started: Started) -> None:
    _, _, study = started
    trial, point = take(*started)
    study.tell(trial, state=TrialState.FAIL)
    assert _mended(started) == {"RETRIED": 1, "WAITING": 1}
    assert take(*started)[1] == point


def test_a_trial_that_kills_its_workers_is_given_up(started: Started) -> None:
    _, storage, study = started
    for _ in range(RETRIES + 1):
        take(*started)
        _age(storage)
    assert _mended(started) == {"RETRIED": RETRIES, "FAIL": 1}
    assert {first(trial) for trial in study.trials} == {0}


def test_a_trial_that_gets_further_each_time_is_not_given_up(started: Started) -> None:
    """Four kills used to end a trial for good, although each time it had gone on from where it was saved."""
    storage = started[1]
    for kill in range(RETRIES + 3):
        trial, _ = take(*started)  # type: ignore[misc]
        heart = Heartbeat(storage, trial)
        heart.report(trial, (kill + 1) / 10, None)  # stored at once: the next beat is a minute away
        _age(storage)
    assert _mended(started) == {"RETRIED": RETRIES + 3, "WAITING": 1}
    for _ in range(RETRIES + 1):  # and no further than that
        trial, _ = take(*started)  # type: ignore[misc]
        Heartbeat(storage, trial).report(trial, 0.2, None)
        _age(storage)
    assert _mended(started) == {"RETRIED": 2 * RETRIES + 3, "FAIL": 1}


def test_the_death_of_a_population_counts_against_no_trial_until_one_is_alone(started: Started) -> None:
    """All that are in a worker when it is killed would have been given up for the one that kills it."""
    _, storage, study = started
    for size in range(4):
        assert take(*started, TrialGroup("a", size))
    _age(storage)
    assert _mended(started) == {"RETRIED": 4, "WAITING": 4}
    assert [t.user_attrs["kills"] for t in study.trials[4:]] == [0] * 4
    assert [t.user_attrs["together"] for t in study.trials[4:]] == [2] * 4
    assert [take(*started, TrialGroup("b", size))[0].number for size in (0, 1)] == [4, 5]  # type: ignore[index]
    assert take(*started, TrialGroup("b", 2)) is None, "the third would be one too many"
    _age(storage)
    assert _mended(started) == {"RETRIED": 6, "WAITING": 4}
    trial, _ = take(*started, TrialGroup("c", 0))  # type: ignore[misc]
    Heartbeat(storage, trial).report(trial, 0.5, None)
    _age(storage)
    _mended(started)
    assert [t.user_attrs.get("together") for t in study.trials if t.state == TrialState.WAITING] == [2, 1, 1, None]


def test_interruptions_do_not_count_as_kills(started: Started) -> None:
    for _ in range(RETRIES + 3):
        trial, _ = take(*started)
        assert tell(started[2], trial, state=TrialState.FAIL, interrupted=True)
    assert _mended(started) == {"RETRIED": RETRIES + 3, "WAITING": 1}


def test_a_trial_that_failed_by_its_own_fault_does_not_come_back(started: Started) -> None:
    trial, _ = take(*started)
    tell(started[2], trial, state=TrialState.FAIL, error="UserError: too wide")
    assert _mended(started) == {"FAIL": 1}


def test_a_worker_that_was_taken_for_dead_cannot_end_its_trial_a_second_time(started: Started) -> None:
    _, storage, study = started
    trial, _ = take(*started)
    _age(storage)
    _mended(started)
    assert not tell(study, trial, [1.0])
    again, _ = take(*started)
    assert tell(study, again, [2.0])
    assert tell(study, again, [2.0]), "as after an outage that swallowed the answer"
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE"]


def test_a_trial_that_another_process_ends_while_it_is_told_is_not_ended_twice(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen when PostgreSQL was killed: the error ended the worker, and with it the sweep."""
    _, _, study = started
    trial, _ = take(*started)
    ends = study._storage.set_trial_state_values

    def raced(trial_id: int, state: TrialState, values: list[float] | None = None) -> bool:
        ends(trial_id, TrialState.FAIL)
        return ends(trial_id, state, values)

    monkeypatch.setattr(study._storage, "set_trial_state_values", raced)
    assert not tell(study, trial, [1.0])
    assert study.trials[0].state == TrialState.FAIL


def test_repeated_failures_end_a_sweep_and_resuming_gives_it_another_chance(started: Started) -> None:
    sweep, storage, study = started
    for _ in range(turns.FAILURES):
        trial, _ = take(*started)
        tell(study, trial, state=TrialState.FAIL, error="UserError: too wide")
    end = over(sweep, study, study.trials)
    assert end
    assert "UserError: too wide" in end.reason
    assert take(*started) is None
    study = create_study(sweep, storage, resume=True)
    assert take(sweep, storage, study)


def test_a_sweep_ends_where_nothing_better_came(tmp_path: Path) -> None:
    started = _start(tmp_path, more="")
    sweep, _, study = started
    sweep.stop["stalled"] = 3
    for value in (1.0, 2.0, 0.0, 1.5):
        tell(study, take(*started)[0], [value])
    assert to_do(sweep, study, study.trials)
    tell(study, take(*started)[0], [1.9])
    assert not to_do(sweep, study, study.trials)


def test_optuna_dashboard_reads_the_storage_as_it_is(tmp_path: Path) -> None:
    sweep, storage, study = _start(tmp_path, trials=3)
    work(sweep, storage, study, Noop(tmp_path, 0), Interruption(), lambda: True)
    dashboard = WSGITransport(wsgi(default_storage(sweep, tmp_path)))  # by its address, as the command takes it
    with Client(transport=dashboard, base_url="http://dashboard") as page:
        (summary,) = page.get("/api/studies").raise_for_status().json()["study_summaries"]
        shown = page.get(f"/api/studies/{summary['study_id']}").raise_for_status().json()
    assert summary["study_name"] == study.study_name
    assert [trial["state"] for trial in shown["trials"]] == ["Complete"] * 3
    for trial, own in zip(shown["trials"], study.get_trials(), strict=True):
        assert trial["values"] == pytest.approx(own.values)
        assert {p["name"]: p["param_external_value"] for p in trial["params"]} == {
            name: str(value) for name, value in own.params.items()
        }


def test_a_study_is_neither_begun_twice_nor_gone_on_with_by_another_file(tmp_path: Path) -> None:
    started = _start(tmp_path)
    sweep, storage, _ = started
    create_study(sweep, storage, resume=False)
    take(*started)
    with pytest.raises(UserError, match="add --resume"):
        create_study(sweep, storage, resume=False)
    noop_file(tmp_path).write_text(sweep.source.path.read_text().replace("0.1, 10", "0.1, 20"))
    changed = read_sweep(sweep.source.path)
    for way in (lambda: create_study(changed, storage, resume=True), lambda: load_study(changed, storage)):
        with pytest.raises(UserError, match="has changed since"):
            way()


def test_settings_differ_between_turns_and_repeat_with_the_seed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first_, second = ([take(*_start)[1] for _ in range(6)] for _start in (_start_at(tmp_path / n) for n in "ab"))
    assert first_ == second
    assert len({tuple(point.items()) for point in first_}) == 6, "workers with one seed do not begin alike"


def _start_at(folder: Path) -> Started:
    return _start(folder)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_every_sampler_goes_on_from_the_storage_alone(sampler: str, tmp_path: Path) -> None:
    text = noop_file(tmp_path).read_text()
    startup = {"nsga-ii": ", population: 4", "random": ""}.get(sampler, ", startup: 4")
    noop_file(tmp_path).write_text(text.replace("name: random", f"name: {sampler}{startup}"))
    sweep = read_sweep(tmp_path / "noop.yaml")
    address = default_storage(sweep, tmp_path)
    create_study(sweep, connect(sweep, address), resume=False)
    for _ in range(9):
        storage = connect(sweep, address)  # a worker of its own each time
        study = load_study(sweep, storage)
        trial, point = take(sweep, storage, study)
        assert tell(study, trial, [-abs(point["model.beta"] - 1)])
    assert count_states(study.trials) == {"COMPLETE": 9}


def test_a_grid_is_tried_whole_and_once(tmp_path: Path) -> None:
    text = noop_file(tmp_path).read_text().replace("name: random", "name: grid").replace("stop: {trials: 12}\n", "")
    noop_file(tmp_path).write_text(text)
    sweep = read_sweep(tmp_path / "noop.yaml")
    storage = connect(sweep, default_storage(sweep, tmp_path))
    study = create_study(sweep, storage, resume=False)
    tried = []
    while taken := take(sweep, storage, study):
        tried.append(taken[1])
        if len(tried) == 3:
            _age(storage)  # its worker dies
            study = create_study(sweep, storage, resume=True)
        else:
            tell(study, taken[0], [0.0])
    points = sweep.space.points()
    assert len(tried) == len(points) + 1 == 26
    assert sorted(map(str, tried)) == sorted(map(str, [*points, tried[2]]))


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruners_stop_the_worse_half_and_never_the_best(pruner: str, tmp_path: Path) -> None:
    settings = {"none": "", "asha": ", factor: 2", "hyperband": ", max_epochs: 8, factor: 2", "median": ", startup: 2"}
    started = _start(tmp_path, trials=16, more=f"pruner: {{name: {pruner}{settings[pruner]}}}\n")
    stopped = []
    for worth in range(16, 0, -1):  # each later trial is worse
        trial, _ = take(*started)
        for epoch in range(1, 9):
            trial.report(worth - 1 / epoch, epoch)
            if trial.should_prune():
                tell(started[2], trial, state=TrialState.PRUNED)
                stopped.append(worth)
                break
        else:
            tell(started[2], trial, [float(worth)])
    assert bool(stopped) is (pruner != "none")
    assert 16 not in stopped


@pytest.mark.parametrize("sampler", ["tpe, startup: 4", "random", "nsga-ii"])
def test_settings_that_are_suggested_ahead_are_taken_once_and_within_the_budget(sampler: str, tmp_path: Path) -> None:
    """With 256 running trials each suggestion read all of them four times: the ceiling was five trials a second."""
    text = noop_file(tmp_path, trials=45, heartbeat=60).read_text()
    noop_file(tmp_path).write_text(text.replace("name: random", f"name: {sampler}"))
    sweep = read_sweep(tmp_path / "noop.yaml")
    storage = connect(sweep, default_storage(sweep, tmp_path))
    study = create_study(sweep, storage, resume=False)
    running, points = [], []
    while taken := take(sweep, storage, study):
        running.append(taken[0])
        points.append(str(taken[1]))
        if len(running) == 24:
            assert any("ahead" in trial.user_attrs for trial in study.trials) is (sampler != "nsga-ii")
            tell(study, running.pop(0), [float(len(points))])
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 22 + [TrialState.RUNNING] * 23
    assert len(set(points)) == 45


# A full disk ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_gives_the_trial_back_and_ends_the_worker(started: Started, tmp_path: Path) -> None:
    sweep, storage, study = started
    full = OSError(28, "No space left on device")

    def run(*_: object) -> None:
        raise full

    with pytest.raises(OSError, match="No space left"):
        work(sweep, storage, study, run, Interruption(), lambda: True)  # type: ignore[arg-type]
    assert _mended(started) == {"RETRIED": 1, "WAITING": 1}
    work(sweep, storage, study, Noop(tmp_path, 0), Interruption(), lambda: True)
    _check(study, tmp_path, 12)


def test_a_storage_without_room_ends_the_worker_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SQLite's own 'database or disk is full', in the middle of a sweep."""
    sweep, storage, study = _start(tmp_path)
    path = sweep.source.path
    monkeypatch.setenv("VAEBENCH_STORAGE", default_storage(sweep, tmp_path))
    monkeypatch.setattr(turns, "PATIENCE", 0.0)
    with storage.engine.connect() as connection:
        limits = [connection.execute(sqlalchemy.text("PRAGMA page_count")).scalar_one() + 4]

    def limit(connection: sqlalchemy.engine.interfaces.DBAPIConnection, _: object) -> None:
        if limits:
            connection.execute(f"PRAGMA max_page_count = {limits[0]}")  # type: ignore[attr-defined]

    def talkative(*taken: Any) -> Outcome:
        return Noop(tmp_path, 0)(*taken)._replace(figures={"notes": "x" * 3000})

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", limit)
    try:
        assert run_worker(path, lambda _: talkative) == AWAY
        assert "full" in capfd.readouterr().err
        limits.clear()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", limit)
    done = count_states(study.trials)
    assert 0 < done["COMPLETE"] < 12
    _age(storage)
    assert run_worker(path, lambda _: Noop(tmp_path, 0)) == 0
    _age(storage)
    assert run_worker(path, lambda _: Noop(tmp_path, 0)) == 0
    _check(study, tmp_path, 12)


# Processes ------------------------------------------------------------------------------------------------------------


def _driver(file: Path, results: Path, seconds: float, address: str | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(NOOP.parents[1])} | ({"NOOP_STORAGE": address} if address else {})
    command = [sys.executable, str(NOOP), "driver", str(file), str(results), str(seconds)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _wait(condition: object, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def _begun(results: Path) -> int:
    """Waits until a worker begins a trial: killed at once, it is lost in the middle of it."""
    files = {pid: results / "alive" / str(pid) for pid in _alive(results)}
    before = {pid: file.stat().st_mtime_ns for pid, file in files.items()}
    begun: list[int] = []

    def look() -> list[int]:
        begun[:] = [pid for pid, file in files.items() if file.stat().st_mtime_ns != before[pid]]
        return begun

    _wait(look)
    return begun[0]


def test_killed_workers_and_a_killed_driver_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL a worker, then the driver, then all its workers; go on, and every trial has one final state."""
    file = noop_file(tmp_path, trials=14, workers=2)
    driver = _driver(file, tmp_path, 0.4)
    _wait(lambda: len(list(tmp_path.glob("noop/*/record.json"))) >= 2 and len(_alive(tmp_path)) == 2)
    os.kill(_begun(tmp_path), signal.SIGKILL)
    _wait(lambda: len(list(tmp_path.glob("noop/*/record.json"))) >= 4)
    _begun(tmp_path)
    driver.kill()
    driver.wait()
    for pid in _alive(tmp_path):
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pid, signal.SIGKILL)
    assert noop_driver(file, tmp_path, 0.05) == "14 settings were tried"
    sweep = read_sweep(file)
    study = load_study(sweep, connect(sweep, default_storage(sweep, tmp_path)))
    assert count_states(study.trials)["RETRIED"] >= 2
    _check(study, tmp_path, 14)


def test_workers_whose_driver_was_killed_finish_their_trials_and_end(tmp_path: Path) -> None:
    driver = _driver(noop_file(tmp_path, trials=1000, workers=1), tmp_path, 0.2)
    _wait(lambda: bool(_alive(tmp_path)))
    driver.kill()
    driver.wait()
    _wait(lambda: not _alive(tmp_path))
    sweep = read_sweep(tmp_path / "noop.yaml")
    study = load_study(sweep, connect(sweep, default_storage(sweep, tmp_path)))
    assert count_states(study.trials).keys() == {"COMPLETE"}


def test_a_storage_that_is_away_for_a_moment_ends_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: what is left to do, and why a sweep ends, were asked without patience."""
    calls: Counter[str] = Counter()

    def fragile(name: str, real: Any) -> Any:
        def call(*arguments: object) -> object:
            calls[name] += 1
            if calls[name] == 1:
                raise StorageInternalError("away")
            return real(*arguments)

        return call

    for name, real in (("to_do", to_do), ("over", over)):
        monkeypatch.setattr(driver, name, fragile(name, real))
    assert noop_driver(noop_file(tmp_path, trials=2, workers=1), tmp_path, 0.05) == "2 settings were tried"
    assert min(calls.values()) > 1


def test_ctrl_c_gives_back_the_running_trials_and_a_second_one_kills(tmp_path: Path) -> None:
    file = noop_file(tmp_path, trials=3, workers=2, heartbeat=2)
    driver = _driver(file, tmp_path, 30)
    _wait(lambda: len(_alive(tmp_path)) == 2)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(240) != 0
    assert not _alive(tmp_path)
    sweep = read_sweep(file)
    study = load_study(sweep, connect(sweep, default_storage(sweep, tmp_path)))
    assert count_states(study.trials) == {"RETRIED": 2, "WAITING": 2}
    assert noop_driver(file, tmp_path, 0.05) == "3 settings were tried"
    _check(study, tmp_path, 3)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_postgresql_killed_for_some_seconds_loses_nothing(server: Server, tmp_path: Path) -> None:
    """The workers' trials end meanwhile, and their driver looks many times."""
    file = noop_file(tmp_path, trials=12, workers=2, heartbeat=2)
    driver = _driver(file, tmp_path, 0.5, server.address)
    _wait(lambda: len(list(tmp_path.glob("noop/*/record.json"))) >= 3)
    server.kill()
    time.sleep(3)
    assert driver.poll() is None, "it waits"
    server.start()
    assert driver.wait(240) == 0
    sweep = read_sweep(file)
    storage = connect(sweep, server.address)
    _check(load_study(sweep, storage), tmp_path, 12)
    storage.engine.dispose()


def test_a_worker_has_one_connection_and_more_workers_than_connections_are_refused(
    server: Server, tmp_path: Path
) -> None:
    """Of PostgreSQL's hundred 64 workers took more than there are, and the sweep ended."""
    started = _start(tmp_path, server.address)
    _, storage, study = started
    trial, _ = take(*started)  # type: ignore[misc]
    with study_lock(storage, study), Heartbeat(storage, trial) as heart:
        heart.report(trial, 0.5, None)
        with storage.engine.connect() as connection:
            own = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vaebench'"
            assert connection.execute(sqlalchemy.text(own)).scalar_one() == 1
    require_connections(storage, 64)
    with pytest.raises(UserError, match=r"connections for 96 workers, not for 97: raise .* max_connections to 117"):
        require_connections(storage, 97)
    storage.engine.dispose()


def _work_at(file: Path, results: Path, address: str) -> None:
    os.environ[ADDRESS] = address
    sys.exit(run_worker(file, lambda _: Noop(results, 2.0)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_four_workers_share_a_default_postgresql_without_a_death(server: Server, tmp_path: Path) -> None:
    """Each of its 100 connections is one too few for somebody where a worker takes two."""
    trials = 64 * 15  # half a minute of waiting in each, and as much in the takes of 64
    sweep, storage, study = _start(tmp_path, server.address, trials=trials)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"
    workers = [
        FORKED.Process(target=_work_at, args=(Path(sweep.source.path), tmp_path, server.address)) for _ in range(64)
    ]
    most = 0
    for worker in workers:
        worker.start()
    with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while any(worker.is_alive() for worker in workers):
            most = max(most, connection.execute(sqlalchemy.text(count)).scalar_one())
            time.sleep(0.5)
    assert [worker.exitcode for worker in workers] == [0] * 64
    assert 64 < most <= 67, "one each, and the two of this test"
    assert count_states(study.trials) == {"COMPLETE": trials}
    storage.engine.dispose()


def test_a_worker_that_starts_while_its_storage_is_away_waits_for_it(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL killed while workers start used to end the sweep."""
    import vaebench.sweep.workers.worker as module

    sweep = started[0]
    answers: list[int] = []

    def connects(*where: object) -> RDBStorage:
        answers.append(1)
        if len(answers) < 3:
            raise AwayError("the storage does not answer")
        return connect(*where)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "connect", connects)
    monkeypatch.setattr("vaebench.sweep.storage.queue.time.sleep", lambda _: None)
    monkeypatch.setenv(module.ADDRESS, default_storage(sweep, tmp_path))
    done: list[int] = []
    loop = lambda *_, **__: done.append(1)  # noqa: E731
    assert run_worker(Path(sweep.source.path), lambda _: None, loop) == 0
    assert (len(answers), done) == (3, [1])
