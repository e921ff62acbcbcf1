"""Saves of unfinished runs: nothing is lost to a kill, a full disk or a damaged file, and no orphan is left."""

from __future__ import annotations

import errno
import fcntl
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from processes import command

import vaebench as vb
from vaebench.errors import UserError
from vaebench.files import LOCK, alone_in, atomic, copy_file, remove_partial, whole_folder, write_atomically
from vaebench.running.recording import weights_hash
from vaebench.running.run import trained_checkpoint
from vaebench.training.experiment import experiment
from vaebench.training.keeper import Keeper
from vaebench.training.population import Population
from vaebench.training.saves import LAST, PREVIOUS
from vaebench.training.solo import train
from vaebench.training.stopping import Stopping

ARGS = ["--data=digits", "--model=vae", "--model.latent=4", "--trainer.max_epochs=4", "--trainer.accelerator=cpu"]
SCRIPT = Path(__file__).parents[1] / "kill_saves.py"
SHARED = Path("/dev/shm")  # a tmpfs on Linux


def _kills(tmp_path: Path, kills: int, engine: str, swapped: bool = False) -> dict[str, int]:
    if not SHARED.is_dir() or SHARED.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with TemporaryDirectory(dir=SHARED) as other:
        places = [tmp_path / "one", Path(other) / "two"]
        run, temporary = reversed(places) if swapped else places
        command = [sys.executable, SCRIPT, run, temporary, f"--kills={kills}", f"--engine={engine}"]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _nothing_lost(found: dict[str, int], kills: int) -> None:
    assert found["kills"] == kills
    assert found["lost"] == found["older than acknowledged"] == found["last damaged"] == found["in TMPDIR"] == 0, found
    assert found["partial"] <= 1, "of the last kill alone: the next save removes it"


