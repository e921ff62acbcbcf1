"""Any map-style Dataset of torch's, by its class path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, final

import numpy as np
from torch.utils.data import Dataset

from vaebench.data._items import pixels
from vaebench.data._own import RANGES, Cut, Duplicates, Images, OwnImages
from vaebench.data._prepare import Colour, Crop, Layout, Levels, Preparation, require_span, stacked
from vaebench.errors import UserError
from vaebench.ranges import Range


@final
class Torch(OwnImages):
    """Any map-style Dataset of torch's by its class path, such as torchvision's; an item is (image, label) or an image.

    Its splits are built one by one, `--data.train '{train: true}' --data.test '{train: false}'`, or it is split by a
    seed. An image is a picture, an array or a tensor, of levels or, with `range`, of values between two; a transform
    that draws at random has no place here, for every image is read once.

    Args:
        dataset: class path, or a function that returns one ('torchvision.datasets.FashionMNIST').
        root: where its files are; handed over as its argument of that name where it is given.
        settings: further arguments, for all splits.
        train, val, test: arguments of a split, beside those; with none there is one data set without splits.
        layout: 'nchw' or 'nhwc' of arrays and tensors, where the shape does not say it.
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        crop, resize, colour: as in `folder`.
        range: values of black and white in arrays and tensors that hold no levels, such as [0, 1] after `ToTensor`.
        val_share, test_share: shares of the images in those splits, where there are none.
        split_seed, duplicates: as in `folder`.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("root",)
    RANGES: ClassVar[Mapping[str, Range]] = RANGES

    def __init__(
        self,
        dataset: str | None = None,
        root: str | None = None,
        settings: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        val: dict[str, Any] | None = None,
        test: dict[str, Any] | None = None,
        layout: Layout | None = None,
        measure: str = "discrete256",
        batch_size: int = 128,
        crop: Crop | None = None,
        resize: int | None = None,
        colour: Colour | None = None,
        range: list[float] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        split_seed: int = 0,
        duplicates: Duplicates = "refuse",
    ) -> None:
        title = (dataset or "").rpartition(".")[2]
        super().__init__(title, root, measure, batch_size, cut=Cut(val_share, test_share, split_seed, duplicates))
        self.dataset, self.settings, self.layout = dataset, settings or {}, layout
        given = {"train": train, "val": val, "test": test}
        self.splits = {name: own for name, own in given.items() if own is not None} or {"": {}}
        self.preparation = Preparation(crop, resize, colour, require_span(range))

    def read(self) -> Mapping[str, Images]:
        place = {} if self.place is None else {"root": str(self.found("root"))}
        return {split: self._images({**place, **self.settings, **own}, split) for split, own in self.splits.items()}

    def _images(self, arguments: dict[str, Any], split: str) -> Images:
        dataset = self._built(arguments)
        labels: list[Any] = []

        def pictures() -> Iterator[tuple[str, Levels]]:
            for at in range(len(dataset)):
                what = f"image {at} of {self.dataset}{f' ({split})' if split else ''}"
                image, label = _parts(dataset[at], what)
                labels.append(label)
                yield what, pixels(image, self.preparation, what, self.layout)

        levels = stacked(pictures(), len(dataset))
        return Images(levels, None if None in labels else np.asarray(labels))

    def _built(self, arguments: dict[str, Any]) -> Any:
        if not self.dataset:
            raise UserError(f"{self.name} has no data.dataset: expected the path of a class; set it to pkg.Class")
        module, _, name = self.dataset.rpartition(".")
        try:
            make = vars(import_module(module))[name]
        except (ImportError, KeyError, ValueError) as error:
            reason = error if isinstance(error, ImportError) else f"{module or 'the path'} has no {name}"
            raise UserError(
                f"data.dataset is '{self.dataset}', which cannot be imported ({reason}): expected the path of a "
                "class; mend it, or install its package"
            ) from error
        try:
            dataset = make(**arguments)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise UserError(
                f"{self.dataset} cannot be built from {arguments} ({str(error).rstrip('.')}): expected its own "
                "arguments; mend data.root, data.settings, data.train or data.test"
            ) from error
        if not isinstance(dataset, Dataset) or not callable(vars(type(dataset)).get("__len__", len)):
            raise UserError(
                f"{self.dataset} is no Dataset of torch's: expected one with a length and items; name another"
            )
        try:
            empty = not len(dataset)  # type: ignore[arg-type]
        except TypeError:
            raise UserError(f"{self.dataset} has no length: expected a map-style Dataset; name another") from None
        if empty:
            raise UserError(f"{self.dataset} holds no images with {arguments}: expected at least one; mend those")
        return dataset


def _parts(item: Any, what: str) -> tuple[Any, Any]:
    """The image and the label, or None, of an item."""
    if not isinstance(item, list | tuple):
        return item, None
    if len(item) == 1:
        return item[0], None
    label = None if item[1] is None else np.asarray(item[1])
    if label is not None and (label.size != 1 or label.dtype.kind not in "biu"):
        raise UserError(f"{what} has the label {item[1]!r}: expected a whole number; name a Dataset that gives one")
    return item[0], label if label is None else int(label.item())
