"""Traits that posteriors, priors and likelihoods declare, with their defaults.

`Posterior`, `Prior` and `Likelihood` are modules with these traits; a part overrides them in its class or on the
instance. Objectives and evaluation read them through `of`, which also accepts plain `LazyDistribution`s of zuko.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self

from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.measures import Shape

EUCLIDEAN = "Euclidean space"
PLAIN = (bool, int, float, str, tuple, list, dict, set, frozenset)


class Traits:
    """Typed class attributes with defaults, and methods that a part may override.

    A class attribute whose name resembles a trait, or whose value has another type, is refused at the definition of its
    class, since nothing would read it. Annotated attributes are exempt.

    >>> class Point(PosteriorTraits):
    ...     determinstic = True  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vaebench.errors.UserError: Point declares 'determinstic', which is no trait; did you mean 'deterministic'? ...
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        known = dict(_defaults(cls.__mro__[1:]))
        for name, value in vars(cls).items():
            if not isinstance(value, PLAIN):
                continue
            near = get_close_matches(name, known, n=1, cutoff=0.8)
            if near and name not in known and name not in vars(cls).get("__annotations__", {}):
                raise UserError(
                    f"{cls.__name__} declares '{name}', which is no trait; did you mean '{near[0]}'? An attribute of "
                    "its own needs an annotation"
                )
            default = known.get(name)
            if isinstance(default, PLAIN) and type(value) is not type(default):
                raise UserError(
                    f"{cls.__name__} declares {name} = {value!r}, where a {type(default).__name__} such as {default!r} "
                    "is expected; give it one"
                )

    @classmethod
    def of(cls, part: object) -> Self:
        """The traits of a part: itself, or for a part with another base its declared ones and the defaults."""
        if isinstance(part, cls):
            return part
        declared = cls()
        for name, _ in _defaults(cls.__mro__):
            if hasattr(part, name):
                setattr(declared, name, getattr(part, name))
        return declared

    @classmethod
    def within(cls, part: object) -> Iterator[Self]:
        """The traits of a part and of all its submodules that are parts."""
        yield cls.of(part)
        if isinstance(part, nn.Module):
            for inner in part.modules():
                if isinstance(inner, cls) and inner is not part:
                    yield inner


def _defaults(classes: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """The traits of classes, with their defaults."""
    for cls in classes:
        if issubclass(cls, Traits) and cls is not Traits and cls.__module__ == __name__:
            yield from ((name, value) for name, value in vars(cls).items() if name[0] != "_")


class LatentTraits(Traits):
    """Traits of a distribution over latents, q(z|x) or p(z).

    Attributes:
        discrete: whether z consists of codes, which pass no gradient.
        space: the space of z.
        levels: units of every level of a hierarchy, the lowest first; empty for one level.
    """

    discrete: bool = False
    space: str = EUCLIDEAN
    levels: Shape = ()


class PosteriorTraits(LatentTraits):
    """Traits of a posterior.

    Attributes:
        deterministic: whether it is a point mass, without a density.
        reparameterised: whether the gradient through its samples is the complete gradient.
        dependent: whether the samples of one image are dependent.
        event: shape of z, where it is not (latent,), because units such as codes have several values of z.
        auxiliary: further variables in the rate, for the definitions of metrics; '' for none.
    """

    deterministic: bool = False
    reparameterised: bool = True
    dependent: bool = False
    event: Shape | None = None
    auxiliary: str = ""


class PriorTraits(LatentTraits):
    """Traits of a prior, and its view of z for the likelihood.

    Attributes:
        encodes: whether it encodes images, to place its components at their codes.
        seen: shape of the output of `see`; None where the likelihood reads z itself.
        estimate: text for the definitions of metrics where log p(z) is an estimate; '' where it is exact.
    """

    encodes: bool = False
    seen: Shape | None = None
    estimate: str = ""

    def see(self, z: Tensor) -> Tensor:
        """The likelihood's input for z (*batch, *latent): (*batch, *seen)."""
        return z

    def doubt(self) -> str:
        """The accuracy of an estimated log p(z), for a record's warnings."""
        return self.estimate


class LikelihoodTraits(Traits):
    """Traits of a likelihood.

    Attributes:
        support: kinds of measure for which it is normalised.
        started: whether its output bias was set from the training mean.
        facts: properties for records besides the configuration, such as the floor of a scale.
        bound: why `log_prob` is below log p(x|z), for the definitions of metrics; '' where it is exact.
        averaged: whether `log_prob` with gradients is only an unbiased estimate of log p(x|z) or its bound, which must
            not weigh samples.
        width: approximate number of values in memory per value of an image during scoring, which limits the samples
            scored at once.
    """

    support: frozenset[str] = frozenset()
    started: bool = False
    facts: Mapping[str, Any] = {}
    bound: str = ""
    averaged: bool = False
    width: int = 1
