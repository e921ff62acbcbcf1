"""Samples of the model beside images, in a space of features, and by themselves in one of classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import UserError, unknown
from vaebench.evaluation.conditions import check_count, start_noise
from vaebench.evaluation.estimators.features import NAMED, Extractor, Mnist28, inception
from vaebench.evaluation.estimators.fidelity import fid, inception_score, kid, require_comparable
from vaebench.evaluation.estimators.samples import prior_codes, sample_images
from vaebench.metrics.base import Kept, WholeMetric

NOISE = b"fidelity"  # that of the harness's measurement

Network = Callable[[Tensor], Tensor]


class _SampleMetric(WholeMetric):
    """Metrics of the same samples, which each draws in `compute` from the model of the latest update."""

    STATES: tuple[str, ...] = ("shape",)

    def __init__(self, samples: int = 10_000, seed: int = 0, **kwargs: Any) -> None:
        check_count("samples", samples)
        super().__init__(seed, **kwargs)
        self.samples = samples
        self._networks: Kept[Extractor] = Kept()

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        self._network(x)  # for its reason, before anything is drawn
        return {"shape": x[:1]}

    @abstractmethod
    def _network(self, x: Tensor) -> Extractor:
        """The network for images x, on their device."""

    def _drawn(self) -> Tensor:
        """What the network says of the samples, float64 (samples, d) on the CPU."""
        with self._model(self._joined("shape")[:1]) as (model, x):
            network = self._network(x)
            start_noise(NOISE, self.seed % 2**63, x.device)
            if tuple(x.shape[1:]) == Mnist28.shape:
                Mnist28()  # takes noise, as in the harness, which has this network before it draws
            return network(sample_images(model, prior_codes(model, self.samples)))


class FeatureMetric(_SampleMetric):
    """Metrics of features of the samples and of images."""

    STATES = ("real", "shape")

    def __init__(
        self, features: str | Network = "mnist28", samples: int = 10_000, seed: int = 0, **kwargs: Any
    ) -> None:
        if not callable(features) and features not in NAMED:
            raise unknown("network of features", str(features), NAMED, "Give one of these, or a function.")
        super().__init__(samples, seed, **kwargs)
        self.features = features

    def _network(self, x: Tensor) -> Extractor:
        features, shape = self.features, tuple(x.shape[1:])
        if callable(features):
            return Extractor("", "", features)
        return self._networks.of((shape, x.device), lambda: NAMED[features](shape, x.device))

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"real": self._network(x)(x), "shape": x[:1]}

    def compute(self) -> Tensor:
        """The figure, float64; `standard_error` is then its standard error.

        Raises:
            UserError: the metric was restored, and not updated since.
            Unavailable: the model cannot be sampled, or fewer than 40 samples or images.
        """
        made, real = self._drawn(), self._joined("real").cpu()
        require_comparable(made, real)
        return self._with_error(*self._figure(made, real))

    @abstractmethod
    def _figure(self, made: Tensor, real: Tensor) -> tuple[float, float | None]:
        """The figure of features of samples (m, d) and images (n, d), and its standard error."""


class FID(FeatureMetric):
    """The Fréchet distance between features of samples x ~ p(x|z), z ~ p(z), and of images.

    Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), whose name is for Inception's features only. Its standard
    error is by the jackknife over 20 groups. For images that you have sampled yourself, use
    `torchmetrics.image.FrechetInceptionDistance`.

    Args:
        features: 'mnist28', the suite's classifier of 28 × 28 digits, 'inception', from the folder of
            `VAEBENCH_WEIGHTS`, or a function from images (b, *data) in [0, 1], float32, to features (b, d).
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

    higher_is_better = False

    def _figure(self, made: Tensor, real: Tensor) -> tuple[float, float | None]:
        estimate = fid(made, real)
        return estimate.value, estimate.se


class KID(FeatureMetric):
    """The squared maximum mean discrepancy between the same features, without bias; it may be negative.

    Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), over all pairs, with the jackknife's standard error. For
    images that you have sampled yourself, use `torchmetrics.image.KernelInceptionDistance`, which draws random subsets.

    Args:
        features, samples, seed, kwargs: as for `FID`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import KID
        >>> distance = KID(lambda x: x.flatten(1), samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> bool(distance(model, x).isfinite())
        True
    """

    higher_is_better = False

    def _figure(self, made: Tensor, real: Tensor) -> tuple[float, float | None]:
        estimate = kid(made, real)
        return estimate.value, estimate.se


class InceptionScore(_SampleMetric):
    r"""The Inception Score of samples, :math:`\exp E\,KL(p(y|x) \| p(y))`, from 1 to the number of classes.

    Salimans et al. 2016 (https://arxiv.org/abs/1606.03498): the mean over consecutive splits of the samples, with the
    standard error over them. For images that you have sampled yourself, use `torchmetrics.image.InceptionScore`, which
    shuffles them.

    Args:
        classes: 'inception', Inception-v3 from the folder of `VAEBENCH_WEIGHTS`, or a function from images (b, *data)
            in [0, 1], float32, to probabilities of classes (b, c).
        samples: of the prior, drawn in `compute` from the model of the latest update; `update`'s images give their
            shape alone.
        splits: of the samples.
        seed: of the samples.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import InceptionScore
        >>> score = InceptionScore(lambda x: x.flatten(1)[:, 20:24].softmax(1), samples=100)
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(1, 1, 8, 8).round()
        >>> 1 <= float(score(model, x)) <= 4
        True
    """

    higher_is_better = True

    def __init__(
        self,
        classes: Literal["inception"] | Network = "inception",
        samples: int = 10_000,
        splits: int = 10,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if not callable(classes) and classes != "inception":
            raise unknown("network of classes", str(classes), ("inception",), "Give that one, or a function.")
        check_count("splits", splits)
        if splits > samples:
            raise UserError(f"splits is {splits}: expected at most the number of samples, {samples}; lower it")
        super().__init__(samples, seed, **kwargs)
        self.classes, self.splits = classes, splits

    def _network(self, x: Tensor) -> Extractor:
        if callable(self.classes):
            return Extractor("", "", self.classes)
        shape = tuple(x.shape[1:])
        return self._networks.of((shape, x.device), lambda: inception(shape, x.device).classes)

    def compute(self) -> Tensor:
        """The score, float64; `standard_error` is then its standard error, NaN for one split.

        Raises:
            UserError: the metric was restored, and not updated since.
            Unavailable: the model cannot be sampled, or makes images that are not finite.
        """
        return self._with_error(*inception_score(self._drawn(), self.splits))
