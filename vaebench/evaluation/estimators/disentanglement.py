"""Disentanglement scores for data with known factors: each compares every latent unit with every factor.

Codes are posterior means, (n, units) float64; factors are whole numbers, (n, factors). Definitions and defaults follow
disentanglement_lib (Locatello et al. 2019, https://arxiv.org/abs/1811.12359) unless a function states otherwise. Mutual
informations are plug-in estimates from tables of counts, too high by about (bins − 1)(values − 1) / 2n nats where code
and factor are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from vaebench.errors import Unavailable

Array = NDArray[np.float64]
LatentCodes = Array
Factors = NDArray[np.int64]

BINS = 20
QUANTILE = 0.99

# What is scored -------------------------------------------------------------------------------------------------------


class Coded(NamedTuple):
    """Codes of images, (n, units), and their factors, (n, factors)."""

    codes: LatentCodes
    factors: Factors

    def at(self, some: NDArray[np.int64]) -> Coded:
        """Of the images with the given indices."""
        return Coded(self.codes[some], self.factors[some])


def require_units(codes: LatentCodes) -> None:
    """Raises `Unavailable` for codes of a single unit."""
    if codes.shape[1] < 2:
        raise Unavailable("the code has a single unit, where 2 are needed")


def varying(sets: Sequence[Factors], shared: int, least: int) -> list[int]:
    """The factors that vary in every set of images.

    Args:
        sets: factors, (n, factors) each.
        shared: of the first so many sets, in which a value is to be that of two images and more, on average.
        least: factors that are needed.

    Raises:
        Unavailable: there are fewer, or a factor's values are shared by too few images.
    """
    found = []
    for k in range(sets[0].shape[1]):
        counts = [len(np.unique(part[:, k])) for part in sets]
        if any(2 * count > len(part) for count, part in zip(counts[:shared], sets, strict=False)):
            raise Unavailable(
                f"factor {k} takes more than one value for every two images, and the scores need images that share one"
            )
        if min(counts) > 1:
            found.append(k)
    if len(found) < least:
        raise Unavailable(
            f"{len(found)} of the factors vary among the images, where {least} {'is' if least == 1 else 'are'} needed"
        )
    return found


# Mutual information ---------------------------------------------------------------------------------------------------


def discretised(codes: LatentCodes, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each code, 0 to bins − 1, with bins of equal width over each unit's range: (n, units)."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((codes - low) / width * bins, bins - 1).astype(np.int64)


def mutual_information(codes: LatentCodes, factors: Factors, bins: int = BINS) -> Array:
    """I(discretised z_j; v_k) of the table of counts, nats, (units, factors)."""
    units, binned = codes.shape[1], discretised(codes, bins)
    information = np.empty((units, factors.shape[1]))
    for k, values in enumerate(factors.T):
        names, index = np.unique(values, return_inverse=True)
        cells = (np.arange(units) * bins + binned) * len(names) + index[:, None]
        counts = np.bincount(cells.ravel(), minlength=units * bins * len(names)).reshape(units, bins, len(names))
        joint = counts / len(codes)
        information[:, k] = entropy(joint.sum(2), axis=1) + entropy(joint.sum(1), axis=1) - entropy(joint, axis=(1, 2))
    return np.maximum(information, 0.0)


def entropies(factors: Factors) -> Array:
    """H(v_k) of the factors' frequencies, nats, (factors,)."""
    return np.array([entropy(np.unique(values, return_counts=True)[1]) for values in factors.T])


def mig(information: Array, entropies: Array) -> float:
    r"""Mutual information gap, in [0, 1]: the normalised gap between the best two units, averaged over factors.

    .. math:: \frac1K \sum_k \frac{1}{H(v_k)} \big(I(z_{j^{(k)}}; v_k) - \max_{j \ne j^{(k)}} I(z_j; v_k)\big)

    Chen et al. 2018, https://arxiv.org/abs/1802.04942, with discretised means as in disentanglement_lib, where the
    paper takes samples and the density of q. Factors that do not vary are left out.

    Args:
        information: I(z_j; v_k), nats, (units, factors), at least 2 units.
        entropies: H(v_k), nats, (factors,), at least one of them positive.
    """
    ordered = np.sort(information, axis=0)
    varying = entropies > 0
    return float(((ordered[-1] - ordered[-2])[varying] / entropies[varying]).mean())


def mig_of(codes: LatentCodes, factors: Factors) -> float:
    """`mig` of codes in equal bins."""
    return mig(mutual_information(codes, factors), entropies(factors))


