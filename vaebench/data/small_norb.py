"""smallNORB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vaebench.data import cache
from vaebench.data._factors import published
from vaebench.data._prepare import Preparation
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.data.cache import DamagedError
from vaebench.data.formats import norb
from vaebench.errors import UserError, unknown


@final
class SmallNORB(ImageData):
    """smallNORB: photographs of toys, 1 × 64 × 64, with the 5 categories as labels; 21,870 / 2,430 / 24,300.

    The published files are read from `$VAEBENCH_DATA/small_norb`, gzipped or not. Each photograph was taken by two
    cameras, of which one is used, and is resized from 96 × 96 as pictures of `folder` are. Test images show other toys
    than those of training, of which a tenth, by a fixed seed, is the validation split.

    Reference:
        LeCun, Huang & Bottou 2004, https://cs.nyu.edu/~ylclab/data/norb-v1.0-small.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        camera: 'left' or 'right'.
        resize: side of the images; None keeps 96.

    Attributes:
        FACTORS: names of the factors, with the number of values of each.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    FACTORS: Mapping[str, int] = {"category": 5, "instance": 10, "elevation": 9, "azimuth": 18, "lighting": 6}
    files: ClassVar[Mapping[str, str]] = {
        "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
        "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
    }

    def __init__(
        self,
        measure: str = "discrete256",
        batch_size: int = 128,
        camera: Literal["left", "right"] = "left",
        resize: int | None = 64,
    ) -> None:
        super().__init__(measure, batch_size)
        self.camera, self.preparation = camera, Preparation(resize=resize)

    def raw(self) -> Mapping[str, Split]:
        found = {}
        for split in self.files:
            pairs, categories = self._read(split, "dat"), self._read(split, "cat")
            if pairs.ndim != 4 or pairs.shape[1] != 2 or categories.shape != (len(pairs),):
                raise UserError(
                    f"the {split} files of {self.name} hold images of shape {pairs.shape} and {categories.shape} "
                    "categories: expected (n, 2, 96, 96) and n; put intact copies in their place"
                )
            images = pairs[:, ("left", "right").index(self.camera)]
            prepared = [self.preparation.levels(Image.fromarray(image), self.name) for image in images]
            found[split] = np.stack(prepared), categories
        (images, labels), test = found["train"], found["test"]
        order = shuffled(len(images))
        train = carve(images[order], labels[order], order, train=-1, val=len(images) // 10)
        return train | carve(*test, test=-1)

    def factors(self, split: str) -> Tensor:
        """The values of the factors of a split's images, in their order: (n, 5) int64, columns as in `FACTORS`.

        Raises:
            UserError: there is no such split.
        """
        if split not in ("train", "val", "test"):
            raise unknown("split", split, ("train", "val", "test"))
        own = "test" if split == "test" else "train"
        values = np.column_stack([self._read(own, "cat"), self._read(own, "info")]).astype(np.int64)
        values[:, list(self.FACTORS).index("azimuth")] //= 2  # stored as 0, 2, …, 34
        return torch.from_numpy(values)[self.index(split)]

    def _read(self, split: str, what: str) -> NDArray[np.generic]:
        name = f"{self.files[split]}-{what}.mat"
        packed = cache.data_folder(self.name) / f"{name}.gz"
        path = (
            packed
            if packed.is_file()
            else published(self.name, name, "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small")
        )
        try:
            return norb(cache.unzip(path.read_bytes()) if path == packed else path.read_bytes())
        except (DamagedError, OSError) as damage:
            reason = damage if isinstance(damage, DamagedError) else "cannot be read"
            raise UserError(f"'{path}' {reason}; put an intact copy in its place") from damage
