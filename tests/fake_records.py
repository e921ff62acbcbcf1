"""Records with honest random numbers: per-image figures are drawn, and every other figure is computed from them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.configuration.parts import find_part
from vaebench.records import RunRecord, identity, write_record

IMAGES, PIXELS = 60, 64


def images(n: int = IMAGES, seed: int = 0) -> np.ndarray:
    """How hard each test image is, nats, (n,): shared by all runs on them."""
    return np.random.default_rng(seed).normal(-18, 4, n)


def fake_body(arrays: dict[str, np.ndarray], **changes: Any) -> dict[str, Any]:
    """The body of a record whose metrics are the means of `arrays`."""
    family, seed = changes.get("family", "vae"), changes.get("seed", 0)
    n = len(arrays["elbo"])
    metrics = {name: metric(array) for name, array in arrays.items()}
    metrics |= {name: {**metrics[name], "higher_is_better": None} for name in ("rate", "distortion")}
    nll = -metrics["log_likelihood"]["value"]
    metrics |= {
        "nll": {**metrics["log_likelihood"], "value": nll, "higher_is_better": False},
        "bits_per_dim": {**metrics["log_likelihood"], "value": nll / (PIXELS * math.log(2)), "unit": "bits",
                         "higher_is_better": False},
        "active_units": {**metric(np.array([1.0])), "value": 14, "unit": "units", "higher_is_better": None},
        "ssim": {"value": None, "se": None, "unit": "", "n": None, "definition": "Structural similarity.",
                 "higher_is_better": True, "unavailable": "images are smaller than the window"},
    }  # fmt: skip
    steps = list(range(100, 2001, 100))
    bound = metrics["elbo"]["value"]
    body: dict[str, Any] = {
        "family": family,
        "variant": family,
        "benchmark": "digits",
        "seed": seed,
        "config": {
            "model": {"class_path": _class_path(family), "init_args": {"latent": 16}},
            "data": {"class_path": "vaebench.data.digits.Digits", "init_args": {"batch_size": 128}},
            "trainer": {"max_epochs": 20},
        },
        "data": {
            "name": "digits", "measure": "binary", "shape": [1, 8, 8], "sizes": {"train": 1400, "val": 197, "test": n},
            "hashes": {split: identity(split=split) * 4 for split in ("train", "val", "test")},
        },
        "surrogate": False,
        "started_at_mean": True,
        "selection": "last weights, step 2000 of 2000",
        "protocol": {"k": 1000, "seed": 0, "split": "test", "n": n, "version": 1},
        "metrics": metrics,
        "units": {"kl": [1.5] * 14 + [0.001] * 2},
        "collapse": {"verdict": "partial", "units": [14, 15]},
        "tables": {}, "warnings": [],
        "curves": {"val/elbo": {"step": steps, "value": [bound - 40 * math.exp(-step / 300) for step in steps]}},
        "cost": {"parameters": 52_416, "step_flops": 40_255_488, "step_images": 128, "uncounted": [],
                  "device": "cpu", "threads": 1},
        "times": {"started": "2025-03-01T12:00:00+00:00", "train_seconds": 12.5, "evaluate_seconds": 3.25},
        "environment": {"python": "3.11.9", "torch": "2.13.0", "vaebench": "0.1.0", "commit": None, "dirty": False},
        "checkpoint": {"file": "model.ckpt", "weights": identity(family=family, seed=seed) * 4},
    }  # fmt: skip
    body |= changes
    return {"id": identity(**{key: body[key] for key in ("variant", "config", "data", "seed", "protocol")}), **body}


def _class_path(family: str) -> str:
    """That of a family, or of the VAE where there is no such family; found without importing any."""
    part = find_part("family", family) or find_part("family", "vae")
    return part.path


def metric(array: np.ndarray) -> dict[str, Any]:
    """Mean of an array with its standard error, as the evaluation records it."""
    se = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None
    return {"value": float(array.mean()), "se": se, "unit": "nats", "n": len(array), "definition": "Mean over images.",
            "higher_is_better": True, "unavailable": None}  # fmt: skip


def unavailable(why: str) -> dict[str, Any]:
    return {"value": None, "se": None, "unit": "nats", "n": None, "definition": "Mean over images.",
            "higher_is_better": True, "unavailable": why}  # fmt: skip


def fake_arrays(rng: np.random.Generator, mean: float = 0.0, n: int = IMAGES, noise: float = 0.5) -> dict[str, Any]:
    """Per-image figures of a run that is `mean` nats better than the images are hard; the run has a luck of its own."""
    log_likelihood = images(n) + mean + rng.normal(0, 0.1) + rng.normal(0, noise, n)
    elbo = log_likelihood - rng.gamma(4.0, 0.25, n)
    rate = rng.gamma(60.0, 0.2, n)
    return {"log_likelihood": log_likelihood, "elbo": elbo, "rate": rate, "distortion": -elbo - rate}


def fake_pictures(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.integers(0, 256, (32, 64, 3), dtype=np.uint8) for name in ("reconstructions", "samples")}


def fake_grids(rng: np.random.Generator, size: int = 8, pairs: int = 4) -> dict[str, np.ndarray]:
    """Pictures laid out as the evaluation's: rows of ten test images, each over its reconstructions; and samples.

    The test images, square ones of `size` pixels, are the same whatever `rng`.
    """
    zoom = 56 // size

    def grid(rows: list[np.ndarray]) -> np.ndarray:
        page = np.full((len(rows) * (size * zoom + 2) + 2, 10 * (size * zoom + 2) + 2, 3), 255, np.uint8)
        for i, row in enumerate(rows):
            for j, tile in enumerate(row.repeat(zoom, 1).repeat(zoom, 2)):
                top, left = 2 + i * (size * zoom + 2), 2 + j * (size * zoom + 2)
                page[top : top + size * zoom, left : left + size * zoom] = tile[..., None]
        return page

    def tiles(source: np.random.Generator, noise: float = 0) -> np.ndarray:
        """Ten soft rings, drawn by `source`, less noise of `rng`."""
        y, x = np.mgrid[:size, :size] / size - 0.5
        centre, radius = source.normal(0, 0.1, (10, 2, 1, 1)), source.uniform(0.1, 0.4, (10, 1, 1))
        ring = np.exp(-(((np.hypot(y - centre[:, 0], x - centre[:, 1]) - radius) / 0.07) ** 2))
        return (15 * ring * (1 - noise * rng.random(ring.shape))).astype(np.uint8) * 17

    shared = [tiles(np.random.default_rng(i)) for i in range(pairs)]
    made = [tiles(np.random.default_rng(i), 0.3) for i in range(pairs)]
    samples = grid([tiles(rng, 0.2) for _ in range(8)])
    return {
        "reconstructions": grid([row for pair in zip(shared, made, strict=True) for row in pair]),
        "samples": samples,
    }


def write_fake(directory: Path, rng: np.random.Generator, mean: float = 0.0, **changes: Any) -> RunRecord:
    """Writes one fake run."""
    arrays = fake_arrays(rng, mean, changes.pop("n", IMAGES))
    return write_record(directory, fake_body(arrays, **changes), arrays, fake_pictures(rng))


def write_board(results: Path, means: dict[str, float], seeds: int = 3, **changes: Any) -> list[RunRecord]:
    """Writes `seeds` runs of each variant, whose means over many images would differ as given."""
    rng = np.random.default_rng(0)
    return [
        write_fake(results / f"{variant}-s{seed}", rng, mean, variant=variant, seed=seed, **changes)
        for variant, mean in means.items()
        for seed in range(seeds)
    ]


def row(markdown: str, variant: str) -> list[str]:
    """The cells of a variant's line in a Markdown table."""
    (line,) = [line for line in markdown.splitlines() if re.match(rf"\| [^|]* \| {re.escape(variant)} \|", line)]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
