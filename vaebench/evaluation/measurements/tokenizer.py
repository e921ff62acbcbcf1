"""An autoencoder as a tokeniser of images: fidelity of reconstructions against the rate of its latents.

rFID of one and the same weights differs by 0.5 to 2.2 between papers, which resize, crop and round images otherwise, or
take another reference set. Here all of it is in the definition of every figure.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vaebench.distributions.codes import Codes
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators import tokens
from vaebench.evaluation.estimators.codes import codes, count_codes
from vaebench.evaluation.estimators.features import Extractor, size
from vaebench.evaluation.estimators.fidelity import FEWEST, fid, kid
from vaebench.evaluation.estimators.reconstruction import psnr, ssim
from vaebench.evaluation.estimators.samples import posterior_codes
from vaebench.evaluation.images import Stack, parts
from vaebench.evaluation.measurements._features import extractor
from vaebench.evaluation.measurements._judged import Figure, judged, perceptual
from vaebench.evaluation.metrics import FAILURES, Findings, MetricKind
from vaebench.evaluation.subject import Prepared, Subject
from vaebench.functional.quantisation import entropy

Reference = Literal["test", "train"]
LEVELS = 256

IMAGES = "{size} images ({prepared})"
MADE = "E[x|z] at {code}, clipped to [0, 1] and rounded to 256 levels"
SETS = (
    f"{MADE}, of {{made}} test {IMAGES}, and {{references}} {{split}} images (SHA-256 {{sha}}…) in features of "
    "{extractor}"
)
KINDS = {
    "psnr_8bit": MetricKind("dB", True, f"−10 log10 of the mean squared error of {MADE}, of {IMAGES}, in [0, 1]"),
    "ssim_8bit": MetricKind(
        "", True, f"structural similarity with x of {MADE}, of {IMAGES}, Gaussian window σ = 1.5, data range 1"
    ),
    "lpips_8bit": MetricKind(
        "",
        False,
        f"perceptual distance (Zhang et al. 2018, version 0.1) from x of {MADE}, of {IMAGES}, by AlexNet, {{weights}}; "
        "one channel is given as three",
    ),
    "rfid": MetricKind(
        "",
        False,
        f"squared Fréchet distance ‖μ−μ'‖² + tr(Σ+Σ'−2(ΣΣ')^½) between {SETS}; biased upward by terms of order 1/n: "
        "compare at equal numbers; se by the jackknife over 20 groups",
    ),
    "rfid_jackknife": MetricKind(
        "",
        False,
        "rfid with its bias of order 1/n removed by the jackknife over 20 groups, which may leave it below 0: " + SETS,
    ),
    "rkid": MetricKind(
        "",
        False,
        f"unbiased MMD² under the kernel (⟨a,b⟩/d + 1)³ between {SETS}; it may be below 0; se by the jackknife over 20 "
        "groups",
    ),
    "bits_per_pixel": MetricKind(
        "bits/pixel", None, f"rate of the latents of {IMAGES}, KL(q(z|x)‖p(z)) / (ln 2 · height · width), {{how}}"
    ),
    "bits_per_pixel_codes": MetricKind(
        "bits/pixel",
        None,
        f"rate of the {{count}} codes of an image of {IMAGES} under a code of length −log2 of how often each is taken, "
        "over all images and places: what an ideal table of frequencies would store",
    ),
    "latent_scale": MetricKind(
        "",
        None,
        f"standard deviation of all values of one sample z ~ q(z|x) of each of {IMAGES} around their common mean; its "
        "inverse is latent diffusion's scaling_factor",
    ),
    "latent_shift": MetricKind("", None, f"mean of all values of one sample z ~ q(z|x) of each of {IMAGES}"),
    "latent_channels": MetricKind(
        "channels",
        None,
        "(tr C)² / tr C² for the covariance C over images and places of the {channels} channels of samples z ~ q(z|x) "
        f"of {IMAGES}",
    ),
    "latent_steep": MetricKind(
        "",
        None,
        "share of the power of samples z ~ q(z|x) at frequencies of more than a quarter of a cycle a place, where "
        f"white noise has about 0.75; of {IMAGES}",
    ),
}  # fmt: skip
RECONSTRUCTED = ("psnr_8bit", "ssim_8bit", "lpips_8bit", "rfid", "rfid_jackknife", "rkid")
DISTANCES = RECONSTRUCTED[3:]


def measure(
    subject: Subject,
    findings: Findings,
    features: str = "inception",
    reference: Reference = "test",
    references: int = 50_000,
) -> None:
    """PSNR, SSIM, LPIPS, rFID and rKID of reconstructions as files of 8 bits would hold them, rate, and latents.

    The table 'tokenizer' holds all that the definitions say, the whole hash of the reference set, a 95 % interval of
    every mean over images by the bootstrap, and the spectra of images and latents.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        features: 'inception', 'mnist28', or the path of a function of the user's own that returns a network from
            images (b, c, h, w) in [0, 1] to features (b, d).
        reference: the split whose images reconstructions are compared with.
        references: most images of it, evenly spaced.
    """
    if reference not in ("test", "train"):
        raise UserError(f"tokenizer.reference is '{reference}': expected test or train; give one of them")
    if len(subject.spec.shape) != 3:
        raise Unavailable(f"a tokeniser is of images (channels, height, width), and these are {subject.spec.shape}")
    where = _where(subject)
    table: dict[str, Any] = {**where, "shape": list(subject.spec.shape), "images": len(subject.raw), "intervals": {}}
    _add_rate(subject, findings, where)
    _add_latents(subject, findings, where, table)
    blank = {"code": "the posterior mean", "weights": "none read", **_against(len(subject.raw), reference)}
    with findings.attempt(*RECONSTRUCTED, **{**where, **blank}):
        _add_reconstructions(subject, findings, {**where, **blank}, table, (features, reference, references))
    for name in ("psnr_8bit", "ssim_8bit", "lpips_8bit", "bits_per_pixel"):
        if name in findings.per_image:
            table["intervals"][name] = tokens.interval(torch.from_numpy(findings.per_image[name]), subject.seed)
    findings.tables["tokenizer"] = table


def _where(subject: Subject) -> dict[str, Any]:
    """The images' size and how they were made from pictures, for definitions."""
    prepared = subject.data.preparation.words if isinstance(subject.data, Prepared) else ""
    return {"size": size(subject.spec.shape), "prepared": prepared or "as the data set has them"}


