"""What data sets of a user's own share: which splits they have, and how they are split where they have none."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebench.data._checks import HIGHEST, require_disjoint, row_hashes
from vaebench.data._stored import Stored
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.errors import UserError
from vaebench.measures import BINARY, CONTINUOUS, DISCRETE
from vaebench.ranges import AMOUNT, ANY, INSIDE, Range

SPELLINGS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
             "test": "test", "testing": "test"}  # fmt: skip
"""Names that published data have for the three splits."""

RANGES: Mapping[str, Range] = {
    "range": ANY,
    "val": INSIDE,
    "test": INSIDE,
    "split_seed": AMOUNT,
    "levels": Range(2, 256),
}
"""Of the settings that data sets of a user's own have in common."""

Duplicates = Literal["refuse", "drop", "keep"]


class Images(NamedTuple):
    """Images as they were read: levels (n, c, h, w) uint8, in memory or in a file, and labels (n,) or None."""

    levels: NDArray[np.uint8] | Stored
    labels: NDArray[Any] | None = None


@dataclass(frozen=True)
class Cut:
    """How images become three splits.

    What comes with splits keeps them; where validation images are missing, they are taken from those of training. What
    has no splits, or those of training alone, is shuffled and cut.

    Args:
        val: share of the images, or of those for training, that becomes the validation split.
        test: share of the images that becomes the test split.
        seed: of the shuffling.
        duplicates: what becomes of an image that stands in two splits: 'refuse', 'drop' (it stays in the first of
            training, validation and test that has it, within which it may stand again), or 'keep'.

    Raises:
        UserError: the shares leave no image for training, or the seed is negative.
    """

    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    duplicates: Duplicates = "refuse"

    def __post_init__(self) -> None:
        if not (0 < self.val < 1 and 0 < self.test < 1 and self.val + self.test < 1):
            raise UserError(
                f"data.val is {self.val:g} and data.test {self.test:g}: expected shares above 0 that leave some images "
                "for training; lower them"
            )
        if self.seed < 0:
            raise UserError(f"data.split_seed is {self.seed}: expected at least 0; raise it")

    def splits(self, name: str, parts: Mapping[str, Images]) -> dict[str, Split]:
        """The three splits.

        Args:
            name: of the data set, for errors.
            parts: images by the name of their split; '' for those that are in none.

        Raises:
            UserError: there are not enough images, no test images beside those of training and validation, or images
                that stand in two splits.
        """
        unknown = sorted(set(parts) - set(SPELLINGS) - {""})
        named = {SPELLINGS[split]: images for split, images in parts.items() if split in SPELLINGS}
        if unknown or len(named) + ("" in parts) != len(parts) or ("" in parts and named):
            raise UserError(
                f"{name} has the splits {', '.join(map(repr, parts))}: expected train, test and perhaps val, each "
                "once; name them so, or give the images without splits"
            )
        whole = parts.get("") or (named["train"] if set(named) == {"train"} else None)
        if whole is None and (missing := [split for split in ("train", "test") if split not in named]):
            raise UserError(
                f"{name} has no split '{missing[0]}' beside {', '.join(named)}: expected train and test; give one, or "
                "the images without splits, which are then cut by data.val and data.test"
            )
        if whole is not None:
            splits = self._carved(name, whole, val=self.val, test=self.test)
        elif "val" not in named:
            splits = self._carved(name, named["train"], val=self.val) | carve(*named["test"], test=-1)
        else:
            splits = {}
            for split, images in named.items():
                splits[split] = carve(images.levels, images.labels, whole=-1)["whole"]
        splits = {split: splits[split] for split in ("train", "val", "test")}
        if self.duplicates == "drop":
            splits = _dropped(splits)
        elif self.duplicates == "refuse":
            require_disjoint(name, splits, "set data.duplicates to drop, or to keep where they are meant")
        return splits

    def _carved(self, name: str, images: Images, **shares: float) -> dict[str, Split]:
        n = len(images.levels)
        sizes = {split: max(1, round(share * n)) for split, share in shares.items()}
        if n <= sum(sizes.values()):
            raise UserError(
                f"{name} has {n} images, too few for {' and '.join(['train', *sizes])}: expected at least one for "
                "each; give more, or images with splits"
            )
        order = shuffled(n, self.seed)
        labels = None if images.labels is None else images.labels[order]
        return carve(images.levels[order], labels, index=order, train=-1, **sizes)


