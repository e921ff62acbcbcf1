"""Processes that are forked from one that has imported vaebench: a test of several does not import it in each."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from vaebench.cli import main
from vaebench.training.experiment import experiment
from vaebench.training.solo import train

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["vaebench.training.models", "vaebench.cli", "vaebench.running.run", "vaebench.training.solo"]
)


def command(*words: object, output: Path | str = os.devnull) -> BaseProcess:
    """`vaebench` with these words, started in the working folder and with the environment of now.

    Args:
        words: after the name of the program.
        output: the file for what it prints on either stream.
    """
    process = FORKED.Process(target=_run, args=([str(word) for word in words], dict(os.environ), str(output)))
    process.start()
    return process


def _run(words: list[str], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    sys.exit(main(words))


def wait(condition: Callable[[], object], *alive: BaseProcess) -> None:
    """Looks until a condition holds, which these processes are to bring about."""
    while not condition():
        assert any(process.is_alive() for process in alive)
        time.sleep(0.01)


def train_at(args: list[str], folder: Path) -> None:
    """Trains a run in a folder."""
    train(experiment(args), folder)
