"""Runs shared by several measurements: made once per subject, shard by shard."""

from __future__ import annotations

import math
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vaebench.evaluation.conditions import noise_keys
from vaebench.evaluation.estimators import hmc
from vaebench.evaluation.estimators.ais import AnnealingSettings, Chains, annealed, simulate
from vaebench.evaluation.estimators.fitted import encoded, fit, log_weights
from vaebench.evaluation.estimators.hmc import ChainStart
from vaebench.evaluation.estimators.local import Posteriors
from vaebench.evaluation.estimators.weights import effective_size, largest, pareto_k
from vaebench.evaluation.subject import Shards, Subject

SHARD = 25  # images
DIAGONAL = ("origin", "unit", "shift", "log_scale")  # parameters of a diagonal Gaussian

_MADE: WeakKeyDictionary[Subject, dict[str, Shards]] = WeakKeyDictionary()


class Fits(NamedTuple):
    """Estimates from a posterior fitted to each of n images, float64 (n,).

    Attributes:
        elbo: its ELBO, nats.
        log_likelihood: L_K from its samples, nats.
        ess: effective sample size of the K samples.
        pareto_k: shape of their weights' tail; see `vaebench.evaluation.estimators.weights.pareto_k`.
    """

    elbo: Tensor
    log_likelihood: Tensor
    ess: Tensor
    pareto_k: Tensor


class FittedGaussians(NamedTuple):
    """The best diagonal Gaussian of each of n images.

    Attributes:
        fits: their estimates.
        encoder: the estimates from q(z|x), where it is the Gaussian they started from.
        posteriors: the Gaussians, on the CPU.
    """

    fits: Fits
    encoder: Fits | None
    posteriors: Posteriors


def require_chain_latents(subject: Subject, start: ChainStart = "prior") -> None:
    """Raises `Unavailable` for a model in whose latents chains cannot move."""
    hmc.require_chains(subject.model, subject.raw[:1].to(subject.device, subject.dtype), start)


def require_fit(subject: Subject) -> None:
    """Raises `Unavailable` for a model whose posteriors cannot be fitted."""
    encoded(subject.model, *_images(subject, torch.tensor([0])))
    require_chain_latents(subject)


def chains(subject: Subject, images: int, settings: AnnealingSettings) -> Chains:
    """Upward chains for some test images."""
    some = subject.some(images)
    shards = _shards(subject, len(some), "ais", images, *settings)
    for shard in shards:
        names = some[shard]
        up = annealed(subject.model, subject.raw[names], settings, subject.seed, names=names.tolist())
        shards.add(shard, up._asdict())
    return Chains(**shards.figures())


def brackets(subject: Subject, images: int, settings: AnnealingSettings) -> Chains:
    """Upward and downward chains for images sampled from the model."""
    shards = _shards(subject, images, "ais-simulated", images, *settings)
    for shard in shards:
        names = range(shard.start, shard.stop)
        z, x = simulate(subject.model, shard.start, shard.stop, subject.seed, subject.device)
        shards.add(shard, annealed(subject.model, x, settings, subject.seed, z, names)._asdict())
    return Chains(**shards.figures())


def gaussians(subject: Subject, images: int, k: int, steps: int, samples: int) -> FittedGaussians:
    """The best diagonal Gaussian for each of some test images."""
    some = subject.some(images)
    shards = _shards(subject, len(some), "fitted", images, k, steps, samples)
    for shard in shards:
        x, keys = _images(subject, some[shard])
        start, same = encoded(subject.model, x, keys)
        q = fit(subject.model, x, start, keys, steps, samples)
        sides = {"before": start, "after": q}
        fits = {side: _fits(subject, x, q, keys, k, some[shard]) for side, q in sides.items()}
        columns = {f"{side}.{name}": column for side, of in fits.items() for name, column in of._asdict().items()}
        columns |= {f"q.{name}": column for name, column in zip(DIAGONAL, q.diagonal, strict=True)}
        shards.add(shard, columns | {"same": torch.full((len(x),), same)})
    made = shards.figures()
    before, after = (Fits(*(made[f"{side}.{name}"] for name in Fits._fields)) for side in ("before", "after"))
    posteriors = Posteriors(**{name: made[f"q.{name}"] for name in DIAGONAL})  # type: ignore[arg-type]
    return FittedGaussians(after, before if bool(made["same"].all()) else None, posteriors)


def flows(subject: Subject, images: int, k: int, steps: int, samples: int) -> Fits:
    """The best flow around the best Gaussian, for the same images."""
    some = subject.some(images)
    around = gaussians(subject, images, k, steps, samples).posteriors
    shards = _shards(subject, len(some), "fitted-flow", images, k, steps, samples)
    for shard in shards:
        x, keys = _images(subject, some[shard])
        origin, unit, shift, log_scale = (column[shard].to(x) for column in around.diagonal)
        q = fit(subject.model, x, Posteriors(origin, unit, shift, log_scale).as_flow(), keys, steps, samples, lr=0.01)
        shards.add(shard, _fits(subject, x, q, keys, k, some[shard])._asdict())
    return Fits(**shards.figures())


def _images(subject: Subject, indices: Tensor) -> tuple[Tensor, list[bytes]]:
    x = subject.raw[indices]
    return x.to(subject.device, subject.dtype), noise_keys(x, subject.seed)


def _fits(subject: Subject, x: Tensor, q: Posteriors, keys: list[bytes], k: int, indices: Tensor) -> Fits:
    log_w = log_weights(subject.model, x, q, keys, k, indices.tolist())
    bound = torch.logsumexp(log_w, 0) - math.log(k)
    return Fits(log_w.mean(0), bound, effective_size(log_w), pareto_k(largest(log_w), len(log_w)))


def _shards(subject: Subject, n: int, *name: object) -> Shards:
    """The shards of a run; its settings are part of the name, so that measurements share it."""
    text = "-".join(map(str, name))
    made = _MADE.setdefault(subject, {})
    if text not in made:
        made[text] = subject.shards(text, n, SHARD)
    return made[text]
