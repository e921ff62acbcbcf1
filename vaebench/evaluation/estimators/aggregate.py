r"""The aggregate posterior q(z) = (1/N) Σ_n q(z|x_n): information of the code about the image, and KL(q(z)‖p(z)).

With the rate as the mean of KL(q(z|x)‖p(z)) over the N images,

.. math:: rate = I + KL(q(z) \| p(z)), \quad I = \frac1N \sum_n KL(q(z|x_n) \| q(z)),
          \quad KL(q(z) \| p(z)) = KL\big(q(z) \| \textstyle\prod_j q(z_j)\big) + \sum_j KL(q(z_j) \| p(z_j))

Hoffman & Johnson 2016 (http://approximateinference.org/2016/accepted/HoffmanJohnson2016.pdf) and Chen et al. 2018
(https://arxiv.org/abs/1802.04942). All N components of q(z) are summed, none is sampled; only the expectation over z
is an average of samples.

I is the information between z and the *index* n, and exactly that for these N images. A sample's own component is in
q(z), so I ≤ log N: where the codes identify every image it equals log N whatever the encoder does, and the divergence
is too large by the missing information. As an estimate for the population of images it is too low in expectation; with
the sample's own component left out of q(z) it is too high (Poole et al. 2019, section 2,
https://arxiv.org/abs/1905.06922). The two bracket the mutual information of image and code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import LatentModel
from vaebench.distributions import units
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import spread
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.latents import BATCH
from vaebench.evaluation.estimators.likelihood import VALUES
from vaebench.evaluation.images import Stack
from vaebench.functional.regularisers import aggregate


class AggregateDensities(NamedTuple):
    """m samples under the aggregate of N posteriors, nats, float64 on the CPU.

    A posterior that does not factorise counts as one unit.

    Attributes:
        own: log q(z_j|x) of every unit under the sample's own image, (m, units); −∞ where it has none.
        joint: log q(z), (m,).
        single: log q(z_j), (m, units).
        others: log of the aggregate of the images other than its own, (m,).
    """

    own: Tensor
    joint: Tensor
    single: Tensor
    others: Tensor

    @property
    def information(self) -> Tensor:
        """log q(z|x) − log q(z), whose mean is I, (m,)."""
        return self.own.sum(-1) - self.joint

    @property
    def information_upper(self) -> Tensor:
        """The same without the sample's own image in q(z), (m,)."""
        return self.own.sum(-1) - self.others

    @property
    def information_units(self) -> Tensor:
        """log q(z_j|x) − log q(z_j), whose mean is the information of z_j and the index, (m, units)."""
        return self.own - self.single

    @property
    def correlation(self) -> Tensor:
        """log q(z) − Σ_j log q(z_j), whose mean is the total correlation, (m,)."""
        return self.information_units.sum(-1) - self.information


class AggregateSamples(NamedTuple):
    """The components of an aggregate posterior, and samples of some of its images.

    Attributes:
        posteriors: q(z|x_n) of the N images, in batches.
        z: one sample of the posterior of each of m of them, (m, *latent).
        own: which ones, (m,), evenly spaced.
    """

    posteriors: list[Distribution]
    z: Tensor
    own: Tensor


def aggregate_samples(model: LatentModel, x: Stack, images: int, seed: int = 0) -> AggregateSamples:
    """The aggregate of images x (n, *data) with samples of up to so many; inside `evaluation_mode`."""
    own = spread(len(x), images)
    posteriors = [model.posterior(some) for some in x.split(BATCH)]
    return AggregateSamples(posteriors, sample_posterior(model, x[own.to(x.device)], 1, seed)[0], own)


def require_finite(sampled: AggregateDensities, own: Tensor) -> None:
    """Raises `Unavailable` for densities that are not finite; `own`: the samples' images, (m,)."""
    for what, values in (("log q(z|x)", sampled.own.sum(-1)), ("log q(z)", sampled.joint)):
        if (strange := ~torch.isfinite(values)).any():
            raise Unavailable(f"{what} is not finite for image {int(own[strange][0])}")


def require_factors(q: Distribution) -> None:
    """Raises `Unavailable` for a posterior that does not factorise over units, and so has no total correlation."""
    units("posterior", q)


def aggregate_densities(
    posteriors: Sequence[Distribution], z: Tensor, own: Tensor | None = None, each: bool = True
) -> AggregateDensities:
    """Scores samples under all components of the aggregate; memory grows with neither their number nor N.

    Args:
        posteriors: q(z|x_n) of the N images, in batches.
        z: samples, (m, *latent).
        own: index of each sample's own image among the N, (m,); None: the samples come from elsewhere.
        each: also score every unit separately, at three times the cost; otherwise all units count as one.
    """
    components = [_components(q) if each else q for q in posteriors]
    n = sum(q.batch_shape[0] for q in components)
    own = torch.full((len(z),), -1) if own is None else own
    values = max(q.batch_shape[0] for q in components) * z[0].numel()
    rows = max(1, VALUES.get(z.device.type, VALUES["cuda"]) // values)
    parts = [_score(components, n, *some) for some in zip(z.split(rows), own.to(z.device).split(rows), strict=True)]
    return AggregateDensities(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


def _components(q: Distribution) -> Distribution:
    with suppress(Unavailable), absence():
        return units("posterior", q)
    return q


def _score(components: Sequence[Distribution], n: int, z: Tensor, own: Tensor) -> tuple[Tensor, ...]:
    mine = joint = single = torch.tensor(-math.inf, dtype=torch.float64, device=z.device)
    first = 0
    for q in components:
        count = q.batch_shape[0]
        log_q = q.log_prob(z[:, None]).reshape(len(z), count, -1)
        is_own = own[:, None] == torch.arange(first, first + count, device=z.device)
        others = torch.zeros_like(log_q[..., 0]).masked_fill(is_own, -math.inf) - math.log(n)
        both = aggregate(log_q, others)
        joint, single = (torch.logaddexp(a, b.double()) for a, b in zip((joint, single), both, strict=True))
        mine = mine.expand_as(single).clone()
        mine[is_own.any(1)] = log_q[is_own].double()
        first += count
    rest = joint + (own >= 0).double() * math.log(n / max(n - 1, 1))
    log_n = math.log(n)
    return mine, torch.logaddexp(joint, mine.sum(-1) - log_n), torch.logaddexp(single, mine - log_n), rest
