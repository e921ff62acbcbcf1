"""Kullback–Leibler divergences of posteriors from priors: in closed form, by unit, or estimated from samples."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence
from torch.func import functional_call

from vaebench.errors import Unavailable, UserError, absence


@runtime_checkable
class Factorised(Protocol):
    """A distribution over z with independent units, each of which has several values of z."""

    @property
    def factors(self) -> Distribution:
        """The distributions of the units, of batch shape (*batch, units)."""


@runtime_checkable
class Owned(Protocol):
    """A distribution over z whose units have several values of z."""

    @property
    def owners(self) -> Tensor:
        """The unit of each value of z, (n,)."""


@runtime_checkable
class Centred(Protocol):
    """A distribution with a centre in its space, which need not be its mean."""

    @property
    def centre(self) -> Tensor:
        """The point, (*batch, *event)."""


def divergence(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q‖p) in nats, of q's batch shape: the closed form where torch knows one, else the estimate from samples of q.

    Args:
        q: a batch of posteriors.
        p: the prior, broadcast against q.
        z: samples of q, of shape (k, *batch, *event), for the estimate, the mean over k of log q(z) − log p(z).
    """
    with suppress(Unavailable):
        return closed_form(q, p)
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


def closed_form(q: Distribution, p: Distribution) -> Tensor:
    """KL(q‖p) in closed form, nats, of q's batch shape.

    Raises:
        Unavailable: torch knows none.
    """
    with absence(f"KL({type(q).__name__}‖{type(p).__name__}) has no closed form"):
        return kl_divergence(q, p)


def divergence_units(q: Distribution, p: Distribution) -> Tensor:
    """KL(q_j‖p_j) of each latent unit in closed form, nats, (*batch, units); their sum is KL(q‖p).

    Args:
        q: a batch of posteriors that factorise over the units.
        p: a prior that does, broadcast against q.

    Raises:
        Unavailable: one of them does not factorise, or torch knows no closed form.
    """
    if isinstance(q, Factorised) and isinstance(p, Factorised):  # codes, each of which takes several values of z
        return closed_form(q.factors, p.factors)
    return closed_form(units("posterior", q), units("prior", p)).flatten(len(q.batch_shape))


def units(side: str, d: Distribution) -> Distribution:
    """The distributions of the latent units, of batch shape (*batch, *latent).

    Args:
        side: what d is, 'posterior' or 'prior', for the message.
        d: a distribution that factorises over its units, (*batch) of (*latent).

    Raises:
        Unavailable: it does not.
    """
    if isinstance(d, Independent) and d.reinterpreted_batch_ndims == len(d.event_shape):
        return d.base_dist
    raise Unavailable(f"the {side}, {type(d).__name__}, does not factorise over the units")


def require_units(who: str, posterior: nn.Module, prior: nn.Module, image: Tensor) -> None:
    """Refuses parts of a model whose divergence is not a sum over the latent units.

    Args:
        who: the objective or option that needs the sum, for the message.
        posterior: x -> q(z|x).
        prior: -> p(z).
        image: any image, (1, *data).

    Raises:
        UserError: the posterior or the prior does not factorise, or their divergence has no closed form.
    """
    training = posterior.training
    try:
        with torch.no_grad(), absence():
            divergence_units(posterior.eval()(image), prior())
    except Unavailable as error:
        raise UserError(
            f"{who} needs the divergence of every latent unit, and {error}; choose posteriors.DiagonalGaussian and "
            "priors.StandardNormal"
        ) from None
    finally:
        posterior.train(training)


def stopped(posterior: nn.Module, x: Tensor) -> Distribution:
    """q(z|x) with detached parameters, so that a score of z passes gradients only through z.

    Args:
        posterior: x -> q(z|x).
        x: images, (b, *data).
    """
    return functional_call(posterior, {name: p.detach() for name, p in posterior.named_parameters()}, x)
