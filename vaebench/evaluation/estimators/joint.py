"""log p(x, ε) of images x and the noise ε of the prior's map, with the gradient and curvature in ε."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from vaebench.core import LatentModel
from vaebench.core.compatibility import not_euclidean
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import declared
from vaebench.evaluation.estimators.curvature import outputs
from vaebench.evaluation.estimators.hmc import require_chains
from vaebench.evaluation.estimators.whitened import Mapped, from_noise, to_noise
from vaebench.traits import LatentTraits, LikelihoodTraits

COLUMNS = 50  # of a Jacobian, computed at once
MOST = 256  # latent values whose covariance is still worth a matrix per image


@contextmanager
def differentiable() -> Iterator[None]:
    """Runs a block outside inference mode, which forbids differentiation; gradients must be requested explicitly."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class Joint:
    """log p(x, ε) of b images, with z = T(ε) from `whitened.from_noise`.

    Args:
        model: anything with a prior and a likelihood.
        x: images, (b, *data), on the model's device.

    Attributes:
        size: d, values of ε.
    """

    def __init__(self, model: LatentModel, x: Tensor) -> None:
        self.prior, self.likelihood, self.x = model.prior(), model.likelihood, x
        self.event = self.prior.event_shape
        self.size = self.event.numel()
        self._moving: list[int] | None = None

    def map(self, noise: Tensor) -> Mapped:
        """z (s, b, *latent) of ε (s, b, d), and its density."""
        return from_noise(self.prior, noise.unflatten(-1, self.event))

    def noise(self, z: Tensor) -> Tensor:
        """ε (s, b, d) of z (s, b, *latent)."""
        return to_noise(self.prior, z).flatten(-len(self.event))

    def log(self, noise: Tensor) -> Tensor:
        """log p(x, ε), nats: ε (s, b, d) -> (s, b)."""
        z, log_p, _ = self.map(noise)
        return log_p + self.likelihood(z).log_prob(self.x)

    def slope(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, ε), (s, b), and its gradient, like ε."""
        with torch.enable_grad():
            noise = noise.detach().requires_grad_()
            log_joint = self.log(noise)
            (slope,) = torch.autograd.grad(log_joint.sum(), noise)
        return log_joint.detach(), slope

    def curvature(self, noise: Tensor) -> Tensor:
        """Gauss–Newton curvature of −log p(x, ε), mean over s, nats: ε (s, b, d) -> float64 (b, d, d).

        Exact second derivatives, which may be indefinite, replace it for a likelihood without independent pixels, and
        for the prior where ε is not N(0, I).
        """
        z, _, standard = self.map(noise)
        p = self.likelihood(z)
        known = outputs(p)
        if known is None:
            curvature = self._second(lambda e: self.likelihood(self.map(e).z).log_prob(self.x), noise)
        else:
            weights, moving = known.weights(self.x), self._which(noise)
            columns = _columns(lambda e: tuple(self._values(e)[i] for i in moving), noise)  # each (d, s, b, *data)
            curvature = sum((_product(u, weights[i]) for u, i in zip(columns, moving, strict=True)), torch.zeros(()))
        if standard:
            return curvature.double() + torch.eye(self.size, dtype=torch.float64, device=noise.device)
        return (curvature + self._second(lambda e: self.map(e).log_p, noise)).double()

    def _values(self, noise: Tensor) -> tuple[Tensor, ...]:
        known = outputs(self.likelihood(self.map(noise).z))
        assert known is not None
        return known.values

    def _which(self, noise: Tensor) -> list[int]:
        """Indices of the outputs that depend on ε; most scales do not."""
        if self._moving is None:
            tangents = jvp(self._values, (noise,), (torch.ones_like(noise),))[1]
            self._moving = [i for i, tangent in enumerate(tangents) if bool(tangent.any())] or [0]
        return self._moving

    def _second(self, f: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
        """−∂²f/∂ε², mean over s: (b, d, d); f: ε (s, b, d) -> (s, b)."""
        (columns,) = _columns(lambda e: (grad(lambda inner: f(inner).sum())(e),), noise)  # (d, s, b, d)
        hessian = -columns.mean(1).movedim(0, -1)
        return (hessian + hessian.mT) / 2


def _columns(f: Callable[[Tensor], tuple[Tensor, ...]], at: Tensor) -> tuple[Tensor, ...]:
    """∂f/∂ε_j for each j < d, every row of `at` (*batch, d) for itself: each output with d in front."""
    size = at.shape[-1]
    eye = torch.eye(size, dtype=at.dtype, device=at.device)
    return vmap(lambda v: jvp(f, (at,), (v.expand_as(at),))[1], chunk_size=min(COLUMNS, size))(eye)


def _product(u: Tensor, weights: Tensor) -> Tensor:
    """Jᵀ diag(w) J, mean over s: columns (d, s, b, *data) and weights (s, b, *data) -> (b, d, d)."""
    d, s, b = u.shape[:3]
    weights = weights.clamp(min=0).expand(u.shape[1:])
    scaled = (u * weights.sqrt()).reshape(d, s, b, -1).permute(2, 0, 1, 3).reshape(b, d, -1)
    return torch.bmm(scaled, scaled.mT) / s


def require_gaussian(model: LatentModel, x: Tensor) -> None:
    """Requires a model whose posteriors a Gaussian in the prior's noise can fit, for images x (n, *data) on its device.

    Raises:
        Unavailable: there is none, for the reason given.
    """
    inside = declared(model)
    if any(traits.discrete for traits in LatentTraits.within(inside.prior)):
        raise Unavailable("the latents are codes, and a proposal refined for each image is a Gaussian")
    if space := not_euclidean(inside.prior):
        raise Unavailable(f"the prior lives on {space}, and a proposal refined for each image is a Gaussian")
    likelihood = LikelihoodTraits.of(inside.likelihood)
    if likelihood.bound:
        raise Unavailable("scoring draws noise in place of log p(x|z), so that there is nothing fixed to fit to")
    size = model.prior().event_shape.numel()
    if size > MOST:
        raise Unavailable(
            f"z has {size} values, and a proposal refined for each image is a full Gaussian of {MOST} at most"
        )
    require_chains(model, x)
