"""The three parts of a model from elsewhere, made of what most code has: an encoder and a decoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaebench.distributions import Bernoulli, Delta, DiagonalNormal
from vaebench.errors import Unavailable
from vaebench.measures import Shape

NO_DENSITY = "the decoder has no density: it gives one image for a code"
NO_PRIOR = "the model has no prior over its codes"
VALUES = 2**22  # values of images that a network takes at once, for networks whose activations are large

Density = Callable[..., Distribution]


class Point(Delta):
    """What a decoder without a density gives: an image (*batch, *data), which has a mean and no log-probability.

    Args:
        image: in [0, 1].
        event: number of its dimensions.
        reason: why there is no density.
    """

    def __init__(self, image: Tensor, event: int = 3, reason: str = NO_DENSITY) -> None:
        super().__init__(image, event)
        self.reason = reason

    def log_prob(self, value: Tensor) -> Tensor:
        raise Unavailable(self.reason)


def of_logits(logits: Tensor) -> Distribution:
    """Bernoulli pixels of a decoder that ends in logits (*batch, c, h, w), for images of 0 and 1."""
    return Bernoulli(logits, 3)


def of_probabilities(p: Tensor) -> Distribution:
    """Bernoulli pixels of a decoder that ends in a sigmoid (*batch, c, h, w), for images of 0 and 1.

    Logits stop at ±100, where torch's binary cross-entropy stops too.
    """
    return Bernoulli(p.logit().clamp(-100, 100), 3)


def gaussian(scale: float = 1.0) -> Density:
    """Gaussian pixels around an image, for continuous images: a squared error over 2 `scale`², with its constant."""
    return lambda mean: DiagonalNormal(mean, torch.full_like(mean, scale), 3)


class Parts(nn.Module):
    """A model made of three functions, whose networks evaluation finds.

    Args:
        posterior: x (b, *data) -> q(z|x).
        prior: () -> p(z).
        likelihood: z (k, b, *latent) -> p(x|z).
    """

    def __init__(
        self,
        posterior: Callable[[Tensor], Any],
        prior: Callable[[], Any],
        likelihood: Callable[[Tensor], Any],
    ) -> None:
        super().__init__()
        self._posterior, self._prior, self._likelihood = (posterior,), (prior,), (likelihood,)  # not as submodules
        self.networks = networks(posterior, prior, likelihood)

    def posterior(self, x: Tensor) -> Any:
        return self._posterior[0](x)

    def prior(self) -> Any:
        return self._prior[0]()

    def likelihood(self, z: Tensor) -> Any:
        return self._likelihood[0](z)


class Autoencoder(nn.Module):
    """An encoder and a decoder as a model that can be evaluated.

    Args:
        encoder: images (b, *data) in [0, 1] to the mean and the log-variance of a Gaussian, each (b, *latent); or to
            one code (b, *latent), which has no density; or to a distribution.
        decoder: codes (b, *latent) to an image (b, *data), or to a tuple of tensors that `density` takes.
        density: from what the decoder gives, (k, b, *data), to p(x|z): `of_logits`, `of_probabilities`,
            `gaussian(scale)` or a function of one's own. Default: no density, only an image in [0, 1].
        latent: shape of a code, or their number, for the prior N(0, I).
        prior: p(z) as a function without arguments, in place of that. With neither the model has no prior.
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Any],
        decoder: Callable[[Tensor], Any],
        density: Density = Point,
        latent: int | Shape | None = None,
        prior: Callable[[], Distribution] | None = None,
    ) -> None:
        super().__init__()
        self._calls = (encoder, decoder, density, prior)  # not as submodules
        self.latent: Shape | None = (latent,) if isinstance(latent, int) else latent
        self.networks = networks(encoder, decoder, density, prior)
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(()))  # of the model's device and precision

    def posterior(self, x: Tensor) -> Distribution:
        made = self._calls[0](x)
        if isinstance(made, tuple | list) and len(made) == 2:
            mean, log_variance = made
            return DiagonalNormal(mean, (log_variance / 2).exp(), mean.dim() - 1)
        return Delta(made, made.dim() - 1) if isinstance(made, Tensor) else made

    def prior(self) -> Distribution:
        if (prior := self._calls[3]) is not None:
            return prior()
        if self.latent is None:
            raise Unavailable(NO_PRIOR)
        like: Tensor = next((p for p in self.parameters() if p.is_floating_point()), self.zero)
        zeros = torch.zeros(self.latent, dtype=like.dtype, device=like.device)
        return DiagonalNormal(zeros, zeros + 1, len(self.latent))

    def likelihood(self, z: Tensor) -> Distribution:
        made = self._calls[1](z.flatten(0, 1))
        made = made if isinstance(made, tuple | list) else (made,)
        return self._calls[2](*(one.unflatten(0, z.shape[:2]) for one in made))


def in_pieces(call: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """A function of a batch x (b, …), called on so few at a time that they have `VALUES` values of `size` each."""
    return torch.cat([call(some) for some in x.split(max(1, VALUES // size))])


def networks(*calls: Any) -> nn.ModuleList:
    """The networks that functions use: the functions themselves, the objects of methods, and what a function names."""
    met: set[int] = set()
    return nn.ModuleList([module for call in calls for module in _used(call, met)])


def _used(call: Any, met: set[int]) -> Iterator[nn.Module]:
    if id(call) in met:
        return
    met.add(id(call))
    if isinstance(call, nn.Module):
        yield call
    elif inspect.ismethod(call):
        yield from _used(call.__self__, met)
    elif inspect.isfunction(call):
        names = inspect.getclosurevars(call)
        for value in (*names.nonlocals.values(), *names.globals.values()):
            yield from _used(value, met)
