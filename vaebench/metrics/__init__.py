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
from vaebench.metrics.reconstruction import MSE, PSNR, SSIM
from vaebench.metrics.samples import FID, KID
from vaebench.metrics.units import ActiveUnits, UnitRates

__all__ = [
    "DCI",
    "ELBO",
    "FID",
    "KID",
    "MIG",
    "MSE",
    "PSNR",
    "SAP",
    "SSIM",
    "ActiveUnits",
    "BitsPerDim",
    "CodebookUsage",
    "Distortion",
    "ImportanceWeightedLogLikelihood",
    "ModelMetric",
    "MutualInformation",
    "PosteriorCollapse",
    "Rate",
    "TotalCorrelation",
    "UnitRates",
]
