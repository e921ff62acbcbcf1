"""Runs whose pictures are grids of known images, as the evaluation draws them, to ask people about; and a server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_records import fake_arrays, fake_body
from optuna import Study
from optuna.trial import TrialState

from vaebench.evaluation.drawing.pictures import _grid, reconstruction_grid
from vaebench.judging.serve import _socket, server
from vaebench.records import read_records, write_record
from vaebench.sweep.storage.queue import count_states, first

RUNS = ("vae_a", "vae_b", "vae_c")


def write_judged(results: Path) -> Path:
    """Three runs on grey 8 × 8 images, each with 80 samples, the first 40 of which are its reconstructions."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed, name in enumerate(RUNS):
        made = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(1 + seed))
        pictures = {"samples": _grid(list(made.split(10))), "reconstructions": reconstruction_grid(x, made[:40])}
        arrays = fake_arrays(np.random.default_rng(seed), mean=float(seed))
        body = fake_body(arrays, variant=name)
        body["data"] = {**body["data"], "measure": "discrete256"}
        write_record(results / name, body, arrays, pictures)
    return results


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The host and port of an application that is served on this machine until the end of the block."""
    with _socket("127.0.0.1", 0) as listening:
        running = server(app)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


NOOP = Path(__file__).with_name("noop_sweep.py")


def _check(study: Study, results: Path, trials: int) -> None:
    """The invariant: every trial in one final state, each setting completed once, its record there once."""
    found = study.get_trials()
    assert all(trial.state.is_finished() for trial in found), count_states(found)
    chains = Counter(first(trial) for trial in found if trial.state == TrialState.COMPLETE)
    originals = [trial for trial in found if "retry_of" not in trial.user_attrs]
    assert len(originals) == trials
    assert chains == Counter(trial.number for trial in originals), "each setting was completed exactly once"
    for trial in found:
        retries = [other for other in found if other.user_attrs.get("retry_of") == trial.number]
        assert len(retries) == (trial.state == TrialState.FAIL), "a lost trial came back once, and no other did"
        given = trial.params.items()  # all of its settings, unless its worker died while they were chosen
        assert all(given <= other.params.items() for other in retries), (trial, retries)
    noted = {trial.number: trial.user_attrs.get("records", []) for trial in found}
    written = [name for trial in found if trial.state == TrialState.COMPLETE for name in noted[trial.number]]
    lost = {name for trial in found if trial.state == TrialState.FAIL for name in noted[trial.number]}
    assert lost <= set(written), "who is killed between noting its record and ending its trial leaves it to the retry"
    records = read_records(results / "noop")
    assert not records.damaged
    assert sorted(written) == sorted(record.path.name for record in records if record.path)
    assert len(set(written)) == trials, "no two trials share a folder"


def _alive(results: Path) -> set[int]:
    folder = results / "alive"
    pids = {int(p.name) for p in folder.iterdir()} if folder.is_dir() else set()
    return {pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and b"noop" in _command(pid)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
