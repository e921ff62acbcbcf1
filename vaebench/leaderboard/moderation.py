r"""Seed noise of a board: the variance over trainings of every variant, moderated by those of all others.

Three seeds determine the variance of one variant poorly, but three seeds of each of twenty variants determine their
distribution well. So the variances of a board are modelled hierarchically:

.. math:: \frac{(S_v - 1)\, s_v^2}{\sigma_v^2 + c_v} \sim \chi^2_{S_v - 1}, \qquad
    \log \sigma_v^2 \sim (1 - \epsilon)\, N(\mu, \omega^2) + \epsilon\, N(\mu, 2.5^2)

s² is the variance of the means of S seeds, and c the contribution of images and chance. ω = 0 pools all variances; a
large ω treats each separately. μ has a flat prior and ω a discrete one. Both are integrated out rather than estimated,
since a few similar variances are weak evidence of a common one. The wide component allows for outliers. ε is 0.05 for
variants with several seeds. For those with one seed, which may be unlike the others, it is 0.75 and the wide component
N(μ, 3.5²): with 2.5, a run ten times as noisy as a group of four was falsely declared different on 17 % of boards.
docs/comparison.md has error rates and power.

Reference:
    Smyth 2004, https://doi.org/10.2202/1544-6115.1027, moderates variances by a prior that the data set; Phipson et al.
    2016, https://doi.org/10.1214/16-AOAS920, make it robust; Lu and Stephens 2016,
    https://doi.org/10.1093/bioinformatics/btw483, use mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from vaebench.leaderboard.noise import chance

OUTLIERS, WIDE = 0.05, 2.5
OUTLIERS_OF_ONE_SEED, WIDE_OF_ONE_SEED = 0.75, 3.5
SPREADS = np.array([0.0, 0.35, 0.7, 1.0, 1.4, 2.0, 2.8])  # ω, of log variances
PRIOR = np.array([2.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0]) / 8.5  # of ω
STANDARD = np.linspace(-4.5, 4.5, 61)  # nodes of (log σ² − μ) / ω
CENTRES = np.linspace(-4.5, 4.5, 37)
CENTRES = CENTRES * (1 + 0.15 * np.abs(CENTRES))  # nodes of μ, in its errors
LEAST_FREEDOM = 8  # degrees of freedom of a board from which variants with one seed use its noise
DRAWS = 4000
DIFFERS, PLAINLY = 1.0, 0.5  # with this probability, ω is at least 1: one variant's sd is often twice another's


class Evidence(NamedTuple):
    """Evidence on the noise over trainings, one entry per variant.

    variance: of the seeds' means over all images; arbitrary with one seed. freedom: seeds − 1. chance: contribution of
    the image–seed interaction to the variance.
    """

    variance: np.ndarray
    freedom: np.ndarray
    chance: np.ndarray

    def __add__(self, other: Evidence) -> Evidence:  # type: ignore[override]
        return Evidence(*map(np.concatenate, zip(self, other, strict=True)))


class Trainings(NamedTuple):
    """Posterior draws of the noise over trainings, one column per variant.

    variances: of one training's mean, (draws, m). known: whether the data determine it, (m,): for variants with several
    seeds, and for all once the seeds have LEAST_FREEDOM degrees of freedom together. two_cannot_decide: no variant has
    more than two seeds and the noise clearly differs between variants, so that error rates would be too high.
    """

    variances: np.ndarray
    known: np.ndarray
    two_cannot_decide: bool = False

    def of(self, *columns: int) -> Trainings:
        """The noise of some variants."""
        return self._replace(variances=self.variances[:, columns], known=self.known[list(columns)])


def evidence(figures: Sequence[np.ndarray]) -> Evidence:
    """The evidence from variants' values, (seeds, n) each."""
    several = [len(one) > 1 for one in figures]
    pairs = list(zip(figures, several, strict=True))
    variances = [one.mean(-1, dtype=np.float64).var(ddof=1) if many else 0.0 for one, many in pairs]
    chances = [float(chance(one)) if many else 0.0 for one, many in pairs]
    return Evidence(np.array(variances), np.array([len(one) - 1.0 for one in figures]), np.array(chances))


