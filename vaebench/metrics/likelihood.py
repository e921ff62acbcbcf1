"""The ELBO and its two terms, and log p(x) by importance sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import check_count, for_images
from vaebench.evaluation.contract import specification
from vaebench.evaluation.estimators import refined
from vaebench.evaluation.estimators.joint import differentiable, require_gaussian
from vaebench.evaluation.estimators.latents import read_latents
from vaebench.evaluation.estimators.likelihood import (
    bits_per_dim,
    estimate,
    has_one_code,
    no_density,
    sampled_distortion,
)
from vaebench.evaluation.estimators.weights import TRUSTED
from vaebench.metrics.base import ImageMetric


class _BoundMetric(ImageMetric):
    """Metrics of the same samples, which a `MetricCollection` draws once for all of equal k and seed."""

    STATES = ("distortion", "rate")

    def __init__(self, k: int = 16, seed: int = 0, **kwargs: Any) -> None:
        check_count("k", k)
        super().__init__(seed, **kwargs)
        self.k = k

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        closed = read_latents(model, x).rate
        if no_density(model, x):
            distortion = sampled_distortion(model, x, self.k, self.seed)
            sampled = torch.full_like(distortion, torch.nan)
        else:
            samples = estimate(model, raw, 1 if has_one_code(model, x) else self.k, self.seed)
            distortion, sampled = samples.distortion, samples.rate
        return {"distortion": distortion, "rate": sampled if closed is None else closed}

    def _rates(self) -> Tensor:
        rates = self._joined("rate")
        if torch.isnan(rates).any():
            raise Unavailable(
                f"{type(self).__name__} needs densities of the posterior and the prior, or their divergence in closed "
                "form, and the model has neither, or gives NaN"
            )
        return rates


class ELBO(_BoundMetric):
    r"""The evidence lower bound of log p(x) at β = 1, nats per image.

    .. math:: E_q[\log p(x|z)] - KL(q(z|x) \| p(z))

    The divergence is in closed form where there is one, otherwise from the same samples.

    Args:
        k: samples of q(z|x) per image.
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import ELBO, Distortion, Rate
        >>> from torchmetrics import MetricCollection
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round()
        >>> measures = MetricCollection([ELBO(), Rate(), Distortion()])
        >>> for batch in x.split(4):
        ...     measures.update(model, batch)
        >>> figures = measures.compute()
        >>> bool(torch.isclose(figures["ELBO"], -figures["Rate"] - figures["Distortion"]))
        True
        >>> measures["ELBO"].values.shape, bool(measures["ELBO"].standard_error > 0)
        (torch.Size([10]), True)
    """

    higher_is_better = True

    def _values(self) -> Tensor:
        return -(self._rates() + self._joined("distortion"))


class Rate(_BoundMetric):
    r"""The rate, :math:`KL(q(z|x) \| p(z))`, nats per image, in closed form where there is one.

    Args:
        k: samples of q(z|x) per image, for a rate without a closed form.
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import Rate
        >>> rate = Rate()
        >>> bool(rate(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round()) >= 0)
        True
    """

    higher_is_better = None

    def _values(self) -> Tensor:
        return self._rates()


class Distortion(_BoundMetric):
    r"""The distortion, :math:`-E_q[\log p(x|z)]`, nats per image, mean of k samples.

    Args:
        k: samples of q(z|x) per image.
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import Distortion
        >>> distortion = Distortion(k=4)
        >>> bool(distortion(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round()) > 0)
        True
    """

    higher_is_better = False

    def _values(self) -> Tensor:
        return self._joined("distortion")


class _LikelihoodMetric(ImageMetric):
    """Metrics of log p(x), which a `MetricCollection` estimates once for all of equal k, proposal and seed."""

    STATES = ("log_likelihood", "pareto_k", "dimensions")

    def __init__(self, k: int = 500, proposal: refined.Proposal = "encoder", seed: int = 0, **kwargs: Any) -> None:
        check_count("k", k)
        refined.check_proposal(proposal)
        super().__init__(seed, **kwargs)
        self.k, self.proposal = k, proposal

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        if self.proposal == "refined":
            with differentiable():
                require_gaussian(for_images(model, slice(0, 1)), x[:1].clone())
            refinements = refined.estimate(model, raw, self.k, self.seed)
            bound, shape = refinements.log_likelihood, refinements.pareto_k
        else:
            if reason := no_density(model, x):
                raise Unavailable(reason)
            samples = estimate(model, raw, 1 if has_one_code(model, x) else self.k, self.seed)
            bound, shape = samples.log_likelihood, samples.pareto_k
        dimensions = torch.full((len(x),), float(x[0].numel()), dtype=torch.float64)
        return {"log_likelihood": bound, "pareto_k": shape, "dimensions": dimensions}

    @property
    def untrusted(self) -> int:
        """Number of images of this process with an unreliable estimate: Pareto k̂ of their weights above 0.7."""
        return int((self._joined("pareto_k") > TRUSTED).sum())


class ImportanceWeightedLogLikelihood(_LikelihoodMetric):
    r"""The importance-weighted estimate of log p(x), nats per image.

    .. math:: L_K(x) = \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    A lower bound in expectation, tight as K grows (Burda et al. 2016, https://arxiv.org/abs/1509.00519). The standard
    error is that of the mean over images; `untrusted` counts images with unreliable estimates.

    Args:
        k: samples per image.
        proposal: q: 'encoder' is q(z|x), 'refined' a Gaussian fitted to each image under p alone, so that the value
            does not depend on the encoder; the fit costs as much as about a hundred samples.
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        UserError: k is below 1, or there is no such proposal.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import ImportanceWeightedLogLikelihood
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round()
        >>> measure = ImportanceWeightedLogLikelihood(k=50)
        >>> for batch in x.split(4):
        ...     measure.update(model, batch)
        >>> bool(torch.isclose(measure.compute(), vb.log_likelihood(model, x, k=50).mean()))
        True
    """

    higher_is_better = True

    def _values(self) -> Tensor:
        return self._joined("log_likelihood")


class BitsPerDim(_LikelihoodMetric):
    r"""Bits per dimension, :math:`-L_K(x) / (D \ln 2)`, for images on finitely many levels.

    Args:
        k: samples per image.
        proposal: as for `ImportanceWeightedLogLikelihood`.
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import BitsPerDim
        >>> bits = BitsPerDim(k=10)
        >>> 0 < float(bits(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())) < 5
        True
    """

    higher_is_better = False

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        spec = specification(model)
        if spec is not None and spec.levels is None:
            raise Unavailable("a density over continuous images has no bits")
        return super()._read(model, raw, x)

    def _values(self) -> Tensor:
        return bits_per_dim(self._joined("log_likelihood"), int(self._joined("dimensions")[0]))
