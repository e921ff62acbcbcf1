"""Runs that several measurements read: made once for a subject, a shard at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vaebench.evaluation.conditions import noise_keys
from vaebench.evaluation.estimators import hmc
from vaebench.evaluation.estimators.ais import Chains, Settings, annealed, simulate
from vaebench.evaluation.estimators.fitted import encoded, fit, log_weights
from vaebench.evaluation.estimators.hmc import Start
from vaebench.evaluation.estimators.local import Posteriors
from vaebench.evaluation.estimators.weights import effective_size, largest, pareto_k
from vaebench.evaluation.subject import Subject

SHARD = 25  # images
DIAGONAL = ("origin", "unit", "shift", "log_scale")  # what a diagonal Gaussian consists of

Columns = dict[str, Tensor]

_MADE: WeakKeyDictionary[Subject, dict[str, Columns]] = WeakKeyDictionary()


class Fits(NamedTuple):
    """What a posterior fitted to each of n images gives, float64 (n,).

    Attributes:
        elbo: its ELBO, nats.
        log_likelihood: L_K from samples of it, nats.
        ess: effective sample size of the K samples.
        pareto_k: shape of their weights' tail; see `vaebench.evaluation.estimators.weights.pareto_k`.
    """

    elbo: Tensor
    log_likelihood: Tensor
    ess: Tensor
    pareto_k: Tensor


class Gaussians(NamedTuple):
    """The best diagonal Gaussian of each of n images.

    Attributes:
        fits: what they give.
        encoder: what q(z|x) gives, where it is the Gaussian that they started from.
        posteriors: themselves, on the CPU.
    """

    fits: Fits
    encoder: Fits | None
    posteriors: Posteriors


def require_chains(subject: Subject, start: Start = "prior") -> None:
    """Requires a model in whose latents chains can move; raises `Unavailable` for another."""
    hmc.require_chains(subject.model, subject.raw[:1].to(subject.device, subject.dtype), start)


def require_fit(subject: Subject) -> None:
    """Requires a model to whose images posteriors can be fitted; raises `Unavailable` for another."""
    encoded(subject.model, *_shard(subject, torch.tensor([0])))
    require_chains(subject)


def chains(subject: Subject, images: int, settings: Settings) -> Chains:
    """Chains up of some of the test images."""
    some = subject.some(images)

    def compute(first: int, last: int) -> Columns:
        x = subject.raw[some[first:last]]
        return _named(annealed(subject.model, x, settings, subject.seed, names=some[first:last].tolist()))

    return Chains(**_once(subject, _name("ais", images, *settings), compute, len(some)))


def brackets(subject: Subject, images: int, settings: Settings) -> Chains:
    """Chains up and down of images that the model itself makes up."""

    def compute(first: int, last: int) -> Columns:
        z, x = simulate(subject.model, first, last, subject.seed, subject.device)
        return _named(annealed(subject.model, x, settings, subject.seed, z, list(range(first, last))))

    return Chains(**_once(subject, _name("ais-simulated", images, *settings), compute, images))


def gaussians(subject: Subject, images: int, k: int, steps: int, samples: int) -> Gaussians:
    """The best diagonal Gaussian for each of some of the test images."""
    some = subject.some(images)

    def compute(first: int, last: int) -> Columns:
        x, keys = _shard(subject, some[first:last])
        start, same = encoded(subject.model, x, keys)
        q = fit(subject.model, x, start, keys, steps, samples)
        before = _figures(subject, x, start, keys, k, some[first:last].tolist())
        after = _figures(subject, x, q, keys, k, some[first:last].tolist())
        return {
            **{f"before.{name}": column for name, column in _named(before).items()},
            **{f"after.{name}": column for name, column in _named(after).items()},
            **{f"q.{name}": column for name, column in zip(DIAGONAL, q.diagonal, strict=True)},
            "same": torch.full((len(x),), same),
        }

    made = _once(subject, _name("fitted", images, k, steps, samples), compute, len(some))
    before, after = (Fits(*(made[f"{side}.{name}"] for name in Fits._fields)) for side in ("before", "after"))
    posteriors = Posteriors(**{name: made[f"q.{name}"] for name in DIAGONAL})  # type: ignore[arg-type]
    return Gaussians(after, before if bool(made["same"].all()) else None, posteriors)


def flows(subject: Subject, images: int, k: int, steps: int, samples: int) -> Fits:
    """The best flow around the best Gaussian, of the same images."""
    some = subject.some(images)
    around = gaussians(subject, images, k, steps, samples).posteriors

    def compute(first: int, last: int) -> Columns:
        x, keys = _shard(subject, some[first:last])
        origin, unit, shift, log_scale = (column[first:last].to(x) for column in around.diagonal)
        start = Posteriors(origin, unit, shift, log_scale).as_flow()
        q = fit(subject.model, x, start, keys, steps, samples, lr=0.01)
        return _named(_figures(subject, x, q, keys, k, some[first:last].tolist()))

    return Fits(**_once(subject, _name("fitted-flow", images, k, steps, samples), compute, len(some)))


def _shard(subject: Subject, indices: Tensor) -> tuple[Tensor, list[bytes]]:
    x = subject.raw[indices]
    return x.to(subject.device, subject.dtype), noise_keys(x, subject.seed)


def _figures(subject: Subject, x: Tensor, q: Posteriors, keys: list[bytes], k: int, names: list[int]) -> Fits:
    log_w = log_weights(subject.model, x, q, keys, k, names)
    bound = torch.logsumexp(log_w, 0) - math.log(k)
    return Fits(log_w.mean(0), bound, effective_size(log_w), pareto_k(largest(log_w), len(log_w)))


def _named(columns: Any) -> Columns:
    return dict(columns._asdict())


def _name(what: str, *settings: object) -> str:
    """Settings are part of it: two measurements may ask for different ones."""
    return "-".join([what, *map(str, settings)])


def _once(subject: Subject, name: str, compute: Callable[[int, int], Columns], n: int) -> Columns:
    made = _MADE.setdefault(subject, {})
    if name not in made:
        made[name] = subject.sharded(name, compute, n, SHARD)
    return made[name]
