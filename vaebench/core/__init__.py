"""The contract between families, training and evaluation: read `contract` first, then `family`."""

from zuko.lazy import LazyDistribution as Conditional

from vaebench.core.contract import (
    Draw,
    Given,
    LatentModel,
    Step,
    Terms,
    batches,
    draw,
    fixed_noise,
    noise_state,
    set_noise_state,
)
from vaebench.core.family import Family
from vaebench.measures import DataSpec, Shape

__all__ = [
    "Conditional",
    "DataSpec",
    "Draw",
    "Family",
    "Given",
    "LatentModel",
    "Shape",
    "Step",
    "Terms",
    "batches",
    "draw",
    "fixed_noise",
    "noise_state",
    "set_noise_state",
]
