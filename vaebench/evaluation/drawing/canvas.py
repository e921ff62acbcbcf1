"""Charts as uint8 RGB arrays: axes, lines, dots and bars on white paper.

Everything is drawn at `SCALE` times its size and scaled down, which smooths it. Text uses Pillow's own font, which has
little beyond ASCII.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaebench.evaluation.metrics import Picture

Colour = tuple[int, int, int]
Span = tuple[float, float]
Tick = tuple[float, str]

SCALE = 3  # pixels drawn for a pixel shown, each way
PAPER, INK, FAINT, GRID = (255, 255, 255), (38, 38, 46), (120, 122, 132), (232, 233, 238)
COLOURS: tuple[Colour, ...] = (
    (46, 111, 178), (222, 126, 35), (58, 146, 82), (196, 62, 62), (131, 96, 176), (133, 92, 75), (212, 116, 178),
    (128, 128, 128), (170, 168, 40), (44, 167, 186),
)  # fmt: skip
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 34, 48  # margins, pixels
SMALL, NORMAL = 11, 13  # heights of text, pixels


class Chart:
    """Axes to draw on; positions are in data units, sizes in pixels.

    Args:
        x: lowest and highest value of the horizontal axis.
        y: lowest and highest value of the vertical axis.
        across: label of the horizontal axis, with its unit.
        up: label of the vertical axis, with its unit.
        title: above the chart.
        size: of the area inside the axes.
        x_ticks: positions and labels; default: round numbers.
        y_ticks: the same.
        upright: draw the vertical grid lines.
    """

    def __init__(
        self,
        x: Span,
        y: Span,
        across: str,
        up: str,
        title: str,
        size: tuple[int, int] = (480, 320),
        x_ticks: Sequence[Tick] | None = None,
        y_ticks: Sequence[Tick] | None = None,
        upright: bool = True,
    ) -> None:
        self.x, self.y, self.size = x, y, size
        self.labels = {"across": across, "up": up, "title": title}
        self.ticks = (ticks(*x) if x_ticks is None else x_ticks, ticks(*y) if y_ticks is None else y_ticks)
        self.plot = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.plot, "RGBA")
        for place, _ in self.ticks[0] if upright else ():
            self.line([(place, y[0]), (place, y[1])], GRID, 1)
        for place, _ in self.ticks[1]:
            self.line([(x[0], place), (x[1], place)], GRID, 1)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of the large plot at which a value lies."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * self.size[0]
        down = (self.y[1] - y) / (self.y[1] - self.y[0]) * self.size[1]
        return across * SCALE, down * SCALE

    def line(self, points: Iterable[tuple[float, float]], colour: Colour, width: float = 2) -> None:
        """A polyline through the points."""
        self.pen.line([self._at(*p) for p in points], (*colour, 255), round(width * SCALE), "curve")

    def dots(
        self, points: Iterable[tuple[float, float]], colour: Colour, radius: float = 2.5, alpha: int = 190
    ) -> None:
        """Discs; alpha 255 hides what lies below."""
        r = radius * SCALE
        for x, y in (self._at(*p) for p in points):
            self.pen.ellipse((x - r, y - r, x + r, y + r), (*colour, alpha))

    def bar(self, x: Span, y: Span, colour: Colour) -> None:
        """A filled rectangle."""
        (left, bottom), (right, top) = self._at(x[0], y[0]), self._at(x[1], y[1])
        if bottom > top:
            self.pen.rectangle((left, top, right, bottom), colour)

    def note(self, x: float, y: float, text: str, colour: Colour = INK, anchor: str = "lb") -> None:
        """Text at a position on white; `anchor` as in Pillow."""
        at, small = self._at(x, y), font(SMALL * SCALE)
        left, top, right, bottom = self.pen.textbbox(at, text, small, anchor)
        self.pen.rectangle((left - SCALE, top - SCALE, right + SCALE, bottom + SCALE), PAPER)
        self.pen.text(at, text, colour, small, anchor)

    def legend(self, entries: Mapping[str, Colour]) -> None:
        """Names of the colours, in the upper right corner."""
        wide = max(font(SMALL * SCALE).getlength(name) for name in entries) + 22 * SCALE
        left, line = self.size[0] * SCALE - wide - 6 * SCALE, 16 * SCALE
        box = (left, 6 * SCALE, left + wide, 10 * SCALE + len(entries) * line)
        self.pen.rectangle(box, (*PAPER, 225), GRID, SCALE)
        for i, (name, colour) in enumerate(entries.items()):
            middle, r = 8 * SCALE + (i + 0.5) * line, 4 * SCALE
            self.pen.ellipse((left + 5 * SCALE, middle - r, left + 5 * SCALE + 2 * r, middle + r), colour)
            self.pen.text((left + 17 * SCALE, middle), name, INK, font(SMALL * SCALE), "lm")

    def picture(self) -> Picture:
        """The chart with its axes: (height + margins, width + margins, 3)."""
        width, height = self.size
        page = Image.new("RGB", ((LEFT + width + RIGHT) * SCALE, (TOP + height + BOTTOM) * SCALE), PAPER)
        page.paste(self.plot, (LEFT * SCALE, TOP * SCALE))
        pen, (left, top) = ImageDraw.Draw(page), (LEFT * SCALE, TOP * SCALE)
        right, bottom = left + width * SCALE, top + height * SCALE
        pen.line([(left, top), (left, bottom), (right, bottom)], FAINT, SCALE)
        for place, text in self.ticks[0]:
            pen.text((left + self._at(place, 0)[0], bottom + 5 * SCALE), text, FAINT, font(SMALL * SCALE), "ma")
        for place, text in self.ticks[1]:
            pen.text((left - 6 * SCALE, top + self._at(0, place)[1]), text, FAINT, font(SMALL * SCALE), "rm")
        big = font(NORMAL * SCALE)
        pen.text(((left + right) / 2, bottom + 40 * SCALE), self.labels["across"], INK, big, "md")
        pen.text((left, 22 * SCALE), self.labels["title"], INK, big, "ls")
        up = Image.new("RGB", (height * SCALE, 20 * SCALE), PAPER)
        ImageDraw.Draw(up).text((up.width / 2, up.height / 2), self.labels["up"], INK, big, "mm")
        page.paste(up.rotate(90, expand=True), (2 * SCALE, top))
        return _shown(page)


@cache
def font(height: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, `height` pixels high."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(height))


def ticks(low: float, high: float, most: int = 6) -> list[Tick]:
    """Up to `most` + 1 round numbers from low to high, 1, 2 or 5 times a power of ten apart, with their labels.

    >>> [label for _, label in ticks(-0.3, 0.8)]
    ['-0.2', '0.0', '0.2', '0.4', '0.6', '0.8']
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    places = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(place, f"{place + 0.0:,.{decimals}f}") for place in places]


