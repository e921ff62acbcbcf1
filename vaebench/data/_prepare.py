"""From pictures and arrays as users have them to levels: every change of a pixel has a setting of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vaebench.data._checks import HIGHEST, require_levels
from vaebench.data._stored import Stored, gathered, spans
from vaebench.errors import UserError

Levels = NDArray[np.uint8]
Colour = Literal["grey", "rgb"]
Layout = Literal["nchw", "nhwc"]
Crop = int | Literal["square"]

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
OTHERS = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".jp2",
    ".jxl",
    ".pgm",
    ".ppm",
    ".svg",
    ".tga",
)  # are not read
WIDE = ("I", "I;16", "I;16B", "I;16L", "F")  # modes of Pillow with more than 8 bits a value


def require_span(span: Sequence[float] | None) -> tuple[float, float] | None:
    """The values that stand for black and white, the smaller first.

    Raises:
        UserError: they are not two finite numbers of which the first is smaller.
    """
    if span is None:
        return None
    if len(span) != 2 or not all(map(math.isfinite, span)) or span[0] >= span[1]:
        raise UserError(
            f"data.range is {list(span)}: expected the values of black and of white, such as [0, 1]; mend that setting"
        )
    return float(span[0]), float(span[1])


def quantised(values: NDArray[Any], span: tuple[float, float] | None, levels: int, what: str) -> Levels:
    """Values as levels 0 … levels − 1: as they are, or the nearest level where the range is given.

    Args:
        values: images of any shape.
        span: values of black and white; None: they are levels already.
        levels: number of levels.
        what: they are, for errors.

    Raises:
        UserError: they are no levels and no range is given, or some lie outside it or are not finite.
    """
    values = np.asarray(values)
    if span is None:
        try:
            require_levels(values)
        except UserError as error:
            raise UserError(f"{what}: {error}, or say with data.range which values are black and white") from None
        return values.astype(np.uint8, order="C", copy=False)
    low, high = (values.min(), values.max()) if values.size else (span[0], span[0])
    if values.dtype.kind not in "buif" or not (low >= span[0] and high <= span[1]):  # also where one is NaN
        raise UserError(
            f"{what} hold {values.dtype} from {low} to {high}, where data.range promises {span[0]:g} to {span[1]:g}; "
            "set it to the range they have"
        )
    out = np.empty(values.shape, np.uint8)
    for rows in spans(values):
        out[rows] = np.rint((values[rows].astype(np.float64) - span[0]) / (span[1] - span[0]) * (levels - 1))
    return out


def channels_first(images: NDArray[Any], layout: Layout | None, what: str) -> NDArray[Any]:
    """Images (n, h, w), (n, c, h, w) or (n, h, w, c) as (n, c, h, w).

    Args:
        images: of any type.
        layout: where the channels are; None: where 1 or 3 of them can be in one place only.
        what: they are, for errors.

    Raises:
        UserError: the shape is none of those, or either place may be that of the channels.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise UserError(
            f"{what} have the shape {images.shape}, where (n, height, width) or that with channels is expected; give "
            "them one such shape"
        )
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if layout is None and first == last:
        raise UserError(
            f"{what} have the shape {images.shape}, which does not say where the channels are: expected 1 or 3 of "
            "them in one place; set data.layout to nchw or nhwc"
        )
    return np.moveaxis(images, 3, 1) if layout == "nhwc" or (layout is None and last) else images


