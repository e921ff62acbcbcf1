"""Figures of vaebench's image measures beside scikit-image's and torchmetrics', and their speeds.

    .venv/bin/python benchmarks/metrics.py [--images 250] [--rounds 3]

It reads no data. Images are random, grey 28 × 28 and colour 32 × 32, with reconstructions that are noisy copies; some
are degenerate: constant, equal but for one pixel, or exact.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as peer
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_mmd

from vaebench.evaluation.estimators.fidelity import fid, inception_score, kid
from vaebench.evaluation.estimators.lpips import CONVOLUTIONS, LPIPS, lpips
from vaebench.evaluation.estimators.reconstruction import image_ms_ssim, psnr, ssim

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
WEIGHTS = (0.0448, 0.2856)  # of two scales, whose sum is made 1


def pairs(images: int, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Images and noisy copies, (n, c, h, w) in [0, 1], float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(images, *shape, generator=generator, dtype=torch.float64)
    y = (x + 0.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    x[0], y[0] = 0.5, 0.5
    x[1], y[1] = 0, 0
    y[1, 0, 5, 5] = 1
    y[2] = x[2]
    return x, y


def by_skimage(x: Tensor, y: Tensor) -> Tensor:
    """scikit-image's structural similarities, one pair after another."""
    found = [structural_similarity(a, b, channel_axis=0, **WANG) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def psnr_by_skimage(x: Tensor, y: Tensor) -> Tensor:
    """scikit-image's ratios, one pair after another."""
    found = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def torchmetrics_fid(x: Tensor, y: Tensor) -> Tensor:
    """torchmetrics' distance, of the moments that its class sums."""
    return _compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())


def perceptual() -> dict[str, nn.Module]:
    """LPIPS by both, with one AlexNet of random weights, which torchmetrics would take from torchvision."""
    torch.manual_seed(0)
    found = {}

    def backbone(*_: object) -> nn.Module:
        return found["ours"].features

    sizes = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
    weights = {}
    for i, (a, b, k) in zip(CONVOLUTIONS, sizes, strict=True):
        layer = nn.Conv2d(a, b, k)
        weights |= {f"features.{i}.weight": layer.weight.detach(), f"features.{i}.bias": layer.bias.detach()}
    linear = torch.load(Path(peer.__file__).parent / "lpips_models" / "alex.pth", map_location="cpu", weights_only=True)
    found["ours"] = LPIPS(weights, linear).eval()
    with patch.object(peer, "_get_tv_model_features", backbone):
        found["theirs"] = peer._LPIPS(net="alex")
    return found


def torchmetrics_score(logits: Tensor) -> Tensor:
    """torchmetrics' Inception Score in one split."""
    score = InceptionScore(nn.Identity(), splits=1)
    score.update(logits)
    return score.compute()[0]


def contest(name: str, contestants: dict[str, Callable[[], Tensor]], rounds: int) -> None:
    """Prints the time of each contestant, and the largest difference from the first."""
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    found = {}
    for _ in range(rounds):
        for who, compute in contestants.items():
            start = time.perf_counter()
            found[who] = torch.as_tensor(compute(), dtype=torch.float64)
            seconds[who].append(time.perf_counter() - start)
    ours, *_ = found.values()
    for who, values in found.items():
        same = values == ours  # infinite ones, too
        difference = float((values - ours).abs().where(~same, torch.zeros_like(ours)).max())
        print(f"| {name} | {who} | {1000 * statistics.median(seconds[who]):.1f} | {difference:.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| measure | whose | ms | difference |\n| --- | --- | ---: | ---: |")
    for what, shape in {"grey": (1, 28, 28), "colour": (3, 32, 32)}.items():
        x, y = pairs(arguments.images, shape)
        contest(
            f"SSIM, {what}",
            {
                "vaebench": lambda x=x, y=y: ssim(x, y),
                "scikit-image": lambda x=x, y=y: by_skimage(x, y),
                "torchmetrics": lambda x=x, y=y: structural_similarity_index_measure(
                    x, y, reduction="none", data_range=1.0
                ),
            },
            arguments.rounds,
        )
        contest(
            f"PSNR, {what}",
            {"vaebench": lambda x=x, y=y: psnr(x, y), "scikit-image": lambda x=x, y=y: psnr_by_skimage(x, y)},
            arguments.rounds,
        )
    x, y = pairs(arguments.images, (1, 48, 48))
    weights = tuple(weight / sum(WEIGHTS) for weight in WEIGHTS)
    contest(
        "MS-SSIM of two scales, grey",
        {
            "vaebench": lambda: image_ms_ssim(x, y, 2),
            "torchmetrics": lambda: multiscale_structural_similarity_index_measure(
                x, y, reduction="none", data_range=1.0, betas=weights, normalize="relu"
            ),
        },
        arguments.rounds,
    )
    x, y = (t.float() for t in pairs(arguments.images, (3, 64, 64)))
    networks = perceptual()
    with torch.no_grad():
        contest(
            "LPIPS, colour 64 × 64",
            {
                "vaebench": lambda: lpips(networks["ours"], x, y),
                "torchmetrics": lambda: networks["theirs"](x, y, normalize=True).flatten(),
            },
            arguments.rounds,
        )
    logits = torch.randn(2000, 1008, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    contest(
        "Inception Score, 2,000 × 1,008, one split",
        {
            "vaebench": lambda: inception_score(logits.softmax(1), 1)[0],
            "torchmetrics": lambda: torchmetrics_score(logits),
        },
        arguments.rounds,
    )
    generator = torch.Generator().manual_seed(1)
    made, real = (torch.randn(2000, 64, generator=generator, dtype=torch.float64) + shift for shift in (0.1, 0.0))
    contest(
        "FID, 2,000 × 64",
        {"vaebench": lambda: fid(made, real).value, "torchmetrics": lambda: torchmetrics_fid(made, real)},
        arguments.rounds,
    )
    contest(
        "KID, 2,000 × 64",
        {"vaebench": lambda: kid(made, real).value, "torchmetrics": lambda: poly_mmd(made, real)},
        arguments.rounds,
    )


if __name__ == "__main__":
    main()
