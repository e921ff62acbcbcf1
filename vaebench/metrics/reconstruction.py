"""Quality of mean reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import UserError, unknown
from vaebench.evaluation.conditions import check_count
from vaebench.evaluation.estimators.lpips import lpips, read_lpips
from vaebench.evaluation.estimators.reconstruction import SCALES, decibels, image_ms_ssim, mse, reconstruct, ssim
from vaebench.metrics.base import ImageMetric, Kept

Distance = Callable[[Tensor, Tensor], Tensor]


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


class MSSSIM(ImageMetric):
    """Multi-scale structural similarity of the same reconstruction, in (0, 1], for images of 176 × 176 pixels and more.

    Wang, Simoncelli & Bovik 2003 (https://doi.org/10.1109/ACSSC.2003.1292216), with the window of `SSIM` at each scale.
    Fewer scales than their five, with the first of their exponents divided by their sum, give another figure, which
    smaller images have: s scales need 11 · 2^(s − 1) pixels.

    Args:
        scales: 1 to 5.
        seed: as for `MSE`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import MSSSIM
        >>> MSSSIM()(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())
        Traceback (most recent call last):
        vaebench.errors.Unavailable: at the coarsest of 5 scales SSIM's window is 176 pixels of the image across, ...
    """

    STATES = ("ms_ssim",)
    higher_is_better = True

    def __init__(self, scales: int = SCALES, seed: int = 0, **kwargs: Any) -> None:
        check_count("scales", scales)
        if scales > SCALES:
            raise UserError(f"scales is {scales}: expected 1 to {SCALES}, which MS-SSIM has; lower it")
        super().__init__(seed, **kwargs)
        self.scales = scales

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"ms_ssim": image_ms_ssim(x, reconstruct(model, x, self.seed).images, self.scales)}

    def _values(self) -> Tensor:
        return self._joined("ms_ssim")


class LPIPS(ImageMetric):
    """The perceptual distance of the same reconstruction, clipped to [0, 1], from its image, at least 0.

    Zhang et al. 2018 (https://arxiv.org/abs/1801.03924), version 0.1 with AlexNet, whose weights are read once from the
    folder of `VAEBENCH_WEIGHTS`; torchmetrics' class takes them from torchvision. For your own reconstructions, use
    `torchmetrics.image.LearnedPerceptualImagePatchSimilarity`.

    Args:
        network: 'alexnet', for images of one channel or three, at least 31 pixels across, or a function from images x
            and y (b, *data) in [0, 1], float32, to their distances (b,).
        seed: as for `MSE`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import LPIPS
        >>> distance = LPIPS(lambda x, y: (x - y).abs().flatten(1).mean(1))
        >>> float(distance(vb.build("vae", "digits", latent=2), torch.rand(10, 1, 8, 8).round())) > 0
        True
    """

    STATES = ("lpips",)
    higher_is_better = False

    def __init__(self, network: Literal["alexnet"] | Distance = "alexnet", seed: int = 0, **kwargs: Any) -> None:
        if not callable(network) and network != "alexnet":
            raise unknown("network of LPIPS", str(network), ("alexnet",), "Give that one, or a function.")
        super().__init__(seed, **kwargs)
        self.network = network
        self._networks: Kept[Distance] = Kept()

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        network, shape = self.network, tuple(x.shape[1:])
        if not callable(network):
            network = self._networks.of((shape, x.device), lambda: read_lpips(shape, x.device)[0])
        return {"lpips": lpips(network, x, reconstruct(model, x, self.seed).images)}

    def _values(self) -> Tensor:
        return self._joined("lpips")
