"""LPIPS: a perceptual distance of two images from the layers of an AlexNet trained on ImageNet."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators.features import read_verified, size, weights_file
from vaebench.measures import Shape

ALEXNET = "alexnet-owt-7be5be79.pth"
LINEAR = "functional/image/lpips_models/alex.pth"  # in torchmetrics
FEWEST = 31  # pixels across; smaller images vanish in AlexNet's second pooling
BATCH = 100
CONVOLUTIONS = (0, 3, 6, 8, 10)  # where torchvision's AlexNet has them among its `features`


class LPIPS(nn.Module):
    """Zhang et al. 2018 (https://arxiv.org/abs/1801.03924), version 0.1 with AlexNet.

    The distance is the sum over five layers of the mean over their pixels of weighted squared differences between
    features that are scaled to unit length at every pixel.

    Args:
        backbone: torchvision's weights of AlexNet.
        linear: the weights of each layer's channels, as the authors publish them: 'lin0.model.1.weight' and so on.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: dict[str, Tensor], linear: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        own = {f"features.{i}.{kind}" for i in CONVOLUTIONS for kind in ("weight", "bias")}
        self.load_state_dict({name: backbone[name] for name in own})
        for i in range(len(CONVOLUTIONS)):
            self.register_buffer(f"linear{i}", linear[f"lin{i}.model.1.weight"].float())
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances of images x and y, (b, c, h, w) in [0, 1] with one channel or three: (b,)."""
        total = torch.zeros(len(x), device=x.device)
        x, y = ((2 * t.expand(-1, 3, -1, -1) - 1 - self.shift) / self.scale for t in (x, y))
        ends = [i + 2 for i in CONVOLUTIONS]  # one past each convolution's nonlinearity
        for i, (start, end) in enumerate(pairwise([0, *ends])):
            x, y = self.features[start:end](x), self.features[start:end](y)
            difference = (_unit(x) - _unit(y)).square()
            total += (difference * self.get_buffer(f"linear{i}").view(-1, 1, 1)).sum(1).mean((1, 2))
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def read_lpips(shape: Shape, device: torch.device) -> tuple[LPIPS, str]:
    """LPIPS from AlexNet's weights in the folder of `VAEBENCH_WEIGHTS`, and their SHA-256.

    The weights of the layers' channels are those that torchmetrics ships.

    Raises:
        Unavailable: there are no such weights, or the images are too small or have other channels.
        UserError: the file does not hold AlexNet's weights.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < FEWEST:
        raise Unavailable(
            f"LPIPS takes images of one or three channels, at least {FEWEST} pixels across, and these are {size(shape)}"
        )
    path = weights_file(ALEXNET, "AlexNet's weights, which LPIPS needs,")
    content, sha256 = read_verified(path)
    linear = _load((files("torchmetrics") / LINEAR).read_bytes())
    try:
        network = LPIPS(_load(content), linear)
    except (KeyError, TypeError, RuntimeError, EOFError, UnpicklingError) as error:
        raise UserError(f"'{path}' does not hold the weights of AlexNet; put torchvision's {ALEXNET} there") from error
    return network.to(device).eval(), sha256


def _load(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def lpips(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Distances of images x and y, (n, c, h, w) in [0, 1], y clipped to it: float64 (n,) on the CPU."""
    pairs = zip(x.float().split(BATCH), y.float().clamp(0, 1).split(BATCH), strict=True)
    return torch.cat([network(a, b).double().cpu() for a, b in pairs])
