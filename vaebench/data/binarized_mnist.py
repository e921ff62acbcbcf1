"""Statically binarized MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

from vaebench.data import cache
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.data.cache import File
from vaebench.data.formats import amat

ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


@final
class BinarizedMNIST(ImageData):
    """MNIST binarised once and for all: 1 × 28 × 28 bits without labels; 50,000 / 10,000 / 10,000.

    The published rows are sorted by class, so every split is shuffled once, with a fixed seed.

    Reference:
        Larochelle & Murray 2011, http://proceedings.mlr.press/v15/larochelle11a.html, after Salakhutdinov & Murray
        2008. Checksums are those that TensorFlow Datasets publishes for these files.

    Args:
        measure: 'binary'.
        batch_size: images per batch and process.
    """

    levels = 2
    measures = ("binary",)
    files: ClassVar[dict[str, File]] = {
        split: File(f"binarized_mnist_{name}.amat", f"{ADDRESS}binarized_mnist_{name}.amat", f"sha256:{checksum}")
        for split, name, checksum in (
            ("train", "train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
            ("val", "valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
            ("test", "test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
        )
    }

    def __init__(self, measure: str = "binary", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        splits: dict[str, Split] = {}
        for split, file in self.files.items():
            bits = cache.obtain(self.name, file, partial(amat, pixels=28 * 28))
            order = shuffled(len(bits))
            splits |= carve(bits[order].reshape(-1, 1, 28, 28), None, order, **{split: -1})
        return splits