def trainings(of: Evidence, others: Evidence | None = None, draws: int = DRAWS, seed: int = 0) -> Trainings:
    """The posterior of the noise over trainings of a board's variants.

    Args:
        of: the variants.
        others: variants of other boards, modelled with the same distribution of noise.
        draws: number of draws. seed: of the draws.
    """
    both = of if others is None else of + others
    several = Evidence(*(part[both.freedom > 0] for part in both))
    known = (of.freedom > 0) | (several.freedom.sum() >= LEAST_FREEDOM)
    if not several.variance.any():
        return Trainings(np.zeros((draws, len(known))), known)
    floor = 1e-6 * several.variance.max()
    several = several._replace(variance=np.maximum(several.variance, floor))
    centres, spreads, prior = _hyperparameters(several)
    scales = np.stack([spreads, np.full_like(spreads, WIDE)], 1)[:, :, None]
    logs = (centres[:, None, None] + scales * STANDARD).reshape(len(centres), -1)  # (h, nodes) of log σ²
    variances, ordinary = np.exp(logs), _nodes(OUTLIERS)
    likelihoods = [_likelihood(s2, f, variances + c) for s2, f, c in zip(*several, strict=True)]
    weights = prior + sum(np.log(one @ ordinary) + top for one, top in likelihoods)
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()
    rng = np.random.default_rng(seed)
    chosen = np.searchsorted(np.cumsum(weights)[:-1], (rng.permutation(draws) + 0.5) / draws)
    rows, within = np.unique(chosen, return_inverse=True)  # few have most of the weight
    drawn, seen = np.empty((draws, len(known))), iter(likelihoods)
    for index, freedom in enumerate(of.freedom):
        if freedom == 0:
            apart = np.where(rng.random(draws) < OUTLIERS_OF_ONE_SEED, WIDE_OF_ONE_SEED, spreads[chosen])
            drawn[:, index] = centres[chosen] + apart * rng.normal(size=draws)
            continue
        density = next(seen)[0][rows] * ordinary
        shares = np.cumsum(density, 1)
        shares = (shares / shares[:, -1:] + np.arange(len(rows))[:, None]).ravel()  # one ascending row of all
        places = np.searchsorted(shares, rng.random(draws) + within) - within * logs.shape[1]
        places = np.minimum(places, logs.shape[1] - 1)
        inside = (rng.random(draws) - 0.5) * (STANDARD[1] - STANDARD[0])
        drawn[:, index] = logs[chosen, places] + inside * scales[chosen, places // len(STANDARD), 0]
    differs = weights[spreads >= DIFFERS].sum() > PLAINLY
    return Trainings(np.exp(drawn), known, bool(differs and several.freedom.max() == 1))


def _hyperparameters(known: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of μ and ω, and their log prior weights, (h,) each; nodes of μ cover its posterior.

    The prior is flat in log(exp(μ) + c), the scale of the observed variance. A prior flat in μ would take seeds that
    vary as little as chance as proof of zero noise.
    """
    unbiased = np.log(known.variance) - digamma(known.freedom / 2) + np.log(known.freedom / 2)
    pooled = np.log(np.average(known.variance, weights=known.freedom)), np.sqrt(2 / known.freedom.sum())
    nodes = []
    for spread in SPREADS:
        precision = 1 / (polygamma(1, known.freedom / 2) + spread**2)
        apart = np.average(unbiased, weights=precision), 1 / np.sqrt(precision.sum())
        centre, error = apart if spread else pooled
        nodes.append(centre + 1.3 * error * CENTRES)
    least = np.average(known.chance, weights=known.freedom)
    seen = [np.log(np.exp(one) + least) for one in nodes]
    weights = [np.log(prior * np.gradient(one) + 1e-300) for prior, one in zip(PRIOR, seen, strict=True)]
    return np.concatenate(nodes), np.repeat(SPREADS, len(CENTRES)), np.concatenate(weights)


def _nodes(outliers: float) -> np.ndarray:
    """The mixture's weights at the nodes of log σ²: of its narrow component, then of its wide one."""
    normal = np.exp(-(STANDARD**2) / 2) / np.exp(-(STANDARD**2) / 2).sum()
    return np.concatenate([(1 - outliers) * normal, outliers * normal])


def _likelihood(s2: float, freedom: float, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood of s² at variances (h, nodes), relative to its maximum in each row, and the log of the maximum."""
    ratio = s2 / variances
    logs = 0.5 * freedom * (np.log(ratio) + 1 - ratio)
    top = logs.max(1)
    return np.exp(logs - top[:, None]), top
