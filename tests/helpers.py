"""Small models and batches for tests of the contract."""

from __future__ import annotations

import importlib
import pkgutil
from inspect import getmembers, isabstract, isclass, signature
from typing import Any

import torch
from torch import Tensor
from zuko.lazy import LazyDistribution

import vaebench.posteriors
import vaebench.priors
from vaebench.configuration.discovery import families
from vaebench.core import DataSpec, Family
from vaebench.posteriors import DiagonalGaussian
from vaebench.traits import EUCLIDEAN, LatentTraits

FAMILIES = sorted(families())
MEANS = torch.linspace(0.05, 0.95, 16).reshape(1, 4, 4)
SPEC, CONTINUOUS = (DataSpec((1, 4, 4), measure, MEANS, size=1000) for measure in ("binary", "continuous"))
NET = {"class_path": "vaebench.networks.MLP", "init_args": {"width": 8, "depth": 1}}


TINY = {"net": NET, "width": 8, "context": 3, "steps": 2, "components": 3, "columns": 2, "reflections": 2, "bins": 4,
        "start": "mean", "inner": NET, "features": 8, "channels": 4}  # fmt: skip


def parts(package: Any) -> dict[str, type[LazyDistribution]]:
    """Every final posterior or prior of a package by its path within it: 'flows.PlanarFlow', 'StandardNormal'."""
    modules = [package, *(importlib.import_module(f"{package.__name__}.{m.name}")
                          for m in pkgutil.iter_modules(package.__path__))]  # fmt: skip
    return {
        f"{module.__name__}.{name}".removeprefix(f"{package.__name__}."): cls
        for module in modules
        for name, cls in getmembers(module, isclass)
        if issubclass(cls, LazyDistribution)
        and cls.__module__ == module.__name__
        and not isabstract(cls)
        and name[0] != "_"
        and "latent" in signature(cls).parameters  # what is built around a model's own parts is none to choose
    }


POSTERIORS, PRIORS = parts(vaebench.posteriors), parts(vaebench.priors)


def tiny(cls: type, **settings: Any) -> dict[str, Any]:
    """A part with small settings, as a configuration names it."""
    own = {name: value for name, value in TINY.items() if name in signature(cls).parameters}
    return {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": {**own, **settings}}


CODES_ON_A_GRID = {"class_path": "vaebench.networks.codes.CausalGrid", "init_args": {"channels": 8, "layers": 2}}
CONV_GRID = {"class_path": "vaebench.networks.grid.ConvGrid", "init_args": {"channels": 4, "levels": 1, "blocks": 1}}
# Configurations of a family with parts of another kind, which its laws hold for too; named as their YAML.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "free_bits_vae": ("beta_vae", {"beta": 1.0, "free_bits": 0.25}),
    "ladder_vae": (
        "beta_vae",
        {"beta": 1.0, "posterior": tiny(POSTERIORS["hierarchy.Ladder"]), "prior": tiny(PRIORS["hierarchy.TopDown"])},
    ),
    "hvae": (
        "beta_vae",
        {
            "beta": 1.0,
            "posterior": tiny(POSTERIORS["hierarchy.TopDown"]),
            "prior": tiny(PRIORS["hierarchy.TopDown"], whole=True),
        },
    ),
    "dip_vae_ii": ("dip_vae", {"kind": "II", "diagonal": 10.0}),
    "jl2_vae": ("jl_vae", {"norm": 2}),
    "rae_gp": ("rae", {"penalises": "gradient", "penalty": 0.01}),
    "rvq_vae": ("vq_vae", {"posterior": tiny(POSTERIORS["codes.ResidualQuantised"])}),
    "vq_conv_vae": (
        "vq_vae",
        {
            "latent": 4,
            "posterior": tiny(POSTERIORS["codes.VectorQuantised"], net=CONV_GRID),
            "prior": tiny(PRIORS["codes.AutoregressiveCodes"], net=CODES_ON_A_GRID),
            "likelihood": {"class_path": "vaebench.likelihoods.Bernoulli", "init_args": {"net": CONV_GRID}},
        },
    ),
}


