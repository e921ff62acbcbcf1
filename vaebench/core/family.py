"""The contract between families, training and evaluation.

A family is a LightningModule with three parts, the whole interface of evaluation (`LatentModel`):

    posterior:  x (b, *data)         -> q(z|x)
    prior:                           -> p(z)
    likelihood: z (k, b, *latent)    -> p(x|z)

and a pure function, `step`, that returns the losses of one training step (`Step`). The base class `Family` has all that
families share; its own base class, `Learner`, has the training loop.

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
        prior: builds p(z) from the shape of a latent, the data and the posterior, which most priors ignore.
        likelihood: builds p(x|z) from the shape of a latent and `data`; None uses the natural one of the data's
            measure: Bernoulli for binary images, discretised logistic for levels, Gaussian for continuous ones.
        lr: learning rate; a buffer `lr_<group>` overrides it for a group.
        clip: largest norm of a group's gradient; None does not clip.
        surrogate: accept a likelihood that is not normalised for the data's measure. Such a model trains, but its
            records are flagged and never share a leaderboard with likelihoods.
        keep: weights that a run ends with: 'last', or 'best' by the held-out objective once it is `settled`; None is
            'last', or 'best' with early stopping.

    Attributes:
        NEUTRAL: settings at which the objective is the ELBO, for the laws; None where there are none.
        RANGES: ranges of settings, by default at least 1 for whole numbers and at least 0 for others; see
            `vaebench.ranges`.
        EXACT_GRADIENT: whether a step's gradient is the derivative of its loss under the same noise; for estimators
            such as DReG this holds only in expectation.
        DENSITY: whether the objective scores q(z|x); those that only sample it support deterministic encoders too.
        STRATIFIED: whether the objective sums over the components of a mixture, which training its weights requires.
        INDEPENDENT: whether the objective needs independent samples of each image.
        STAGES: buffers with the numbers of steps of stages that end before training does.
        KINDS: supported kinds of measure.
        POSTERIOR, PRIOR: required base classes; None allows any with real-valued z.
        STRAIGHT_THROUGH: name prefixes of parameters with a straight-through gradient, which is not a derivative; the
            laws on gradients exclude them.
        classes: number of labels, 0 to classes − 1; None for families that use none.

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
    classes: int | None = None

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
        """Registers scalars as 0-dim buffers, in which members of a population may differ."""
        for name, value in scalars.items():
            self.register_buffer(name, torch.tensor(float(value)))

    def require_units(self) -> None:
        """Refuses a posterior or prior that does not factorise over units; see `distributions.require_units`."""
        require_units(type(self).__name__, self.posterior, self.prior, torch.zeros(1, *self.data.shape))

    def require_weights(self) -> None:
        """Refuses a likelihood that cannot weigh samples; see `core.compatibility.require_weights`."""
        require_weights(type(self), self.likelihood)

    @abstractmethod
    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        """The losses of one batch: a pure function of parameters, buffers and arguments, without branches on values.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            t: training step, 0-dim: number of earlier training batches.
        """

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Parameter groups by name prefix, each with its own loss; default: one, 'model', with all parameters.

        A group may be empty, such as that of a prior without parameters. The first group's loss is the objective, which
        is −ELBO at the `NEUTRAL` setting.
        """
        return {"model": ("",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        """Which groups train at step t, as 0-dim booleans; groups that are not named always do."""
        return {}

    def settled(self) -> float:
        """The step from which the objective and the active groups are constant; inf if they never are.

        Default: the end of the stages in `STAGES` and then of all schedules. A family whose objective keeps adapting
        overrides it.
        """
        stages = sum(float(self.get_buffer(name)) for name in self.STAGES)
        return stages + max((module.end for module in self.modules() if isinstance(module, Schedule)), default=0.0)

    def given(self, y: Tensor | None) -> LatentModel:
        """The model conditioned on labels y (b,); default: the model itself."""
        return self

    def terms(self, x: Tensor, y: Tensor | None = None, k: int = 1, q: Distribution | None = None) -> Terms:
        """Samples the posterior of each image k times, and computes distortion and rate.

        Labels condition the model through `given`. A top-down hierarchy is sampled in one pass of posterior and prior,
        with its rate in closed form level by level.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            k: samples per image.
            q: q(z|x), if already computed; None computes it.
        """
        model = self.given(y)
        q, p = model.posterior(x) if q is None else q, model.prior()
        if (down := self.descent(x, k)) is not None:
            distortion, rate = -self.likelihood(down.z).log_prob(x).mean(0), down.rates.sum(-1).mean(0)
            return Terms(q, p, down.z, distortion, rate, down.rates)
        z = q.rsample(torch.Size((k,)))
        return Terms(q, p, z, -model.likelihood(z).log_prob(x).mean(0), divergence(q, p, z))

    def descent(self, x: Tensor, k: int = 1) -> Pass | None:
        """One top-down pass of posterior and prior of a hierarchy; None for any other model."""
        return None if self.hierarchy is None else cast(Descending, self.posterior).descend(x, k)

    @property
    def hierarchy(self) -> tuple[int, ...] | None:
        """Units of every level of a top-down hierarchy; None for any other model."""
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
        """Whether `draw` is more than a call of the three parts in turn."""
        return self.hierarchy is not None or type(self).draw is not Family.draw

    def averages(self) -> Mapping[str, Tensor]:
        """Averaged weights for evaluation, by the parameters' names; default: none."""
        return {}

    def forward(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        """`step`, for `torch.func.functional_call`."""
        return self.step(x, y, t)

    # Validation ---------------------------------------------------------------------------------------------------

    def held_out(self, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
        """The bound of images and the objective, 'val/objective', both 0-dim, under the same noise.

        Uses the averaged weights of a family that has them, and leaves the random state unchanged.

        Args:
            x: images, (b, *data).
            y: labels, (b,), or None.
            t: step of the objective, 0-dim; see `final`.
            seed: of the noise.
        """
        weights = {f"family.{name}": value for name, value in self.averages().items()}
        return cast("dict[str, Tensor]", functional_call(_HeldOut(self), weights, (x, y, t, seed)))

    def bound(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """The β = 1 bound of images, 'val/elbo', nats, 0-dim, by one sample of z an image.

        A posterior without a density has no bound, and log p(x|z), 'val/log_x', replaces it.

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
        """The objective at step t, 0-dim: the negative loss of the first active group.

        Args:
            x, y, t: as in `step`.
        """
        losses, active = self.step(x, y, t).losses, self.active(t)
        *others, last = self.groups()
        value = losses[last]
        for name in reversed(others):
            value = torch.where(active[name], losses[name], value) if name in active else losses[name]
        return -value

    @property
    def final(self) -> float:
        """The step of the objective in validation: where it has settled, or the current step if it never does."""
        settled = self.settled()
        return settled if math.isfinite(settled) else float(self.steps)


class _HeldOut(nn.Module):
    """A family whose call returns its validation metrics."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self, x: Tensor, y: Tensor | None, t: Tensor, seed: int) -> dict[str, Tensor]:
        with fixed_noise(seed, x.device):
            bound = self.family.bound(x, y)
        with fixed_noise(seed, x.device):
            return bound | {OBJECTIVE: self.family.objective(x, y, t)}
