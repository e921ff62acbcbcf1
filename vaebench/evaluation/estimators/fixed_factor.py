"""The FactorVAE and β-VAE scores, which compare the codes of images that share the value of one factor.

Images are drawn from the data set: one at random, and others that share its value of the factor. disentanglement_lib
generates new images with uniform other factors; here these have the data set's frequencies. Values that only one image
has are never drawn. Codes are (n, units), factors (n, factors); see `disentanglement`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from vaebench.evaluation.estimators.disentanglement import Array, Factors, LatentCodes, standardised

Index = NDArray[np.int64]

SIZE = 64  # images or pairs per draw, as in later work on both scores
ACTIVE = 0.05  # least standard deviation of a unit in the vote, as in disentanglement_lib
CHUNK = 250  # draws at a time


class Draws(NamedTuple):
    """`count` draws of images that share the value of a factor.

    Attributes:
        factor: index of the shared factor, (count,).
        first: indices of images, (count, SIZE).
        second: for each of them another image with the same value of that factor, (count, SIZE).
    """

    factor: Index
    first: Index
    second: Index


def draw_factors(factors: Factors, count: int, draw: np.random.Generator, one_value: bool) -> Draws:
    """Draws factors at random, and images for each.

    Args:
        factors: of the images; at least one value of each is that of two images or more.
        count: number of draws.
        draw: source of randomness.
        one_value: all images of a draw share one value; otherwise each pair shares its own value.
    """
    tables = [_table(values) for values in factors.T]
    chosen = draw.integers(len(tables), size=count)
    first, second = np.empty((2, count, SIZE), np.int64)
    for k, (order, start, size, place) in enumerate(tables):
        rows = np.flatnonzero(chosen == k)
        eligible = np.flatnonzero(size > 1)
        image = draw.choice(eligible, (len(rows), 1 if one_value else SIZE))
        if one_value:
            image = order[start[image] + draw.integers(size[image], size=(len(rows), SIZE))]
        step = draw.integers(1, size[image])
        first[rows], second[rows] = image, order[start[image] + (place[image] + step) % size[image]]
    return Draws(chosen, first, second)


def _table(values: Index) -> tuple[Index, Index, Index, Index]:
    """Images sorted by value, and for each image the start and size of its value's run in that list, and its rank."""
    order = np.argsort(values, kind="stable")
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    start = (np.cumsum(counts) - counts)[index]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return order, start, counts[index], rank - start


def factor_vae_votes(codes: LatentCodes, drawn: Draws, factors: int) -> Array:
    """Counts of draws in which each unit varied least while each factor was fixed, (factors, units).

    Variances are relative to those over all images. Units whose standard deviation over all images is below ACTIVE are
    excluded.

    Args:
        codes: of all images, at least one unit of which is active.
        drawn: with `one_value`.
        factors: their number.
    """
    variance = codes.var(0, ddof=1)
    active = np.sqrt(variance) >= ACTIVE
    scale = np.where(active, variance, 1.0)
    votes = np.zeros((factors, codes.shape[1]))
    for at in range(0, len(drawn.factor), CHUNK):
        within = codes[drawn.first[at : at + CHUNK]].var(1, ddof=1) / scale
        np.add.at(votes, (drawn.factor[at : at + CHUNK], np.where(active, within, np.inf).argmin(1)), 1)
    return votes


def factor_vae_score(learnt: Array, judged: Array) -> float:
    """Accuracy of predicting the fixed factor from the unit that varies least, by majority vote, in [0, 1].

    Kim & Mnih 2018, https://arxiv.org/abs/1802.05983. 1/K or more at chance.

    Args:
        learnt: training votes, (factors, units).
        judged: test votes.
    """
    return float(judged[learnt.argmax(0), np.arange(judged.shape[1])].sum() / judged.sum())


def beta_vae_features(codes: LatentCodes, drawn: Draws) -> Array:
    """The mean of |z − z'| over the pairs of each draw, (count, units)."""
    chunks = range(0, len(drawn.factor), CHUNK)
    return np.concatenate([
        np.abs(codes[drawn.first[at : at + CHUNK]] - codes[drawn.second[at : at + CHUNK]]).mean(1) for at in chunks
    ])  # fmt: skip


def beta_vae_score(learnt: Array, learnt_factor: Index, judged: Array, judged_factor: Index) -> float:
    """Accuracy of a linear classifier that predicts the shared factor from mean differences, in [0, 1].

    Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl: logistic regression, as in disentanglement_lib, on
    standardised differences, so that the scale of a unit does not matter. 1/K at chance.

    Args:
        learnt, judged: from `beta_vae_features`, (count, units).
        learnt_factor, judged_factor: which factor was shared, (count,).
    """
    learnt, judged = standardised(learnt, judged)
    return float(LogisticRegression(max_iter=2000).fit(learnt, learnt_factor).score(judged, judged_factor))
