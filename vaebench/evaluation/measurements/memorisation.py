"""The data-copying test of samples against training images, with a picture of the closest."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vaebench.evaluation.drawing.pictures import COLUMNS, PAIRS, reconstruction_grid
from vaebench.evaluation.estimators.features import mnist28
from vaebench.evaluation.estimators.memorisation import Nearest, copying, nearest_neighbours, partition
from vaebench.evaluation.estimators.samples import prior_codes, sample_images
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

SETS = (
    "{samples} draws x ~ p(x|z), z ~ p(z), {test} test and {train} training images, Euclidean distances between "
    "{space}, {cells} cells of k-means"
)
KINDS = {
    "copying_c_t": MetricKind(
        "standard deviations",
        None,
        "C_T (Meehan et al. 2020): Mann and Whitney's Z of the samples' distances to their nearest training images "
        "against the test images', mean over cells; far below 0 the model copies, far above 0 its samples keep away "
        f"from real images: {SETS}",
    ),
    "copying_p": MetricKind(
        "", None, f"probability of so low a C_T where samples are distributed as test images; uniform there: {SETS}"
    ),
    "nearest_train_ratio": MetricKind(
        "",
        None,
        "median distance of a sample to its nearest training image over that of a test image; below 1 where the model "
        f"copies: {SETS}",
    ),
}
SPACES = {"": "pixels", "_mnist28": "features of mnist28"}
ALARM = -3  # a lower C_T raises a warning; two splits of one data set reach −0.8 (docs/features.md)


def measure(
    subject: Subject, findings: Findings, samples: int = 2000, test: int = 2000, train: int = 60_000, cells: int = 10
) -> None:
    """The data-copying test, between pixels and, for images of 1 × 28 × 28, between features of mnist28.

    The picture shows the samples closest to training images, then the first samples, each above its training image.
    Noise of p(x|z) hides copies in feature space sooner than in pixel space.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        samples: draws from samples of the prior.
        test: most test images.
        train: most training images; fewer reveal fewer copies.
        cells: of k-means, on training images.
    """
    known, real = subject.train(train), subject.x[subject.some(test)]
    fill: dict[str, Any] = {"samples": samples, "test": len(real), "train": len(known), "cells": cells}

    @cache
    def drawn() -> Tensor:
        return sample_images(subject.model, prior_codes(subject.model, samples))

    with findings.attempt(*KINDS, space=SPACES[""], **fill):
        sets = drawn(), real, known
        close = _judge(findings, "", [t.flatten(1) for t in sets], subject.seed, space=SPACES[""], **fill)
        half = COLUMNS * PAIRS // 2
        order = torch.cat([close.distance.argsort(stable=True)[:half], torch.arange(min(half, samples))])
        findings.pictures["nearest_train"] = reconstruction_grid(drawn()[order], known[close.image[order]])
    with findings.attempt(*KINDS, end="_mnist28", space=SPACES["_mnist28"], **fill):
        sets, extractor = (drawn(), real, known), mnist28(subject.spec.shape, subject.device)
        space = f"features of {extractor.label}"
        _judge(findings, "_mnist28", [extractor(t) for t in sets], subject.seed, space=space, **fill)


def _judge(findings: Findings, end: str, sets: list[Tensor], seed: int, **fill: Any) -> Nearest:
    """Adds the metrics of sample, test and training vectors, (n, d) each; returns the samples' nearest neighbours."""
    made, real, known = sets
    close, usual = nearest_neighbours(made, known), nearest_neighbours(real, known)
    with findings.attempt("copying_c_t", "copying_p", end=end, **fill):
        cells, others = partition(known, fill["cells"], seed, made, real)
        found_out = copying(close.distance, usual.distance, cells, others)
        findings.single(f"copying_c_t{end}", found_out.c_t, len(real), None, "copying_c_t", **fill)
        findings.single(f"copying_p{end}", found_out.p, len(real), None, "copying_p", **fill)
        if found_out.c_t < ALARM:
            findings.warnings.append(
                f"samples lie closer to training images than test images do, between {fill['space']} (C_T "
                f"{found_out.c_t:.1f}): the model copies, or its samples vary less than the data; see the picture "
                "nearest_train"
            )
    ratio = close.distance.median() / usual.distance.median()
    findings.single(f"nearest_train_ratio{end}", float(ratio), len(real), None, "nearest_train_ratio", **fill)
    return close
