"""The contract between families, training and evaluation. Read this first.

A family is a LightningModule with three parts, which are all that evaluation knows (`LatentModel`):

    posterior:  x (b, *data)         -> q(z|x)
    prior:                           -> p(z)
    likelihood: z (k, b, *latent)    -> p(x|z)

and a pure function, `step`, that says what one training step minimises (`Step`). The base class `Family` owns what
evaluation and training ask of any of them; how it learns is its own base class, `Learner`.

Nats everywhere, summed over pixels and latents, averaged over images. Losses are minimised, bounds maximised.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from zuko.lazy import LazyDistribution as Conditional

from vaebench.core.compatibility import require_posterior, require_prior, require_weights
from vaebench.core.contract import Draw, LatentModel, Step, Terms, draw, fixed_noise
from vaebench.core.learner import Learner
from vaebench.curves import BOUND, LOG_X, OBJECTIVE
from vaebench.distributions import divergence, require_units
from vaebench.distributions.hierarchy import Pass
from vaebench.errors import Unavailable, absence
from vaebench.likelihoods import Likelihood, generative, is_surrogate, natural
from vaebench.measures import BINARY, CONTINUOUS, DISCRETE, DataSpec, Shape, require_kind
from vaebench.posteriors import DiagonalGaussian
from vaebench.posteriors.hierarchy import Descending
from vaebench.priors import PriorFactory, StandardNormal
from vaebench.ranges import POSITIVE, Range, require_ranges
from vaebench.schedules import Schedule
from vaebench.traits import PosteriorTraits

__all__ = ["Conditional", "DataSpec", "Family", "Shape"]  # fmt: skip


class Family(Learner, ABC):
    """One family of VAEs: three parts and a pure `step`.

    A subclass writes `__init__` (calling `super().__init__(data, **parts)`, then `self.hyper(...)` for scalars that a
    sweep may vary) and `step`. It is final: families do not inherit from one another.

    Args:
        data: shape, measure and mean of the images; comes from the data module.
        latent: number of latent units.
        posterior: builds q(z|x) from the shapes of an image and of a latent.
        prior: builds p(z) from the shape of a latent, the data and the posterior, which most priors do not read.
        likelihood: builds p(x|z) from the shape of a latent and `data`; None takes the natural one of the data's
            measure: Bernoulli for binary images, discretised logistic for levels, Gaussian for continuous ones.
        lr: learning rate; a group of its own may have one in a buffer `lr_<group>`.
        clip: largest norm of a group's gradient; None does not clip.
        surrogate: accept a likelihood that is not normalised for the data's measure. Such a model trains, but its
            records are flagged and never share a leaderboard with likelihoods.
        keep: which weights a run ends with: 'last', or 'best' by the held-out objective once it is `settled`; None
            takes the last, or the best where training stops early.

    Attributes:
        NEUTRAL: settings at which the objective is the ELBO, for the laws; None where there are none.
        RANGES: what numbers a setting may be, where not at least 1 (whole) or at least 0; see `vaebench.ranges`.
        EXACT_GRADIENT: whether a step's gradient is the derivative of its loss under the same noise; estimators such as
            DReG promise that only in the mean.
        DENSITY: whether the objective scores q(z|x); those that only sample it take a deterministic encoder too.
        STRATIFIED: whether the objective sums over the components of a mixture, as its weights need to learn.
        INDEPENDENT: whether the objective needs the samples of an image to be independent of one another.
        STAGES: buffers that hold how many steps a stage takes which ends before training does.
        KINDS: kinds of measure whose images the objective takes.
        POSTERIOR, PRIOR: what the two must be; None takes any whose z are real numbers.
        STRAIGHT_THROUGH: name prefixes of parameters that learn by a straight-through gradient, which is nobody's
            derivative; the laws hold for all others.

    Raises:
        UserError: the likelihood is not normalised for the data's measure and `surrogate` is off, the objective does
            not take such images, or one of its parts (see `core.compatibility`), or a number is outside its range.
    """

    NEUTRAL: ClassVar[Mapping[str, Any] | None] = {}
    RANGES: ClassVar[Mapping[str, Range]] = {"clip": POSITIVE}
    EXACT_GRADIENT: ClassVar[bool] = True
    DENSITY: ClassVar[bool] = True
    STRATIFIED: ClassVar[bool] = False
    INDEPENDENT: ClassVar[bool] = False
    STAGES: ClassVar[tuple[str, ...]] = ()
    KINDS: ClassVar[frozenset[str]] = frozenset({BINARY, DISCRETE, CONTINUOUS})
    POSTERIOR: ClassVar[type[Conditional] | None] = None
    PRIOR: ClassVar[type[Conditional] | None] = None
    STRAIGHT_THROUGH: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        data: DataSpec,
        latent: int = 50,
        posterior: Callable[[Shape, Shape], Conditional] = DiagonalGaussian,
        prior: PriorFactory = StandardNormal,
        likelihood: Callable[[Shape, DataSpec], Likelihood] | None = None,
        lr: float = 1e-3,
        clip: float | None = None,
        surrogate: bool = False,
        keep: Literal["last", "best"] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # of the subclass too
        require_ranges(type(self), self.hparams, "model.")
        self.hparams["data"] = data.config
        require_kind(type(self).__name__, data, self.KINDS)
        self.posterior = posterior(data.shape, (latent,))
        require_posterior(type(self), self.posterior)
        shape = PosteriorTraits.of(self.posterior).event or (latent,)
        self.prior = prior(shape, data, self.posterior)
        require_prior(type(self), self.posterior, self.prior)
        self.likelihood = generative(self.prior, likelihood or natural(data), shape, data)
        self.data, self.surrogate = data, is_surrogate(self.likelihood, data, surrogate)
        self.hyper(lr=lr)
        self.clip, self.keep = clip, keep

    def hyper(self, **scalars: float) -> None:
        """Registers scalars as 0-dim buffers, so that members of a population may differ in them."""
        for name, value in scalars.items():
            self.register_buffer(name, torch.tensor(float(value)))

    def require_units(self) -> None:
        """Refuses a posterior or prior that does not factorise over the latent units; see the function of that name."""
        require_units(type(self).__name__, self.posterior, self.prior, torch.zeros(1, *self.data.shape))

    def require_weights(self) -> None:
        """Refuses a likelihood by which samples cannot be weighed; see the function of that name."""
        require_weights(type(self), self.likelihood)

    @abstractmethod
    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        """The losses of one batch. Pure and vmap-safe: reads parameters, buffers and arguments; branches on no value.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            t: training step, 0-dim, from 0: batches learnt from before this one.
        """

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Parameter groups by name prefix, each learning from its own loss; default: one, 'model', with everything.

        A group may be empty, as that of a prior that has nothing to learn.
        The first group's loss is the objective, which is −ELBO at the `NEUTRAL` setting.
        """
        return {"model": ("",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        """Which groups learn at step t, as 0-dim booleans; a group that is not named always does."""
        return {}

    def settled(self) -> float:
        """The step from which neither the objective nor which groups learn changes; inf where that never comes.

        Default: when the stages that `STAGES` names, and after them the last of its schedules, have ended. A family
        whose objective follows the training itself overrides it.
        """
        stages = sum(float(self.get_buffer(name)) for name in self.STAGES)
        return stages + max((module.end for module in self.modules() if isinstance(module, Schedule)), default=0.0)

    def given(self, y: Tensor | None) -> LatentModel:
        """The model conditioned on labels y (b,), or refusing to be without them; default: itself."""
        return self

    def terms(self, x: Tensor, y: Tensor | None = None, k: int = 1, q: Distribution | None = None) -> Terms:
        """Samples the posterior of each image k times: what most objectives are made of.

        Labels condition the model through `given`. A hierarchy whose posterior descends beside its prior is drawn in
        one top-down pass, its rate in closed form level by level.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            k: samples per image.
            q: q(z|x) where it is at hand; None asks the posterior.
        """
        model = self.given(y)
        q, p = model.posterior(x) if q is None else q, model.prior()
        if (down := self.descent(x, k)) is not None:
            distortion, rate = -self.likelihood(down.z).log_prob(x).mean(0), down.rates.sum(-1).mean(0)
            return Terms(q, p, down.z, distortion, rate, down.rates)
        z = q.rsample(torch.Size((k,)))
        return Terms(q, p, z, -model.likelihood(z).log_prob(x).mean(0), divergence(q, p, z))

    def descent(self, x: Tensor, k: int = 1) -> Pass | None:
        """One top-down pass of a hierarchy whose posterior descends beside its prior; None for any other model."""
        return None if self.hierarchy is None else cast(Descending, self.posterior).descend(x, k)

    @property
    def hierarchy(self) -> tuple[int, ...] | None:
        """Units of every level of a hierarchy whose posterior descends beside its prior; None for any other model."""
        if isinstance(self.posterior, Descending) and self.posterior.paired:
            return self.posterior.levels
        return None

    def draw(self, x: Tensor, k: int = 1) -> Draw:
        """k samples of the posterior of each image, scored; a hierarchy's in one top-down pass."""
        if (down := self.descent(x, k)) is not None:
            return Draw(down.z, down.log_q.sum(-1), down.log_p.sum(-1), self.likelihood(down.z).log_prob(x))
        return draw(self, x, k)

    @property
    def draws_whole(self) -> bool:
        """Whether `draw` does more than to ask the three parts one after another."""
        return self.hierarchy is not None or type(self).draw is not Family.draw

    def averages(self) -> Mapping[str, Tensor]:
        """Averaged weights by the parameters' names, with which a model is measured; default: none."""
        return {}

    def forward(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        """`step`, for `torch.func.functional_call`."""
        return self.step(x, y, t)

    # Validation ---------------------------------------------------------------------------------------------------

    def held_out(self, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
        """The bound of images and the objective, 'val/objective', both 0-dim, under the same noise.

        With the averaged weights of a family that has them. The noise of the process is left as it was.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            t: the step whose objective is meant, 0-dim; see `final`.
            seed: of the noise.
        """
        weights = {f"family.{name}": value for name, value in self.averages().items()}
        return cast("dict[str, Tensor]", functional_call(_HeldOut(self), weights, (x, y, t, seed)))

    def bound(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """The β = 1 bound of images, 'val/elbo', nats, 0-dim, by one sample of z an image.

        Where the posterior has no density there is no bound: then log p(x|z), 'val/log_x'.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.

        Raises:
            UserError: torch lacks an operation of the model's for its precision or on its device.
        """
        model = self.given(y)
        with suppress(Unavailable), absence("the posterior or the prior has no density"):
            return {BOUND: (self.draw(x) if model is self else draw(model, x)).log_w.mean()}
        z = model.posterior(x).rsample(torch.Size((1,)))
        return {LOG_X: model.likelihood(z).log_prob(x).mean()}

    def objective(self, x: Tensor, y: Tensor | None, t: Tensor) -> Tensor:
        """What training maximises at step t, 0-dim: the negative loss of the first group that learns then.

        Args:
            x, y, t: as `step` takes them.
        """
        losses, active = self.step(x, y, t).losses, self.active(t)
        *others, last = self.groups()
        value = losses[last]
        for name in reversed(others):
            value = torch.where(active[name], losses[name], value) if name in active else losses[name]
        return -value

    @property
    def final(self) -> float:
        """The step whose objective validation measures: one at which it is settled; the present one if it never is."""
        settled = self.settled()
        return settled if math.isfinite(settled) else float(self.steps)


class _HeldOut(nn.Module):
    """A family whose call is what validation measures of it."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
        with fixed_noise(seed, x.device):
            bound = self.family.bound(x, y)
        with fixed_noise(seed, x.device):
            return bound | {OBJECTIVE: self.family.objective(x, y, t)}
