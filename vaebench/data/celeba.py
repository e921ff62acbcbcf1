"""CelebA."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import published
from vaebench.data._prepare import Colour, Crop, Levels, Preparation, decoded, opened, stacked
from vaebench.data._stored import kept_at
from vaebench.data.base import ImageData, Split, carve
from vaebench.errors import UserError, unknown


@final
class CelebA(ImageData):
    """CelebA, aligned and cropped: faces of celebrities, 3 × 64 × 64; 162,770 / 19,867 / 19,962.

    `img_align_celeba/`, `list_eval_partition.txt` and, for labels, `list_attr_celeba.txt` are read from
    `$VAEBENCH_DATA/celeba`. The published partition is kept. Papers cut and resize the 178 × 218 pixels differently, so
    that figures of different settings are not comparable; the hashes of the data tell them apart.

    Reference:
        Liu, Luo, Wang & Tang 2015, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        crop: side of the square that is cut from the centre; 'square' for the largest.
        resize: side that it is resized to; None keeps it.
        colour: 'grey' or 'rgb'.
        attribute: the one that is the label, such as 'Smiling'; None for no labels.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    source: ClassVar[str] = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"

    def __init__(
        self,
        measure: str = "discrete256",
        batch_size: int = 128,
        crop: Crop | None = 148,
        resize: int | None = 64,
        colour: Colour | None = None,
        attribute: str | None = None,
    ) -> None:
        super().__init__(measure, batch_size)
        self.preparation, self.attribute = Preparation(crop, resize, colour), attribute

    def raw(self) -> Mapping[str, Split]:
        folder = published(self.name, "img_align_celeba", self.source)
        partition = self._partition()
        names, numbers = list(partition), np.array(list(partition.values()))
        labels, splits = self._labels(names) if self.attribute else None, {}
        if missing := next((name for name in names if not (folder / name).is_file()), None):
            raise UserError(f"'{folder}' lacks '{missing}': expected all images of the partition; put them there")
        for number, split in enumerate(("train", "val", "test")):
            place = np.flatnonzero(numbers == number)
            paths = [folder / names[at] for at in place]
            images = stacked(decoded(paths, self._decoded), len(paths), partial(kept_at, self.preparation, *paths))
            own = None if labels is None else labels[place]
            splits[split] = carve(images, own, place, whole=-1)["whole"]
        return splits

    def _decoded(self, path: Path) -> Levels:
        with opened(path, f"'{path}'") as image:
            return self.preparation.levels(image, f"'{path}'")

    def _partition(self) -> dict[str, int]:
        """The number of the split, 0 to 2, of each file."""
        path = published(self.name, "list_eval_partition.txt", self.source)
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not rows or any(len(row) != 2 or row[1] not in ("0", "1", "2") for row in rows):
            raise UserError(
                f"'{path}' is not the published partition: expected lines such as '000001.jpg 0'; replace it"
            )
        return {name: int(number) for name, number in rows}

    def _labels(self, names: list[str]) -> NDArray[np.int64]:
        """1 where an image has the attribute, else 0."""
        path = published(self.name, "list_attr_celeba.txt", self.source)
        _, head, *rows = path.read_text(encoding="utf-8").splitlines()
        attributes = head.split()
        if self.attribute not in attributes:
            raise unknown("attribute", self.attribute, attributes, "Set data.attribute to one of CelebA's 40.")
        column = attributes.index(self.attribute) + 1
        values = {row.split()[0]: int(row.split()[column] == "1") for row in rows if row.strip()}
        if missing := [name for name in names if name not in values]:
            raise UserError(f"'{path}' has no line for '{missing[0]}': expected one for each image; replace it")
        return np.array([values[name] for name in names])
