"""Discrete latents: usage of the codes of a codebook."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import LatentModel
from vaebench.distributions.codes import Categorical, Codes, UnitsAndCodes
from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.latents import BATCH
from vaebench.evaluation.images import Stack, parts


class CodeCounts(NamedTuple):
    """Use of the codes by n images, float64 on the CPU; sums over the images, so that batches add.

    Attributes:
        shares: probabilities of each code under q(z|x), (places, levels, k).
        images: number of images in which a code is the likeliest one anywhere, (levels, k).
    """

    shares: Tensor
    images: Tensor


def count_codes(model: LatentModel, x: Stack) -> CodeCounts:
    """Encodes images x (n, *data), n ≥ 1, on the model's device; call it inside `evaluation_mode`.

    Raises:
        Unavailable: the posterior has no codes.
    """
    counts = [_counted(codes(model.posterior(images))) for images in parts(x, BATCH)]
    return CodeCounts(*(torch.stack(parts).sum(0) for parts in zip(*counts, strict=True)))


def usage(images: Tensor) -> float:
    """Share of the codes that are the likeliest one for some image, in [0, 1], from `CodeCounts.images`."""
    return float((images > 0).double().mean())


def usage_error(images: Tensor) -> float:
    """Standard error of `usage` by the jackknife over images: √(number of codes that a single image uses) / codes.

    Leaving out an image removes the codes that it alone uses. The jackknife's variance is their number where no image
    has two such codes and few have one.
    """
    return float((images == 1).sum()) ** 0.5 / images.numel()


def codes(q: Distribution) -> Codes:
    """The codes of a posterior, which may have other units as well.

    Raises:
        Unavailable: it has no codes.
    """
    part = q.codes if isinstance(q, UnitsAndCodes) else q
    if isinstance(part, Codes):
        return part
    raise Unavailable(f"the posterior, {type(q).__name__}, has no codes")


def _counted(q: Codes) -> CodeCounts:
    each = _shares(q).unflatten(1, (q.places, len(q.book)))  # (b, places, levels, k)
    likeliest = each.argmax(-1, keepdim=True) == torch.arange(q.size)
    return CodeCounts(each.sum(0), likeliest.any(1).double().sum(0))


def _shares(q: Codes) -> Tensor:
    """Probabilities of the codes of b images, float64 on the CPU, (b, m, k)."""
    if isinstance(q, Categorical):
        return q.logits.exp().double().cpu()
    indices = q.indices(q.mean).cpu()
    return (indices[..., None] == torch.arange(q.size)).double()
