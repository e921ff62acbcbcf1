"""The aggregate posterior: information of the code about the image, and dependence between units."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.conditions import check_count
from vaebench.evaluation.estimators.aggregate import (
    AggregateDensities,
    AggregateSamples,
    aggregate_densities,
    aggregate_samples,
    require_factors,
    require_finite,
)
from vaebench.evaluation.estimators.moments import average
from vaebench.metrics.base import WholeMetric


class _AggregateMetric(WholeMetric):
    STATES = ("images", "labels")
    higher_is_better = None

    def __init__(self, samples: int = 1000, seed: int = 0, **kwargs: Any) -> None:
        check_count("samples", samples)
        super().__init__(seed, **kwargs)
        self.samples = samples

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"images": raw}

    def compute(self) -> Tensor:
        """The figure, nats, float64; `standard_error` is then its standard error over the samples.

        Raises:
            UserError: the metric was restored, and not updated since.
            Unavailable: the posterior has no density.
        """
        with self._model(self._joined("images")) as (model, x):
            drawn = aggregate_samples(model, x, self.samples, self.seed)
            sampled = aggregate_densities(*drawn)
            require_finite(sampled, drawn.own)
            return self._with_error(*average(self._figures(sampled, drawn)))

    @abstractmethod
    def _figures(self, sampled: AggregateDensities, drawn: AggregateSamples) -> Tensor:
        """One figure a sample."""


class MutualInformation(_AggregateMetric):
    r"""The mutual information of an image's index and its code, nats, at most the log of the number of images.

    .. math:: I = \frac1N \sum_n KL(q(z|x_n) \| q(z)), \quad q(z) = \frac1N \sum_n q(z|x_n)

    Hoffman & Johnson 2016 (http://approximateinference.org/2016/accepted/HoffmanJohnson2016.pdf): all N images are
    components, which are stored, and the expectation is over samples of some. For the population of images it is too
    low in expectation. N × samples densities are computed in `compute`, with the model of the latest update.

    Args:
        samples: at most so many images, evenly spaced, whose posterior is sampled once.
        seed: of the samples.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import MutualInformation
        >>> information, x = MutualInformation(), torch.rand(10, 1, 8, 8).round()
        >>> float(information(vb.build("vae", "digits", latent=2), x)) <= torch.tensor(10.0).log()
        tensor(True)
    """

    def _figures(self, sampled: AggregateDensities, drawn: AggregateSamples) -> Tensor:
        return sampled.information


class TotalCorrelation(_AggregateMetric):
    r"""The total correlation of the aggregate posterior's units, :math:`KL(q(z) \| \prod_j q(z_j))`, nats.

    Chen et al. 2018 (https://arxiv.org/abs/1802.04942), with all images as components as in `MutualInformation`.

    Args:
        samples: at most so many images, evenly spaced, whose posterior is sampled once.
        seed: of the samples.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import TotalCorrelation
        >>> correlation, x = TotalCorrelation(samples=5), torch.rand(10, 1, 8, 8).round()
        >>> bool(correlation(vb.build("vae", "digits", latent=2), x).isfinite())
        True
    """

    def _figures(self, sampled: AggregateDensities, drawn: AggregateSamples) -> Tensor:
        require_factors(drawn.posteriors[0])
        return sampled.correlation
