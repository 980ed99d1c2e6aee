"""One figure: the input, and beside it what the methods found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from onnxplain.files import atomic_write
from onnxplain.render.blend import check_map, check_picture, overlay, signed, symmetric_limit
from onnxplain.render.color import colormap
from onnxplain.render.text import Line, wrap

MIN_SIDE, MAX_SIDE = 384, 640  # pixels of a panel's longer side
TINY = 96  # pixels; up to here a photo is enlarged in whole, sharp pixels
COLUMNS = 4
MARGIN, GAP = 20, 16
TITLE, SUBTITLE, NUMBERS, HEADER = 18, 14, 12, 22  # font sizes
BAR = 10  # height of the colour bar
CAPTION = TITLE + SUBTITLE + 20  # above a picture
BELOW = BAR + NUMBERS + 16  # below it
SPARSE = 0.5  # a map whose robust limit is less than this share of its maximum is cut there
INK, GREY = "#1a1a1a", "#666666"


class Panel(NamedTuple):
    """One picture of a figure; a plain tuple will do as well.

    `array` is a heat map [h, w] (>= 0), signed values [h, w] (some below
    0), or a finished uint8 picture [H, W, 3], drawn without a colour bar.
    """

    title: str
    subtitle: str
    array: np.ndarray


@dataclass(frozen=True)
class _Cell:
    title: str
    subtitle: str
    picture: Image.Image
    bar: np.ndarray | None = None  # colours from left to right, uint8 [256, 3]
    numbers: tuple[str, str, str] = ("", "", "")  # at its left, middle and right


def figure(
    image: np.ndarray, panels: Sequence[tuple[str, str, np.ndarray]], header: str = ""
) -> Image.Image:
    """Draw the input and the panels side by side, four to a row, each with title and colour bar.

    Args:
        image: uint8 [H, W, 3], what the model saw; small ones are enlarged.
        panels: (title, subtitle, array) each, see `Panel`.
        header: stands above, wrapped as needed.

    Returns:
        An RGB picture. Titles that are too long end in an ellipsis.

    Raises:
        InputError: an array has the wrong shape, or holds NaN.
    """
    photo = _enlarged(image)
    own = f"{image.shape[1]} x {image.shape[0]} pixels"
    cells = [_Cell("Input", own, Image.fromarray(photo))]
    cells += [_cell(photo, Panel(*panel)) for panel in panels]
    height, width = photo.shape[:2]
    rows = math.ceil(len(cells) / COLUMNS)
    columns = math.ceil(len(cells) / rows)
    total = 2 * MARGIN + columns * width + (columns - 1) * GAP
    lines = wrap(header, HEADER, total - 2 * MARGIN)
    top = MARGIN + len(lines) * (HEADER + 8) + (12 if lines else 0)
    row = CAPTION + height + (BELOW if len(cells) > 1 else 0) + GAP
    page = Image.new("RGB", (total, top + rows * row - GAP + MARGIN), "white")
    for i, line in enumerate(lines):
        line.draw(page, MARGIN, MARGIN + i * (HEADER + 8), INK)
    for i, cell in enumerate(cells):
        _draw(page, cell, MARGIN + i % columns * (width + GAP), top + i // columns * row)
    return page


def save_png(image: Image.Image | np.ndarray, path: str | Path) -> None:
    """Write a picture (Pillow's, or uint8 [H, W, 3]) as PNG, whole or not at all.

    Raises:
        OutputError: it could not be written.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    atomic_write(path, lambda file: picture.save(file, "PNG", compress_level=3))


def png(image: Image.Image) -> bytes:
    """Return a picture as PNG."""
    file = BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Return the photo in panel size: tiny ones in whole pixels, others smoothly."""
    check_picture(image)
    longest = max(image.shape[:2])
    if longest <= TINY:
        times = math.ceil(MIN_SIDE / longest)
        return image.repeat(times, 0).repeat(times, 1)
    zoom = min(max(longest, MIN_SIDE), MAX_SIDE) / longest
    size = tuple(max(1, round(n * zoom)) for n in (image.shape[1], image.shape[0]))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _cell(photo: np.ndarray, panel: Panel) -> _Cell:
    title, subtitle, array = panel
    if array.ndim == 3:
        picture = Image.fromarray(_enlarged(array)).resize(photo.shape[1::-1])
        return _Cell(title, subtitle, picture)
    check_map(array)
    if array.min() < 0:
        limit = symmetric_limit(array)
        drawn = signed(photo, array, limit=limit)
        bar, numbers = colormap("diverging"), (f"{-limit:.3g}", "0", f"{limit:.3g}")
    else:
        top, mark = float(array.max()) or 1.0, ""
        if (limit := symmetric_limit(array)) < SPARSE * top:
            top, mark = limit, ">= "
        drawn = overlay(photo, np.minimum(array / top, 1))
        bar, numbers = colormap("inferno"), ("0", f"{top / 2:.3g}", f"{mark}{top:.3g}")
    return _Cell(title, subtitle, Image.fromarray(drawn), bar, numbers)


def _draw(page: Image.Image, cell: _Cell, x: int, y: int) -> None:
    width, height = cell.picture.size
    Line(cell.title, TITLE, width).draw(page, x, y, INK)
    Line(cell.subtitle, SUBTITLE, width).draw(page, x, y + TITLE + 6, GREY)
    y += CAPTION
    page.paste(cell.picture, (x, y))
    if cell.bar is None:
        return
    y += height + 8
    page.paste(Image.fromarray(cell.bar[None]).resize((width, BAR)), (x, y))
    for share, number in zip((0, 0.5, 1), cell.numbers, strict=True):
        line = Line(number, NUMBERS, width)
        line.draw(page, x + share * (width - line.width), y + BAR + 4, GREY)
