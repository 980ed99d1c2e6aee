"""Pictures and maps as data URLs, small enough that a page of many nodes stays small."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from onnxplain.render import colormap, symmetric_limit

Array = np.ndarray[Any, Any]
MAX_PICTURE = 1024  # pixels of the picture's longer side; a larger one is shown smaller
MAX_MAP = 224  # of a map's longer side
SHARP = 64  # pixels; up to here a picture stays lossless, for it will be enlarged
QUALITY = 88

COLORS = {"support": "inferno", "inhibit": "viridis", "signed": "diverging"}
"""What colours the page lays over the picture, by colour map."""


def picture_url(image: Array, longest: int = MAX_PICTURE) -> str:
    """Return a picture, uint8 [H, W, 3], as a data URL; a large one with at most `longest` pixels a side."""
    picture = Image.fromarray(image)
    if max(picture.size) <= SHARP:
        return _url(picture, "PNG", optimize=True)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return _url(picture, "JPEG", quality=QUALITY, optimize=True)


def heat(values: Array) -> dict[str, Any] | None:
    """Return what of a map [h, w] is positive: relu(M) / max, as 8 bits per position.

    None where nothing is, or where the map has a single position and so says nothing about where.
    """
    top = float(values.max(initial=0))
    if values.size < 2 or not 0 < top < np.inf:
        return None
    return _map(np.maximum(values, 0) / top * 255, top, signed=False)


def signed_heat(values: Array) -> dict[str, Any] | None:
    """Return a map [h, w] with its signs: 128 is zero, 1 and 255 are +- its robust limit.

    None for a map with NaN or infinite values.
    """
    if not np.isfinite(values).all():
        return None
    limit = symmetric_limit(values)
    return _map(128 + 127 * np.clip(values / limit, -1, 1), limit, signed=True)


def color_tables() -> dict[str, str]:
    """Return the page's colour maps, 256 x RGB bytes each in base64."""
    return {use: _base64(colormap(name).tobytes()) for use, name in COLORS.items()}


def _map(levels: Array, top: float, signed: bool) -> dict[str, Any]:
    grey = Image.fromarray(np.rint(levels).astype(np.uint8))
    grey.thumbnail((MAX_MAP, MAX_MAP), Image.Resampling.BOX)
    return {"src": _url(grey, "PNG", optimize=True), "max": top, "signed": signed}


def _url(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{_base64(file.getvalue())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