def family_of(name: str) -> type[Family]:
    """The class of a family or variant."""
    return families()[VARIANTS[name][0] if name in VARIANTS else name]


LAWFUL = [*FAMILIES, *VARIANTS]
BOUNDS = [name for name in LAWFUL if family_of(name).NEUTRAL is not None]
EXACT = [name for name in LAWFUL if family_of(name).EXACT_GRADIENT]
INEXACT = [name for name in LAWFUL if not family_of(name).EXACT_GRADIENT]


def own_posteriors() -> dict[str, str]:
    """The posterior that each family takes by itself, below vaebench.posteriors; '' where it is a common one."""
    kinds = {name: signature(cls).parameters.get("posterior") for name, cls in families().items()}
    paths = {name: f"{kind.default.__module__}.{kind.default.__name__}" for name, kind in kinds.items() if kind}
    own = {name: path.removeprefix("vaebench.posteriors.") for name, path in paths.items()}
    return {name: own[name] if "." in own.get(name, "") else "" for name in families()}


class Source:
    """A stand-in for a data module: `vaebench.build` reads nothing but its spec."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec


def images_of(name: str) -> DataSpec:
    """Binary images where the family takes them, else continuous ones."""
    return SPEC if "binary" in family_of(name).KINDS else CONTINUOUS


def small(name: str, spec: DataSpec | None = None, seed: int = 0, **overrides: Any) -> Family:
    """A tiny float64 model of a family or variant with two latents, built as `vaebench.build` builds it."""
    import vaebench as vb

    spec = spec or images_of(name)
    name, variant = VARIANTS.get(name, (name, {}))
    torch.manual_seed(seed)
    arguments = signature(families()[name]).parameters
    own = {"posterior": DiagonalGaussian}  # families of deterministic encoders, or of several levels, name others
    own |= {part: arguments[part].default for part in ("posterior", "prior") if part in arguments}
    chosen = {part: tiny(kind) for part, kind in own.items() if isinstance(kind, type)} | variant | overrides
    few = {count: size for count, size in {"m": 4, "k": 4, "steps": 2}.items() if count in arguments}
    return vb.build(name, Source(spec), **{"latent": 2, **few, **chosen}).double()


def beside(part: type) -> dict[str, Any]:
    """The other side of a part that needs one of its own kind: several levels of posteriors need as many priors, and
    a space needs both on it, the sphere in three dimensions."""
    other = {
        "posteriors": {"prior": PRIORS["hierarchy.TopDown"]},
        "priors": {"posterior": POSTERIORS["hierarchy.TopDown"]},
    }
    _, kind, *module = part.__module__.split(".")
    if (space := LatentTraits.of(part).space) != EUCLIDEAN:
        both = {"posterior": POSTERIORS, "prior": PRIORS}
        same = {
            side: next(c for c in parts.values() if LatentTraits.of(c).space == space) for side, parts in both.items()
        }
        own = {"latent": 3} if module == ["spherical"] else {}
        return own | {side: tiny(cls) for side, cls in same.items() if side != kind.removesuffix("s")}
    return {side: tiny(cls) for side, cls in other[kind].items()} if module == ["hierarchy"] else {}


def neutral(name: str, **overrides: Any) -> Family:
    """The family where its objective is the ELBO."""
    return small(name, **{**family_of(name).NEUTRAL, **overrides})


def bits(n: int, spec: DataSpec = SPEC, seed: int = 1) -> Tensor:
    """n random binary images in float64."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, *spec.shape, generator=generator, dtype=torch.float64) < 0.4).double()


def labels(n: int) -> Tensor:
    """n labels, 0 to 2 in turn; families without a use for them pass them over."""
    return torch.arange(n) % 3


def noisy_step(model: Family, x: Tensor, seed: int, t: float = 0.0) -> dict[str, Tensor]:
    """The losses of one step under fixed noise."""
    torch.manual_seed(seed)
    return dict(model.step(x, labels(len(x)), torch.tensor(t, dtype=torch.float64)).losses)