def _dropped(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits without images that an earlier one has."""
    found, seen = {}, np.empty(0, np.int64)
    for name, split in splits.items():
        hashes = row_hashes(split.images)
        keep = np.flatnonzero(~np.isin(hashes, seen))
        seen = np.concatenate([seen, hashes])
        if len(keep) == len(hashes):
            found[name] = split
        else:
            found[name] = Split(*(None if part is None else part[keep] for part in split))  # type: ignore[arg-type]
    return found


class OwnImages(ImageData, ABC):
    """Images of a user's own. A subclass reads them; its constructor has a setting for each that it hands over.

    Args:
        title: of the data set, that records know it by.
        place: where the images are, as the user gave it; None where that was not said.
        measure, batch_size: as in `ImageData`.
        levels: number of values of a stored pixel, from 2 to 256.
        cut: how the images are split.
        lists: folder of lists that split them, from the folder of the images; None: there are none.

    Raises:
        UserError: as `ImageData`, the number of levels is none, or the lists do not lie with the images.
    """

    levels = HIGHEST + 1
    measures: tuple[str, ...] = (BINARY, "discrete256", CONTINUOUS)
    PLACES: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        title: str,
        place: str | None,
        measure: str,
        batch_size: int,
        levels: int = HIGHEST + 1,
        cut: Cut = Cut(),
        lists: str | None = None,
    ) -> None:
        if not 2 <= levels <= HIGHEST + 1:
            raise UserError(f"data.levels is {levels}: expected 2 to {HIGHEST + 1}; mend that setting")
        self.levels = levels
        self.measures = (BINARY, f"{DISCRETE}{levels}", CONTINUOUS) if levels > 2 else (BINARY,)
        if lists is not None and (Path(lists).is_absolute() or ".." in Path(lists).parts):
            raise UserError(
                f"data.lists is '{lists}': expected a folder in that of the images, named from there, so that both are "
                "found together; move or link it there"
            )
        super().__init__(measure, batch_size)
        self.place, self.cut, self.lists = place, cut, lists
        if title:
            self.name = f"{self.name}-{re.sub(r'[^A-Za-z0-9_.+=@-]+', '_', title)[:60]}"

    @abstractmethod
    def read(self) -> Mapping[str, Images]:
        """The images by the name of their split; '' for those that are in none."""

    def raw(self) -> Mapping[str, Split]:
        return self.cut.splits(self.name, self.read())

    def found(self, key: str) -> Path:
        """The place where the images are.

        Args:
            key: its setting.

        Raises:
            UserError: it was not said, or is not there.
        """
        if self.place is None:
            raise UserError(
                f"{self.name} has no data.{key}: expected where its images are; set it (a place that a checkpoint or "
                "record names is used where --trust names it too, or give --data.root)"
            )
        path = Path(self.place).expanduser()
        if not path.exists():
            raise UserError(
                f"data.{key} is '{self.place}', which is not there (looked for at {path.absolute()}): expected a path "
                "from the working folder, or an absolute one; mend it"
            )
        return path

    def listed(self, folder: Path) -> dict[str, list[str]]:
        """The lines of the lists that split the images, by the name of the split; none where no lists were given.

        Each split has a text file, `train.txt`, of which the order means nothing and empty lines are left out.

        Args:
            folder: of the images.

        Raises:
            UserError: there are no lists, or one cannot be read, is empty, or has a line twice.
        """
        if self.lists is None:
            return {}
        place, found = folder / self.lists, {}
        for name in SPELLINGS:
            if not (path := place / f"{name}.txt").is_file():
                continue
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"'{path}' cannot be read ({error}): expected a text file in UTF-8; mend it") from error
            twice = [line for line, count in Counter(lines).items() if count > 1]
            if twice or not lines:
                what = f"names '{twice[0]}' twice" if twice else "is empty"
                raise UserError(f"'{path}' {what}: expected each of its images once, one a line; mend that list")
            found[name] = sorted(lines)
        if not found:
            raise UserError(
                f"'{place}' holds no lists: expected train.txt, test.txt and perhaps val.txt; mend data.lists, a "
                "folder in that of the images"
            )
        return found


def title_of(place: str | None) -> str:
    """A data set's title by the place of its images.

    >>> title_of("/data/my pngs/"), title_of("faces.npz"), title_of(None)
    ('my pngs', 'faces', '')
    """
    return Path(place).stem if place else ""
