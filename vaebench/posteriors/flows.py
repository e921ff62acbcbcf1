"""Normalizing flows as posteriors: the encoder's Gaussian, pushed through invertible transformations.

Flows sample and score their own samples in one pass (`vaebench.distributions.flow`). Scoring other values uses the
inverse, which for autoregressive flows takes one pass per latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.transforms import MonotonicRQSTransform

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.flow import Flow, Planar, Radial, Sylvester, affine
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior


class Amortised(Posterior, ABC):
    """q(z|x): N(μ(x), diag σ(x)²) through transformations; one network outputs μ, log σ and their parameters.

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        steps: number of transformations, 1 or more.
        net: builds the network from the shapes of an image and of all parameters.

    Raises:
        UserError: no transformation.
    """

    def __init__(
        self, data: Shape, latent: Shape, steps: int, net: Callable[[Shape, Shape], Network], shapes: list[Shape]
    ) -> None:
        super().__init__()
        check_steps(type(self).__name__, steps)
        self.n, self.steps, self.shapes = prod(latent), steps, shapes
        self.sizes = [prod(shape) for shape in shapes]
        self.net = net(data, (2 * self.n + steps * sum(self.sizes),))

    @abstractmethod
    def step(self, *parameters: Tensor) -> Transform:
        """A transformation from its parameters, (*batch, *shape) for each of the shapes."""

    def forward(self, c: Tensor | None = None) -> Flow:
        loc, log_scale, rest = self.net(c).split([self.n, self.n, self.steps * sum(self.sizes)], -1)
        steps = []
        for own in rest.chunk(self.steps, -1):
            pieces = zip(own.split(self.sizes, -1), self.shapes, strict=True)
            steps.append(self.step(*(piece.reshape(*own.shape[:-1], *shape) for piece, shape in pieces)))
        return Flow(DiagonalNormal(loc, log_scale.exp()), steps)


@final
class PlanarFlow(Amortised):
    """z = f_T(… f_1(ε)) with planar f_t, each along one direction; see `distributions.flow.Planar`.

    Reference:
        Rezende & Mohamed 2015 (https://arxiv.org/abs/1505.05770).

    Args:
        data, latent, net: see `Amortised`.
        steps: T ≥ 1.
    """

    def __init__(
        self, data: Shape, latent: Shape, steps: int = 8, net: Callable[[Shape, Shape], Network] = MLP
    ) -> None:
        super().__init__(data, latent, steps, net, [latent, latent, ()])

    def step(self, *parameters: Tensor) -> Transform:
        return Planar(*parameters)


@final
class RadialFlow(Amortised):
    """z = f_T(… f_1(ε)) with radial f_t, each around one point; see `distributions.flow.Radial`.

    Reference:
        Rezende & Mohamed 2015 (https://arxiv.org/abs/1505.05770).

    Args:
        data, latent, net: see `Amortised`.
        steps: T ≥ 1.
    """

    def __init__(
        self, data: Shape, latent: Shape, steps: int = 8, net: Callable[[Shape, Shape], Network] = MLP
    ) -> None:
        super().__init__(data, latent, steps, net, [latent, (), ()])

    def step(self, *parameters: Tensor) -> Transform:
        return Radial(*parameters)


@final
class SylvesterFlow(Amortised):
    """z = f_T(… f_1(ε)) with Sylvester f_t, each along m directions; see `distributions.flow.Sylvester`.

    Reference:
        Van den Berg et al. 2018 (https://arxiv.org/abs/1803.05649), with Householder reflections for Q.

    Args:
        data, latent, net: see `Amortised`.
        steps: T ≥ 1.
        columns: m ≥ 1, clamped to n.
        reflections: number of Householder reflections in Q, 1 or more.

    Raises:
        UserError: no transformation, column or reflection.
    """

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        steps: int = 4,
        columns: int = 8,
        reflections: int = 4,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        if min(columns, reflections) < 1:
            raise UserError(
                f"SylvesterFlow has {columns} columns and {reflections} reflections: expected at least 1 of each; "
                "raise posterior.columns or posterior.reflections"
            )
        m = min(columns, prod(latent))
        super().__init__(data, latent, steps, net, [(reflections, prod(latent)), (m, m), (m, m), (m,)])

    def step(self, *parameters: Tensor) -> Transform:
        return Sylvester(*parameters)


class AutoregressiveFlow(Posterior, ABC):
    """q(z|x): noise through masked autoregressive networks that are conditioned on a context from the encoder.

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        steps: number of transformations, 1 or more; each reverses the order of the latents.
        context: units of the context, 1 or more.
        width: units of the one hidden layer of each masked network.
        net: builds the encoder from the shapes of an image and of μ, log σ and the context.
        univariate: settings of zuko's `MaskedAutoregressiveTransform`.

    Raises:
        UserError: no transformation.
    """

    def __init__(
        self, data: Shape, latent: Shape, steps: int, context: int, width: int, net: Callable[[Shape, Shape], Network],
        **univariate: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        check_steps(type(self).__name__, steps)
        self.n, self.context = prod(latent), context
        self.net = net(data, (2 * self.n + context,))
        self.steps = autoregressive(self.n, steps, width, context=context, **univariate)

    def encoded(self, x: Tensor | None) -> tuple[Tensor, Tensor, list[Transform]]:
        """μ and σ, (*batch, n), and the transformations for images."""
        loc, log_scale, context = self.net(x).split([self.n, self.n, self.context], -1)
        return loc, log_scale.exp(), [step(context) for step in self.steps]


@final
class InverseAutoregressive(AutoregressiveFlow):
    """z = f_T(… f_1(ε)), ε ~ N(μ(x), diag σ(x)²), f_t(ε)_j = ε_j exp(a_j(ε_{<j}, x)) + b_j(ε_{<j}, x).

    The map from noise to z is autoregressive in the noise, so that sampling takes one pass of each network. Scoring
    other values takes one pass per latent.

    Reference:
        Kingma et al. 2016 (https://arxiv.org/abs/1606.04934), with zuko's exp(a), soft-clipped to [10⁻³, 10³], in place
        of the paper's gate.

    Args:
        data, latent, steps, context, width, net: see `AutoregressiveFlow`.
    """

    ALSO = ("IAF",)

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        steps: int = 2,
        context: int = 100,
        width: int = 200,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__(data, latent, steps, context, width, net)

    def forward(self, c: Tensor | None = None) -> Flow:
        loc, scale, steps = self.encoded(c)
        return Flow(DiagonalNormal(loc, scale), steps)


@final
class NeuralSpline(AutoregressiveFlow):
    """z = μ(x) + σ(x) ∘ f_T(… f_1(ε)), ε ~ N(0, I), where f_t is a rational-quadratic spline per coordinate.

    The spline of a coordinate depends on the preceding coordinates and the image, and is the identity outside [−5, 5].
    As in `InverseAutoregressive`, sampling takes one pass of each network.

    Reference:
        Durkan et al. 2019 (https://arxiv.org/abs/1906.04032).

    Args:
        data, latent, steps, context, width, net: see `AutoregressiveFlow`.
        bins: of each spline, 2 or more.
    """

    ALSO = ("NSF",)

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        steps: int = 1,
        bins: int = 8,
        context: int = 100,
        width: int = 200,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__(data, latent, steps, context, width, net, **splines(bins))

    def forward(self, c: Tensor | None = None) -> Flow:
        loc, scale, steps = self.encoded(c)
        return Flow(DiagonalNormal(torch.zeros_like(loc), torch.ones_like(scale)), [*steps, affine(loc, scale)])


def autoregressive(n: int, steps: int, width: int, **settings: Any) -> nn.ModuleList:
    """Masked autoregressive transformations of n coordinates with one hidden layer, in alternating order."""
    orders = [torch.arange(n), torch.arange(n).flip(0)]
    return nn.ModuleList(
        MaskedAutoregressiveTransform(n, order=orders[t % 2], hidden_features=(width,), **settings)
        for t in range(steps)
    )


def splines(bins: int) -> dict[str, Any]:
    """Settings of zuko's `MaskedAutoregressiveTransform` for rational-quadratic splines."""
    return {"univariate": MonotonicRQSTransform, "shapes": [(bins,), (bins,), (bins - 1,)]}


def check_steps(who: str, steps: int) -> None:
    """Raises a UserError if steps < 1."""
    if steps < 1:
        raise UserError(f"{who} has {steps} transformations: expected at least 1; raise its setting 'steps'")
