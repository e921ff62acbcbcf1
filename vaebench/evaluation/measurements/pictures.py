"""Pictures of the latents: interpolations, traversals, rates of units, rate and distortion, codes in a plane."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.errors import Unavailable, absence
from vaebench.evaluation.drawing.charts import aggregate_plane, rate_distortion_plane, unit_bars
from vaebench.evaluation.drawing.pictures import interpolation_grid, traversal_grid
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.likelihood import sampled_distortion
from vaebench.evaluation.estimators.reconstruction import code
from vaebench.evaluation.metrics import Findings, MetricKind, Picture
from vaebench.evaluation.subject import Subject

KINDS: dict[str, MetricKind] = {}
PAIRS, UNITS = 8, 10  # rows of interpolations and of traversals
SAMPLES = 16  # of the distortion


def measure(
    subject: Subject,
    findings: Findings,
    images: int = 1000,
    interpolations: bool = True,
    traversals: bool = True,
    unit_kl: bool = True,
    rate_distortion: bool = True,
    aggregate_posterior: bool = True,
) -> None:
    """Adds pictures; the table `pictures_left_out` has the reason for each missing one.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: number of test images, evenly spaced, for codes, rate and distortion.
        interpolations: between the codes of pairs of images.
        traversals: of the most informative units, one at a time.
        unit_kl: the rate of each unit.
        rate_distortion: the model's point in the plane of the two.
        aggregate_posterior: the codes in two dimensions.
    """
    some = subject.some(images).to(subject.device)
    pictures: dict[str, tuple[bool, Callable[[], Picture]]] = {
        "interpolations": (interpolations, lambda: _interpolations(subject)),
        "traversals": (traversals, lambda: _traversals(subject, some)),
        "unit_kl": (unit_kl, lambda: _unit_kl(subject)),
        "rate_distortion": (rate_distortion, lambda: _rate_distortion(subject, some)),
        "aggregate_posterior": (aggregate_posterior, lambda: _aggregate_posterior(subject, some)),
    }
    left_out: dict[str, str] = {}
    for drawn, (name, (wanted, draw)) in enumerate(pictures.items(), 1):
        if wanted:
            try:
                with absence("the model cannot give it"):
                    findings.pictures[name] = draw()
            except Unavailable as error:
                left_out[name] = str(error)
        subject.advance(drawn / len(pictures))
    findings.tables["pictures_left_out"] = left_out


def _interpolations(subject: Subject) -> Picture:
    ends = subject.some(2 * PAIRS).to(subject.device)
    half = len(ends) // 2
    if half == 0:
        raise Unavailable("one image makes no pair")
    return interpolation_grid(subject.model, subject.x[ends[:half]], subject.x[ends[half : 2 * half]], subject.seed)


def _traversals(subject: Subject, some: Tensor) -> Picture:
    if len(some) < 2:
        raise Unavailable("one image has no variance")
    z = sample_posterior(subject.model, subject.x[some], 1, subject.seed)[0].flatten(1)
    kl = _kl(subject, z.shape[1])
    order = list(range(z.shape[1])) if kl is None else kl.argsort(descending=True, stable=True).tolist()
    names = [f"unit {j}" if kl is None else f"unit {j}: {float(kl[j]):.2f} nats" for j in order]
    start, _ = code(subject.model, subject.x[some[:1]], subject.seed)
    title = "each unit across the codes of the images, the rest as test image 0 has it"
    moments = z.float().mean(0), z.float().std(0)
    return traversal_grid(subject.model, start[0], *moments, order[:UNITS], names[:UNITS], title)


def _unit_kl(subject: Subject) -> Picture:
    if subject.latents.kl is None:
        raise Unavailable(subject.latents.why["kl"])
    return unit_bars(subject.latents.kl.mean(0))


def _rate_distortion(subject: Subject, some: Tensor) -> Picture:
    if subject.latents.rate is None:
        raise Unavailable(subject.latents.why["rate"])
    rate = subject.latents.rate[some.cpu()].mean()
    distortion = sampled_distortion(subject.model, subject.x[some], SAMPLES, subject.seed).mean()
    return rate_distortion_plane(float(rate), float(distortion))


def _aggregate_posterior(subject: Subject, some: Tensor) -> Picture:
    if len(some) < 2:
        raise Unavailable("one image has no variance")
    z = sample_posterior(subject.model, subject.x[some], 1, subject.seed)[0].flatten(1)
    prior = subject.model.prior().sample(torch.Size((len(some),))).flatten(1)
    labels = subject.labels("test")
    return aggregate_plane(z, prior, _kl(subject, z.shape[1]), None if labels is None else labels[some.cpu()])


def _kl(subject: Subject, units: int) -> Tensor | None:
    """Rate of each unit, nats, (units,); None where units are not those of the code."""
    kl = subject.latents.kl
    return kl.mean(0) if kl is not None and kl.shape[1] == units else None
