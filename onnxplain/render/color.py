"""Colour maps whose lightness follows the value, so that they also read in grey."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import ConfigError

# inferno, magma, viridis: 17 samples each of the maps by Nathaniel J. Smith, Stefan van der Walt
# and Eric Firing (matplotlib), released under CC0. "diverging" is ours: straight in CIELAB
# lightness from 40 (blue) over 97 (white, the middle) to 40 (red).
_ANCHORS = {
    "inferno": "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 "
    "d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4",
    "magma": "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf",
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c "
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
    "diverging": "0060b7 2b71c2 5382cc 7294d6 8da7df a8bae7 c1ceef dbe2f5 f6f6f6 "
    "fedad5 fcc0b7 f6a69c ee8d82 e37368 d75951 ca3c3a bc1324",
}
COLORMAPS = tuple(_ANCHORS)


@functools.cache
def colormap(name: str) -> NDArray[np.uint8]:
    """Return a colour map as uint8 [256, 3]: row 0 is the lowest value, row 255 the highest.

    Raises:
        ConfigError: `name` is not one of COLORMAPS.
    """
    if name not in _ANCHORS:
        raise ConfigError(f"colour map {name!r} is not one of {', '.join(COLORMAPS)}")
    anchors = np.array([list(bytes.fromhex(code)) for code in _ANCHORS[name].split()])
    at, known = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(at, known, channel) for channel in anchors.T], 1)
    colours: NDArray[np.uint8] = np.rint(table).astype(np.uint8)
    colours.flags.writeable = False  # cached
    return colours
