"""Trials trained together as one model: one process per GPU, or one for all cores without GPUs."""

from __future__ import annotations

from vaebench.sweep.engines import Launch
from vaebench.sweep.engines.local import LocalWorkers, slots

SETTINGS = {"members": int, "per_gpu": int}


def start(launch: Launch) -> LocalWorkers:
    """This machine's populations for a sweep."""
    places = slots(launch)
    if not places[0]["CUDA_VISIBLE_DEVICES"] and launch.workers is None:
        places = [{"CUDA_VISIBLE_DEVICES": ""}]
    return LocalWorkers(launch, launch.command("workers.population"), places)
