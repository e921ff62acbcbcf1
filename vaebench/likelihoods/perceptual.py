"""Reconstruction in the features of a user's network: a surrogate, not a likelihood of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaebench.errors import UserError
from vaebench.likelihoods import Likelihood
from vaebench.measures import DataSpec, Shape
from vaebench.networks import MLP, Network

Features = Callable[[Tensor], Tensor | Sequence[Tensor]]


class Perceptual(Likelihood):
    r"""A squared distance of features in place of −log p(x|z): a surrogate for every measure (`model.surrogate`).

    .. math:: -\frac{w}{2} \sum_l \frac{1}{N_l} \big|f_l(x) - f_l(\hat x(z))\big|^2

    with layers f_l of N_l values each, of a fixed network. Records with a surrogate are not ranked with likelihoods.
    Johnson et al. 2016 (https://arxiv.org/abs/1603.08155); for VAEs Hou et al. 2017 (https://arxiv.org/abs/1610.00291).

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images, (c, h, w).
        features: builds the feature network, with weights, from the shape of an image; a user's class path. It maps
            images (b, c, h, w) in [0, 1] to a tensor (b, …), or one per layer; checkpoints contain its weights.
        net: builds the network from latents to the logits of x̂.
        weight: w, nats per image; None for the number of values (our choice).
        start_at_mean: start the output bias at the logits of the training mean, clamped to [1e-3, 1 − 1e-3].

    Raises:
        UserError: the feature network does not accept such images, or has other outputs.
    """

    support = frozenset()

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        features: Callable[[Shape], nn.Module],
        net: Callable[[Shape, Shape], Network] = MLP,
        weight: float | None = None,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        self.features = fixed(features(data.shape))
        self.weight = float(data.dimensions) if weight is None else weight
        self.net = net(latent, data.shape)
        if start_at_mean:
            self.start(self.net, data.mean, lambda m: torch.logit(m, 1e-3))
        self._check(data)

    def _check(self, data: DataSpec) -> None:
        who = type(self.features).__name__
        try:
            with torch.no_grad():
                maps: Any = layers(self.features(torch.zeros(2, *data.shape)))
        except RuntimeError as error:
            raise UserError(
                f"{who} does not take images of shape {data.shape} ({str(error).splitlines()[0].rstrip('.')}); set "
                "likelihood.features to a network for such images"
            ) from error
        if not maps or not all(isinstance(layer, Tensor) and layer.shape[:1] == (2,) for layer in maps):
            raise UserError(
                f"{who} gives no features for each of its images: expected a tensor (b, …), or several; set "
                "likelihood.features to a network that does"
            )

    def forward(self, c: Tensor | None = None) -> Distribution:
        return Likeness(torch.sigmoid(self.net(c)), self.features, self.weight)


class Likeness(Distribution):
    """−w/2 Σ_l |f_l(x) − f_l(x̂)|²/N_l in place of log p(x|z): an unnormalised score without samples.

    Args:
        mean: x̂ in [0, 1], of shape (*batch, c, h, w).
        features: maps images (b, c, h, w) to one or more tensors (b, …).
        weight: w, nats.
    """

    arg_constraints = {"mean": constraints.unit_interval}
    support = constraints.unit_interval

    def __init__(self, mean: Tensor, features: Features, weight: float) -> None:
        self.image, self.features, self.weight = mean, features, weight
        super().__init__(mean.shape[:-3], mean.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.image

    def log_prob(self, value: Tensor) -> Tensor:
        pairs = zip(self._seen(value), self._seen(self.image), strict=True)
        distances = [(a - b).square().mean(-1) for a, b in pairs]
        return -self.weight / 2 * torch.stack(distances).sum(0)

    def _seen(self, images: Tensor) -> list[Tensor]:
        """Features of images (*batch, c, h, w), flat: (*batch, N_l) of each layer."""
        maps = layers(self.features(images.flatten(0, -4)))
        return [layer.reshape(*images.shape[:-3], -1) for layer in maps]


def layers(features: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """The outputs of a feature network as a sequence of layers."""
    return [features] if isinstance(features, Tensor) else list(features)


def fixed(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with its parameters as buffers, so that they are not trained."""
    for part in network.eval().modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return network
