"""The two-stage VAE: a second one learns the codes of the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.errors import UserError
from vaebench.posteriors.hierarchy import BottomUp
from vaebench.priors import PriorFactory, StandardNormal
from vaebench.priors.hierarchy import TopDown, require_levels


@final
class TwoStageVAE(Family):
    r"""Two-stage VAE: first a VAE of the images, then, with that one at rest, a VAE of its codes.

    .. math:: t < T: \; \max_{\phi, \theta} E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| N(0, I)), \qquad
              t \ge T: \; \max E_{q(z|x)\,q(u|z)}\Big[\log \frac{p(u)\,p(z|u)}{q(u|z)}\Big]

    The second raises p(z) to the aggregate of q(z|x), which N(0, I) misses. Together they are a hierarchy over (z, u),
    p(u) p(z|u) p(x|z), whose likelihood is reported like any other's; its bound selects. Nats per image.

    Reference:
        Dai & Wipf 2019, Diagnosing and enhancing VAE models, https://arxiv.org/abs/1903.05789.

    Args:
        data: shape, measure and mean of the images.
        pretrain: T, training steps of the first stage.
        latent: units of z and u together.
        posterior: builds q(z|x) q(u|z), drawn upwards.
        prior: builds p(u) p(z|u).
        parts: likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the posterior is not drawn upwards, or the prior has one level.
    """

    NEUTRAL, STAGES = None, ("pretrain",)

    pretrain: Tensor

    def __init__(
        self,
        data: DataSpec,
        pretrain: float = 4000,
        latent: int = 100,
        posterior: Callable[[Shape, Shape], Conditional] = BottomUp,
        prior: PriorFactory = TopDown,
        **parts: Any,
    ) -> None:
        super().__init__(data, latent=latent, posterior=posterior, prior=prior, **parts)
        require_levels(type(self).__name__, self.posterior, self.prior)
        if not isinstance(self.posterior, BottomUp):
            raise UserError(
                "TwoStageVAE encodes z before u; set model.posterior to vaebench.posteriors.hierarchy.BottomUp"
            )
        self.first = StandardNormal(self.posterior.levels[:1])  # p(z) of the first stage
        self.hyper(pretrain=pretrain)

    def groups(self) -> dict[str, tuple[str, ...]]:
        upper = tuple(f"posterior.nets.{i}." for i in range(1, len(self.posterior.levels)))
        return {"images": ("posterior.nets.0.", "likelihood"), "codes": (*upper, "prior")}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"images": t < self.pretrain, "codes": t >= self.pretrain}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q = self.posterior(x)
        z, log_q = q.rsample_and_log_prob_levels((1,))  # (1, b, latent), (1, b, levels)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate = divergence(next(q.walk()), self.first(), z[..., : q.sizes[0]])  # (b,)
        codes = (log_q[..., 1:].sum(-1) - self.prior().log_prob(z)).mean(0)  # −log p(z) at most, (b,)
        logs = {"elbo": -(distortion + log_q[..., 0].mean(0) + codes).mean(), "distortion": distortion.mean()}
        return Step({"images": (distortion + rate).mean(), "codes": codes.mean()}, logs | {"first_rate": rate.mean()})
