"""What posteriors, priors and likelihoods declare of themselves, and what one that declares nothing is.

`Posterior`, `Prior` and `Likelihood` are modules with these traits; a part overrides those that it differs in, in the
class or on the instance. Objectives and evaluation read them through `of`, which takes parts that derive from zuko's
`LazyDistribution` alone, too.
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

    A class attribute that is almost called as a trait, or has a value of another type, is refused where its class is
    defined: nobody would read it. An attribute of the class's own that is meant so has an annotation.

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
        """The traits of a part: itself, or for one of another base what it has of them, beside the defaults."""
        if isinstance(part, cls):
            return part
        declared = cls()
        for name, _ in _defaults(cls.__mro__):
            if hasattr(part, name):
                setattr(declared, name, getattr(part, name))
        return declared

    @classmethod
    def within(cls, part: object) -> Iterator[Self]:
        """The traits of a part and of all parts that are registered in it."""
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
    """What a distribution over latents is, q(z|x) or p(z).

    Attributes:
        discrete: whether z is made of codes, through which no gradient goes.
        space: the space that z lives on.
        levels: units of every level of a hierarchy, the lowest first; empty for one level.
    """

    discrete: bool = False
    space: str = EUCLIDEAN
    levels: Shape = ()


class PosteriorTraits(LatentTraits):
    """What a posterior is.

    Attributes:
        deterministic: whether it is a point mass, without a density.
        reparameterised: whether the gradient through its samples is all of the gradient.
        dependent: whether the samples of one image depend on one another.
        event: shape of z, where it is not (latent,): a unit may take several values of z, as codes do.
        auxiliary: what the rate counts beside z, for the definitions of figures; '' for nothing.
    """

    deterministic: bool = False
    reparameterised: bool = True
    dependent: bool = False
    event: Shape | None = None
    auxiliary: str = ""


class PriorTraits(LatentTraits):
    """What a prior is, and what it shows the likelihood of z.

    Attributes:
        encodes: whether it encodes images, to have its components at their codes.
        seen: shape of what `see` returns; None where the likelihood sees z itself.
        estimate: what the definitions of figures say where log p(z) is an estimate; '' where it is exact.
    """

    encodes: bool = False
    seen: Shape | None = None
    estimate: str = ""

    def see(self, z: Tensor) -> Tensor:
        """What the likelihood sees of z (*batch, *latent), (*batch, *seen)."""
        return z

    def doubt(self) -> str:
        """How exact log p(z) is, for a record's warnings; only where it is an estimate."""
        return self.estimate


class LikelihoodTraits(Traits):
    """What a likelihood is.

    Attributes:
        support: kinds of measure that it is normalised for.
        started: whether its output bias was set from the training mean.
        facts: what a record has of it beside the configuration, such as the floor of a scale.
        bound: how `log_prob` falls short of log p(x|z), for the definitions of figures; '' where it does not.
        averaged: whether `log_prob`, while gradients are recorded, stands for log p(x|z) in its mean alone, so that
            no sample may be weighed by it.
        width: values that scoring holds for each of an image, about: evaluation takes fewer samples at once.
    """

    support: frozenset[str] = frozenset()
    started: bool = False
    facts: Mapping[str, Any] = {}
    bound: str = ""
    averaged: bool = False
    width: int = 1
