"""Crops of the photographs that scikit-image and scikit-learn ship, as a folder for `--data folder`.

    python benchmarks/photographs.py photographs --side 64

Training, validation and test crops are of different photographs, side by side without overlap. Both packages name the
photographers and the free licences beside the files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

SPLITS = {
    "train": ("astronaut.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "china.jpg"),
    "val": ("hubble_deep_field.jpg",),
    "test": ("chelsea.png", "flower.jpg"),
}


def folders() -> Iterator[Path]:
    """The folders of both packages' photographs, of those that are installed."""
    for package, inside in (("skimage", "data"), ("sklearn", "datasets/images")):
        if (spec := find_spec(package)) and spec.origin:
            yield Path(spec.origin).parent / inside


def crops(picture: Image.Image, side: int) -> Iterator[Image.Image]:
    """All crops of a picture that lie side by side, row by row."""
    for top in range(0, picture.height - side + 1, side):
        for left in range(0, picture.width - side + 1, side):
            yield picture.crop((left, top, left + side, top + side))


def write(folder: Path, side: int) -> dict[str, int]:
    """Writes the crops as PNG; returns their number in each split."""
    known = {path.name: path for place in folders() for path in place.iterdir()}
    count = dict.fromkeys(SPLITS, 0)
    for split, names in SPLITS.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in filter(known.__contains__, names):
            with Image.open(known[name]) as picture:
                for i, crop in enumerate(crops(picture.convert("RGB"), side)):
                    crop.save(folder / split / f"{Path(name).stem}-{i:03}.png")
                    count[split] += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of a crop, pixels (default: 64)")
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.side))
