"""How samples of the model and images cover each other, in a space of features."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from vaebench.evaluation.estimators.fidelity import Support, support
from vaebench.evaluation.estimators.moments import average
from vaebench.metrics.samples import FeatureMetric, Network


class _SupportMetric(FeatureMetric):
    def __init__(
        self, features: str | Network = "mnist28", samples: int = 10_000, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(features, samples, seed, **kwargs)
        self.values = torch.empty(0, dtype=torch.float64)

    def _figure(self, made: Tensor, real: Tensor) -> tuple[float, float | None]:
        self.values = self._of(support(made, real)).to(self.device)
        return average(self.values)

    @abstractmethod
    def _of(self, found: Support) -> Tensor:
        """One value a sample or an image."""


class SamplePrecision(_SupportMetric):
    """Share of samples within the third neighbour's distance of some image, in the same features, in [0, 1].

    Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991). It depends on both numbers of images. The standard
    error is over the samples, with the neighbourhoods given.

    Args:
        features, samples, seed, kwargs: as for `FID`.

    Attributes:
        values: 0 or 1 for each sample, of the latest `compute`, float64 (samples,).

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SamplePrecision
        >>> precision = SamplePrecision(lambda x: x.flatten(1)[:, 20:24], samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> bool(precision(model, x) == precision.values.mean())
        True
    """

    higher_is_better = True

    def _of(self, found: Support) -> Tensor:
        return found.precision


class SampleRecall(_SupportMetric):
    """Share of images within the third neighbour's distance of some sample, in the same features, in [0, 1].

    As `SamplePrecision`, with a standard error over the images.

    Args:
        features, samples, seed, kwargs: as for `FID`.

    Attributes:
        values: 0 or 1 for each image, of the latest `compute`, float64 (n,).

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SampleRecall
        >>> recall = SampleRecall(lambda x: x.flatten(1)[:, 20:24], samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> 0 <= float(recall(model, x)) <= 1
        True
    """

    higher_is_better = True

    def _of(self, found: Support) -> Tensor:
        return found.recall


class SampleDensity(_SupportMetric):
    """A fifth of the number of images that a sample is closer to than their fifth neighbour is, in the same features.

    Naeem et al. 2020 (https://arxiv.org/abs/2002.09797): near 1 where samples are distributed as images. The standard
    error is over the samples.

    Args:
        features, samples, seed, kwargs: as for `FID`.

    Attributes:
        values: of each sample, of the latest `compute`, float64 (samples,).

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SampleDensity
        >>> density = SampleDensity(lambda x: x.flatten(1)[:, 20:24], samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> float(density(model, x)) >= 0
        True
    """

    higher_is_better = None

    def _of(self, found: Support) -> Tensor:
        return found.density


class SampleCoverage(_SupportMetric):
    """Share of images with a sample within their fifth neighbour's distance, in the same features, in [0, 1].

    Naeem et al. 2020 (https://arxiv.org/abs/2002.09797), with a standard error over the images.

    Args:
        features, samples, seed, kwargs: as for `FID`.

    Attributes:
        values: 0 or 1 for each image, of the latest `compute`, float64 (n,).

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SampleCoverage
        >>> coverage = SampleCoverage(lambda x: x.flatten(1)[:, 20:24], samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> 0 <= float(coverage(model, x)) <= 1
        True
    """

    higher_is_better = True

    def _of(self, found: Support) -> Tensor:
        return found.coverage
