"""A benchmark to log, and the points that were logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VAE = [f"--config={ROOT}/configs/family/vae.yaml", "--data=digits", "--model.latent=3", "--trainer.accelerator=cpu"]


BENCHMARK = f"""
benchmark: tiny
protocol: {{k: 5, limit: 40}}
configs: [{ROOT}/configs/data/digits.yaml]
overrides: {{trainer.max_epochs: 3, model.latent: 3, trainer.accelerator: cpu}}
runs:
  vae: {{configs: [{ROOT}/configs/family/vae.yaml]}}
  beta: {{configs: [{ROOT}/configs/family/beta_vae.yaml], overrides: {{model.beta: 2}}}}
"""


ONE = BENCHMARK.partition("  beta:")[0].replace("max_epochs: 3", "max_epochs: 1")


def _points(curves: Mapping[str, Any]) -> list[tuple[int, dict[str, float]]]:
    """Curves step by step, the slow way."""
    steps = sorted({step for curve in curves.values() for step in curve["step"]})
    return [
        (step, {n: c["value"][c["step"].index(step)] for n, c in curves.items() if step in c["step"]}) for step in steps
    ]
