"""Kills a training while it saves, time and again, and looks what is left: `python tests/kill_saves.py FOLDER TMPDIR`.

Every child goes on from what the one before it has left, and is killed by SIGKILL at a moment drawn from a save's
duration, with its temporary files on one file system and its run on another.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vaebench.training.experiment import experiment
from vaebench.training.keeper import Keeper
from vaebench.training.population import Population
from vaebench.training.saves import Saves
from vaebench.training.solo import train

ARGS = ["--data=digits", "--model=vae", "--model.posterior.net.width=500", "--trainer.max_epochs=100000",
        "--trainer.accelerator=cpu", "--data.batch_size=500"]  # fmt: skip
SAVES = 3  # of a child, before it is killed within one of the next
FIRST = 0.02  # seconds that a save is taken to last, until one was timed


def main() -> None:
    """Prints what was found, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("temporary", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--engine", choices=["solo", "population"], default="solo")
    chosen = parser.parse_args()
    chosen.temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(chosen.temporary)
    torch.set_num_threads(1)
    Keeper.EVERY = 0.0
    found = {"kills": 0, "within a save": 0, "lost": 0, "older than acknowledged": 0, "last damaged": 0}
    acknowledged, duration, chance = -1, FIRST, random.Random(0)
    experiment(ARGS).build()  # imports what children would
    for kill in range(chosen.kills):
        epoch, within, duration = _kill(chosen.folder, chosen.engine, duration, chance, SAVES + kill % 2)
        acknowledged = max(acknowledged, epoch)
        saved, damaged = _left(chosen.folder, chosen.engine)
        found["kills"] += 1
        found["within a save"] += within
        found["lost"] += saved is None
        found["older than acknowledged"] += saved is not None and saved < acknowledged
        found["last damaged"] += damaged
    found["in TMPDIR"] = len(list(chosen.temporary.iterdir()))
    found["partial"] = len(list(chosen.folder.glob(".*.partial")))
    found["epochs"] = acknowledged
    print(json.dumps(found))


def _kill(folder: Path, engine: str, duration: float, chance: random.Random, saves: int) -> tuple[int, bool, float]:
    """Trains in a child until it is killed: the last epoch it said was saved, whether in a save, and a save's time."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(read)
            _train(folder, engine, write)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(write)
    epoch, began, aimed = -1, 0.0, False
    with os.fdopen(read) as said:
        for line in said:
            word, number = line.split()
            if word == "begins":
                began, saves = time.perf_counter(), saves - 1
                if saves < 0:
                    time.sleep(chance.uniform(0, duration))
                    os.kill(child, signal.SIGKILL)
                    aimed = True
            else:
                duration, epoch = time.perf_counter() - began, int(number)
                if aimed:  # this save was over before the kill came
                    aimed = False
                    return _reap(child, epoch), False, duration
    _reap(child, epoch)
    if not aimed:
        sys.exit("a child ended by itself")
    return epoch, True, duration


def _reap(child: int, epoch: int) -> int:
    os.waitpid(child, 0)
    return epoch


def _train(folder: Path, engine: str, write: int) -> None:
    """Trains from the last save on, and says when a save begins and when it has ended."""
    save = Saves.save

    def said(self: Saves, state: Mapping[str, Any]) -> None:
        os.write(write, f"begins {state['epoch']}\n".encode())
        save(self, state)
        os.write(write, f"saved {state['epoch']}\n".encode())

    Saves.save = said  # type: ignore[method-assign]
    if engine == "solo":
        train(experiment(ARGS), folder)
        return
    population = Population(lanes=1, compile=False)
    population.add(experiment(ARGS), folder)
    while population.epoch():
        pass


def _left(folder: Path, engine: str) -> tuple[int | None, bool]:
    """The epoch of the newest sound save, and whether the last one was damaged."""
    job = experiment(ARGS)
    if engine == "population":
        job.engine = Population().engine
    saves = Saves(folder, job.identity(job.build()[1]))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        newest = saves.newest(lambda state: state["epoch"])
    if newest is None:
        return None, bool(warned)
    return int(torch.load(newest, weights_only=True)["epoch"]), bool(warned)


if __name__ == "__main__":
    main()
