"""Checks that parts and objective are compatible, made when a model is built.

Parts declare traits (`vaebench.traits`); objectives declare requirements by class attributes of
`vaebench.core.Family`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.posteriors.hierarchy import Correcting
from vaebench.traits import EUCLIDEAN, LatentTraits, LikelihoodTraits, PosteriorTraits, PriorTraits

if TYPE_CHECKING:
    from vaebench.core import Family


def require_posterior(family: type[Any], posterior: nn.Module) -> None:
    """Refuses a posterior whose samples, density or weights the objective cannot use.

    Raises:
        UserError: it is of another kind than `POSTERIOR`, or none with gradients; it is deterministic where `DENSITY`
            is needed; its samples depend on one another where the objective wants them `INDEPENDENT`; its weights
            need an objective that is `STRATIFIED`.
    """
    _require_kind(family, "posterior", posterior, family.POSTERIOR)
    name, part, traits = family.__name__, type(posterior).__name__, PosteriorTraits.of(posterior)
    if family.DENSITY and traits.deterministic:
        raise UserError(
            f"{name} needs the density of q(z|x), and {part} is deterministic; set model.posterior to "
            "vaebench.posteriors.DiagonalGaussian"
        )
    if family.INDEPENDENT and traits.dependent:
        raise UserError(
            f"{name} has the right gradient where the samples of an image are independent, and {part} draws them "
            "together, one from each stratum; choose the family iwae or stl, or posterior.components 1"
        )
    if not (family.STRATIFIED or traits.reparameterised):
        raise UserError(
            f"{name} has no gradient for the weights that {part} learns; set posterior.weights to equal, or choose "
            "the family stratified_vae"
        )


def require_prior(family: type[Any], posterior: nn.Module, prior: nn.Module) -> None:
    """Refuses a prior that the objective does not support or that does not match the posterior.

    Raises:
        UserError: it is of another kind than `PRIOR`, or none with gradients; it has fewer levels than the posterior;
            the two live on different spaces.
    """
    _require_kind(family, "prior", prior, family.PRIOR)
    name, part = family.__name__, type(posterior).__name__
    if isinstance(posterior, Correcting) and not posterior.paired:
        raise UserError(
            f"{name} has the posterior {part}, which descends beside a prior of as many levels, and "
            f"{type(prior).__name__} is none; set model.prior to {posterior.beside}"
        )
    spaces = [LatentTraits.of(side).space for side in (posterior, prior)]
    if spaces[0] != spaces[1]:
        raise UserError(
            f"{part} lives on {spaces[0]} and {type(prior).__name__} on {spaces[1]}, so that their densities "
            "cannot be compared; choose a prior on the posterior's space"
        )


def require_weights(family: type[Any], likelihood: nn.Module) -> None:
    """Refuses a likelihood that cannot weigh several samples of an image during training.

    Raises:
        UserError: it is `averaged`.
    """
    if LikelihoodTraits.of(likelihood).averaged:
        raise UserError(
            f"{family.__name__} weighs samples of z by p(x|z), for which the score that {type(likelihood).__name__} "
            "learns by stands only in the mean; set model.k to 1 where there is one, or choose a family that averages "
            "log p(x|z), as vae does"
        )


def require_apart(family: type[Any], prior: nn.Module) -> None:
    """Refuses a prior with components at codes of images, for an objective whose encoder has further inputs.

    Raises:
        UserError: the prior, or a part of it, `encodes` images.
    """
    for part in PriorTraits.within(prior):
        if part.encodes:
            raise UserError(
                f"{family.__name__} encodes an image with its label, and {type(part).__name__} stands at codes of "
                "images alone; set model.prior_of_class to true or choose another prior"
            )


def not_euclidean(part: object) -> str:
    """The space of a part, or of a component of it; '' where that is Euclidean."""
    spaces = [traits.space for traits in LatentTraits.within(part)]
    return next((space for space in spaces if space != EUCLIDEAN), "")


def _require_kind(family: type[Any], side: str, part: nn.Module, wanted: type[Any] | None) -> None:
    who, what = family.__name__, type(part).__name__
    if wanted is None and LatentTraits.of(part).discrete:
        raise UserError(
            f"{who} needs gradients through samples of z, and {what} gives codes, which have none; choose a family of "
            f"codes such as CategoricalVAE or VQVAE, or another {side}"
        )
    if wanted is not None and not isinstance(part, wanted):
        raise UserError(
            f"{who} needs a {side} of the kind {wanted.__name__}, and {what} is none; set model.{side} to one of "
            f"{wanted.__module__}"
        )


def require_groups(family: Family, groups: int | None) -> tuple[int, int]:
    """The shape (groups, units a group) of a family's latent units, or of the levels of its hierarchy.

    Args:
        family: with its posterior and prior built.
        groups: number of groups; None makes every unit, or level, a group.

    Raises:
        UserError: the number of units is not divisible by it, or q or p does not factorise over the units.
    """
    levels = family.hierarchy
    if levels is None:
        family.require_units()
    (units,) = family.prior().event_shape if levels is None else (len(levels),)
    if groups is not None and (groups < 1 or units % groups):
        raise UserError(
            f"{type(family).__name__} cannot split {units} latent units into {groups} equal groups; set model.groups "
            "to a divisor of model.latent"
        )
    return groups or units, units // (groups or units)


def require_classes(family: Family, labels: Tensor | None, of: str) -> None:
    """Refuses labels that a family has no class for; that there are none, its step says.

    Args:
        family: built.
        labels: (n,), or None.
        of: the images that they are of.

    Raises:
        UserError: it has fewer classes.
    """
    if family.classes is None or labels is None:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= family.classes:
        raise UserError(
            f"{type(family).__name__} has {family.classes} classes, and the labels of {of} are {low} to {high}: "
            f"expected 0 to {family.classes - 1} at most; set model.classes to {high + 1}"
        )
