"""FFHQ, the thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

from vaebench.data._factors import published
from vaebench.data._prepare import Colour, Levels, Preparation, decoded, opened, stacked
from vaebench.data._stored import kept_at
from vaebench.data.base import ImageData, Split, carve
from vaebench.errors import UserError


@final
class FFHQ(ImageData):
    """FFHQ, the thumbnails: faces, 3 × 128 × 128, no labels; 55,000 / 5,000 / 10,000.

    `thumbnails128x128/` is read from `$VAEBENCH_DATA/ffhq`, with its folders of a thousand or without, in the order of
    the numbers. The last 10,000 are the publishers' validation images, which are the test split here; the 5,000
    before them are the validation split.

    Reference:
        Karras, Laine & Aila 2019, https://arxiv.org/abs/1812.04948; https://github.com/NVlabs/ffhq-dataset.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        resize: side of the images; None keeps 128.
        colour: 'grey' or 'rgb'.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    held_out: ClassVar[tuple[int, int]] = (5_000, 10_000)
    size: ClassVar[int] = 70_000

    def __init__(
        self,
        measure: str = "discrete256",
        batch_size: int = 128,
        resize: int | None = None,
        colour: Colour | None = None,
    ) -> None:
        super().__init__(measure, batch_size)
        self.preparation = Preparation(resize=resize, colour=colour)

    def raw(self) -> Mapping[str, Split]:
        folder = published(self.name, "thumbnails128x128", "https://github.com/NVlabs/ffhq-dataset")
        paths = sorted(folder.rglob("*.png"), key=lambda path: path.name)
        if len(paths) != self.size or len({path.name for path in paths}) < len(paths):
            raise UserError(
                f"'{folder}' holds {len(paths):,} thumbnails: expected {self.size:,}, each once; put the whole data "
                "set there"
            )
        images = stacked(decoded(paths, self._decoded), len(paths), lambda: kept_at(self.preparation, *paths))
        val, test = self.held_out
        return carve(images, None, train=-1, val=val, test=test)

    def _decoded(self, path: Path) -> Levels:
        with opened(path, f"'{path}'") as image:
            return self.preparation.levels(image, f"'{path}'")
