"""Small files in the layouts of published weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from vaebench.evaluation.estimators.features import INCEPTION
from vaebench.evaluation.estimators.lpips import ALEXNET

CHANNELS = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))


class Script(nn.Module):
    """The signature of the published TorchScript: levels in, pool features or probabilities out."""

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        assert img.size(1) == 3
        pooled = img.float().mean([2, 3])
        if return_features:
            return torch.cat([pooled, pooled * pooled], 1)
        assert no_output_bias
        return torch.softmax(pooled, 1)


def write_inception(folder: Path) -> Path:
    """A TorchScript whose features are the channels' mean levels and their squares, its probabilities their softmax."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is published is TorchScript
        torch.jit.script(Script()).save(str(folder / INCEPTION))
    return folder / INCEPTION


def alexnet() -> nn.Sequential:
    """torchvision's `AlexNet.features` with random weights."""
    torch.manual_seed(0)
    convolutions = [
        nn.Conv2d(a, b, k, stride=4 if i == 0 else 1, padding=2 if k > 3 else 1) for i, (a, b, k) in enumerate(CHANNELS)
    ]
    one, two, three, four, five = convolutions
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU
    return nn.Sequential(one, relu(), pool, two, relu(), pool, three, relu(), four, relu(), five, relu(), pool)


def write_alexnet(folder: Path) -> Path:
    """The state of torchvision's AlexNet, classifier included, with random weights."""
    state = {f"features.{name}": value for name, value in alexnet().state_dict().items()}
    torch.save({**state, "classifier.1.weight": torch.zeros(2, 2)}, folder / ALEXNET)
    return folder / ALEXNET
