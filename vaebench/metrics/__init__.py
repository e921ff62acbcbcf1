"""The suite's metrics as `torchmetrics.Metric` classes, for any LightningModule.

They use the estimators of the evaluation harness (`vaebench.evaluation.estimators`) with the same noise, so that a
value logged in training equals that of `vaebench evaluate` for the same weights and images.
"""

from vaebench.metrics.aggregate import MutualInformation, TotalCorrelation
from vaebench.metrics.base import ModelMetric
from vaebench.metrics.codes import CodebookUsage
from vaebench.metrics.collapse import PosteriorCollapse
from vaebench.metrics.disentanglement import DCI, MIG, SAP
from vaebench.metrics.likelihood import (
    ELBO,
    BitsPerDim,
    Distortion,
    ImportanceWeightedLogLikelihood,
    Rate,
)
from vaebench.metrics.reconstruction import LPIPS, MSE, MSSSIM, PSNR, SSIM
from vaebench.metrics.samples import FID, KID, InceptionScore
from vaebench.metrics.support import SampleCoverage, SampleDensity, SamplePrecision, SampleRecall
from vaebench.metrics.units import ActiveUnits, UnitRates

__all__ = [
    "DCI",
    "ELBO",
    "FID",
    "KID",
    "LPIPS",
    "MIG",
    "MSE",
    "MSSSIM",
    "PSNR",
    "SAP",
    "SSIM",
    "ActiveUnits",
    "BitsPerDim",
    "CodebookUsage",
    "Distortion",
    "ImportanceWeightedLogLikelihood",
    "InceptionScore",
    "ModelMetric",
    "MutualInformation",
    "PosteriorCollapse",
    "Rate",
    "SampleCoverage",
    "SampleDensity",
    "SamplePrecision",
    "SampleRecall",
    "TotalCorrelation",
    "UnitRates",
]
