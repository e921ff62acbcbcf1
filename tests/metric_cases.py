"""Every class of `vaebench.metrics` on a tiny model, with what the estimators say of all its images at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers import SPEC, small
from oracles import Channels, LinearGaussian
from torch import Tensor

from vaebench import metrics
from vaebench.evaluation.conditions import start_noise
from vaebench.evaluation.contract import admitted
from vaebench.evaluation.estimators import refined
from vaebench.evaluation.estimators.aggregate import AggregateDensities, aggregate_densities
from vaebench.evaluation.estimators.codes import codes
from vaebench.evaluation.estimators.collapse import collapse, encoder_signs, shuffle_drops
from vaebench.evaluation.estimators.disentanglement import (
    Coded,
    dci_disentanglement,
    entropies,
    importances,
    mig,
    mutual_information,
    sap,
    separability,
)
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.fidelity import fid, inception_score, kid, support
from vaebench.evaluation.estimators.latents import read_latents
from vaebench.evaluation.estimators.likelihood import estimate
from vaebench.evaluation.estimators.lpips import lpips
from vaebench.evaluation.estimators.reconstruction import image_ms_ssim, mse, psnr, reconstruct, ssim
from vaebench.evaluation.estimators.samples import prior_codes, sample_images

N, K = 20, 8


@dataclass
class Case:
    """A measure, a model with its images, and its figure."""

    make: Callable[..., metrics.ModelMetric]
    model: Any
    x: Tensor
    expected: Callable[[Any, Tensor], Any]
    settings: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Tensor] = field(default_factory=dict)
    error: bool = True  # whether there is a standard error

    @property
    def n(self) -> int:
        return len(self.x)

    def metric(self) -> metrics.ModelMetric:
        return self.make(**self.settings)

    def update(self, metric: Any, some: slice) -> None:
        metric.update(self.model, self.x[some], **{name: values[some] for name, values in self.beside.items()})

    def whole(self) -> Tensor:
        """The figure of all images at once."""
        with admitted(self.model, self.x) as (model, x):
            return torch.as_tensor(self.expected(model, x), dtype=torch.float64)


def some_pixels(x: Tensor) -> Tensor:
    """Features of images."""
    return x.flatten(1)[:, 20:23]


def some_classes(x: Tensor) -> Tensor:
    """Probabilities of three classes of images."""
    return (5 * some_pixels(x)).softmax(1)


def absolute_error(x: Tensor, y: Tensor) -> Tensor:
    """A distance of images."""
    return (x - y).abs().flatten(1).mean(1)


def _samples(model: Any, x: Tensor) -> Tensor:
    """60 samples, under the noise of the harness's measurement."""
    start_noise(b"fidelity", 0, x.device)
    return sample_images(model, prior_codes(model, 60)).float()


