"""Posterior collapse: latent units that carry no information from the image to the decoder, and the likely cause.

Each unit is tested for three signs::

    kl       KL(q(z_j|x)‖p(z_j)) < 0.01 nats for at least 99 % of the images: (ε, δ)-collapse, Lucas et al. 2019
             (https://arxiv.org/abs/1911.02469);
    mean     the variance of E_q[z_j] over the images is below 0.01 (Burda et al. 2016: an inactive unit);
    decoder  shuffling the unit's codes between the images lowers the mean of log p(x|z) by no more than 0.05 nats, or
             by no more than 0.05 nats and three standard errors. For a unit in level i of a hierarchy it is the mean
             of log p(x, z_1 … z_{i−1}|z_i … z_L): an upper level acts through those below it. Where p(x|z) has no
             density, that of a Gaussian around its mean stands in, whose variance is the mean squared error.

The third sign decides, because it tests the whole path from the image to the decoder: a unit can be shuffled without
loss where the encoder writes nothing into it, and where the decoder ignores it. The first two then identify the cause.
A code of a discrete latent is one unit, whose values are shuffled together. Where there are more than 512 units, or
64 on a grid (channels, height, width), a channel of it is one, whose rate is the sum over its places and whose mean
varies as far as it does at any of them; without a grid, 64 evenly spaced units stand for all. So they do where units
times an image's values exceed 2¹⁹, and fewer images are shuffled where the decoder would make more than 2²⁷ values. The
drop is signed, since a decoder that is merely disturbed by an idle unit's noise gains as often as it loses. A unit that
one of the first two signs marks and the third does not is not counted, and the verdict mentions it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import for_images, spread, start_noise
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.latents import Latents
from vaebench.evaluation.estimators.levels import beneath, count_by_level, level_of_units
from vaebench.evaluation.estimators.likelihood import no_likelihood
from vaebench.evaluation.estimators.moments import Moments, count_error
from vaebench.evaluation.estimators.reconstruction import mean_image
from vaebench.evaluation.estimators.shuffled import Shuffled, grouped, shuffled_units
from vaebench.evaluation.images import Stack

THRESHOLDS = {"kl": 0.01, "kl_share": 0.99, "mean_variance": 0.01, "decoder_drop": 0.05}
IMAGES, FEWEST = 500, 50  # shuffled, evenly spaced over the split; the fewest where they are large
VALUES = 2**27  # of those images together, times the units: what the decoder makes
ERRORS = 3  # standard errors by which a drop must exceed its threshold
ROUNDING = 1e-12  # of a share that is merged from batches
COSTLY = 0.1  # nats; the encoder writes into a collapsed unit with a higher rate

ENCODER_IDLE = (
    "the encoder writes nothing there: suspect the pull of the prior; a warm-up of the rate's weight, free bits or a "
    "smaller β usually mend it, else a weaker decoder"
)
ENCODER_BLIND = (
    "the encoder's mean is the same for all images although its rate is not zero: suspect saturated units; a decoder "
    "whose output bias starts at the data's mean usually mends it, else a smaller learning rate"
)
DECODER_DEAF = (
    "the encoder writes there and the decoder does not read it: suspect the decoder; an output bias that starts at the "
    "data's mean usually mends it, else a smaller learning rate, or a decoder that sees less of the other pixels"
)
UNKNOWN = (
    "the posterior's signs cannot be read, so either side may be at fault; try a warm-up of the rate's weight first"
)


class Drops(NamedTuple):
    """Drop of log p(x|z) when codes are shuffled between images, nats per image.

    Attributes:
        units: mean drop when one unit is shuffled, (units,).
        se: its standard error over the images, (units,).
        whole: mean drop when all units are shuffled.
        whole_se: its standard error.
        images: number of images.
        shuffled: what the units are; None: all units of z.
    """

    units: Tensor
    se: Tensor
    whole: float
    whole_se: float
    images: int
    shuffled: Shuffled | None = None


def collapsed_error(drops: Drops) -> float:
    """Standard error of the number of units that the third sign marks; see `count_error`."""
    return float(count_error((drops.units - ERRORS * drops.se - THRESHOLDS["decoder_drop"]) / drops.se))


def shuffled_images(units: int, values: int) -> int:
    """The most images whose codes are shuffled: fewer where the decoder makes much for each.

    Args:
        units: that are shuffled, one by one.
        values: of an image.
    """
    return min(IMAGES, max(FEWEST, VALUES // (units * values)))


def shuffle_drops(model: LatentModel, x: Stack, seed: int = 0) -> Drops:
    """Measures the third sign on up to IMAGES of the images x (n, *data), n ≥ 2; call it inside `evaluation_mode`."""
    chosen = shuffled_units(for_images(model, slice(0, 1)).posterior(x[:1]), x.shape[1:].numel())
    some = spread(len(x), shuffled_images(len(chosen.units), x.shape[1:].numel())).to(x.device)
    model, x = for_images(model, some), x[some]
    start_noise(b"shuffle", seed % 2**63, x.device)
    q = model.posterior(x)
    z = sample(q, 1)  # (1, b, *latent); equal images must not share their noise here
    order = torch.randperm(len(x), device=x.device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # one cycle through all images: none keeps its own code
    flat, shuffled = z.flatten(2), z[:, other].flatten(2)
    prior = None
    with suppress(Unavailable), absence():
        prior = model.prior()
    levels = level_of_units(prior, flat.shape[-1])

    log_x = _scorer(model, z, x)

    def score(codes: Tensor, level: int) -> Tensor:
        """log p(x|z), and of a hierarchy log p of the levels below the given one: (1, b)."""
        codes = codes.view_as(z)
        return log_x(codes) + beneath(prior, codes)[..., level] if level else log_x(codes)

    intact = [score(flat, level) for level in range(max(levels) + 1)]

    def drop(mixed: Tensor, level: int = 0) -> tuple[float, float]:
        falls = (intact[level] - score(mixed, level)).double().flatten()
        return float(falls.mean()), float(falls.std()) / len(x) ** 0.5

    owners = chosen.owners.to(x.device)
    level_of = dict(zip(chosen.owners.tolist(), levels, strict=True))
    each = torch.tensor(
        [drop(torch.where(owners == j, shuffled, flat), level_of[j]) for j in chosen.units.tolist()],
        dtype=torch.float64,
    )
    return Drops(each[:, 0], each[:, 1], *drop(shuffled), len(x), chosen)


def _scorer(model: LatentModel, z: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """log p(x|z) of codes; without a density that of a Gaussian around the means, whose variance is their error."""
    if no_likelihood(model, x) is None:
        return lambda codes: model.likelihood(codes).log_prob(x)
    error = (mean_image(model, z) - x).double().square().mean()
    return lambda codes: -(mean_image(model, codes) - x).double().square().flatten(2).sum(-1) / (2 * error)


class EncoderSigns(NamedTuple):
    """Moments over the images for the first two signs; None where they are not defined.

    Attributes:
        mean: of E_q[z_j].
        kl: of KL(q(z_j|x) ‖ p(z_j)), nats.
        idle: of the indicator that it is below its threshold.
        why: reasons, by the names of `Latents`.
    """

    mean: Moments | None
    kl: Moments | None
    idle: Moments | None
    why: dict[str, str]


def encoder_signs(latents: Latents, chosen: Shuffled | None = None) -> EncoderSigns:
    """The moments of the posteriors of images; those of several batches can be merged.

    Args:
        latents: of the images.
        chosen: what units are, where they are channels or a sample; default: all units.
    """
    mean, kl = latents.mean, latents.kl
    if chosen is not None and len(chosen.units) < len(chosen.owners):
        mean, kl = (grouped(figures, chosen, name) for name, figures in (("mean", mean), ("kl", kl)))
    idle = None if kl is None else Moments.of((kl < THRESHOLDS["kl"]).double())
    signs = [None if figures is None else Moments.of(figures) for figures in (mean, kl)]
    return EncoderSigns(signs[0], signs[1], idle, latents.why)


def unseen() -> dict[str, Any]:
    """The verdict on a single image."""
    return {"verdict": "unknown", "units": [], "sentence": "one image alone cannot show posterior collapse"}


def collapse(encoder: EncoderSigns, drops: Drops, sizes: tuple[int, ...] | None = None) -> dict[str, Any]:
    """The verdict, JSON-serialisable.

    Args:
        encoder: the first two signs.
        drops: the third.
        sizes: units of every level of a hierarchy.

    Returns:
        verdict: 'none', 'partial' or 'full'; units: indices of the collapsed ones; signs: the units that each sign
        marks, None where it cannot be read, with the reason in `unread`; thresholds; decoder_drop_whole, nats;
        disagreement: units that a sign of the encoder marks and the decoder's does not; sentence: the verdict in words;
        levels, of a hierarchy alone: units and collapsed units of every level, the lowest first.
    """
    count = len(drops.units)
    kl, idle_share, mean = (_of_units(figures, count) for figures in (encoder.kl, encoder.idle, encoder.mean))
    signs = {
        "kl": None if idle_share is None else _marked(idle_share.mean >= THRESHOLDS["kl_share"] - ROUNDING),
        "mean": None if mean is None else _marked(mean.variance < THRESHOLDS["mean_variance"]),
        "decoder": _marked(drops.units - ERRORS * drops.se <= THRESHOLDS["decoder_drop"]),
    }
    unmoved = drops.whole - ERRORS * drops.whole_se <= THRESHOLDS["decoder_drop"]
    whole = drops.shuffled is None or drops.shuffled.total == len(drops.shuffled.units)
    collapsed = list(range(count)) if unmoved else signs["decoder"] or []
    idle = {unit for name in ("kl", "mean") for unit in signs[name] or []}
    doubtful = sorted(idle - set(collapsed))
    reasons = {name: encoder.why.get(name, "its units are not those of the code") for name in ("kl", "mean")}
    sizes = sizes if whole else None
    levels = [] if sizes is None else count_by_level(sizes, collapsed)
    each = [
        {"level": i, "units": n, "collapsed": m} for i, (n, m) in enumerate(zip(sizes or (), levels, strict=True), 1)
    ]
    sentence = _sentence(count, collapsed, doubtful, _suspect(collapsed, idle, kl, mean))
    found = {
        "verdict": "none" if not collapsed else "full" if len(collapsed) == count else "partial",
        "units": collapsed,
        "signs": signs,
        "unread": {name: reason for name, reason in reasons.items() if signs[name] is None},
        "thresholds": dict(THRESHOLDS),
        "images_shuffled": drops.images,
        "decoder_drop_whole": drops.whole,
        "disagreement": doubtful,
        "sentence": sentence + _by_level(each),
        **({"levels": each} if each else {}),
    }
    return found if drops.shuffled is None else _renamed(found, drops.shuffled)


def _renamed(found: dict[str, Any], shuffled: Shuffled) -> dict[str, Any]:
    """A verdict on channels or a sample of units, by their numbers, and with a remark on what they are."""
    if shuffled.of == "channel":
        words = re.sub(r"\bunit(s?)\b", r"channel\1", found["sentence"])
        return {**found, "sentence": words, "shuffled": {"of": "channels", "count": shuffled.total}}
    if len(shuffled.units) == shuffled.total:
        return found
    number = shuffled.units.tolist()
    sample = f"; of {shuffled.total} units a sample of {len(number)}, counted from 0, was shuffled"
    return {
        **found,
        "units": [number[unit] for unit in found["units"]],
        "signs": {name: None if marked is None else [number[unit] for unit in marked]
                  for name, marked in found["signs"].items()},
        "disagreement": [number[unit] for unit in found["disagreement"]],
        "sentence": found["sentence"] + sample,
        "shuffled": {"of": "units", "count": shuffled.total, "sample": number},
    }  # fmt: skip


def _by_level(levels: list[dict[str, int]]) -> str:
    said = [f"{level['collapsed']} of {level['units']} in level {level['level']}" for level in levels]
    return f"; carrying nothing: {', '.join(said)}" if said else ""


def _of_units(figures: Moments | None, count: int) -> Moments | None:
    return figures if figures is not None and len(figures.mean) == count else None


def _marked(units: Tensor) -> list[int]:
    return units.nonzero().flatten().tolist()


def _suspect(collapsed: list[int], idle: set[int], kl: Moments | None, mean: Moments | None) -> str:
    """The likely cause for most of the collapsed units, and the usual remedy."""
    if kl is None and mean is None:
        return UNKNOWN
    if 2 * len(idle & set(collapsed)) < len(collapsed):
        return DECODER_DEAF
    costly = kl is not None and bool(kl.mean[collapsed].mean() > COSTLY)
    return ENCODER_BLIND if costly else ENCODER_IDLE


def _sentence(count: int, collapsed: list[int], doubtful: list[int], suspect: str) -> str:
    remark = f" (the encoder seems not to use {_named(doubtful)}, but shuffling does harm)" if doubtful else ""
    if not collapsed:
        return f"all {count} units carry something from the image to the decoder{remark}"
    if len(collapsed) == count:
        return f"no unit carries anything from the image to the decoder: {suspect}"
    return (
        f"{len(collapsed)} of {count} units carry nothing from the image to the decoder ({_named(collapsed)}), which "
        f"is usual where fewer suffice{remark}; if the bound suffers: {suspect}"
    )


def _named(units: list[int]) -> str:
    return ("unit " if len(units) == 1 else "units ") + ", ".join(map(str, units))
