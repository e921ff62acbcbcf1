"""Pictures in a folder of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    A folder is split by `lists`; or it has splits, folders of the names `train`, `test` and perhaps `val`; or it is
    split by a seed. In a split of its own, or in the whole, each picture that stands in a folder belongs to the class
    of the outermost one, and classes count from 0 in the order of their names; pictures beside one another have no
    labels. Pictures are read in the order of their paths. More than `VAEBENCH_MEMORY` GiB (1) of them are decoded once
    into a file and read from there.

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
        lists: a folder in `root` that has the splits as text files, `train.txt`, `test.txt` and perhaps `val.txt`, with
            the path of a picture from `root` a line.
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
        lists: str | None = None,
        duplicates: Duplicates = "refuse",
    ) -> None:
        cut = Cut(val, test, split_seed, duplicates)
        super().__init__(title_of(root), root, measure, batch_size, cut=cut, lists=lists)
        self.preparation = Preparation(crop, resize, colour, require_span(range))

    def read(self) -> Mapping[str, Images]:
        root = self.found("root")
        if not root.is_dir():
            raise UserError(f"data.root is '{root}', a file: expected a folder of pictures; use --data arrays for one")
        if not (splits := {split: _named(root, lines) for split, lines in self.listed(root).items()}):
            folders = {path.name: path for path in root.iterdir() if path.is_dir() and path.name in SPELLINGS}
            if "train" not in {SPELLINGS[name] for name in folders}:
                folders = {"": root}
            splits = {name: _pictures(folder) for name, folder in sorted(folders.items())}
        classes = sorted({one for pictures in splits.values() for one in pictures.values()} - {""})
        return {split: self._images(pictures, classes) for split, pictures in splits.items()}

    def _images(self, pictures: Mapping[Path, str], classes: Sequence[str]) -> Images:
        paths, own = list(pictures), list(pictures.values())
        if any(own) and not all(own):
            raise UserError(
                f"'{paths[own.index('')]}' stands beside folders of pictures: expected all pictures in folders of "
                "their classes, or none; move it"
            )
        levels = stacked(decoded(paths, self._decoded), len(paths), lambda: kept_at(self.preparation, *paths))
        return Images(levels, np.searchsorted(classes, own) if any(own) else None)

    def _decoded(self, path: Path) -> Levels:
        with opened(path, f"'{path}'") as image:
            return self.preparation.levels(image, f"'{path}'")


def _pictures(folder: Path) -> dict[Path, str]:
    """All pictures below a folder in the order of their paths, each with its class; hidden ones are none.

    Raises:
        UserError: there is none, or one of a kind that is not read.
    """
    found = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if not path.name.startswith(".") and path.is_file() and _is_picture(path)
    ]
    if not found:
        raise UserError(f"'{folder}' holds no pictures: expected {', '.join(ENDINGS)}; mend data.root")
    return {folder / path: _class(path) for path in sorted(found, key=Path.as_posix)}


def _named(root: Path, lines: Sequence[str]) -> dict[Path, str]:
    """The pictures that a list names by their paths from `root`, each with its class.

    Raises:
        UserError: one is not there, or is not read.
    """
    for line in lines:
        path = Path(line)
        if path.is_absolute() or ".." in path.parts or not (root / path).is_file() or not _is_picture(root / path):
            raise UserError(
                f"a list of data.lists names '{line}', which is no picture in '{root}': expected paths from there, of "
                f"{', '.join(ENDINGS)}; mend that line"
            )
    return {root / line: _class(Path(line)) for line in lines}


def _is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture that is read.

    Raises:
        UserError: it is one of a kind that is not.
    """
    ending = path.suffix.lower()
    if ending in OTHERS:
        raise UserError(f"'{path}' is of a kind that is not read: expected {', '.join(ENDINGS)}; convert it")
    return ending in ENDINGS


def _class(path: Path) -> str:
    """The outermost folder of a path; '' where it has none."""
    return path.parts[0] if len(path.parts) > 1 else ""
