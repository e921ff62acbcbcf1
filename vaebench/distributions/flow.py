"""Flows: distributions pushed through invertible transformations whose log-determinant is known.

The transformations are those of Rezende & Mohamed and of van den Berg et al., with separate parameters for each of a
batch of posteriors. Each is invertible by construction, with an inverse in closed form, or by bisection on a monotonic
function of one variable, which is exact to rounding and differentiable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints
from zuko.distributions import NormalizingFlow
from zuko.transforms import ComposedTransform

from vaebench.distributions import SampleShape


class Flow(NormalizingFlow):
    r"""ε ~ base pushed through f, so that log p(z) = log p_0(ε) − log |det ∂f/∂ε| at z = f(ε).

    Scoring the tensor that `rsample` returned last is free, since its ε and determinant are cached: training and
    evaluation of a posterior pass through f once. Any other value, and one that was drawn without gradients where
    they are needed now, goes through the inverse of f.

    Args:
        base: of ε, (*batch) of (n,); it samples under vmap.
        steps: f from first to last, each (*batch, n) -> (*batch, n).
    """

    def __init__(self, base: Distribution, steps: Sequence[Transform]) -> None:
        super().__init__(ComposedTransform(*steps).inv, base)
        self._last: tuple[Tensor, Tensor, bool] | None = None  # z, its score, and whether gradients were on

    def rsample(self, shape: SampleShape = ()) -> Tensor:
        self._last = (*self.rsample_and_log_prob(torch.Size(shape)), torch.is_grad_enabled())
        return self._last[0]

    def log_prob(self, value: Tensor) -> Tensor:
        if self._last is not None and value is self._last[0] and (self._last[2] or not torch.is_grad_enabled()):
            return self._last[1]
        return super().log_prob(value)


class FlowStep(Transform):
    """One transformation of vectors with its log-determinant."""

    domain = codomain = constraints.real_vector
    bijective = True

    @abstractmethod
    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x), (*batch, n), and log |det ∂f/∂x|, (*batch,)."""

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]