def modularity(information: Array) -> float:
    r"""Modularity, in [0, 1]: high where each unit is informative about one factor alone; mean over units.

    .. math:: 1 - \frac{\sum_{k \ne k^*} I(z_j; v_k)^2}{I(z_j; v_{k^*})^2 (K - 1)}, \quad k^* = \arg\max_k I(z_j; v_k)

    Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312; an uninformative unit counts 0, as in disentanglement_lib.

    Args:
        information: I(z_j; v_k), nats, (units, factors), at least 2 factors.
    """
    squared = information**2
    best = squared.max(1)
    rest = (squared.sum(1) - best) / np.where(best > 0, best, 1.0) / (squared.shape[1] - 1)
    return float(np.where(best > 0, 1 - rest, 0.0).mean())


def local_mig(
    codes: LatentCodes,
    factors: Factors,
    draw: np.random.Generator,
    neighbourhoods: int,
    locality: float,
    ordered: int,
    fewest: int,
) -> list[float]:
    """MIG among images with similar factors: Rhodes & Lee 2021, https://arxiv.org/abs/2106.02923.

    A neighbourhood is all images whose factors of at least `ordered` values lie within ⌊locality × values⌋ steps of
    those of a centre, and whose other factors are the centre's; the score is over the former. Their code generates new
    images around a centre; here the centre and its neighbours are images of the data set.

    Args:
        codes, factors: of the images.
        draw: of the centres.
        neighbourhoods: how many.
        locality: radius as a share of a factor's number of values.
        ordered: least number of values of a factor that has near and far ones.
        fewest: images; smaller neighbourhoods are skipped.

    Returns:
        The MIG of each neighbourhood; fewer than `neighbourhoods`, or none, where they are too small.
    """
    index = np.stack([np.unique(values, return_inverse=True)[1] for values in factors.T], 1)
    values = index.max(0) + 1
    radius = np.where(values >= ordered, np.floor(values * locality), 0)
    gaps: list[float] = []
    for centre in draw.permutation(len(codes)):
        near = (np.abs(index - index[centre]) <= radius).all(1)
        spread = entropies(index[near])
        if near.sum() >= fewest and spread.any():
            gaps.append(mig_of(codes[near], index[near]))
        if len(gaps) == neighbourhoods:
            break
    return gaps


# Robustness -----------------------------------------------------------------------------------------------------------


def irs(codes: LatentCodes, factors: Factors, quantile: float = QUANTILE) -> float:
    """Interventional robustness, in [0, 1]: stability of units while their best factor is fixed and others change.

    Of each unit and factor, 1 − (mean over the factor's values of the `quantile` of |z_j − its mean there|) / (largest
    |z_j − its mean|); the best factor of each unit, averaged over units by that largest deviation. Units that are
    constant are left out. Suter et al. 2019, https://arxiv.org/abs/1811.00007, whose quantile is 1; 0.99 is that of
    disentanglement_lib. Random codes do not score 0 but about 1 − quantile's share of the largest deviation.
    """
    largest = np.abs(codes - codes.mean(0)).max(0)
    codes, largest = codes[:, largest > 0], largest[largest > 0]
    if not len(largest):
        return 0.0
    moved = np.empty((codes.shape[1], factors.shape[1]))
    for k, values in enumerate(factors.T):
        groups = [codes[values == value] for value in np.unique(values)]
        moved[:, k] = np.mean([np.quantile(np.abs(g - g.mean(0)), quantile, axis=0) for g in groups], axis=0)
    return float(np.average((1 - moved / largest[:, None]).max(1), weights=largest))


# Prediction -----------------------------------------------------------------------------------------------------------


def importances(
    train: LatentCodes, train_factors: Factors, test: LatentCodes, test_factors: Factors, model: str, seed: int
) -> tuple[Array, Array]:
    """Importance of each unit for a classifier of each factor, (units, factors), and its hits on test images.

    Args:
        train, train_factors: training images.
        test, test_factors: test images.
        model: 'forest', 100 trees that may split by any unit (Eastwood & Williams 2018 use random forests); or
            'boosting', scikit-learn's gradient boosting as in disentanglement_lib, several times slower.
        seed: of the trees.

    Returns:
        Importances, which sum to 1 for each factor, and whether each prediction is right, (test images, factors).
    """
    relied, right = [], []
    for k in range(train_factors.shape[1]):
        classifier = (
            GradientBoostingClassifier(random_state=seed)
            if model == "boosting"
            else RandomForestClassifier(max_features=None, random_state=seed, n_jobs=torch.get_num_threads())
        )
        classifier.fit(train, train_factors[:, k])
        relied.append(np.abs(classifier.feature_importances_))
        right.append(classifier.predict(test) == test_factors[:, k])
    return np.stack(relied, 1), np.stack(right, 1).astype(np.float64)


