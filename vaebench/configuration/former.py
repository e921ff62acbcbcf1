"""Former families that are now settings of others, so that old records and checkpoints still load."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Former(NamedTuple):
    """The replacement of a former family.

    Attributes:
        path: class path of the current family.
        settings: defaults that make the current family equal to the former one.
        renamed: current names of settings and buffers, by the former ones.
    """

    path: str
    settings: Mapping[str, Any]
    renamed: Mapping[str, str] = MappingProxyType({})


BETA_VAE = "vaebench.families.beta_vae.BetaVAE"
CHAINS = "vaebench.posteriors.hierarchy"
WHOLE = {"class_path": "vaebench.priors.hierarchy.TopDown", "init_args": {"whole": True}}
FORMER = {
    "vaebench.families.free_bits_vae.FreeBitsVAE": Former(BETA_VAE, {"beta": 1.0}, {"free": "free_bits"}),
    "vaebench.families.ladder_vae.LadderVAE": Former(
        BETA_VAE,
        {
            "beta": 1.0,
            "latent": 96,
            "posterior": {"class_path": f"{CHAINS}.Ladder"},
            "prior": {"class_path": "vaebench.priors.hierarchy.TopDown"},
        },
    ),
    "vaebench.families.hvae.HVAE": Former(
        BETA_VAE, {"beta": 1.0, "latent": 80, "posterior": {"class_path": f"{CHAINS}.TopDown"}, "prior": WHOLE}
    ),
    "vaebench.families.dip_vae_i.DIPVAEI": Former("vaebench.families.dip_vae.DIPVAE", {"kind": "I"}),
    "vaebench.families.dip_vae_ii.DIPVAEII": Former(
        "vaebench.families.dip_vae.DIPVAE", {"kind": "II", "diagonal": 10.0}
    ),
    "vaebench.families.jl1_vae.JL1VAE": Former("vaebench.families.jl_vae.JLVAE", {"norm": 1}),
    "vaebench.families.jl2_vae.JL2VAE": Former("vaebench.families.jl_vae.JLVAE", {"norm": 2}),
    "vaebench.families.rae_l2.RAEL2": Former("vaebench.families.rae.RAE", {"penalises": "weights"}),
    "vaebench.families.rae_gp.RAEGP": Former("vaebench.families.rae.RAE", {"penalises": "gradient", "penalty": 0.01}),
}


def current(model: Mapping[str, Any]) -> dict[str, Any]:
    """A family's {class_path, init_args} with current classes and settings.

    >>> current({"class_path": "vaebench.families.free_bits_vae.FreeBitsVAE", "init_args": {"free": 0.5}})
    {'class_path': 'vaebench.families.beta_vae.BetaVAE', 'init_args': {'beta': 1.0, 'free_bits': 0.5}}
    """
    former, arguments = FORMER.get(str(model.get("class_path"))), model.get("init_args") or {}
    if former is None or not isinstance(arguments, Mapping):
        return dict(model)
    own = {former.renamed.get(name, name): value for name, value in arguments.items()}
    own = {name: value for name, value in own.items() if name not in former.settings or value is not None}
    return {**model, "class_path": former.path, "init_args": {**former.settings, **own}}


def current_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration, {"model", "data", "trainer"}, with the current family."""
    return {**config, "model": current(config["model"])}


def current_state(path: str, state: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint of the class `path` under current names.

    Args:
        path: class path in the checkpoint.
        state: its weights and buffers by name.
        fresh: those of the current model before loading, which supply buffers that the former family did not have.
    """
    former = FORMER.get(path)
    if former is None:
        return dict(state)
    renamed = {former.renamed.get(name, name): value for name, value in state.items()}
    return {name: value for name, value in fresh.items() if name in former.settings} | renamed
