"""Samples of the model beside images, in a space of features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.conditions import check_count, start_noise
from vaebench.evaluation.estimators.features import Extractor, mnist28
from vaebench.evaluation.estimators.fidelity import JackknifeEstimate, fid, kid, require_comparable
from vaebench.evaluation.estimators.samples import prior_codes, sample_images
from vaebench.metrics.base import WholeMetric

NOISE = b"fidelity"  # that of the harness's measurement


class _SampleMetric(WholeMetric):
    STATES = ("real", "shape")
    higher_is_better = False

    def __init__(
        self,
        features: Callable[[Tensor], Tensor] | None = None,
        samples: int = 10_000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_count("samples", samples)
        super().__init__(seed, **kwargs)
        self.features, self.samples = features, samples

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"real": self._extractor(x)(x), "shape": x[:1]}

    def _extractor(self, x: Tensor) -> Extractor:
        return mnist28(x.shape[1:], x.device) if self.features is None else Extractor("", "", self.features)

    def compute(self) -> Tensor:
        """The distance, float64; `standard_error` is then its standard error by the jackknife over 20 groups.

        Raises:
            UserError: the metric was restored, and not updated since.
            Unavailable: the model cannot be sampled, or fewer than 40 samples or images.
        """
        with self._model(self._joined("shape")[:1]) as (model, x):
            start_noise(NOISE, self.seed % 2**63, x.device)
            made = self._extractor(x)(sample_images(model, prior_codes(model, self.samples)))
        real = self._joined("real").cpu()
        require_comparable(made, real)
        estimate = self._distance(made, real)
        return self._with_error(estimate.value, estimate.se)

    @abstractmethod
    def _distance(self, made: Tensor, real: Tensor) -> JackknifeEstimate:
        """Of features of samples (m, d) and images (n, d)."""


class FID(_SampleMetric):
    """The Fréchet distance between features of samples x ~ p(x|z), z ~ p(z), and of images.

    Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), whose name is for Inception's features only. For images that
    you have sampled yourself, use `torchmetrics.image.FrechetInceptionDistance`.

    Args:
        features: from images (b, *data) in [0, 1], float32, to features (b, d); default: the suite's classifier of
            28 × 28 digits.
        samples: of the prior, drawn in `compute` from the model of the latest update.
        seed: of the samples.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import FID
        >>> distance = FID(lambda x: x.flatten(1)[:, 20:24], samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> float(distance(model, x)) > 0
        True
    """

    def _distance(self, made: Tensor, real: Tensor) -> JackknifeEstimate:
        return fid(made, real)


class KID(_SampleMetric):
    """The squared maximum mean discrepancy between the same features, without bias; it may be negative.

    Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), over all pairs. For images that you have sampled yourself,
    use `torchmetrics.image.KernelInceptionDistance`, which draws random subsets.

    Args:
        features: as for `FID`.
        samples: of the prior, drawn in `compute` from the model of the latest update.
        seed: of the samples.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import KID
        >>> distance = KID(lambda x: x.flatten(1), samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> bool(distance(model, x).isfinite())
        True
    """

    def _distance(self, made: Tensor, real: Tensor) -> JackknifeEstimate:
        return kid(made, real)