def dci_disentanglement(importances: Array) -> float:
    """1 − entropy, to base K, of the factors that each unit predicts, weighted by the unit's importance.

    In [0, 1]. Eastwood & Williams 2018, section 2, https://openreview.net/forum?id=By-7dz-AZ.

    Args:
        importances: ≥ 0, (units, factors), at least 2 factors.
    """
    total = importances.sum(1)
    used = total > 0
    if not used.any():
        return 0.0
    each = 1 - entropy(importances[used], base=importances.shape[1], axis=1)
    return float(np.average(each, weights=total[used]))


def dci_completeness(importances: Array) -> float:
    """1 − entropy of the units that predict each factor: the same along the other axis."""
    return dci_disentanglement(importances.T)


def standardised(train: LatentCodes, *others: LatentCodes) -> list[LatentCodes]:
    """Codes standardised by the mean and standard deviation of the first set; deviations of 0 count as 1."""
    mean, scale = train.mean(0), train.std(0)
    return [(codes - mean) / np.where(scale > 0, scale, 1.0) for codes in (train, *others)]


def separability(train: LatentCodes, train_factors: Factors, test: LatentCodes, test_factors: Factors) -> Array:
    """Whether a linear classifier predicts each factor from each single unit, 1 or 0: (test, units, factors).

    LinearSVC with C = 0.01 and balanced classes, as disentanglement_lib; codes are standardised, so that their scale
    does not matter.
    """
    train, test = standardised(train, test)
    right = np.empty((len(test), train.shape[1], train_factors.shape[1]))
    for j, k in np.ndindex(*right.shape[1:]):
        classifier = LinearSVC(C=0.01, class_weight="balanced", dual=False)
        classifier.fit(train[:, [j]], train_factors[:, k])
        right[:, j, k] = classifier.predict(test[:, [j]]) == test_factors[:, k]
    return right


def determination(codes: LatentCodes, factors: Factors) -> Array:
    """R² of each factor, taken as a number, on each single unit, (units, factors); 0 for a unit that is constant."""
    (z, v) = (standardised(part.astype(np.float64))[0] for part in (codes, factors))
    return (z.T @ v / len(z)) ** 2


def sap(scores: Array) -> float:
    """Separated attribute predictability: the gap between the best two units' scores, averaged over factors.

    Kumar et al. 2018, https://arxiv.org/abs/1711.00848.

    Args:
        scores: accuracies or R², (units, factors), at least 2 units.
    """
    ordered = np.sort(scores, axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def sap_of(few: Coded, test: Coded) -> tuple[float, float]:
    """SAP by the accuracy of classifiers that learn from few images, and its standard error by the jackknife."""
    right = separability(*few, *test)
    return sap(right.mean(0)), grouped_jackknife(lambda some: sap(right[some].mean(0)), len(test.codes))


def chances(train: LatentCodes, train_factors: Factors, test: LatentCodes) -> list[Array]:
    """Probabilities of each factor's values by logistic regression on standardised codes, one (test, values) each."""
    train, test = standardised(train, test)
    fitted = [LogisticRegression(max_iter=2000).fit(train, values) for values in train_factors.T]
    return [classifier.predict_proba(test) for classifier in fitted]


def explicitness(chances: list[Array], train_factors: Factors, test_factors: Factors) -> float:
    """Mean area under the ROC of `chances` for the values of the factors of test images.

    0.5 at chance, 1 at best; one value against the others, mean over the values that some test images have and some do
    not, then over factors. Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312.
    """
    areas = []
    for k, columns in enumerate(chances):
        each = zip(np.unique(train_factors[:, k]), columns.T, strict=True)
        hits = ((test_factors[:, k] == value, column) for value, column in each)
        areas.append(np.mean([roc_auc_score(hit, column) for hit, column in hits if 0 < hit.sum() < len(hit)]))
    return float(np.mean(areas))


# Errors ---------------------------------------------------------------------------------------------------------------


def grouped_jackknife(statistic: Callable[[NDArray[np.int64]], float], n: int, groups: int = 20) -> float:
    """Grouped jackknife standard error of a statistic of n images.

    Efron & Stein 1981, https://doi.org/10.1214/aos/1176345462, with groups deleted for single images.

    Args:
        statistic: of the images with the given indices.
        n: number of images, at least 2.
        groups: how many.
    """
    groups = min(groups, n)
    parts = np.array_split(np.random.RandomState(0).permutation(n), groups)
    values = np.array([statistic(np.concatenate(parts[:g] + parts[g + 1 :])) for g in range(groups)])
    return float(np.sqrt((groups - 1) / groups * ((values - values.mean()) ** 2).sum()))
