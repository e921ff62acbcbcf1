"""Accuracy of simple classifiers on codes, compared with pixels."""

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

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.latents import finite_mean, read_latents
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

ITERATIONS = 5000  # of the solver, which stops when the gradient is below 1e-4

KINDS = {
    "linear_probe_accuracy": MetricKind(
        "", True, "accuracy of logistic regression (L2, C = 1) on standardised codes E_q[z], {learnt}"
    ),
    "majority_accuracy": MetricKind(
        "", None, "accuracy of the commonest training label: what a classifier reaches without the images, {learnt}"
    ),
    "knn_accuracy": MetricKind("", True, "accuracy of the {k} nearest neighbours (L2) of codes E_q[z], {learnt}"),
}


def measure(subject: Subject, findings: Findings, train: int = 10_000, k: int = 5) -> None:
    """Test accuracies of classifiers trained on codes of training images, and on pixels.

    The table 'probes' has both, for codes and pixels (standardised for the linear probe), with standard errors. Ties
    between neighbours go to the first label.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        train: training images of the classifiers, evenly spaced over the split.
        k: neighbours.
    """
    with findings.attempt(*KINDS, k=k, learnt=f"learnt from {train} training images"):
        truth = _labels(subject, train, k)
        judged = finite_mean(subject.latents)
        images = subject.train(train)
        learnt = finite_mean(read_latents(subject.model, images))
        sides = {
            "codes": (learnt.numpy(), judged.numpy()),
            "pixels": tuple(x.flatten(1).double().cpu().numpy() for x in (images, subject.whole())),
        }
        table: dict[str, dict[str, Any]] = {}
        for at, (side, (x, test)) in enumerate(sides.items()):
            for name, classifier in _classifiers(k).items():
                right = torch.from_numpy(classifier.fit(x, truth[0]).predict(test) == truth[1]).double()
                se = float(right.std()) / len(right) ** 0.5 if len(right) > 1 else None
                table.setdefault(name, {})[side] = {"accuracy": float(right.mean()), "se": se}
                if side == "codes":
                    findings.average(name, right, k=k, learnt=f"learnt from {len(x)} training images")
            subject.advance((at + 1) / len(sides))
        findings.tables["probes"] = table
        _add_majority(findings, *truth, k=k, learnt=f"learnt from {len(truth[0])} training images")


def _add_majority(findings: Findings, train: NDArray[np.int64], test: NDArray[np.int64], **fill: Any) -> None:
    """Adds the accuracy of the commonest label, and warns of test labels without training images."""
    values, counts = np.unique(train, return_counts=True)
    findings.average("majority_accuracy", torch.from_numpy(test == values[counts.argmax()]).double(), False, **fill)
    unknown = ~np.isin(test, values)
    if unknown.any():
        findings.warnings.append(
            f"{int(unknown.sum())} of {len(test)} test images have labels that no training image has (the first is "
            f"{int(test[unknown][0])}): linear_probe_accuracy and knn_accuracy count them as wrong"
        )


def _labels(subject: Subject, train: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of training and test images.

    Raises:
        Unavailable: there are no labels to predict, or too few training images.
    """
    learnt, judged = subject.labels("train", train), subject.labels("test")
    if learnt is None or judged is None:
        raise Unavailable("the data has no labels")
    if len(learnt.unique()) < 2:
        raise Unavailable("the training images have a single label")
    if len(learnt) < k:
        raise Unavailable(f"{len(learnt)} training images are fewer than {k} neighbours")
    return learnt.cpu().numpy(), judged.cpu().numpy()


def _classifiers(k: int) -> dict[str, ClassifierMixin]:
    return {
        "linear_probe_accuracy": make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        "knn_accuracy": KNeighborsClassifier(k),
    }
