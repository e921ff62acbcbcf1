"""The machine that a run trains on, and what else it does meanwhile: seconds mean little without."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """The kind of machine that computes on a device: its processor, the cores and threads at hand; no host, no user."""
    return {
        "processor": _processor(device),
        "device": device.type,
        "cores": _cores(),
        "threads": torch.get_num_threads(),
    }


def load() -> float | None:
    """Processes that ran or waited for a core, mean over the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux says which of them are at hand
        return os.cpu_count() or 1


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
