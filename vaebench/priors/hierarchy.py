"""A prior of several levels: p(z) = p(z_L) Π_i p(z_i|z_{i+1}) as a `Hierarchy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, final

from torch import Tensor, nn
from torch.distributions import Distribution
from zuko.lazy import LazyDistribution

from vaebench.distributions.hierarchy import Hierarchy, Walk, gaussian
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.networks import MLP, Network
from vaebench.networks.unregistered import Shared
from vaebench.posteriors import Posterior
from vaebench.posteriors.hierarchy import Descending, Topped
from vaebench.priors import Prior, PriorFactory, StandardNormal
from vaebench.traits import LatentTraits, PosteriorTraits


@final
class TopDown(Prior):
    r"""p(z) = p(z_L) \prod_i p(z_i|z_{i+1}): a prior over the highest level, and a diagonal Gaussian for each below.

    Reference:
        Burda et al. 2016 (https://arxiv.org/abs/1509.00519), section 5.

    Args:
        latent: shape of the whole latent, (n_1 + … + n_L,).
        data: passed to the prior over the highest level.
        posterior: determines the levels, one if it is not hierarchical; a top-down posterior receives this prior.
        net: builds the networks between levels.
        top: builds p(z_L) from (n_L,), the data and q(z_L|x).
        whole: whether the likelihood reads all levels, p(x|z_1 … z_L), or only the lowest, p(x|z_1).

    """

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        posterior: LazyDistribution,
        net: Callable[[Shape, Shape], Network] = MLP,
        top: PriorFactory = StandardNormal,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.levels = PosteriorTraits.of(posterior).levels or latent
        self.top = top((self.levels[-1],), data, _Top(posterior))
        above = zip(self.levels[1:], self.levels[:-1], strict=True)
        self.nets = nn.ModuleList(net((a,), (2 * b,)) for a, b in above)
        self.seen = latent if whole else (self.levels[0],)
        if isinstance(posterior, Descending):
            posterior.meet(self)

    def forward(self, c: Tensor | None = None) -> Hierarchy:
        def walk() -> Walk:
            z = yield self.top()
            for net in list(self.nets)[::-1]:
                z = yield gaussian(net(z))

        return Hierarchy(walk, self.levels, "down")

    def see(self, z: Tensor) -> Tensor:
        """The likelihood's view of z (*, n_1 + … + n_L): its first units, (*, *seen)."""
        return z[..., : cast(Shape, self.seen)[0]]


class _Top(Posterior):
    """q(z_L|x) of a hierarchical posterior, for priors that are mixtures of posteriors.

    Args:
        posterior: hierarchical; referenced, not registered.
    """

    def __init__(self, posterior: LazyDistribution) -> None:
        super().__init__()
        self.posterior = Shared(posterior)

    def forward(self, c: Tensor | None = None) -> Distribution:
        posterior = self.posterior.module
        if not isinstance(posterior, Topped):
            raise UserError(
                f"the prior over the highest level is made of q(z_L|x), which {type(posterior).__name__} does not "
                "give in closed form; set model.posterior to vaebench.posteriors.hierarchy.TopDown"
            )
        return posterior.top(cast(Tensor, c))


def require_levels(who: str, *parts: nn.Module) -> None:
    """Requires a posterior and a prior of several levels when a model is built.

    Args:
        who: subject of the message.
        parts: of the model.

    Raises:
        UserError: a part with one level.
    """
    for part in parts:
        if len(LatentTraits.of(part).levels) < 2:
            raise UserError(
                f"{who} needs a posterior and a prior of several levels, and {type(part).__name__} has one; choose "
                "vaebench.posteriors.hierarchy.BottomUp, TopDown or Ladder, and vaebench.priors.hierarchy.TopDown"
            )