def labelled(picture: Picture, rows: Mapping[int, str], columns: Mapping[int, str], title: str) -> Picture:
    """A picture with text beside it.

    Args:
        picture: (h, w, 3).
        rows: text to the left, by the pixel row of its middle.
        columns: text above, by the pixel column of its middle.
        title: above all.
    """
    small, big = font(SMALL * SCALE), font(NORMAL * SCALE)
    left = math.ceil(max((small.getlength(name) for name in rows.values()), default=0) / SCALE) + 10 * bool(rows)
    top, (height, width) = 26 + 16 * bool(columns), picture.shape[:2]
    wide = max(width, math.ceil(big.getlength(title) / SCALE) + 4)
    page = Image.new("RGB", ((left + wide) * SCALE, (top + height) * SCALE), PAPER)
    pixels = picture.repeat(SCALE, 0).repeat(SCALE, 1)  # scaling down restores them
    page.paste(Image.fromarray(pixels), (left * SCALE, top * SCALE))
    pen = ImageDraw.Draw(page)
    pen.text(((left + 2) * SCALE, 17 * SCALE), title, INK, big, "ls")
    for place, name in rows.items():
        pen.text(((left - 6) * SCALE, (top + place) * SCALE), name, INK, small, "rm")
    for place, name in columns.items():
        pen.text(((left + place) * SCALE, (top - 4) * SCALE), name, FAINT, small, "ms")
    return _shown(page)


def _shown(page: Image.Image) -> Picture:
    return np.asarray(page.resize((page.width // SCALE, page.height // SCALE), Image.Resampling.BOX))
