"""Quality of mean reconstructions, with a picture."""

from __future__ import annotations

from functools import partial

from vaebench.evaluation.estimators.reconstruction import image_ms_ssim, mse, psnr, ssim
from vaebench.evaluation.measurements._judged import Figure, judged, perceptual
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

LABELLED = True  # supports conditional models
KINDS = {
    "mse": MetricKind("", False, "mean squared error of E[x|z] at {code}, mean over an image's values"),
    "psnr": MetricKind("dB", True, "−10 log10 of an image's mse"),
    "ssim": MetricKind(
        "", True, "structural similarity of E[x|z] at {code} with x, Gaussian window σ = 1.5, data range 1"
    ),
    "ms_ssim": MetricKind(
        "", True, "multi-scale structural similarity (Wang et al. 2003) of E[x|z] at {code} with x, 5 scales, as ssim"
    ),
    "ms_ssim_3": MetricKind(
        "",
        True,
        "as ms_ssim, with the first 3 of its 5 scales and their exponents divided by their sum: another figure than "
        "ms_ssim, for smaller images; of E[x|z] at {code} with x",
    ),
    "lpips": MetricKind(
        "",
        False,
        "perceptual distance (Zhang et al. 2018, version 0.1) of E[x|z] at {code}, clipped to [0, 1], and x by "
        "AlexNet, {weights}; one channel is given as three",
    ),
}


def measure(subject: Subject, findings: Findings) -> None:
    """MSE, PSNR, SSIM, MS-SSIM and LPIPS of every test image; the last three where images are large enough.

    Args:
        subject: the model and its images.
        findings: receives the figures.
    """
    with findings.attempt(*KINDS, code="the posterior mean", weights="none read"):
        distance, weights = perceptual(subject)
        figures: dict[str, Figure] = {
            "mse": mse,
            "psnr": psnr,
            "ssim": ssim,
            "ms_ssim": image_ms_ssim,
            "lpips": distance,
        }
        figures["ms_ssim_3"] = partial(image_ms_ssim, scales=3)
        made = judged(subject, findings, figures)
        read = f"weights of SHA-256 {weights}…" if weights else "none read"
        for name in KINDS:
            with findings.attempt(name, code=made.code, weights=read):
                findings.average(name, made[name], code=made.code, weights=read)
