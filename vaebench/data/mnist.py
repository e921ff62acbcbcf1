"""MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from vaebench.data import _mnist
from vaebench.data.base import ImageData, Split
from vaebench.data.cache import File
from vaebench.ranges import require_ranges


@final
class MNIST(ImageData):
    """MNIST: handwritten digits, 1 × 28 × 28, 256 grey levels, with labels 0 to 9; 50,000 / 10,000 / 10,000.

    The validation split is the last 10,000 of the 60,000 training images. Under the binary measure bits are drawn anew
    in every training batch (dynamic binarization), so that figures are not comparable with `binarized_mnist`.

    Reference:
        LeCun, Bottou, Bengio & Haffner 1998, http://yann.lecun.com/exdb/mnist. Checksums are of the unpacked files.

    Args:
        measure: 'binary', 'discrete256' or 'continuous'.
        batch_size: images per batch and process.
        held_out: images of the validation split; None takes 10,000. Papers without one train on almost all by a few.
    """

    levels = 256
    measures = ("binary", "discrete256", "continuous")
    validation: ClassVar[int] = 10_000
    files: ClassVar[tuple[File, ...]] = _mnist.files(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte": "md5:6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "md5:a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "md5:2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "md5:27ae3e4e09519cfbb04c329615203637",
        },
    )

    def __init__(self, measure: str = "binary", batch_size: int = 128, held_out: int | None = None) -> None:
        super().__init__(measure, batch_size)
        require_ranges(type(self), {"held_out": held_out}, "data.")
        self.held_out = self.validation if held_out is None else held_out

    def raw(self) -> Mapping[str, Split]:
        return _mnist.splits(self.name, self.files, self.held_out)
