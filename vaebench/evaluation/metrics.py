"""What a figure is: a value with its standard error, unit and definition, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """One figure of a model.

    Attributes:
        value: the figure; None where it is unavailable.
        se: its standard error over the n images, sd/√n; None where there is none.
        unit: of value and se; '' for a pure number.
        n: number of images.
        definition: what was computed.
        higher_is_better: None where neither direction is.
        unavailable: why there is no value.
    """

    value: float | None
    se: float | None
    unit: str
    n: int | None
    definition: str
    higher_is_better: bool | None
    unavailable: str | None = None


class Kind(NamedTuple):
    """What all figures of one name have in common."""

    unit: str
    higher_is_better: bool | None
    definition: str


KINDS = {
    "log_likelihood": Kind("nats", True, "importance-weighted estimate L_K of log p(x), K = {k}; mean over the images"),
    "nll": Kind("nats", False, "−log_likelihood, K = {k}"),
    "bits_per_dim": Kind("bits/dim", False, "nll / (D ln 2), D = {pixels} values an image, K = {k}"),
    "log_likelihood_mc_se": Kind(
        "nats",
        False,
        "standard error that the K = {k} samples leave in log_likelihood, apart from the choice of images",
    ),
    "ess": Kind("samples", True, "effective sample size (Σw)²/Σw² of an image's K = {k} importance weights"),
    "elbo": Kind("nats", True, "−(rate + distortion), the bound at β = 1 without free bits"),
    "rate": Kind("nats", None, "KL(q(z|x)‖p(z)), {how}"),
    "distortion": Kind("nats", False, "−log p(x|z), mean of {samples} samples of q(z|x) an image"),
    "active_units": Kind("units", True, "units with Var_x(E_q[z]) > {threshold}, unbiased, out of {units}"),
    "mse": Kind("", False, "mean squared error of E[x|z] at {code}, mean over an image's values"),
    "psnr": Kind("dB", True, "−10 log10 of an image's mse"),
    "ssim": Kind("", True, "structural similarity of E[x|z] at {code} with x, Gaussian window σ = 1.5, data range 1"),
    "bf16_error": Kind(
        "nats", None, "log_likelihood in bf16 less that in f32 under the same noise, on {n} of the images; mean"
    ),
    "bf16_error_largest": Kind("nats", False, "the largest absolute bf16_error of an image, among {n} of the images"),
}


def average(name: str, values: Tensor, **fill: Any) -> Metric:
    """The mean over the images of values (n,), with its standard error; unavailable where a value is not finite.

    Args:
        name: of the figure, a key of KINDS.
        values: one figure an image.
        fill: what the definition leaves open.
    """
    n, values = len(values), values.double()
    strange = ~torch.isfinite(values)
    if strange.any():
        return missing(name, f"it is not finite for image {int(strange.nonzero()[0])}", **fill)
    se = float(values.std()) / math.sqrt(n) if n > 1 else None
    return _metric(name, float(values.mean()), se, n, fill)


def single(name: str, value: float, images: int, **fill: Any) -> Metric:
    """One figure of all `images` together."""
    return _metric(name, float(value), None, images, fill)


def missing(name: str, reason: str, **fill: Any) -> Metric:
    """A figure that cannot be had, and why."""
    kind = KINDS[name]
    return Metric(None, None, kind.unit, None, kind.definition.format(**fill), kind.higher_is_better, reason)


def _metric(name: str, value: float, se: float | None, n: int, fill: dict[str, Any]) -> Metric:
    kind = KINDS[name]
    return Metric(value, se, kind.unit, n, kind.definition.format(**fill), kind.higher_is_better)