def _against(images: int, reference: str) -> dict[str, Any]:
    return {"made": images, "references": "no", "split": reference, "sha": "none", "extractor": "no network"}


def _add_reconstructions(
    subject: Subject,
    findings: Findings,
    fill: dict[str, Any],
    table: dict[str, Any],
    compared: tuple[str, Reference, int],
) -> None:
    features, split, most = compared
    distance, weights = perceptual(subject)
    figures: dict[str, Figure] = {"psnr_8bit": psnr, "ssim_8bit": ssim, "lpips_8bit": distance}
    network: Extractor | None = None
    missing: Exception = Unavailable("")
    try:
        real = subject.references(split, most)
        sha256 = hash_of(real)
        fill |= {"references": len(real), "sha": sha256[:16]}
        table["reference"] = {"split": split, "images": len(real), "sha256": sha256}
        network = extractor(features, subject.spec, subject.device)
        fill |= {"extractor": network.label}
        table["features"] = {"name": network.name, "sha256": network.sha256}
        figures["features"] = partial(_featured, network)
    except (Unavailable, *FAILURES) as error:
        missing = error
    made = judged(subject, findings, figures, rounded)
    fill = {**fill, "code": made.code, "weights": f"of SHA-256 {weights}…" if weights else "none read"}
    for name in RECONSTRUCTED[:3]:
        with findings.attempt(name, **fill):
            findings.average(name, made[name], **fill)
    with findings.attempt(*DISTANCES, **fill):
        if network is None:
            raise missing
        theirs = torch.cat([network(part) for part in parts(real)])
        _add_distances(findings, made["features"], theirs, fill, split == "test")


