"""Feature extractors: networks that map images to the vectors by which sets of images are compared.

Only one is shipped, `mnist28`, trained by `benchmarks/features.py`; see `docs/features.md`. Others are read from the
folder of `VAEBENCH_WEIGHTS`, where a user has put them; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaebench.errors import Unavailable, UserError
from vaebench.measures import Shape

WEIGHTS = "VAEBENCH_WEIGHTS"
MNIST28 = Path(__file__).parents[1] / "extractors" / "mnist28.pt"
MNIST28_SHA256 = "193033b5b02a93967ae7c8965a67ba3471a82e31daee17f6345624bea4548fd0"
INCEPTION = "inception-2015-12-05.pt"
BATCH = 500


class Extractor(NamedTuple):
    """A named network with the file that it was read from.

    Attributes:
        name: suffix of the metrics that use it.
        sha256: of its file, 64 hex digits.
        network: images (b, *data) in [0, 1] -> features (b, d), on one device.
    """

    name: str
    sha256: str
    network: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images (n, *data), float64 (n, d) on the CPU; NaN for an image that is not finite."""
        return torch.cat([self._features(part.float()).cpu() for part in images.split(BATCH)])

    def _features(self, images: Tensor) -> Tensor:
        finite = images.isfinite().flatten(1).all(1, keepdim=True)
        return self.network(images).double().masked_fill(~finite, torch.nan)  # which levels of 8 bits do not show

    @property
    def label(self) -> str:
        """Name and first 16 hex digits of the hash, for definitions."""
        return f"{self.name} (SHA-256 {self.sha256[:16]}…)"


class Mnist28(nn.Module):
    """A classifier of MNIST digits, 47,786 parameters: three strided convolutions, 64 features, ten classes.

    Attributes:
        mean: of the features over training images, (64,).
        scale: their standard deviations, (64,).
    """

    shape: Shape = (1, 28, 28)
    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(64, 10))
        self.register_buffer("mean", torch.zeros(64))
        self.register_buffer("scale", torch.ones(64))

    def forward(self, x: Tensor) -> Tensor:
        """Features of images x (b, 1, 28, 28) in [0, 1]: (b, 64), before their nonlinearity, standardised."""
        return (self.body(x - 0.5) - self.mean) / self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the ten digits, (b, 10)."""
        return self.head(self.body(x - 0.5))


def mnist28(shape: Shape, device: torch.device) -> Extractor:
    """The extractor that vaebench ships.

    Args:
        shape: of an image.
        device: of the network.

    Raises:
        Unavailable: the images are not 1 × 28 × 28.
        UserError: the file is missing, or has another hash.
    """
    if tuple(shape) != Mnist28.shape:
        raise Unavailable(f"the extractor mnist28 takes images of 1 × 28 × 28, and these are {size(shape)}")
    content, sha256 = read_verified(MNIST28, MNIST28_SHA256)
    network = Mnist28()
    network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return Extractor("mnist28", sha256, network.to(device).eval())


class Inception(NamedTuple):
    """Inception-v3 of 2015 as TorchScript, with both of its outputs.

    Attributes:
        features: pool features, (b, 2048): an extractor.
        classes: probabilities of its classes, (b, classes).
    """

    features: Extractor
    classes: Extractor


def inception(shape: Shape, device: torch.device) -> Inception:
    """Inception-v3 from the file inception-2015-12-05.pt in the folder of `VAEBENCH_WEIGHTS`.

    It is the TorchScript translation of the network of the original FID that NVIDIA publishes with StyleGAN2-ADA
    (https://github.com/NVlabs/stylegan2-ada-pytorch), which takes levels 0 to 255 and resizes images itself, as FID is
    defined. Images of one channel are given to it three times.

    Args:
        shape: of an image.
        device: of the network.

    Raises:
        Unavailable: there is no such file, or the images have neither one channel nor three.
        UserError: the file is no TorchScript.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise Unavailable(f"Inception takes images of one or three channels, and these are {size(shape)}")
    path = weights_file(INCEPTION, "Inception's weights")
    content, sha256 = read_verified(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what is published
            script = torch.jit.load(io.BytesIO(content), map_location=device).eval()
    except RuntimeError as error:
        raise UserError(
            f"'{path}' cannot be read as TorchScript; put the file inception-2015-12-05.pt of StyleGAN2-ADA there"
        ) from error

    def levels(x: Tensor) -> Tensor:
        return (x.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)

    return Inception(
        Extractor("inception-2015-12-05", sha256, lambda x: script(levels(x), return_features=True)),
        Extractor("inception-2015-12-05", sha256, lambda x: script(levels(x), no_output_bias=True)),
    )


NAMED: dict[str, Callable[[Shape, torch.device], Extractor]] = {
    "inception": lambda shape, device: inception(shape, device).features,
    "mnist28": mnist28,
}


def weights_file(name: str, what: str) -> Path:
    """A file of weights that a user has put into the folder of `VAEBENCH_WEIGHTS`.

    Raises:
        Unavailable: there is none.
    """
    folder = os.environ.get(WEIGHTS)
    if not folder:
        raise Unavailable(f"{what} are not here: set {WEIGHTS} to a folder that holds {name}")
    path = Path(folder).expanduser() / name
    if not path.is_file():
        raise Unavailable(f"{what} are not here: the folder of {WEIGHTS} holds no {name}")
    return path


def read_verified(path: Path, expected: str | None = None) -> tuple[bytes, str]:
    """A file's content and its SHA-256.

    Raises:
        UserError: the file cannot be read, or its hash is not the expected one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): expected a file of weights; install vaebench again, or put "
            "the file there"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected is not None and sha256 != expected:
        raise UserError(
            f"'{path}' has the SHA-256 {sha256} where {expected} was expected; install vaebench again, since figures "
            "of another extractor cannot be compared"
        )
    return content, sha256


def size(shape: Any) -> str:
    """A shape in words: '1 × 28 × 28'."""
    return " × ".join(str(n) for n in shape)
