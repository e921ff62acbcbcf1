"""Normalizing flows as priors: latents are mapped to standard normal noise, so that scoring takes one pass.

All use zuko's masked transformations. Sampling takes one pass per latent, or two for coupling layers.
"""

from __future__ import annotations

from math import prod
from typing import Any, final

from torch import Tensor
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions.flow import Flow
from vaebench.measures import DataSpec, Shape
from vaebench.posteriors.flows import autoregressive, check_steps, splines
from vaebench.priors import Prior, StandardNormal


class _FlowPrior(Prior):
    """ε = f_T(… f_1(z)) ~ N(0, I).

    Args:
        latent: shape of a latent, (n,).
        steps: T ≥ 1 masked transformations.
        width: units of the one hidden layer of each masked network.
        settings: of zuko's `MaskedAutoregressiveTransform`.

    Raises:
        UserError: no transformation.
    """

    def __init__(self, latent: Shape, steps: int, width: int, **settings: Any) -> None:
        super().__init__()
        check_steps(type(self).__name__, steps)
        self.base = StandardNormal(latent)
        self.steps = autoregressive(prod(latent), steps, width, **settings)

    def forward(self, c: Tensor | None = None) -> Flow:
        base: Independent = self.base()
        return Flow(base, [step().inv for step in reversed(self.steps)])


@final
class RealNVP(_FlowPrior):
    """Affine coupling layers: half of the latents are scaled and shifted by a network of the other half.

    Reference:
        Dinh et al. 2017 (https://arxiv.org/abs/1605.08803).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        steps: number of layers, 1 or more, with alternating halves.
        width: units of the one hidden layer of each network.
    """

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        steps: int = 6,
        width: int = 200,
    ) -> None:
        super().__init__(latent, steps, width, passes=2)


@final
class MaskedAutoregressiveFlow(_FlowPrior):
    """Each latent is scaled and shifted by a masked network of the preceding ones, in alternating order.

    Reference:
        Papamakarios et al. 2017 (https://arxiv.org/abs/1705.07057).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        steps: number of transformations, 1 or more.
        width: units of the one hidden layer of each network.
    """

    ALSO = ("MAF",)

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        steps: int = 3,
        width: int = 200,
    ) -> None:
        super().__init__(latent, steps, width)


@final
class NeuralSplineFlow(_FlowPrior):
    """`MaskedAutoregressiveFlow` with a rational-quadratic spline on [−5, 5] in place of scale and shift.

    Reference:
        Durkan et al. 2019 (https://arxiv.org/abs/1906.04032).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        steps: number of transformations, 1 or more.
        bins: of each spline, 2 or more.
        width: units of the one hidden layer of each network.
    """

    ALSO = ("NSF",)

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        steps: int = 2,
        bins: int = 8,
        width: int = 200,
    ) -> None:
        super().__init__(latent, steps, width, **splines(bins))
