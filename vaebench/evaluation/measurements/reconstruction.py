"""How close the mean reconstruction comes to its image, with a picture."""

from __future__ import annotations

from vaebench.evaluation.metrics import Findings, Kind
from vaebench.evaluation.pictures import COLUMNS, PAIRS, reconstruction_grid
from vaebench.evaluation.reconstruction import mse, psnr, reconstruct, ssim
from vaebench.evaluation.subject import Subject

KINDS = {
    "mse": Kind("", False, "mean squared error of E[x|z] at {code}, mean over an image's values"),
    "psnr": Kind("dB", True, "−10 log10 of an image's mse"),
    "ssim": Kind("", True, "structural similarity of E[x|z] at {code} with x, Gaussian window σ = 1.5, data range 1"),
}


def measure(subject: Subject, found: Findings) -> None:
    """MSE, PSNR and SSIM of every test image.

    Args:
        subject: the model and its images.
        found: is filled.
    """
    try:
        made = reconstruct(subject.model, subject.x, subject.seed)
    except NotImplementedError as error:
        for name in KINDS:
            found.missing(name, str(error), code="the posterior mean")
        return
    found.average("mse", mse(subject.x, made.images), code=made.code)
    found.average("psnr", psnr(subject.x, made.images))
    try:
        found.average("ssim", ssim(subject.x, made.images), code=made.code)
    except NotImplementedError as error:
        found.missing("ssim", str(error), code=made.code)
    shown = subject.some(COLUMNS * PAIRS)
    found.pictures["reconstructions"] = reconstruction_grid(subject.x[shown], made.images[shown])
