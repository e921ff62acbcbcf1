"""Data sets of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from vaebench.data._items import pixels
from vaebench.data._own import RANGES, SPELLINGS, Cut, Duplicates, Images, OwnImages
from vaebench.data._prepare import Colour, Crop, Preparation, require_span, stacked
from vaebench.errors import UserError, extra, unknown
from vaebench.ranges import Range


@final
class HF(OwnImages):
    """A data set of Hugging Face's `datasets`: one of the hub by its name, or a folder that `save_to_disk` wrote.

    The library downloads what is not in its cache. Splits are kept: `train`, `test` and `validation`, of which the last
    is taken from training images where it is missing; `train` alone is split by a seed. Pictures are brought to levels
    as those of `folder` are.

    Args:
        name: of the data set on the hub ('ylecun/mnist').
        path: of a folder that `save_to_disk` wrote, in place of a name.
        config: of the data set, where it has several.
        revision: a commit of the data set, so that it stays what it is.
        image, label: names of the columns; a label column that is not there means no labels.
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        crop, resize, colour, range: as in `folder`.
        val, test, split_seed, duplicates: as in `folder`.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("path",)
    RANGES: ClassVar[Mapping[str, Range]] = RANGES

    def __init__(
        self,
        name: str | None = None,
        path: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        image: str = "image",
        label: str = "label",
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
        title = name or (Path(path).name if path else "")
        super().__init__(title, path, measure, batch_size, cut=Cut(val, test, split_seed, duplicates))
        self.source, self.columns = (name, config, revision), (image, label)
        self.preparation = Preparation(crop, resize, colour, require_span(range))

    def read(self) -> Mapping[str, Images]:
        with extra("hf", f"data set '{self.name}'"):
            import datasets
        name, config, revision = self.source
        if name is None and self.place is None:
            raise UserError(f"{self.name} has no data.name: expected a data set of the hub; set it, or data.path")
        try:
            if name is not None:
                loaded = datasets.load_dataset(name, config, revision=revision)
            else:
                loaded = datasets.load_from_disk(str(self.found("path")))
        except (OSError, ValueError, RuntimeError) as error:  # what it raises for a name, a config or a connection
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise UserError(
                f"datasets cannot load '{name or self.place}' ({type(error).__name__}: {reason}): expected a data set "
                "that it knows; mend data.name or data.config"
            ) from error
        splits = loaded if isinstance(loaded, dict) else {"": loaded}
        return {split: self._images(part, split) for split, part in splits.items() if split in {"", *SPELLINGS}}

    def _images(self, part: Any, split: str) -> Images:
        image, label = self.columns
        if image not in part.column_names:
            raise unknown("column", image, part.column_names, "Set data.image to the one that holds the images.")
        what = f"of the {split or 'whole'} split of {self.name}"
        pictures = (
            (f"image {at} {what}", pixels(part[at][image], self.preparation, f"image {at} {what}"))
            for at in range(len(part))
        )
        labels = list(part[label]) if label in part.column_names else [None]
        unlabelled = all(value is None for value in labels)  # as in a folder of pictures without classes
        return Images(stacked(pictures, len(part)), None if unlabelled else np.asarray(labels))