def test_a_kill_while_a_run_is_saved_on_another_file_system_loses_nothing(tmp_path: Path) -> None:
    """`last.ckpt` was written in TMPDIR and then copied over the good one."""
    _nothing_lost(_kills(tmp_path, 3, "solo"), 3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", ["solo", "population"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_hundred_kills_lose_nothing(tmp_path: Path, engine: str, swapped: bool) -> None:
    found = _kills(tmp_path, 100, engine, swapped)
    _nothing_lost(found, 100)
    assert found["within a save"] > 30, "they are aimed"


class Stop(Callback):
    """Ends a training as a kill would, after an epoch was saved."""

    def __init__(self, epoch: int, before: Callable[[int], object] = int) -> None:
        self.epoch, self.before = epoch, before

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before(trainer.current_epoch)
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was killed in its fourth epoch, with saves of the third and the second."""
    monkeypatch.setattr(Keeper, "EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(ARGS), tmp_path / "killed", callbacks=[Stop(3)])
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"config.yaml", LAST, PREVIOUS}
    return tmp_path / "killed"


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # within the numbers: torch reads it without a word
    path.write_bytes(content)


def _ends_as_if_whole(folder: Path) -> None:
    whole = vb.load(train(experiment(ARGS), folder.with_name("whole")))
    assert weights_hash(vb.load(train(experiment(ARGS), folder))) == weights_hash(whole)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "model.ckpt"}, "what is not needed is gone"


def test_a_run_whose_last_save_is_damaged_goes_on_from_the_one_before(saved: Path) -> None:
    _damage(saved / LAST)
    with pytest.warns(UserWarning, match=r"last.ckpt' is damaged: the run goes on from the save before"):
        _ends_as_if_whole(saved)


def test_a_run_that_was_killed_between_its_last_save_and_the_one_before_goes_on(saved: Path) -> None:
    (saved / LAST).unlink()
    _ends_as_if_whole(saved)


@pytest.mark.parametrize("content", [b"", b"PK half", None])
def test_a_run_without_a_sound_save_begins_again_and_is_no_dead_end(saved: Path, content: bytes | None) -> None:
    for path in (saved / LAST, saved / PREVIOUS):
        if content is None:
            _damage(path)
        else:
            path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"last.ckpt' is damaged and .*previous.ckpt' is damaged: .* begins again"):
        _ends_as_if_whole(saved)


def test_a_save_of_another_run_in_the_same_folder_is_not_gone_on_with(saved: Path, tmp_path: Path) -> None:
    """A sweep's folder of trials outlives its storage; trial 0 of another sweep would have gone on from its saves."""
    other = [*ARGS, "--seed_everything=5"]
    with pytest.warns(UserWarning, match="is of a run with other settings or by another version"):
        found = train(experiment(other), saved)
    assert weights_hash(vb.load(found)) == weights_hash(vb.load(train(experiment(other), tmp_path / "whole")))


def test_a_damaged_save_is_not_put_in_place_of_the_sound_one_before(saved: Path) -> None:
    before = (saved / PREVIOUS).read_bytes()
    _damage(saved / LAST)
    with pytest.warns(UserWarning, match="goes on from the save before"), pytest.raises(KeyboardInterrupt):
        train(experiment(ARGS), saved, callbacks=[Stop(3)])  # after one more save
    assert (saved / PREVIOUS).read_bytes() == before
    assert torch.load(saved / LAST, weights_only=True)["epoch"] == 2


@contextmanager
def full() -> Iterator[None]:
    """A block in which no file grows beyond 50 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_while_a_run_is_saved_costs_a_warning_and_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keeper, "EVERY", 0.0)
    limit, kept = full(), dict[str, bytes]()

    def fill(epoch: int) -> None:
        if epoch == 1:
            kept[LAST] = (tmp_path / "run" / LAST).read_bytes()
            limit.__enter__()
        if epoch == 2:
            limit.__exit__(None, None, None)
            assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.ckpt")} == kept
            assert not list((tmp_path / "run").glob(".*")), "half a file is left"

    with pytest.warns(UserWarning, match=r"last.ckpt' could not be saved \(File too large\); training goes on"):
        checkpoint = train(experiment(ARGS), tmp_path / "run", callbacks=[Stop(-1, fill)])
    whole = train(experiment(ARGS), tmp_path / "whole")
    assert weights_hash(vb.load(checkpoint)) == weights_hash(vb.load(whole))


def test_a_full_disk_while_a_population_is_saved_costs_a_warning_and_no_save(tmp_path: Path) -> None:
    population = Population(lanes=1, compile=False)
    member = population.add(experiment(ARGS), tmp_path / "run")
    population.epoch()
    member.save()
    before = (tmp_path / "run" / LAST).read_bytes()
    with full(), pytest.warns(UserWarning, match="could not be saved"):
        member.save()
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_a_member_with_a_damaged_save_goes_on_from_the_one_before_or_begins_again(tmp_path: Path) -> None:
    """A damaged save used to be a traceback that stopped the whole population."""

    def enter() -> Any:
        return Population(lanes=1, compile=False).add(experiment(ARGS), tmp_path / "run")

    population = Population(lanes=1, compile=False)
    member = population.add(experiment(ARGS), tmp_path / "run")
    for _ in range(2):
        population.epoch()
        member.save()
    _damage(tmp_path / "run" / LAST)
    with pytest.warns(UserWarning, match="goes on from the save before"):
        assert enter().epoch == 1
    (tmp_path / "run" / PREVIOUS).write_bytes(b"PK half")
    with pytest.warns(UserWarning, match="the run begins again"):
        assert enter().epoch == 0


# Files ------------------------------------------------------------------------------------------------------------


def _refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_could_not_be_written_is_named_and_what_was_there_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    monkeypatch.setattr(atomic.os, "fsync", _refuse)
    with pytest.raises(OSError, match="No space left") as error:
        write_atomically(path, b"after", tmp_path / "earlier")
    assert error.value.filename == str(path), "the system names none"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"before"}
    with pytest.raises(OSError, match="No space left") as error, whole_folder(tmp_path / "run") as partial:
        (partial / "a").write_text("a")
    assert error.value.filename == str(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_while_a_file_is_copied_does_not_blame_the_source(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(100_000))
    with full(), pytest.raises(OSError, match="File too large") as error:
        copy_file(tmp_path / "source", tmp_path / "target")
    assert error.value.filename == str(tmp_path / "target")


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    dead, alive, other = (tmp_path / f".{name}.{digit * 32}.partial" for name, digit in
                          [("last.ckpt", "a"), ("last.ckpt", "b"), ("previous.ckpt", "c")])  # fmt: skip
    for left in (dead, alive, other):
        left.write_bytes(b"half")
    with alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(path, b"whole")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, other.name, "last.ckpt"])
    remove_partial(path)
    assert not alive.exists()


def test_a_folder_that_exists_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is never overwritten"), whole_folder(tmp_path):
        pass


# Two processes at one folder --------------------------------------------------------------------------------------


def test_a_second_process_at_a_folder_says_whom_it_waits_for_and_the_dead_are_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = f"""
import sys, time
from pathlib import Path
from vaebench.files import alone_in
with alone_in(Path({str(folder)!r})):
    print("in", flush=True)
    time.sleep(600 if sys.argv[1:] else 0)
"""
    first = subprocess.Popen([sys.executable, "-c", code, "stay"], stdout=subprocess.PIPE, text=True)
    assert first.stdout
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr
    said = second.stderr.readline()
    assert said.startswith(f"vaebench: process {first.pid} on ")
    assert f"works in '{folder}' since " in said
    assert said.endswith("; waiting for it to end\n")
    first.kill()
    first.communicate()
    assert second.communicate()[0] == "in\n"
    assert second.returncode == 0
    assert not folder.exists(), "nothing is left of it"


def test_a_folder_that_its_owner_removed_is_made_again(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        (tmp_path / "run" / LOCK).unlink()
        (tmp_path / "run").rmdir()
        with alone_in(tmp_path / "run"):
            assert (tmp_path / "run" / LOCK).is_file()


def test_other_ranks_of_a_training_do_not_wait_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with alone_in(tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with alone_in(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file()


def test_two_fits_of_one_run_train_it_once(tmp_path: Path) -> None:
    """The second used to train beside the first, over the same files."""
    files = [tmp_path / name for name in ("first", "second")]
    started = [command("fit", *ARGS, f"--out={tmp_path / 'runs'}", output=file) for file in files]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert sorted("holds this very run already" in file.read_text() for file in files) == [False, True]


def test_a_checkpoint_that_another_sweep_left_is_not_taken_for_the_trials(tmp_path: Path) -> None:
    """The folder of trial 0 outlives a sweep's storage, and its model.ckpt was recorded as the new trial's."""
    job = experiment(ARGS)
    _, data = job.build()
    train(job, tmp_path)
    assert trained_checkpoint(tmp_path, job.identity(data))
    assert not trained_checkpoint(tmp_path, experiment([*ARGS, "--model.lr=0.1"]).identity(data))


def test_noise_of_another_kind_of_device_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that moved from the CPU to a GPU went on under another noise in silence; one that was saved beside eight
    GPUs crashed on a machine with one."""
    restored: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, str(device))))
    keeper, cpu = Keeper(tmp_path / LAST, Stopping([])), torch.get_rng_state()
    eight = [torch.tensor([i]) for i in range(8)]
    kept = {**keeper.state_dict(), "noise": {"cpu": cpu, "cuda": eight}}
    keeper.load_state_dict(kept)
    assert keeper._noise is not None
    with pytest.warns(UserWarning, match="the run was saved on cuda and goes on on cpu: its noise from here on is not"):
        keeper._restore(keeper._noise)
    keeper._device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: eight[0])
    with pytest.warns(UserWarning, match="the run was saved on cpu and goes on on cuda"):
        keeper._restore({"cpu": cpu})
    keeper._restore(keeper._noise)
    assert restored == [(eight[0], "cuda:0")]
