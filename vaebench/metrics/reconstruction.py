"""Quality of mean reconstructions."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators.reconstruction import decibels, mse, reconstruct, ssim
from vaebench.metrics.base import ImageMetric


class _SquaredErrorMetric(ImageMetric):
    STATES = ("mse",)

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"mse": mse(x, reconstruct(model, x, self.seed).images)}


class MSE(_SquaredErrorMetric):
    """Mean squared error of E[x|z] at the posterior's mean z, or at one sample where it has none.

    For your own reconstructions, use `torchmetrics.MeanSquaredError`.

    Args:
        seed: of that sample.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import MSE
        >>> error = MSE()
        >>> 0 < float(error(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())) < 1
        True
    """

    higher_is_better = False

    def _values(self) -> Tensor:
        return self._joined("mse")


class PSNR(_SquaredErrorMetric):
    """Peak signal-to-noise ratio of the same reconstruction, dB: the mean over images of −10 log10 of their error.

    For your own reconstructions, use `torchmetrics.image.PeakSignalNoiseRatio(data_range=1)` with a `dim`.

    Args:
        seed: as for `MSE`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import PSNR
        >>> float(PSNR()(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())) > 0
        True
    """

    higher_is_better = True

    def _values(self) -> Tensor:
        return decibels(self._joined("mse"))


class SSIM(ImageMetric):
    """Structural similarity of the same reconstruction, at most 1, for images of 11 × 11 pixels and more.

    It equals scikit-image's with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0``. For
    your own reconstructions, use `torchmetrics.image.StructuralSimilarityIndexMeasure`.

    Args:
        seed: as for `MSE`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SSIM
        >>> SSIM()(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())
        Traceback (most recent call last):
        vaebench.errors.Unavailable: SSIM's window is 11 pixels across, and the images are 8 × 8
    """

    STATES = ("ssim",)
    higher_is_better = True

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"ssim": ssim(x, reconstruct(model, x, self.seed).images)}

    def _values(self) -> Tensor:
        return self._joined("ssim")
