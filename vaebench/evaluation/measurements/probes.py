"""What a simple classifier makes of the codes, beside what it makes of the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vaebench.evaluation.latents import read_latents
from vaebench.evaluation.metrics import Findings, Kind
from vaebench.evaluation.subject import Subject

Array = NDArray[np.float64]

ITERATIONS = 5000  # of the solver, which stops where the gradient is below 1e-4

KINDS = {
    "linear_probe_accuracy": Kind(
        "", True, "accuracy of logistic regression (L2, C = 1) on standardised codes E_q[z], " + "{learnt}"
    ),
    "knn_accuracy": Kind("", True, "accuracy of the {k} nearest neighbours (L2) of codes E_q[z], " + "{learnt}"),
}


def measure(subject: Subject, found: Findings, train: int = 10_000, k: int = 5) -> None:
    """Accuracies of classifiers that learn from codes of training images, on all test images, and those on pixels.

    The table 'probes' has both, of codes and of pixels (standardised as the codes for the linear probe), with their
    standard errors. Ties between neighbours go to the label that comes first.

    Args:
        subject: the model and its images.
        found: is filled.
        train: training images that the classifiers learn from, evenly spaced over the split.
        k: neighbours.
    """
    labels, learnt_labels = subject.labels("test"), subject.labels("train", train)
    reason = None
    if labels is None or learnt_labels is None:
        reason = "the data has no labels"
    elif len(learnt_labels.unique()) < 2:
        reason = "the training images have a single label"
    elif len(learnt_labels) < k:
        reason = f"{len(learnt_labels)} training images are fewer than {k} neighbours"
    elif subject.latents.mean is None:
        reason = subject.latents.why["mean"]
    if reason is not None or labels is None or learnt_labels is None or subject.latents.mean is None:
        for name in KINDS:
            found.missing(name, reason or "", k=k, learnt=f"learnt from {train} training images")
        return
    images = subject.train(train)
    mean = read_latents(subject.model, images).mean
    assert mean is not None
    sides = {
        "codes": (mean.numpy(), subject.latents.mean.numpy()),
        "pixels": tuple(x.flatten(1).double().cpu().numpy() for x in (images, subject.raw)),
    }
    truth = learnt_labels.cpu().numpy(), labels.cpu().numpy()
    table: dict[str, dict[str, Any]] = {}
    for at, (side, (learnt, judged)) in enumerate(sides.items()):
        for name, classifier in _classifiers(k).items():
            right = torch.from_numpy(classifier.fit(learnt, truth[0]).predict(judged) == truth[1]).double()
            se = float(right.std()) / len(right) ** 0.5 if len(right) > 1 else None
            table.setdefault(name, {})[side] = {"accuracy": float(right.mean()), "se": se}
            if side == "codes":
                found.average(name, right, k=k, learnt=f"learnt from {len(learnt)} training images")
        subject.advance((at + 1) / len(sides))
    found.tables["probes"] = table


def _classifiers(k: int) -> dict[str, ClassifierMixin]:
    return {
        "linear_probe_accuracy": make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        "knn_accuracy": KNeighborsClassifier(k),
    }
