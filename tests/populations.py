"""Populations of small members, and what they must equal."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import VARIANTS, family_of, images_of

from vaebench.training.experiment import experiment
from vaebench.training.population import Member, Population
from vaebench.training.solo import train

SMALL = ["--data=digits", "--data.batch_size=500", "--trainer.accelerator=cpu", "--trainer.precision=64-true"]


FEW = {"k": 4, "m": 2, "cap": 2, "check": 1, "pretrain": 3}  # settings that make a short run pass through all stages


def args(family: str = "beta_vae", seed: int = 0, epochs: int = 2, **settings: Any) -> list[str]:
    few = {name: value for name, value in FEW.items() if name in signature(family_of(family)).parameters}
    name, parts = VARIANTS.get(family, (family, {}))
    chosen = (f"--model.{side}={json.dumps(part)}" for side, part in parts.items())
    model = [f"--model={name}", *chosen, *(f"--model.{k}={v}" for k, v in {"latent": 3, **few, **settings}.items())]
    run = [f"--data.measure={images_of(family).measure}", f"--seed_everything={seed}", f"--trainer.max_epochs={epochs}"]
    return [*SMALL, *run, *model]


def trained(population: Population) -> None:
    while population.epoch():
        pass


def equal_to_solo(member: Member, run: list[str], work: Path, tolerance: float = 1e-9) -> dict[str, Any]:
    """Compares a member's checkpoint with that of the same run alone; returns what both say of their training."""
    alone = torch.load(train(experiment(run), work), weights_only=True)
    own = torch.load(member.export(), weights_only=True)
    for name, value in alone["state_dict"].items():
        assert torch.allclose(own["state_dict"][name], value, rtol=0, atol=tolerance), name
    mine, theirs = own["vaebench"], alone["vaebench"]
    assert mine["selection"] == theirs["selection"]
    assert list(mine["curves"]) == list(theirs["curves"])
    for name, curve in theirs["curves"].items():
        assert mine["curves"][name]["step"] == curve["step"]
        assert mine["curves"][name]["value"] == pytest.approx(curve["value"], rel=1e-6, abs=1e-6)
    return mine


def entered(population: Population, runs: list[list[str]], work: Path) -> list[Member]:
    return [population.add(experiment(run), work / f"member{i}") for i, run in enumerate(runs)]
