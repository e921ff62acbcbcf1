"""Every model trains, scores and is measured on a GPU as on the CPU, and no step waits for the host; without a GPU.

On a pretended cuda:0 (`pretend_gpu`), in one process of its own (`device_process`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import LAWFUL
from pretend_gpu import build
from test_latents_laws import DENSE, DENSE_PRIORS

TESTS = Path(__file__).parents[1]
STEPS = [
    f"step of {name}" for name in (*LAWFUL, *(f"posterior {n}" for n in DENSE), *(f"prior {n}" for n in DENSE_PRIORS))
]
TOGETHER = [f"population of {name}" for name in ("vae", "iwae", "factor_vae", "vq_vae", "two_stage_vae")]
LEARNT = ["vae by AdamW", "vae by SGD", "vae by AdamNormGrad"]
MEASURED = [f"metrics of {name}" for name in ("vae", "vq_vae", "hvae")]
CASES = [*STEPS, *MEASURED, *TOGETHER, "trial of a worker", "classes of measures"]
ALONE = ("vae", "iwae", "prior vamp.VampPrior", "vq_vae", "two_stage_vae", "factor_vae", "aggressive_vae", "a run")
CAPTURES = [f"capture of {name}" for name in (*ALONE, "a population of vae", "a population of factor_vae")]
OTHERS = [f"capture of {name}" for name in (*(step.removeprefix("step of ") for step in STEPS),
                                            *(f"a {several}" for several in TOGETHER), *LEARNT)]  # fmt: skip

WAITS = {
    "step of aggressive_vae": [["read", "core/learner.py", "_read"]],  # the loss decides whose turn it is
}
"""What a step may wait for, and why; all others wait for nothing."""

UNCAPTURED = {"capture of aggressive_vae": "it waits for the GPU in learner.py:"}
"""Why a step is no CUDA graph; all others are."""

NEAR = {"metrics": 1e-6, "trial": 1e-5}
"""Of figures of records, in float32; a trial's are of importance weights, whose logarithms (30 nats) round to 3e-6."""

pytestmark = pytest.mark.timeout(900)  # of the process, which takes a minute of one core


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The difference from the CPU and the waits of every case, and of some captured trainings from others."""
    return measured(tmp_path_factory.mktemp("device"), [*CASES, *CAPTURES])


def measured(folder: Path, cases: list[str]) -> dict[str, Any]:
    if shutil.which("g++") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the pretended device needs g++, which is missing")
    file, path = folder / "found.json", os.pathsep.join(map(str, (TESTS, TESTS / "laws")))
    environment = {**os.environ, "LD_PRELOAD": str(build()), "PYTHONPATH": path}
    command = [sys.executable, str(TESTS / "laws" / "device_process.py"), str(file), *cases]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(file.read_text()))


def test_the_pretended_device_refuses_and_counts(found: dict[str, Any]) -> None:
    own = found.pop("pretended")
    assert own["mixed"].startswith("aten::add.Tensor of cuda:0 meets a torch.float32 of the CPU, (2,)")
    assert own["waits"] == {"item": ["read"], "tensor": ["copy"], "mask": ["size of a mask"], "cpu": ["read"],
                            "full": [], "scalar": []}  # fmt: skip
    reason = "operation not permitted when stream is capturing: read in core/captured.py"
    assert own["late"].startswith(f"the step cannot be captured as a CUDA graph ({reason}")
    assert sorted(found) == sorted([*CASES, *CAPTURES])


@pytest.mark.parametrize("name", CASES)
def test_figures_are_the_cpus(found: dict[str, Any], name: str) -> None:
    case = found[name]
    assert case["error"] is None, case["error"]
    assert case["figures"] >= 8
    distance, where = case["apart"]
    assert distance < NEAR.get(name.split()[0], 1e-9), where


@pytest.mark.parametrize("name", [*STEPS, *TOGETHER])
def test_a_step_waits_for_nothing_that_is_not_listed(found: dict[str, Any], name: str) -> None:
    """`torch.tensor(t, device=…)`, `bool(active[…])` and constants copied in each step drained a GPU's stream."""
    waits = [wait for *wait, _line, count in found[name]["waits"] for _ in range(count)]
    assert waits == WAITS.get(name, []), found[name]["waits"]


@pytest.mark.parametrize("name", CAPTURES)
def test_a_captured_training_is_the_training(found: dict[str, Any], name: str) -> None:
    """Weights, moments, logs, losses and noise, bit for bit.

    A graph kept the learning rate of the epoch in which it was captured, and what is read later was overwritten.
    """
    require_captured(name, found[name])


@pytest.mark.slow
def test_every_training_can_be_captured(tmp_path: Path) -> None:
    found = measured(tmp_path, OTHERS)
    for name in OTHERS:
        require_captured(name, found[name])


def require_captured(name: str, case: dict[str, Any]) -> None:
    assert case["error"] is None, case["error"]
    assert case["figures"] >= 8
    distance, where = case["apart"]
    assert distance == 0, (name, where)
    if name in UNCAPTURED:
        assert case["replays"] == 0
        assert case["reason"].startswith(UNCAPTURED[name])
    else:
        assert case["reason"] is None, name
        assert case["replays"] >= 3, name
