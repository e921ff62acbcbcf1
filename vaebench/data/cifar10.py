"""CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data import cache
from vaebench.data.base import ImageData, Split, carve
from vaebench.data.cache import DamagedError, File
from vaebench.data.formats import archive, cifar

ImagesAndLabels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

FOLDER = "cifar-10-batches-bin"


@final
class CIFAR10(ImageData):
    """CIFAR-10: photographs, 3 × 32 × 32, 256 levels, with labels 0 to 9; 45,000 / 5,000 / 10,000.

    The validation split is the last tenth of the training images. The binary version is read, packed or unpacked
    (`cifar-10-batches-bin/`).

    Reference:
        Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. Checksums are those that Apache MXNet publishes
        for the unpacked files.

    Args:
        measure: 'discrete256' or 'continuous'.
        batch_size: images per batch and process.
        subset: read `cifar10_subset/cifar-10-binary-subset.tar.gz` instead, with as many images as it holds and no
            checksum. The data set is then called 'cifar10_subset', so that no record passes for CIFAR-10.
    """

    levels = 256
    measures = ("discrete256", "continuous")
    file: ClassVar[File] = File("cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz")
    checksums: ClassVar[dict[str, str]] = {
        "data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c",
    }

    def __init__(self, measure: str = "discrete256", batch_size: int = 128, subset: bool = False) -> None:
        super().__init__(measure, batch_size)
        if subset:
            self.name = "cifar10_subset"
        self.subset = subset

    def raw(self) -> Mapping[str, Split]:
        if self.subset:
            *train, test = cache.obtain(self.name, File("cifar-10-binary-subset.tar.gz", None), _any_members)
        elif (cache.data_folder(self.name) / FOLDER).is_dir():
            files = [File(f"{FOLDER}/{name}", None, checksum) for name, checksum in self.checksums.items()]
            *train, test = [cache.obtain(self.name, file, cifar) for file in files]
        else:
            *train, test = cache.obtain(self.name, self.file, self._members)
        images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
        return carve(images, labels, train=-1, val=len(images) // 10) | carve(*test, test=-1)

    def _members(self, content: bytes) -> list[ImagesAndLabels]:
        members = archive(content)
        for name, checksum in self.checksums.items():
            if f"{FOLDER}/{name}" not in members:
                raise DamagedError(f"lacks {FOLDER}/{name}")
            cache.check_checksum(members[f"{FOLDER}/{name}"], checksum)
        return [cifar(members[f"{FOLDER}/{name}"]) for name in self.checksums]


def _any_members(content: bytes) -> list[ImagesAndLabels]:
    """The training files that there are, then the test file."""
    members = archive(content)
    train = sorted(name for name in members if name.startswith(f"{FOLDER}/data_batch_"))
    test = f"{FOLDER}/test_batch.bin"
    if not train or test not in members:
        raise DamagedError(f"lacks {FOLDER}/{'test_batch.bin' if train else 'data_batch_1.bin'}")
    return [cifar(members[name]) for name in [*train, test]]
