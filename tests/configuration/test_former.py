"""Records and checkpoints of families that are settings of others now."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from committed import trained_here
from helpers import bits, small

import vaebench as vb
from vaebench.configuration.former import FORMER, current
from vaebench.configuration.gate import vetted
from vaebench.configuration.parts import part_at
from vaebench.reproduction.repeat import state_hash

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", FORMER)
def test_what_took_a_former_familys_place_is_there(path: str) -> None:
    assert part_at(path) is None
    assert part_at(FORMER[path].path) is not None
    assert vetted({"class_path": path, "init_args": {}}, "a record", "family")["class_path"] == FORMER[path].path


def test_every_family_that_a_shipped_record_names_can_be_built() -> None:
    """Records keep what they said; what they name goes on resolving."""
    paths = {record.config["model"]["class_path"] for record in trained_here()}
    assert len(paths) > 20
    assert all(part_at(current({"class_path": path})["class_path"]) for path in paths)


@pytest.mark.parametrize(
    ("former", "own", "name"),
    [
        ("vaebench.families.free_bits_vae.FreeBitsVAE", {"free": 0.3}, "free_bits_vae"),
        ("vaebench.families.ladder_vae.LadderVAE", {}, "ladder_vae"),
        ("vaebench.families.dip_vae_ii.DIPVAEII", {}, "dip_vae_ii"),
        ("vaebench.families.jl2_vae.JL2VAE", {"gamma": 0.2}, "jl2_vae"),
        ("vaebench.families.rae_gp.RAEGP", {}, "rae_gp"),
    ],
)
def test_a_checkpoint_of_a_former_family_loads_with_its_weights(
    tmp_path: Path, former: str, own: dict[str, float], name: str
) -> None:
    model = small(name, **{FORMER[former].renamed.get(key, key): value for key, value in own.items()}).float()
    back = {now: old for old, now in FORMER[former].renamed.items()}
    added = FORMER[former].settings.keys() - {"posterior", "prior", "latent", "diagonal", "penalty"}
    arguments = {
        back.get(key, key): value for key, value in model.hparams.items() if key[0] != "_" and key not in added
    }
    state = {back.get(key, key): value for key, value in model.state_dict().items() if key not in added}
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"_class_path": former, **arguments, **own}}, path)
    loaded, x = vb.load(path), bits(4).float()
    found = []
    for each in (model.eval(), loaded):
        torch.manual_seed(0)
        found.append(each.step(x, None, torch.tensor(3.0)).losses["model"])
    assert torch.equal(*found)
    assert state_hash(torch.load(path, weights_only=True)["state_dict"]) == state_hash(state)
