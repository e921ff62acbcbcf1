"""What parts declare of themselves, and that a declaration nobody would read is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import POSTERIORS, PRIORS, SPEC, small, tiny
from torch import Tensor
from torch.distributions import Distribution, Independent
from zuko.lazy import LazyDistribution

from vaebench.core.compatibility import not_euclidean, require_apart, require_posterior
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.families.cvae import CVAE
from vaebench.families.iwae import IWAE
from vaebench.families.vae import VAE
from vaebench.likelihoods import Bernoulli, Likelihood, generative
from vaebench.networks import Conv
from vaebench.posteriors import Delta, Posterior
from vaebench.priors import Prior
from vaebench.traits import EUCLIDEAN, LatentTraits, LikelihoodTraits, PosteriorTraits, PriorTraits


@pytest.mark.parametrize(
    ("base", "name", "meant", "value"),
    [
        (Posterior, "determinstic", "deterministic", True),
        (Posterior, "reparameterized", "reparameterised", False),
        (Delta, "spaces", "space", "the unit sphere"),
        (Prior, "encode", "encodes", True),
        (Likelihood, "supports", "support", frozenset({"binary"})),
    ],
)
def test_a_misspelt_declaration_is_refused_where_the_class_is_defined(
    base: type, name: str, meant: str, value: Any
) -> None:
    """Defect: attributes were read by string, so that a misspelt one left the default in place without a word."""
    with pytest.raises(UserError, match=f"declares '{name}', which is no trait; did you mean '{meant}'"):
        type("Own", (base,), {name: value})
    own = type("Own", (base,), {name: value, "__annotations__": {name: type(value)}})
    assert vars(own)[name] == value, "an attribute of its own has an annotation"


@pytest.mark.parametrize(
    ("base", "name", "value"), [(Posterior, "discrete", "no"), (Prior, "levels", [4, 2]), (Likelihood, "width", 2.0)]
)
def test_a_declaration_of_another_type_is_refused(base: type, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"Own declares {name} = "):
        type("Own", (base,), {name: value})


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_posterior_has_the_traits_of_one(name: str) -> None:
    assert issubclass(POSTERIORS[name], Posterior)


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_has_the_traits_of_one(name: str) -> None:
    assert issubclass(PRIORS[name], Prior)


class Plain(LazyDistribution):
    """A user's posterior that derives from zuko's class alone."""

    def __init__(self, data: tuple[int, ...], latent: tuple[int, ...]) -> None:
        super().__init__()
        self.net = torch.nn.Linear(16, 2 * latent[0])

    def forward(self, c: Tensor | None = None) -> Independent:
        assert c is not None
        loc, log_scale = self.net(c.flatten(1)).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())


class PlainPoint(Plain):
    deterministic = True


class PlainPrior(LazyDistribution):
    """One that shows the likelihood twice its first unit."""

    def __init__(self, latent: tuple[int, ...]) -> None:
        super().__init__()
        self.latent, self.seen = latent, (1,)

    def forward(self, c: Tensor | None = None) -> Distribution:
        return DiagonalNormal(torch.zeros(self.latent), torch.ones(self.latent))

    def see(self, z: Tensor) -> Tensor:
        return 2 * z[..., :1]


def test_parts_that_derive_from_zukos_class_alone_are_read_with_the_defaults() -> None:
    traits = PosteriorTraits.of(Plain((1, 4, 4), (3,)))
    assert (traits.space, traits.levels, traits.event, traits.reparameterised) == (EUCLIDEAN, (), None, True)
    require_posterior(VAE, Plain((1, 4, 4), (3,)))
    with pytest.raises(UserError, match="PlainPoint is deterministic"):
        require_posterior(VAE, PlainPoint((1, 4, 4), (3,)))
    assert LikelihoodTraits.of(lambda z: z).width == 1
    torch.manual_seed(0)
    model = IWAE(SPEC, latent=3, posterior=Plain, k=2)
    loss = model.step(torch.rand(5, 1, 4, 4).round(), None, torch.tensor(0.0)).losses["model"]
    assert bool(loss.isfinite())


def test_a_prior_of_zukos_class_shows_the_likelihood_what_it_sees() -> None:
    prior = PlainPrior((3,))
    likelihood = generative(prior, Bernoulli, (3,), SPEC)
    z = torch.randn(2, 5, 3)
    assert PriorTraits.of(prior).seen == (1,)
    logits = likelihood.net(2 * z[..., :1])
    torch.testing.assert_close(likelihood(z).mean, logits.sigmoid())


def test_levels_of_quantisation_are_no_levels_of_a_hierarchy() -> None:
    """Defect: a number of levels of quantisation was taken for sizes of levels, and ended in a TypeError."""
    codes = tiny(POSTERIORS["codes.ResidualQuantised"], codes=4, width=2, levels=2)
    with pytest.raises(UserError, match="needs a prior of the kind CodePrior"):
        small("vq_vae", posterior=codes, prior=tiny(PRIORS["hierarchy.TopDown"]))
    assert small("vq_vae", posterior=codes).posterior.levels == ()


class Scored(Prior):
    """A prior with a network that reads images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Conv((1, 28, 28), (3,))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return DiagonalNormal(torch.zeros(3), torch.ones(3))


def test_a_network_that_encodes_is_no_prior_that_encodes() -> None:
    """Defect: `encodes` of a convolutional network was taken for that of a prior."""
    prior = Scored()
    assert prior.net.encodes
    require_apart(CVAE, prior)
    assert not_euclidean(prior) == ""
    assert [type(traits).__name__ for traits in LatentTraits.within(prior)] == ["Scored"]
