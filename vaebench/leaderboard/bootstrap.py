"""The hierarchical bootstrap: intervals of statistics without a formula, such as the median difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vaebench.leaderboard.noise import Noise, Seeds, of_difference

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
CELLS = 2_000_000  # values in memory at a time


def bootstrap(
    statistic: Statistic, first: np.ndarray, second: np.ndarray, draws: int = 400, seed: int = 0
) -> tuple[float, Noise]:
    """A statistic of two variants on the same images, and its noise.

    Images are resampled in pairs, and the seeds of each variant separately: S − 1 of S with replacement, for which the
    variance over draws is unbiased for a mean over S seeds; S of S would be a third too small at S = 3. Each level is
    resampled alone and gives a variance. The interval is Student's, as for a mean, since percentile intervals over
    three seeds undercover (docs/comparison.md). The image–seed interaction counts at both levels, which makes the noise
    slightly conservative.

    Args:
        statistic: of figures (draws, seeds, n) and (draws, seeds', n) to (draws,); one of both may have a single draw.
        first, second: figures (seeds, n) and (seeds', n), n ≥ 2.
        draws: at each level.
        seed: the same seed gives the same interval.

    Reference:
        Rao and Wu 1988, https://doi.org/10.1080/01621459.1988.10478591, for S − 1 of S.
    """
    rng, n = np.random.default_rng(seed), first.shape[1]
    size = max(1, CELLS // (n * (len(first) + len(second))))

    def variance(indices: np.ndarray, put: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        parts = [put(indices[start : start + size]) for start in range(0, draws, size)]
        return np.asarray(np.concatenate(parts).var(ddof=1))

    def over_seeds(figures: np.ndarray, put: Callable[[np.ndarray], np.ndarray]) -> Seeds:
        number = len(figures)
        if number == 1:
            return Seeds(*map(np.asarray, (np.nan, np.nan, 1.0)))
        variances = variance(rng.integers(0, number, (draws, number - 1)), lambda chosen: put(figures[chosen]))
        return Seeds(variances, variances, np.asarray(float(number)))

    images = variance(
        rng.integers(0, n, (draws, n)),
        lambda chosen: statistic(*(np.moveaxis(figures[:, chosen], 0, 1) for figures in (first, second))),
    )
    of_first = over_seeds(first, lambda drawn: statistic(drawn, second[None]))
    of_second = over_seeds(second, lambda drawn: statistic(first[None], drawn))
    return float(statistic(first[None], second[None])[0]), of_difference(images, n, of_first, of_second)


def median_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Median over images of the difference averaged over seeds: (draws, seeds, n) and the other, to (draws,)."""
    return np.median(first.mean(-2, dtype=np.float64) - second.mean(-2, dtype=np.float64), -1)
