"""Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from vaebench.data import _mnist
from vaebench.data.base import ImageData, Split
from vaebench.data.cache import File
from vaebench.ranges import require_ranges


@final
class FashionMNIST(ImageData):
    """Fashion-MNIST: articles of clothing, 1 × 28 × 28, 256 grey levels, with labels 0 to 9; 50,000 / 10,000 / 10,000.

    The validation split is the last 10,000 of the 60,000 training images. Under the binary measure bits are drawn anew
    in every training batch (dynamic binarization). Debian's dataset-fashion-mnist is found where installed.

    Reference:
        Xiao, Rasul & Vollgraf 2017, https://arxiv.org/abs/1708.07747. Checksums are of the unpacked files.

    Args:
        measure: 'binary', 'discrete256' or 'continuous'.
        batch_size: images per batch and process.
        held_out: images of the validation split; None takes 10,000. Papers without one train on almost all by a few.
    """

    levels = 256
    measures = ("binary", "discrete256", "continuous")
    validation: ClassVar[int] = 10_000
    files: ClassVar[tuple[File, ...]] = _mnist.files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte": "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "md5:9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "md5:8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "md5:15d484375f8d13e6eb1aabb0c3f46965",
        },
        installed="/usr/share/datasets/fashion-mnist",
    )

    def __init__(self, measure: str = "binary", batch_size: int = 128, held_out: int | None = None) -> None:
        super().__init__(measure, batch_size)
        require_ranges(type(self), {"held_out": held_out}, "data.")
        self.held_out = self.validation if held_out is None else held_out

    def raw(self) -> Mapping[str, Split]:
        return _mnist.splits(self.name, self.files, self.held_out)
