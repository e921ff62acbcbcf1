"""Samples of q(z|x) under noise of each image's own, drawn in blocks of fixed size and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import Draw, Family, LatentModel
from vaebench.evaluation.conditions import (
    each,
    noise_keys,
    start_noise,
)
from vaebench.evaluation.estimators.scoring import Score

BLOCK = 5000  # samples per seeding of an image's noise; part of the definition of a seed


@runtime_checkable
class DrawsWhole(Protocol):
    """A model with a `draw` of its own, which samples and scores in one pass."""

    def draw(self, x: Tensor, k: int = 1) -> Draw:
        """k samples of the posterior of each image of x (b, *data), scored."""


def sample_posterior(model: LatentModel, x: Tensor, k: int = 1, seed: int = 0) -> Tensor:
    """k ≤ BLOCK samples of q(z|x) of each image under its own noise, (k, n, *latent); inside `evaluation_mode`."""
    keys = noise_keys(x, seed)
    posteriors = (one.posterior(image) for one, image in each(model, x, 1))
    samples = [_sample(q, key, 0, k, x.device) for q, key in zip(posteriors, keys, strict=True)]
    return torch.cat(samples, 1)


def sample(q: Distribution, k: int) -> Tensor:
    """k samples of every distribution in a batch, reparameterised where possible: (k, *batch, *event)."""
    return (q.rsample if q.has_rsample else q.sample)(torch.Size((k,)))


def _sample(q: Distribution, key: bytes, block: int, size: int, device: torch.device) -> Tensor:
    start_noise(key, block, device)
    return sample(q, size)


def noise_blocks(k: int, block: int = BLOCK) -> list[int]:
    return [block] * (k // block) + [k % block] * (k % block > 0)


def posterior_draws(
    model: LatentModel, x: Tensor, keys: list[bytes], blocks: list[int], score: Score, rows: int
) -> Iterator[Draw]:
    """The samples of a group of images (b, *data), block by block: encoded once, scored `rows` samples at a time."""
    posteriors, prior = [one.posterior(image) for one, image in each(model, x, 1)], model.prior()
    for block, size in enumerate(blocks):
        samples = [_sample(q, key, block, size, x.device) for q, key in zip(posteriors, keys, strict=True)]
        log_q = torch.cat([q.log_prob(z) for q, z in zip(posteriors, samples, strict=True)], 1)
        z = torch.cat(samples, 1)
        log_p = prior.log_prob(z)
        log_x = torch.cat([score(some, x, model) for some in z.split(rows)])
        yield Draw(z, log_q, log_p, log_x)


def own_draw(model: LatentModel) -> Callable[[Tensor, int], Draw] | None:
    if isinstance(model, Family) and not model.draws_whole:
        return None
    return model.draw if isinstance(model, DrawsWhole) else None


def model_draws(draw: Callable[[Tensor, int], Draw], x: Tensor, keys: list[bytes], blocks: list[int]) -> Iterator[Draw]:
    """As `posterior_draws`, for a model with a `draw` of its own, in its own precision."""
    for block, size in enumerate(blocks):
        parts = []
        for image, key in zip(x, keys, strict=True):
            start_noise(key, block, x.device)
            parts.append(draw(image[None], size))
        yield Draw(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))
