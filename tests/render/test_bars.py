"""Bars: as high as their values."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from onnxplain.render.plots import bars


def test_bars_are_as_high_as_their_values() -> None:
    png = bars(np.array([1, 0, 4]), "a title with $", "layer", "images", ["a", "b$", "c" * 60])
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
    blue = (np.abs(pixels - (31, 119, 180)) < 12).all(-1)
    columns = np.flatnonzero(blue.any(0))
    first, *rest = np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)
    (last,) = rest  # the value 0 has no bar
    low, high = (blue[:, bar[len(bar) // 2]].sum() for bar in (first, last))
    assert abs(high / low - 4) < 0.2
