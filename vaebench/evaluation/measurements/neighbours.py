"""Whether similar images have similar codes: distances between the codes of nearest neighbours among the images."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.latents import finite_mean
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

NORMS = {"l1": 1, "l2": 2}
CODES = "L{p} distance between the codes E_q[z] of an image and of "

KINDS = {
    "neighbour_distance": MetricKind(
        "", None, CODES + "its nearest neighbour (L2 between images) among {n} test images"
    ),
    "random_distance": MetricKind("", None, CODES + "another one drawn at random among {n} test images"),
    "neighbour_ratio": MetricKind(
        "", False, "mean neighbour_distance_l{p} over mean random_distance_l{p}: 1 where codes do not know what is near"
    ),
}


def measure(subject: Subject, findings: Findings, images: int = 10_000) -> None:
    """L1 and L2 distances between codes of neighbours and of random pairs, and their scale-free ratio.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: test images, each compared with all others.
    """
    some = subject.some(images)
    n = len(some)

    @cache
    def pairs() -> tuple[Tensor, Tensor, Tensor]:
        """Codes, and for each image the index of its nearest neighbour and of a random other image."""
        codes = finite_mean(subject.latents)[some]
        if n < 2:
            raise Unavailable("one image has no neighbour")
        nearest, order = neighbours(subject.raw[some]), torch.randperm(n)
        other = torch.empty_like(order)
        other[order] = order.roll(1)  # one cycle through all images, without fixed points
        return codes, nearest, other

    for norm, p in NORMS.items():
        with findings.attempt(*KINDS, end=f"_{norm}", p=p, n=n):
            codes, *others = pairs()
            near, far = ((codes - codes[pair]).norm(p=p, dim=1) for pair in others)
            for name, values in (("neighbour_distance", near), ("random_distance", far)):
                se = float(values.std()) / n**0.5
                findings.single(f"{name}_{norm}", float(values.mean()), n, se, kind=name, p=p, n=n)
            if far.mean() == 0:
                raise Unavailable("all codes are the same")
            ratio = float(near.mean() / far.mean())
            se = float((near - ratio * far).std()) / n**0.5 / float(far.mean())  # by the delta method
            findings.single(f"neighbour_ratio_{norm}", ratio, n, se, kind="neighbour_ratio", p=p)


def neighbours(x: Tensor) -> Tensor:
    """The index of each image's nearest other image by Euclidean distance: (n, *data) -> (n,)."""
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x.flatten(1).double().numpy())
    return torch.from_numpy(search.kneighbors(return_distance=False)[:, 0])
