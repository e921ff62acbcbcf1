"""What families, training and evaluation agree on: a model's three parts, its samples, and what a step returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions.hierarchy import named_levels
from vaebench.functional.objectives import elbo


@runtime_checkable
class LatentModel(Protocol):
    """The interface of a model in evaluation: its three parts, called as in the module's docstring."""

    @property
    def posterior(self) -> Callable[[Tensor], Distribution]: ...
    @property
    def prior(self) -> Callable[[], Distribution]: ...
    @property
    def likelihood(self) -> Callable[[Tensor], Distribution]: ...


class Given(NamedTuple):
    """The three parts of a conditional model, given labels y (b,) in the order of x and z."""

    posterior: Callable[[Tensor], Distribution]
    prior: Callable[[], Distribution]
    likelihood: Callable[[Tensor], Distribution]


class Draw(NamedTuple):
    """k samples of z ~ q(z|x) for each of b images, with the log-densities of any bound.

    Attributes:
        z: (k, b, *latent).
        log_q: log q(z|x), nats, (k, b).
        log_p: log p(z), nats, (k, b).
        log_x: log p(x|z), nats, (k, b).
    """

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    log_x: Tensor

    @property
    def log_w(self) -> Tensor:
        """Log importance weights log p(x, z) − log q(z|x), nats, (k, b); their mean is the ELBO."""
        return self.log_x + self.log_p - self.log_q


class Terms(NamedTuple):
    """One pass over a batch of b images: k samples of q(z|x), and the two terms of the bound that they estimate.

    Attributes:
        q: q(z|x), of batch shape (b,); given the labels where the model is conditional.
        p: p(z), likewise.
        z: samples of q, (k, b, *latent).
        distortion: −E_q log p(x|z), nats, mean of the samples, (b,).
        rate: KL(q(z|x)‖p(z)), nats, in closed form where there is one, (b,).
        levels: the rate of every level of a hierarchy, nats, (k, b, L), the lowest first; None without levels.
    """

    q: Distribution
    p: Distribution
    z: Tensor
    distortion: Tensor
    rate: Tensor
    levels: Tensor | None = None

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound of every image at β = 1, nats, (b,)."""
        return elbo(self.distortion, self.rate)

    @property
    def logs(self) -> dict[str, Tensor]:
        """Means over the batch: 'elbo', 'rate', 'distortion', and 'rate_1', … of a hierarchy's levels."""
        means = {"elbo": self.elbo.mean(), "rate": self.rate.mean(), "distortion": self.distortion.mean()}
        return means if self.levels is None else means | named_levels("rate", self.levels)


class Step(NamedTuple):
    """The results of one training step.

    Attributes:
        losses: one 0-dim loss for each parameter group, minimised.
        logs: 0-dim tensors to log, by name.
        state: new values of buffers, by full name, written after the optimiser's step.
    """

    losses: Mapping[str, Tensor]
    logs: Mapping[str, Tensor] = {}
    state: Mapping[str, Tensor] = {}


def batches(batch: Sequence[Any]) -> Sequence[tuple[Tensor, Tensor | None]]:
    """The batches (x, y) of a block, or the one batch as a block."""
    return cast(Any, (batch,) if isinstance(batch[0], Tensor) else batch)


def draw(model: LatentModel, x: Tensor, k: int = 1) -> Draw:
    """Samples the posterior of each image k times and scores every sample, with gradients where they exist.

    Args:
        model: anything with the three parts.
        x: images, (b, *data).
        k: samples per image.
    """
    q = model.posterior(x)
    z = (q.rsample if q.has_rsample else q.sample)(torch.Size((k,)))
    return Draw(z, q.log_prob(z), model.prior().log_prob(z), model.likelihood(z).log_prob(x))


@contextmanager
def fixed_noise(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Runs a block with torch seeded, and restores the caller's random state, also on `device`."""
    before = noise_state(device)
    _seed(seed, torch.device(device))
    try:
        yield
    finally:
        set_noise_state(before, device)


def _seed(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for the CPU and a device; that one keeps a traceback for GPUs not in use, 5 ms a call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    if device.type == "mps":
        torch.mps.manual_seed(seed)


def noise_state(device: torch.device | str) -> dict[str, Tensor]:
    """torch's random state by kind of device: the CPU's, and that of `device`."""
    device = torch.device(device)
    if device.type == "cuda":
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device)}
    if device.type == "mps":
        return {"cpu": torch.get_rng_state(), "mps": torch.mps.get_rng_state()}
    return {"cpu": torch.get_rng_state()}


def set_noise_state(state: Mapping[str, Tensor], device: torch.device | str) -> None:
    """Restores what `noise_state` gave for the same kind of device."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], torch.device(device))
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
