"""Crops of photographs, those that scikit-image and scikit-learn ship or a folder's, for `--data folder`.

    python benchmarks/photographs.py photographs --side 64
    python benchmarks/photographs.py photographs --side 256 --pictures /usr/share/backgrounds/mate/nature

The second cuts the JPEG photographs of a folder, such as the wallpapers of Debian's mate-backgrounds (GPL-2+, larger
than 512 pixels). Training, validation and test crops are of different photographs, side by side without overlap. Both
packages name the photographers and the free licences beside the files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
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


def shipped() -> dict[str, list[Path]]:
    """The photographs of both packages by split."""
    known = {path.name: path for place in folders() for path in place.iterdir()}
    return {split: [known[name] for name in names if name in known] for split, names in SPLITS.items()}


def of_folder(place: Path) -> dict[str, list[Path]]:
    """The JPEG photographs below a folder by split: of five one for test, of ten one for validation."""
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    held_out = {"test": paths[::5], "val": paths[1::10]}
    return {"train": [path for path in paths if path not in held_out["test"] + held_out["val"]], **held_out}


def write(folder: Path, side: int, pictures: Mapping[str, Iterable[Path]]) -> dict[str, int]:
    """Writes the crops of each split's photographs as PNG; returns their number in each."""
    count = dict.fromkeys(pictures, 0)
    for split, paths in pictures.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for path in paths:
            with Image.open(path) as picture:
                for i, crop in enumerate(crops(picture.convert("RGB"), side)):
                    crop.save(folder / split / f"{path.stem}-{i:03}.png")
                    count[split] += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of a crop, pixels (default: 64)")
    parser.add_argument("--pictures", type=Path, help="folder of photographs (default: those of both packages)")
    arguments = parser.parse_args()
    chosen = of_folder(arguments.pictures) if arguments.pictures else shipped()
    print(write(arguments.folder, arguments.side, chosen))
