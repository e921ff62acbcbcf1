"""Pictures in a folder of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from vaebench.data._own import RANGES, SPELLINGS, Cut, Duplicates, Images, OwnImages, title_of
from vaebench.data._prepare import (
    ENDINGS,
    OTHERS,
    Colour,
    Crop,
    Levels,
    Preparation,
    decoded,
    opened,
    require_span,
    stacked,
)
from vaebench.data._stored import kept_at
from vaebench.errors import UserError
from vaebench.ranges import Range


@final
class Folder(OwnImages):
    """Pictures in a folder of one's own: PNG, JPEG, TIFF or WebP, 256 levels; folders in it are classes or splits.

    A folder that has `train` in it has splits (`train`, `test` and perhaps `val`); any other is split by a seed. In a
    split, or in the whole, each picture that stands in a folder belongs to the class of the outermost one, and classes
    count from 0 in the order of their names; pictures beside one another have no labels. Pictures are read in the
    order of their paths. More than `VAEBENCH_MEMORY` GiB (1) of them are decoded once into a file and read from there.

    Args:
        root: the folder, from the working folder or absolute.
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        crop: side of the square to cut from a picture's centre, or 'square' for the largest.
        resize: side of the square that it is then resized to.
        colour: 'grey' or 'rgb', which pictures are brought to.
        range: values of black and white in pictures of more than 8 bits, such as [0, 65535].
        val, test: shares of the images in the validation and the test split, where the folder has none.
        split_seed: of the split.
        duplicates: what becomes of pictures that stand in two splits: 'refuse', 'drop' or 'keep'.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("root",)
    RANGES: ClassVar[Mapping[str, Range]] = RANGES

    def __init__(
        self,
        root: str | None = None,
        measure: str = "discrete256",
        batch_size: int = 128,
        crop: Crop | None = None,
        resize: int | None = None,
        colour: Colour | None = None,
        range: list[float] | None = None,
        val: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        duplicates: Duplicates = "refuse",
    ) -> None:
        super().__init__(title_of(root), root, measure, batch_size, cut=Cut(val, test, split_seed, duplicates))
        self.preparation = Preparation(crop, resize, colour, require_span(range))

    def read(self) -> Mapping[str, Images]:
        root = self.found("root")
        if not root.is_dir():
            raise UserError(f"data.root is '{root}', a file: expected a folder of pictures; use --data arrays for one")
        splits = {path.name: path for path in root.iterdir() if path.is_dir() and path.name in SPELLINGS}
        if "train" not in {SPELLINGS[name] for name in splits}:
            splits = {"": root}
        return {name: self._images(folder) for name, folder in sorted(splits.items())}

    def _images(self, folder: Path) -> Images:
        paths = sorted(_pictures(folder), key=lambda path: path.relative_to(folder).as_posix())
        levels = stacked(decoded(paths, self._decoded), len(paths), lambda: kept_at(self.preparation, *paths))
        classes = [path.relative_to(folder).parts[:-1][:1] for path in paths]
        if not any(classes):
            return Images(levels)
        if not all(classes):
            raise UserError(
                f"'{folder}' has pictures in folders and '{paths[classes.index(())].name}' beside them: expected "
                "all in folders of their classes, or none; move it"
            )
        return Images(levels, np.unique([one[0] for one in classes], return_inverse=True)[1])

    def _decoded(self, path: Path) -> Levels:
        with opened(path, f"'{path}'") as image:
            return self.preparation.levels(image, f"'{path}'")


def _pictures(folder: Path) -> list[Path]:
    """All pictures below a folder; hidden ones are none.

    Raises:
        UserError: there is none, or one of a kind that is not read.
    """
    found = []
    for path in folder.rglob("*"):
        ending = path.suffix.lower()
        if path.name.startswith(".") or not path.is_file():
            continue
        if ending in OTHERS:
            raise UserError(f"'{path}' is of a kind that is not read: expected {', '.join(ENDINGS)}; convert it")
        if ending in ENDINGS:
            found.append(path)
    if not found:
        raise UserError(f"'{folder}' holds no pictures: expected {', '.join(ENDINGS)}; mend data.root")
    return found
