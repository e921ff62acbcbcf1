"""What of a latent is shuffled together where it is tested for collapse: units, channels of a grid, or a sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions.divergences import Owned
from vaebench.evaluation.conditions import spread

MOST, ON_GRID = 512, 64  # units that are shuffled one by one, also where they lie on a grid
SAMPLED = 64  # of more units
DECODED = 2**19  # values that the decoder makes of one image whose units are shuffled one by one


class Shuffled(NamedTuple):
    """What is shuffled together.

    Attributes:
        owners: of each value of z, the number of the unit that it is part of, (values,).
        units: the numbers that are shuffled, (units,).
        of: what a unit is: 'unit' or 'channel'.
        total: number of all units.
    """

    owners: Tensor
    units: Tensor
    of: str
    total: int


def shuffled_units(q: Distribution, values: int) -> Shuffled:
    """What of the latents of a posterior is shuffled: every unit, or channels or a sample where that takes long.

    Args:
        q: the posterior.
        values: of an image.
    """
    event = q.event_shape
    owners = q.owners.cpu() if isinstance(q, Owned) else torch.arange(event.numel())
    units = owners.unique()
    if len(event) == 3 and not isinstance(q, Owned) and len(units) > ON_GRID and event[0] <= MOST:
        channels = torch.arange(event[0])
        return Shuffled(channels.repeat_interleave(event[1] * event[2]), channels, "channel", event[0])
    if len(units) <= SAMPLED or (len(units) <= MOST and len(units) * values <= DECODED):
        return Shuffled(owners, units, "unit", len(units))
    return Shuffled(owners, units[spread(len(units), SAMPLED)], "unit", len(units))


def grouped(figures: Tensor | None, chosen: Shuffled, name: str) -> Tensor | None:
    """Figures (n, values) of channels or of a sample: rates are summed, and of means those that vary most are kept."""
    if figures is None or figures.shape[1] != len(chosen.owners):
        return figures
    if chosen.of == "unit":
        return figures[:, chosen.units] if chosen.total == len(chosen.owners) else figures
    places = figures.unflatten(1, (chosen.total, -1))
    if name == "kl":
        return places.sum(-1)
    most = places.var(0).argmax(-1)
    return places[:, torch.arange(chosen.total), most]
