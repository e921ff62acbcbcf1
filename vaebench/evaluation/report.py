"""`evaluate`: every figure of a model on the test images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.collapse import collapse, shuffle_drops
from vaebench.evaluation.conditions import check_count, check_images, place, quiet, spread, start_noise
from vaebench.evaluation.latents import THRESHOLDS, Latents, active_units, read_latents
from vaebench.evaluation.likelihood import Estimates, Progress, estimate, no_density, sampled_distortion
from vaebench.evaluation.metrics import Metric, average, missing, single
from vaebench.evaluation.pictures import COLUMNS, PAIRS, Picture, reconstruction_grid, sample_grid
from vaebench.evaluation.reconstruction import Reconstruction, mse, psnr, reconstruct, ssim
from vaebench.evaluation.scoring import Precision
from vaebench.measures import DataSpec

VERSION = 1  # of all definitions and thresholds here: results of different versions do not rank together
BF16_CHECKED = 100  # images on which bf16 is compared with f32
SAMPLES = 16  # of the distortion, where the posterior or the prior has no density


class Images(Protocol):
    """What is asked of a data module: its test images, and their shape and measure."""

    @property
    def spec(self) -> DataSpec: ...
    def images(self, split: str) -> Tensor: ...


@dataclass(frozen=True)
class Report:
    """What a model is worth on the test images.

    Attributes:
        metrics: figures by name.
        per_image: figures of every image, float32 (n,).
        units: figures of every latent unit: 'kl' (nats), 'mean_variance', 'decoder_drop' (nats).
        collapse: the verdict on posterior collapse; see `vaebench.evaluation.collapse`.
        protocol: how all was measured: version, k, seed, split, n, precision, compiled.
        pictures: uint8 RGB arrays (h, w, 3): 'reconstructions', 'samples'.
    """

    metrics: dict[str, Metric] = field(default_factory=dict)
    per_image: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    units: dict[str, list[float]] = field(default_factory=dict)
    collapse: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)


def evaluate(
    model: LatentModel,
    datamodule: Images,
    k: int = 5000,
    seed: int = 0,
    limit: int | None = None,
    precision: Precision = "f32",
    compile: bool = False,
    progress: bool = True,
) -> Report:
    """Measures a model on the test images of a data module, and leaves both, and the random state, as they were.

    Args:
        model: anything with the three parts (`vaebench.core.LatentModel`).
        datamodule: anything with `images("test")`, (n, *data), and `spec`.
        k: importance samples an image.
        seed: of all noise.
        limit: take the first `limit` test images only.
        precision: of the likelihood's network in the importance-weighted estimate: 'f32' or 'bf16'; the error of the
            latter is measured on some of the images and reported.
        compile: compile the likelihood; see `log_likelihood`.
        progress: show a bar, where there is a terminal.

    Raises:
        UserError: k or limit below 1, an image that the measure does not know, an importance weight that is not finite.
    """
    check_count("k", k)
    x = datamodule.images("test")
    if limit is not None:
        check_count("limit", limit)
        x = x[:limit]
    spec = datamodule.spec
    check_images(x, spec)
    device, dtype = place(model, x)
    report = Report(protocol={"version": VERSION, "k": k, "seed": seed, "split": "test", "n": len(x)})
    report.protocol.update(precision=precision, compiled=compile)
    with _bar(progress) as advance, quiet(model, device):
        here = x.to(device, dtype)
        latents = read_latents(model, here)
        if reason := no_density(model, here):
            _miss_likelihood(report, reason, k, spec)
            _add_bound(report, latents, sampled_distortion(model, here, SAMPLES, seed), None, SAMPLES, reason)
        else:
            found = estimate(model, x, k, seed, precision=precision, compile=compile, progress=advance)
            _add_likelihood(report, found, k, spec)
            _add_bound(report, latents, found.distortion, found.rate, k)
            if precision == "bf16":
                _add_bf16_error(report, model, x, found, k, seed)
        _add_units(report, model, here, latents, seed)
        _add_pictures(report, model, here, seed)
    return report


def _add(report: Report, name: str, values: Tensor, **fill: Any) -> None:
    """A figure that every image has, and its mean."""
    report.metrics[name] = average(name, values, **fill)
    if report.metrics[name].unavailable is None:
        report.per_image[name] = values.float().numpy()


def _add_likelihood(report: Report, found: Estimates, k: int, spec: DataSpec) -> None:
    _add(report, "log_likelihood", found.log_likelihood, k=k)
    _add(report, "ess", found.ess, k=k)
    metrics, n, fill = report.metrics, len(found.ess), _open(k, spec)
    metrics["nll"] = average("nll", -found.log_likelihood, k=k)
    if spec.levels is None:
        metrics["bits_per_dim"] = missing("bits_per_dim", "a density over continuous images has no bits", **fill)
    else:
        bits = -found.log_likelihood / (spec.dimensions * math.log(2))
        metrics["bits_per_dim"] = average("bits_per_dim", bits, **fill)
    if k > 1:
        variances = (1 / found.ess - 1 / k).clamp(min=0) * k / (k - 1)  # of each log mean weight, by the delta method
        metrics["log_likelihood_mc_se"] = single("log_likelihood_mc_se", float(variances.sum().sqrt()) / n, n, k=k)
    else:
        metrics["log_likelihood_mc_se"] = missing("log_likelihood_mc_se", "one sample has no spread", k=k)


def _open(k: int, spec: DataSpec) -> dict[str, int]:
    return {"k": k, "pixels": spec.dimensions}


def _miss_likelihood(report: Report, reason: str, k: int, spec: DataSpec) -> None:
    for name in ("log_likelihood", "nll", "bits_per_dim", "log_likelihood_mc_se", "ess"):
        report.metrics[name] = missing(name, reason, **_open(k, spec))


def _add_bound(
    report: Report, latents: Latents, distortion: Tensor, sampled: Tensor | None, samples: int, reason: str = ""
) -> None:
    """Distortion, rate (in closed form, or else from the samples; else unavailable for the reason) and their sum."""
    _add(report, "distortion", distortion, samples=samples)
    rate, how = latents.rate, "in closed form"
    if rate is None:
        rate, how = sampled, f"mean of {samples} samples"
    if rate is None:
        for name in ("rate", "elbo"):
            report.metrics[name] = missing(name, f"{reason}, and {latents.why['rate']}", how="in closed form")
    else:
        _add(report, "rate", rate, how=how)
        _add(report, "elbo", -(rate + distortion))


def _add_bf16_error(report: Report, model: LatentModel, x: Tensor, found: Estimates, k: int, seed: int) -> None:
    some = spread(len(x), BF16_CHECKED)
    error = found.log_likelihood[some] - estimate(model, x[some], k, seed).log_likelihood
    report.metrics["bf16_error"] = average("bf16_error", error, n=len(some))
    report.metrics["bf16_error_largest"] = single(
        "bf16_error_largest", float(error.abs().max()), len(some), n=len(some)
    )


def _add_units(report: Report, model: LatentModel, x: Tensor, latents: Latents, seed: int) -> None:
    """Active units, figures of every unit, and the verdict on collapse."""
    n, mean = len(x), latents.mean
    units = mean.shape[1] if mean is not None else None
    for threshold in THRESHOLDS:
        name = "active_units" if threshold == 0.01 else f"active_units_{threshold}"
        fill = {"threshold": threshold, "units": units}
        if mean is None or n < 2:
            reason = latents.why.get("mean", "one image has no variance")
            report.metrics[name] = missing("active_units", reason, **fill)
        else:
            report.metrics[name] = single("active_units", active_units(mean, threshold), n, **fill)
    if latents.kl is not None:
        report.units["kl"] = latents.kl.mean(0).tolist()
    if n < 2:
        report.collapse.update(verdict="unknown", units=[], sentence="one image alone cannot show posterior collapse")
        return
    if mean is not None:
        report.units["mean_variance"] = mean.var(0).tolist()
    drops = shuffle_drops(model, x, seed)
    report.units["decoder_drop"] = drops.units.tolist()
    report.collapse.update(collapse(latents, drops))


def _add_pictures(report: Report, model: LatentModel, x: Tensor, seed: int) -> None:
    """Reconstructions, their errors, and samples of the prior; each only where the model can give them."""
    try:
        made = reconstruct(model, x, seed)
    except NotImplementedError as error:
        for name in ("mse", "psnr", "ssim"):
            report.metrics[name] = missing(name, str(error), code="the posterior mean")
    else:
        _add_errors(report, x, made)
        shown = spread(len(x), COLUMNS * PAIRS)
        report.pictures["reconstructions"] = reconstruction_grid(x[shown], made.images[shown])
    start_noise(b"prior", seed % 2**63, x.device)
    try:
        report.pictures["samples"] = sample_grid(model)
    except NotImplementedError:
        return


def _add_errors(report: Report, x: Tensor, made: Reconstruction) -> None:
    _add(report, "mse", mse(x, made.images), code=made.code)
    _add(report, "psnr", psnr(x, made.images))
    try:
        _add(report, "ssim", ssim(x, made.images), code=made.code)
    except NotImplementedError as error:
        report.metrics["ssim"] = missing("ssim", str(error), code=made.code)


@contextmanager
def _bar(enabled: bool) -> Iterator[Progress]:
    """A bar for the importance samples, as the function that takes the fraction done; silent without a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not (enabled and console.is_terminal), transient=True) as bar:
        task = bar.add_task("log p(x)", total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
