"""Kinds of models, by which pages colour them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaebench.configuration import parts
from vaebench.records import RunRecord

KINDS = ("plain", "importance-weighted", "prior", "posterior", "hierarchy", "discrete", "disentangling")
WEIGHTED = ("iwae", "miwae", "piwae", "ciwae", "dreg")  # families whose objective weighs several samples
SEEKING = ("beta_tc_vae", "factor_vae", "dip_vae", "dip_vae_i", "dip_vae_ii", "jl_vae", "jl1_vae", "jl2_vae",
           "orojar_vae")  # families that seek independent latents  # fmt: skip
ORDINARY = {"posterior": "DiagonalGaussian", "prior": "StandardNormal"}
HIERARCHIES, CODES = ("hierarchy", "residual"), ("codes",)  # modules of posteriors and priors


def kind(record: RunRecord) -> str:
    """The kind of a run's model, one of `KINDS`.

    Discrete codes and hierarchies come first, then importance-weighted and disentangling objectives, then a prior or
    posterior other than a diagonal Gaussian.
    """
    places = {part: _module(record.config, part) for part in ORDINARY}
    modules = {module for module, _ in places.values()}
    if modules & set(CODES):
        return "discrete"
    if modules & set(HIERARCHIES):
        return "hierarchy"
    if record.family in WEIGHTED:
        return "importance-weighted"
    if record.family in SEEKING:
        return "disentangling"
    others = [part for part in ("prior", "posterior") if places[part][1] not in ("", ORDINARY[part])]
    return others[0] if others else "plain"


def _module(config: Mapping[str, Any], part: str) -> tuple[str, str]:
    """The module, below its kind's folder, and the name of a run's posterior or prior; empty where it names none."""
    chosen = config.get("model", {}).get("init_args", {}).get(part)
    path = chosen.get("class_path") if isinstance(chosen, Mapping) else None
    known = parts.part_at(path) if isinstance(path, str) else None
    return (known.path.split(".")[-2], known.name) if known else ("", "")