@dataclass(frozen=True)
class Preparation:
    """What becomes of a picture before it is stored: its colours, then the crop, then the size.

    Resizing is Pillow's bicubic filter, which widens with the scale, so that a smaller picture has no aliasing; FID's
    authors measure with it for that reason (Parmar, Zhang & Zhu 2022, https://arxiv.org/abs/2104.11222). Grey is ITU-R
    601-2 luma. A camera's note of how it was held is followed; profiles of colours are not.

    Args:
        crop: side of the square that is cut from the centre; 'square' for the largest; None leaves it as it is.
        resize: side that a square picture is resized to; None leaves it as it is.
        colour: 'grey' or 'rgb'; None leaves the channels as they are, of which all pictures must then have as many.
        span: values of black and white in pictures of more than 8 bits; None refuses those.

    Raises:
        UserError: a side is less than 1.
    """

    crop: Crop | None = None
    resize: int | None = None
    colour: Colour | None = None
    span: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, side in (("crop", self.crop), ("resize", self.resize)):
            if isinstance(side, int) and side < 1:
                raise UserError(f"data.{name} is {side}: expected at least 1 pixel; raise it, or leave it out")

    @property
    def changes(self) -> bool:
        """Whether it does anything to a picture of 8 bits."""
        return any(setting is not None for setting in (self.crop, self.resize, self.colour))

    @property
    def words(self) -> str:
        """What it does, for definitions; '' where it does nothing.

        >>> Preparation(crop="square", resize=64, colour="rgb").words
        'colour rgb, crop square, resized to 64 by the antialiased bicubic filter'
        """
        crop = "" if self.crop is None else f"crop {self.crop}"
        size = "" if self.resize is None else f"resized to {self.resize} by the antialiased bicubic filter"
        span = "" if self.span is None else f"range {self.span[0]:g} to {self.span[1]:g}"
        colour = "" if self.colour is None else f"colour {self.colour}"
        return ", ".join(filter(None, (colour, crop, size, span)))

    def levels(self, image: Image.Image, what: str) -> Levels:
        """A picture's levels, (c, h, w).

        Args:
            image: the picture.
            what: it is, for errors.

        Raises:
            UserError: it is no single opaque picture in grey or colours, or it does not fit the settings.
        """
        image = self._coloured(image, what)
        if self.crop is not None:
            side = min(image.size) if self.crop == "square" else self.crop
            if side > min(image.size):
                raise UserError(
                    f"{what} has {image.width} × {image.height} pixels, of which a square of {side} is to be cut; "
                    "lower data.crop, or leave the picture out"
                )
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        if self.resize is not None and image.size != (self.resize, self.resize):
            if image.width != image.height:
                raise UserError(
                    f"{what} has {image.width} × {image.height} pixels, which a square of {self.resize} would distort; "
                    "set data.crop to square, or to the side to cut from its centre"
                )
            image = image.resize((self.resize, self.resize), Image.Resampling.BICUBIC)
        return np.moveaxis(np.atleast_3d(np.asarray(image)), 2, 0)

    def _coloured(self, image: Image.Image, what: str) -> Image.Image:
        if _frames(image) > 1:
            raise UserError(f"{what} holds several pictures: expected one in a file; save them one by one")
        image = ImageOps.exif_transpose(image)
        if image.mode in WIDE:
            if self.span is None:
                raise UserError(
                    f"{what} has more than 8 bits a pixel (mode {image.mode}), where levels from 0 to {HIGHEST} are "
                    "expected; set data.range to its values of black and white, such as [0, 65535]"
                )
            image = Image.fromarray(quantised(np.asarray(image), self.span, HIGHEST + 1, what))
        if image.mode == "1":
            image = image.convert("L")
        if image.has_transparency_data:
            image = image.convert("RGBA" if image.mode != "LA" else "LA")
            if image.getchannel("A").getextrema() != (255, 255):
                raise UserError(f"{what} is transparent in places: expected pixels that are opaque; flatten it")
            image = image.convert(image.mode[:-1])
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode not in ("L", "RGB"):
            raise UserError(f"{what} has the mode {image.mode}: expected grey or RGB; convert it to one of them")
        return image if self.colour is None else image.convert({"grey": "L", "rgb": "RGB"}[self.colour])


def _frames(image: Image.Image) -> int:
    """1 for a single picture, 2 for more."""
    try:
        image.seek(1)
    except EOFError:
        return 1
    image.seek(0)
    return 2


@contextmanager
def opened(path: Any, what: str) -> Iterator[Image.Image]:
    """A picture of one of `ENDINGS`, of no more than `PIL.Image.MAX_IMAGE_PIXELS` pixels; not decoded yet.

    Raises:
        UserError: it is none, it is larger, or the block finds it damaged.
    """
    try:
        with Image.open(path, formats=sorted(set(ENDINGS.values()))) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError  # of which Pillow itself only warns, up to twice as many
            yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"{what} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which Pillow takes for an attack; leave it out, "
            "or raise PIL.Image.MAX_IMAGE_PIXELS where you trust it"
        ) from error
    except UserError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{what} is no intact PNG, JPEG, TIFF or WebP picture; replace it, or leave it out") from error


WINDOW, BYTES = 256, 2**25  # pictures that are decoded at a time, and bytes of their levels


def decoded(paths: Sequence[Path], decode: Callable[[Path], Levels]) -> Iterator[tuple[str, Levels]]:
    """The levels of files of pictures, each with its path, in their order; decoded in as many threads as are useful."""
    with ThreadPoolExecutor() as pool:
        start, end = 0, 1  # the first alone: it may be all that is needed
        while window := paths[start:end]:
            size = 1
            for path, levels in zip(window, pool.map(decode, window), strict=True):
                size = max(size, levels.nbytes)
                yield str(path), levels
            start, end = end, end + max(1, min(WINDOW, BYTES // size))


def stacked(pictures: Iterator[tuple[str, Levels]], n: int, keep: Callable[[], Path] | None = None) -> Levels | Stored:
    """Levels of pictures, each with what it is, as one array (n, c, h, w); in a file where the memory is not meant to.

    Args:
        pictures: n of them.
        n: their number.
        keep: says where that file stays, so that they need not be decoded again; None: it is a temporary one.

    Raises:
        UserError: two have different shapes, or there is no room for that file.
    """
    what, first = next(pictures)

    def alike() -> Iterator[Levels]:
        yield first
        for other, levels in pictures:
            if levels.shape != first.shape:
                raise UserError(
                    f"{other} has the shape {levels.shape} and {what} {first.shape} (channels, height, width): "
                    "expected one for all; set data.colour to grey or rgb, and data.crop and data.resize"
                )
            yield levels

    return gathered((levels[None] for levels in alike()), (n, *first.shape), keep)
