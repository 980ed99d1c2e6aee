"""Text of any length and script in a given width."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_FINER = 4  # text is drawn this much larger and scaled down: even spacing without hinting
_LONGEST = 400  # characters that are looked at: labels may be of any length, lines are not
# Pillow's own font knows little more than ASCII. For other text these are tried, if installed.
_WIDER = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)


class Line:
    """One line of text, cut with an ellipsis to the width it may take.

    Attributes:
        text: what is drawn.
        size: font size, pixels.
    """

    def __init__(self, text: str, size: int, width: float) -> None:
        self.size = size
        self.text, self._font = _drawable(text[:_LONGEST], size)
        if _length(self.text, self._font) > width:
            cuts = (self.text[:n].rstrip() + "..." for n in range(len(self.text), -1, -1))
            self.text = next((cut for cut in cuts if _length(cut, self._font) <= width), "")

    @property
    def width(self) -> float:
        """Length of the text, pixels."""
        return _length(self.text, self._font)

    def draw(self, page: Image.Image, x: float, y: float, colour: str) -> None:
        """Draw the text with its upper left corner at (x, y)."""
        size = (int(self.width) + self.size, 2 * self.size)
        mask = Image.new("L", (_FINER * size[0], _FINER * size[1]))
        ImageDraw.Draw(mask).text((0, 0), self.text, 255, self._font)
        page.paste(colour, (round(x), round(y)), mask.reduce(_FINER))


def wrap(text: str, size: int, width: float, most: int = 4) -> list[Line]:
    """Break text at spaces into at most `most` lines of at most `width` pixels; the rest is cut."""
    lines: list[str] = []
    for word in text[: most * _LONGEST].split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and (len(lines) == most or _length(*_drawable(joined, size)) <= width):
            lines[-1] = joined
        else:
            lines.append(word)
    return [Line(line, size, width) for line in lines]


def _length(text: str, font: Any) -> float:
    return float(font.getlength(text)) / _FINER


def _drawable(text: str, size: int) -> tuple[str, Any]:
    """Return the font that has most of `text`, and `text` with stand-ins for what it lacks."""
    text = "".join(c if c.isprintable() else " " for c in text)
    fonts = [name for name in ("", *_WIDER) if _font(name, size * _FINER) is not None]
    best = max(fonts, key=lambda name: sum(_has(name, c) for c in text))  # the first of equals
    drawn = "".join(c if _has(best, c) else _plain(c) for c in text)
    return drawn, _font(best, size * _FINER)


def _plain(character: str) -> str:
    """Return the closest ASCII: an accent taken off, or a question mark."""
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


@functools.cache
def _font(name: str, size: int) -> Any:
    """Return a font by file name ("" is Pillow's own), or None where it is not installed."""
    if not name:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(4096)
def _has(name: str, character: str) -> bool:
    """Whether a font draws a character as something else than its missing-glyph box."""
    if character.isascii():
        return True
    font = _font(name, 16)
    missing, mask = font.getmask("\U0010fffe"), font.getmask(character)
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))