def _featured(network: Extractor, _: Tensor, y: Tensor) -> Tensor:
    return network(y)


def _add_distances(findings: Findings, made: Tensor, real: Tensor, fill: dict[str, Any], same: bool) -> None:
    with findings.attempt(*DISTANCES, **fill):
        if min(len(made), len(real)) < FEWEST:
            raise Unavailable(
                f"{len(made)} reconstructions and {len(real)} images are too few: at least {FEWEST} of each are needed"
            )
        if not torch.isfinite(made).all():
            raise Unavailable("the features of reconstructions are not finite")
        frechet, kernel = fid(made, real), kid(made, real, same and len(made) == len(real))
        findings.single("rfid", frechet.value, len(made), frechet.se, **fill)
        findings.single("rfid_jackknife", frechet.corrected, len(made), frechet.se, **fill)
        findings.single("rkid", kernel.value, len(made), kernel.se, **fill)


def rounded(images: Tensor) -> Tensor:
    """Images as a file of 8 bits a value holds them, in [0, 1]."""
    return (images.clamp(0, 1) * (LEVELS - 1)).round() / (LEVELS - 1)


def hash_of(images: Stack) -> str:
    """SHA-256 of the shape and the 8-bit values of images (n, c, h, w), 64 hex digits."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    for part in parts(images):
        digest.update((part.clamp(0, 1) * (LEVELS - 1)).round().to(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()


def _add_rate(subject: Subject, findings: Findings, where: dict[str, Any]) -> None:
    pixels = subject.spec.shape[1] * subject.spec.shape[2]
    fill = {**where, "how": "in closed form"}
    with findings.attempt("bits_per_pixel", **fill):
        if subject.latents.rate is None:
            raise Unavailable(subject.latents.why["rate"])
        findings.average("bits_per_pixel", tokens.bits_per_pixel(subject.latents.rate, pixels), **fill)
    with findings.attempt("bits_per_pixel_codes", count="no", **where):
        first = codes(subject.model.posterior(subject.x[:1]))
        shares = count_codes(subject.model, subject.x).shares.mean(0) / len(subject.raw)  # (levels, k)
        bits = tokens.bits_per_pixel(first.places * entropy(shares).sum(), pixels)
        findings.single("bits_per_pixel_codes", float(bits), len(subject.raw), count=first.count, **where)


def _add_latents(subject: Subject, findings: Findings, where: dict[str, Any], table: dict[str, Any]) -> None:
    names = ("latent_scale", "latent_shift", "latent_channels", "latent_steep")
    with findings.attempt(*names, channels="…", **where):
        z, n = posterior_codes(subject.model, subject.x).cpu(), len(subject.raw)
        for name, found in (("latent_scale", tokens.scale(z)), ("latent_shift", tokens.shift(z))):
            findings.single(name, found.value, n, found.se, **where)
        q = subject.model.posterior(subject.x[:1])
        grid = z.unflatten(1, (q.places * len(q.book), -1)).transpose(1, 2) if isinstance(q, Codes) else z
        table["latent"] = {"shape": list(z.shape[1:]), "mean": _channels(grid).mean(1).tolist(),
                           "scale": _channels(grid).std(1).tolist()}  # fmt: skip
        channels = grid.shape[1]
        findings.single("latent_channels", tokens.effective_channels(grid), n, channels=channels, **where)
        table["spectrum"] = {"images": tokens.spectrum(subject.raw).tolist()}
        if z.dim() != 4:
            raise Unavailable(f"a latent of shape {tuple(z.shape[1:])} is no grid, (channels, height, width)")
        steep = tokens.steep_share(z)
        findings.single("latent_steep", steep.value, n, steep.se, **where)
        table["spectrum"]["latents"] = tokens.spectrum(z).tolist()


def _channels(z: Tensor) -> Tensor:
    """Values of every channel of z (n, channels, …), float64 (channels, values)."""
    return z.double().movedim(1, 0).flatten(1)