def _made(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The features of the samples and of images."""
    return some_pixels(_samples(model, x)).double(), some_pixels(x.float()).double()


def _aggregate(model: Any, x: Tensor) -> AggregateDensities:
    """Of one sample for each of eight images, evenly spaced."""
    own = torch.linspace(0, len(x) - 1, 8).round().long()
    return aggregate_densities([model.posterior(x)], sample_posterior(model, x[own], 1)[0], own)


def _learnt(model: Any, x: Tensor) -> tuple[Coded, Coded]:
    whole = Coded(model.posterior(x).mean.numpy(), PERIODS[:, :2].numpy())
    return whole.at(LEARNT.numpy()), whole.at(~LEARNT.numpy())


def _codes_in_use(model: Any, x: Tensor) -> float:
    q = codes(model.posterior(x))
    return len(q.indices(q.mean).unique()) / q.size


def _gap(model: Any, x: Tensor) -> float:
    codes = model.posterior(x).mean.numpy()
    return mig(mutual_information(codes, FACTORS.numpy()), entropies(FACTORS.numpy()))


def _sap(model: Any, x: Tensor) -> float:
    return sap(separability(*(array for part in _learnt(model, x) for array in part)).mean(0))


def _dci(model: Any, x: Tensor) -> float:
    relied, _ = importances(*(array for part in _learnt(model, x) for array in part), "boosting", 0)
    return dci_disentanglement(relied)


LINEAR = LinearGaussian((1, 12, 12), orthogonal=True, stretch=1.2, shift=0.1)
CHANNELS = Channels([1, 0, 1, 1], [1, 1, 0, 1])
DISCRETE = small("vq_vae")
X, BITS = LINEAR.images(N), CHANNELS.images(N)
BINARY = (torch.rand(N, *SPEC.shape, generator=torch.Generator().manual_seed(0)) < 0.5).double()
FACTORS = torch.stack([BITS.flatten(1)[:, 0], torch.arange(N) % 3, torch.ones(N)], 1).long()
PERIODS = torch.stack([torch.arange(N) // 2 % 2, torch.arange(N) // 4 % 2, torch.ones(N)], 1).long()
LEARNT = torch.arange(N) % 2 == 0
MANY = LINEAR.images(100)
LARGE = LinearGaussian((1, 24, 22), orthogonal=True)
IN_FEATURES = {"features": some_pixels, "samples": 60}

CASES = {
    "ELBO": Case(
        metrics.ELBO,
        LINEAR,
        X,
        lambda m, x: -(read_latents(m, x).rate + estimate(m, x, K).distortion).mean(),
        {"k": K},
    ),
    "Rate": Case(metrics.Rate, LINEAR, X, lambda m, x: read_latents(m, x).rate.mean(), {"k": K}),
    "Distortion": Case(metrics.Distortion, LINEAR, X, lambda m, x: estimate(m, x, K).distortion.mean(), {"k": K}),
    "ImportanceWeightedLogLikelihood": Case(
        metrics.ImportanceWeightedLogLikelihood,
        LINEAR,
        X,
        lambda m, x: estimate(m, x, 30).log_likelihood.mean(),
        {"k": 30},
    ),
    "refined": Case(
        metrics.ImportanceWeightedLogLikelihood,
        CHANNELS,
        BITS,
        lambda m, x: refined.estimate(m, x, 30).log_likelihood.mean(),
        {"k": 30, "proposal": "refined"},
    ),
    "BitsPerDim": Case(
        metrics.BitsPerDim,
        CHANNELS,
        BITS,
        lambda m, x: -estimate(m, x, 30).log_likelihood.mean() / (4 * torch.tensor(2.0).double().log()),
        {"k": 30},
    ),
    "ActiveUnits": Case(
        metrics.ActiveUnits, CHANNELS, BITS, lambda m, x: (m.posterior(x).mean.var(0) > 0.01).double().sum()
    ),
    "UnitRates": Case(metrics.UnitRates, LINEAR, X, lambda m, x: read_latents(m, x).kl.mean(0)),
    "PosteriorCollapse": Case(
        metrics.PosteriorCollapse,
        CHANNELS,
        BITS,
        lambda m, x: len(collapse(encoder_signs(read_latents(m, x)), shuffle_drops(m, x))["units"]),
    ),
    "CodebookUsage": Case(metrics.CodebookUsage, DISCRETE, BINARY, _codes_in_use),
    "MIG": Case(metrics.MIG, CHANNELS, BITS, _gap, beside={"factors": FACTORS}),
    "MSE": Case(metrics.MSE, LINEAR, X, lambda m, x: mse(x, reconstruct(m, x).images).mean()),
    "PSNR": Case(metrics.PSNR, LINEAR, X, lambda m, x: psnr(x, reconstruct(m, x).images).mean()),
    "SSIM": Case(metrics.SSIM, LINEAR, X, lambda m, x: ssim(x, reconstruct(m, x).images).mean()),
    "SAP": Case(metrics.SAP, CHANNELS, BITS, _sap, beside={"factors": PERIODS, "learnt": LEARNT}),
    "DCI": Case(metrics.DCI, CHANNELS, BITS, _dci, beside={"factors": PERIODS, "learnt": LEARNT}, error=False),
    "MutualInformation": Case(
        metrics.MutualInformation, LINEAR, X, lambda m, x: _aggregate(m, x).information.mean(), {"samples": 8}
    ),
    "TotalCorrelation": Case(
        metrics.TotalCorrelation, LINEAR, X, lambda m, x: _aggregate(m, x).correlation.mean(), {"samples": 8}
    ),
    "FID": Case(metrics.FID, LINEAR, MANY, lambda m, x: fid(*_made(m, x)).value, IN_FEATURES),
    "KID": Case(metrics.KID, LINEAR, MANY, lambda m, x: kid(*_made(m, x)).value, IN_FEATURES),
    "SamplePrecision": Case(
        metrics.SamplePrecision, LINEAR, MANY, lambda m, x: support(*_made(m, x)).precision.mean(), IN_FEATURES
    ),
    "SampleRecall": Case(
        metrics.SampleRecall, LINEAR, MANY, lambda m, x: support(*_made(m, x)).recall.mean(), IN_FEATURES
    ),
    "SampleDensity": Case(
        metrics.SampleDensity, LINEAR, MANY, lambda m, x: support(*_made(m, x)).density.mean(), IN_FEATURES
    ),
    "SampleCoverage": Case(
        metrics.SampleCoverage, LINEAR, MANY, lambda m, x: support(*_made(m, x)).coverage.mean(), IN_FEATURES
    ),
    "InceptionScore": Case(
        metrics.InceptionScore,
        LINEAR,
        X,
        lambda m, x: inception_score(some_classes(_samples(m, x)).double(), 4)[0],
        {"classes": some_classes, "samples": 60, "splits": 4},
    ),
    "MSSSIM": Case(
        metrics.MSSSIM,
        LARGE,
        LARGE.images(N),
        lambda m, x: image_ms_ssim(x, reconstruct(m, x).images, 2).mean(),
        {"scales": 2},
    ),
    "LPIPS": Case(
        metrics.LPIPS,
        LINEAR,
        X,
        lambda m, x: lpips(absolute_error, x, reconstruct(m, x).images).mean(),
        {"network": absolute_error},
    ),
}