class Planar(FlowStep):
    r"""f(z) = z + û tanh(wᵀz + b), with û = u + (m(wᵀu) − wᵀu) w/‖w‖² and m(a) = softplus(a) − 1.

    So wᵀû = m(wᵀu) > −1, which is when f is invertible, and log det = log(1 + (1 − tanh²(wᵀz + b)) wᵀû). Rezende &
    Mohamed 2015, appendix A.1 (https://arxiv.org/abs/1505.05770).

    Args:
        u, w: (*batch, n).
        b: (*batch,).
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__()
        along = (u * w).sum(-1, keepdim=True)
        self.slope = F.softplus(along) - 1  # wᵀû
        self.u = u + (self.slope - along) * w / w.square().sum(-1, keepdim=True)
        self.w, self.b = w, b[..., None]

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh((x * self.w).sum(-1, keepdim=True) + self.b)
        return x + self.u * h, torch.log1p((1 - h.square()) * self.slope).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        along = increasing_inverse((y * self.w).sum(-1, keepdim=True), self.slope, torch.ones_like(self.b), self.b)
        return y - self.u * torch.tanh(along + self.b)


class Radial(FlowStep):
    r"""f(z) = z + β̂ (z − c)/(α + r), with r = ‖z − c‖ and β̂ = softplus(β) − α > −α, which makes f invertible.

    log det = (n − 1) log(1 + β̂/(α + r)) + log(1 + α β̂/(α + r)²). Rezende & Mohamed 2015, appendix A.2
    (https://arxiv.org/abs/1505.05770); r of the inverse solves a quadratic equation.

    Args:
        centre: c, (*batch, n).
        alpha: the logarithm of α, (*batch,).
        beta: β, (*batch,).
    """

    def __init__(self, centre: Tensor, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.centre, self.alpha = centre, alpha[..., None].exp()
        self.beta = F.softplus(beta)[..., None] - self.alpha

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        away = x - self.centre
        reach = self.alpha + away.norm(dim=-1, keepdim=True)
        across = torch.log1p(self.beta / reach) * (x.shape[-1] - 1)
        return x + self.beta * away / reach, (across + torch.log1p(self.alpha * self.beta / reach**2)).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        away = y - self.centre
        d = away.norm(dim=-1, keepdim=True)
        half = (d - self.alpha - self.beta) / 2
        r = half + (half.square() + self.alpha * d).sqrt()
        return self.centre + away / (1 + self.beta / (self.alpha + r))


class Sylvester(FlowStep):
    r"""f(z) = z + Q R tanh(R̃ Qᵀ z + b) with Q of m orthonormal columns and upper triangular R, R̃.

    log det = Σ_i log(1 + (1 − tanh²_i) R_ii R̃_ii), and f is invertible since the diagonals lie in (−1, 1). Q holds the
    first m columns of a product of Householder reflections. Van den Berg et al. 2018 (https://arxiv.org/abs/1803.05649).

    Args:
        reflections: directions v of the reflections, (*batch, h, n).
        r, r_tilde: (*batch, m, m), m ≤ n: the triangle above the diagonal, and the tanh of the diagonal, are used.
        b: (*batch, m).
    """

    def __init__(self, reflections: Tensor, r: Tensor, r_tilde: Tensor, b: Tensor) -> None:
        super().__init__()
        self.directions = [v / v.norm(dim=-1, keepdim=True) for v in reflections.unbind(-2)]
        self.r, self.r_tilde = (
            torch.triu(t, 1) + t.diagonal(dim1=-2, dim2=-1).tanh().diag_embed() for t in (r, r_tilde)
        )
        self.b = b

    def _reflected(self, x: Tensor, directions: Sequence[Tensor]) -> Tensor:
        for v in directions:
            x = x - 2 * v * (v * x).sum(-1, keepdim=True)
        return x

    def _coordinates(self, x: Tensor) -> Tensor:
        """Qᵀ x, (*batch, m)."""
        return self._reflected(x, self.directions)[..., : self.b.shape[-1]]

    def _outside(self, x: Tensor, y: Tensor) -> Tensor:
        """Q y, (*batch, n), of coordinates y (*batch, m)."""
        return self._reflected(F.pad(y, (0, x.shape[-1] - y.shape[-1])), self.directions[::-1])

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(_times(self.r_tilde, self._coordinates(x)) + self.b)
        slopes = (self.r * self.r_tilde).diagonal(dim1=-2, dim2=-1)
        return x + self._outside(x, _times(self.r, h)), torch.log1p((1 - h.square()) * slopes).sum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        """The coordinates from last to first, each of which solves an equation in one unknown given the later ones."""
        target, m = self._coordinates(y), self.b.shape[-1]
        known: list[Tensor] = []  # coordinates i + 1, …, m − 1
        h: list[Tensor] = []
        for i in reversed(range(m)):
            later, bent = (torch.stack(t, -1) if t else target[..., m:] for t in (known, h))
            shift = self.b[..., i] + (self.r_tilde[..., i, i + 1 :] * later).sum(-1)
            rest = target[..., i] - (self.r[..., i, i + 1 :] * bent).sum(-1)
            known.insert(0, increasing_inverse(rest, self.r[..., i, i], self.r_tilde[..., i, i], shift))
            h.insert(0, torch.tanh(self.r_tilde[..., i, i] * known[0] + shift))
        return y - self._outside(y, _times(self.r, torch.stack(h, -1)))


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None]).squeeze(-1)


def increasing_inverse(y: Tensor, a: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """The x with x + a tanh(s x + c) = y, where a s > −1: by bisection in [y − |a|, y + |a|], then one Newton step.

    The step makes it differentiable in all four; all broadcast against each other.
    """
    y, a, s, c = torch.broadcast_tensors(y, a, s, c)
    with torch.no_grad():
        low, high = y - a.abs(), y + a.abs()
        for _ in range(60 if y.dtype == torch.float64 else 30):
            x = (low + high) / 2
            above = x + a * torch.tanh(s * x + c) > y
            low, high = torch.where(above, low, x), torch.where(above, x, high)
        x = (low + high) / 2
    h = torch.tanh(s * x + c)
    return x - (x + a * h - y) / (1 + a * s * (1 - h.square()))


def affine(loc: Tensor, scale: Tensor) -> Transform:
    """f(z) = loc + scale ∘ z, (*batch, n) each, scale > 0."""
    kind: Any = torch.distributions.AffineTransform
    return kind(loc, scale, event_dim=1)
