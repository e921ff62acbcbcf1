r"""A group-sequential test of comparisons as seeds come in, with a bounded rate of false positives.

Testing after every seed and stopping at p < 5 % declares equal variants different far more often than in 5 %. So the
level is spent over the looks: at a fraction t of the information of all seeds, at most

.. math:: \alpha(t) = 4 \, \bigl(1 - \Phi(z_{1 - \alpha/4} / \sqrt t)\bigr)

is spent, half of it on either side. The level of a look is what remains to spend there, given that no earlier look was
significant. Early looks spend little, and the last one nearly all.

The difference of two means after S seeds has the variance V_S = images / n + σ² / S, and its image part is the same
error at every look. Hence Cov(D_S, D_S') = V_S' for S < S', and looks observe a Brownian motion at the times
t = V_last / V_S, as the theory requires, without special treatment of images.

Reference:
    Lan and DeMets 1983, https://doi.org/10.1093/biomet/70.3.659, spend a level over looks; O'Brien and Fleming 1979,
    https://doi.org/10.2307/2530245, have the shape; Jennison and Turnbull 1999,
    https://doi.org/10.1201/9780367805326, chapter 19, the integration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, ndtri

from vaebench.leaderboard.moderation import Trainings, evidence, trainings
from vaebench.leaderboard.noise import LEVEL, Drawn, Noise, of_difference, seeds

LEAST = 0.0025  # smallest increase of information that makes a look
FAR = 8.0  # standard deviations at which the integration ends
NODES = 401
SIMPSON = np.array([1.0, *[4.0, 2.0] * (NODES // 2 - 1), 4.0, 1.0]) / 3
DRAWS = 1000


def spent(fraction: np.ndarray | float, alpha: float = 1 - LEVEL) -> np.ndarray:
    """Level that may be spent at a fraction of the information, in [0, alpha]."""
    with np.errstate(divide="ignore"):
        return np.asarray(4 * ndtr(-ndtri(1 - alpha / 4) / np.sqrt(np.clip(fraction, 0, 1))))


class Spending:
    """The levels of successive looks at one comparison.

    Args:
        alpha: probability of a false positive over all looks.
    """

    def __init__(self, alpha: float = 1 - LEVEL) -> None:
        self.alpha, self._now = alpha, 0.0
        self._nodes, self._density = np.zeros(1), np.ones(1)  # of the motion, given no significant look yet

    def level(self, fraction: float) -> float:
        """The two-sided level of the next look.

        Args:
            fraction: of the information at this look, in (0, 1]. A look with hardly more than the previous one has
                level 0.
        """
        step = min(fraction, 1.0) - self._now
        if step < LEAST:
            return 0.0
        budget, root = float(spent(fraction, self.alpha) - spent(self._now, self.alpha)), np.sqrt(step)
        low, high = 0.0, FAR * np.sqrt(fraction)
        for _ in range(45):
            bound = (low + high) / 2
            outside = self._density @ (ndtr((self._nodes - bound) / root) + ndtr((-bound - self._nodes) / root))
            low, high = (bound, high) if outside > budget else (low, bound)
        nodes = np.linspace(-1, 1, NODES) * min(high, 6 * np.sqrt(fraction))
        kernel = np.exp(-((nodes[:, None] - self._nodes) ** 2) / (2 * step)) / np.sqrt(2 * np.pi * step)
        self._density = SIMPSON * (nodes[1] - nodes[0]) * (kernel @ self._density)
        self._nodes, self._now = nodes, fraction
        return float(2 * ndtr(-high / np.sqrt(fraction)))


def levels(fractions: Sequence[float], alpha: float = 1 - LEVEL) -> np.ndarray:
    """The levels of all looks, (looks,); see `Spending`.

    >>> np.abs(ndtri(levels([0.2, 0.4, 0.6, 0.8, 1.0]) / 2)).round(2).tolist()
    [4.88, 3.36, 2.68, 2.29, 2.03]
    """
    spending = Spending(alpha)
    return np.array([spending.level(fraction) for fraction in fractions])


@dataclass(frozen=True)
class Look:
    """One look at a comparison.

    Attributes:
        seeds: of both variants.
        difference: of the means, first minus second. p: p-value under the moderated noise.
        fraction: of the information at the last possible look. level: threshold of p; 0 declares nothing.
    """

    seeds: tuple[int, int]
    difference: float
    p: float
    fraction: float
    level: float = 0.0

    @property
    def calls(self) -> bool:
        """Whether the difference is significant at this look."""
        return self.p < self.level


@dataclass
class Course:
    """The looks at one comparison of two variants, until one is significant or the last is made."""

    first: str
    second: str
    spending: Spending
    looks: list[Look] = field(default_factory=list)

    @property
    def decided(self) -> bool:
        return bool(self.looks) and self.looks[-1].calls

    @property
    def better(self) -> float:
        """Positive where the first is higher, negative where the second is; 0 where undecided."""
        return self.looks[-1].difference if self.decided else 0.0


class Until:
    """Looks at the named comparisons of variants as their seeds come in.

    Args:
        comparisons: pairs of names.
        most: largest number of seeds of a variant.
        alpha: probability that any comparison of equal variants is declared significant.
    """

    def __init__(self, comparisons: Sequence[tuple[str, str]], most: int, alpha: float = 1 - LEVEL) -> None:
        share = alpha / max(len(comparisons), 1)
        self.courses, self.most = [Course(*pair, Spending(share)) for pair in comparisons], most

    @property
    def open(self) -> list[Course]:
        """The undecided comparisons."""
        return [course for course in self.courses if not course.decided]

    @property
    def wanted(self) -> list[str]:
        """The variants for which another seed may decide a comparison, in the order of the comparisons."""
        return list(dict.fromkeys(name for course in self.open for name in (course.first, course.second)))

    def look(self, figures: Mapping[str, np.ndarray]) -> list[Course]:
        """Looks at the open comparisons.

        Args:
            figures: values (seeds, n) of each variant on the same images, or (seeds, 1). The noise is estimated from
                all.

        Returns:
            The comparisons that this look decides.
        """
        names = [name for name in figures if len(figures[name])]
        seen = evidence([figures[name] for name in names])
        noise = trainings(seen, draws=DRAWS)
        chances = seen.chance
        called = []
        for course in self.open:
            sides = [names.index(name) for name in (course.first, course.second) if name in names]
            if len(sides) < 2 or not noise.known[sides].all():
                continue
            pair = [figures[names[side]] for side in sides]
            course.looks.append(self._look(course, pair, noise.of(*sides), chances[sides]))
            if course.decided:
                called.append(course)
        return called

    def _look(self, course: Course, pair: list[np.ndarray], noise: Trainings, chance: np.ndarray) -> Look:
        number, n = np.array([len(one) for one in pair]), pair[0].shape[-1]
        paired = pair[0].mean(0, dtype=np.float64) - pair[1].mean(0, dtype=np.float64)
        images = float(paired.var(ddof=1)) / n if n > 1 else 0.0
        drawn = Drawn(images, max(n - 1, 1), (noise.variances / number).sum(1))
        difference, over = float(paired.mean()), np.median(noise.variances, 0)
        p = drawn.p(difference)
        if number.min() > 1:
            p = max(p, float(by_own_seeds(images, pair).p(np.array(difference))))
        now = images + (over / number).sum()
        images = max(images - (chance / number).sum(), 0.0)
        last = images + ((over + chance) / np.maximum(self.most, number)).sum()
        full = bool((number >= self.most).all())
        before = course.looks[-1].fraction if course.looks else 0.0
        fraction = 1.0 if full else float(np.clip(last / now if now > 0 else 1.0, before, 1.0))
        level = course.spending.level(fraction)
        return Look((len(pair[0]), len(pair[1])), difference, p, fraction, level)


def by_own_seeds(images: float, pair: Sequence[np.ndarray]) -> Noise:
    """The noise of a difference by the seeds of the two variants alone, with the fewer degrees of freedom.

    Two variants say little about how far noise differs: moderation draws the larger variance down, and Welch's degrees
    of freedom are too many where it is small by chance. With those of the smaller number of seeds, the level holds
    whatever the two variances are.

    Args:
        images: variance of the difference over images.
        pair: values (seeds ≥ 2, n) of both.

    Reference:
        Hsu 1938, Contribution to the theory of Student's t-test as applied to the problem of two samples, bounds it;
        Qiu and Zhang 2017, https://arxiv.org/abs/1712.10099, extend it.
    """
    found = of_difference(np.array(images), pair[0].shape[-1], *map(seeds, pair))
    return found._replace(seed_freedom=np.array(min(len(one) for one in pair) - 1.0))
