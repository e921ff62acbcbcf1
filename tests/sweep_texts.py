"""Sweep files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = f"""
sweep: tiny
configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]
overrides: {{trainer.max_epochs: 3, model.latent: 3, trainer.accelerator: cpu, trainer.precision: 64-true}}
space: {{model.beta: {{float: [0.1, 10], log: true}}}}
sampler: {{name: random}}
protocol: {{k: 5, limit: 40}}
engine: {{name: population, members: 2}}
heartbeat: 60
"""
