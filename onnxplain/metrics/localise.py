"""Does a map lie where the object is? Maps [N, H, W] and regions in, a number per image out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import ConfigError, InputError

Array = np.ndarray[Any, Any]


def pointing_game(maps: Array, regions: Array) -> NDArray[np.float64]:
    """Return per image 1 where the map's highest value lies inside the region, else 0, float64 [N].

    maps: [N, H, W]. regions: masks [N, H, W] (bool), or a box per image [N, 4] as left, top, right, bottom
    in pixels of the map. Of several highest values the first counts; a constant map has none and misses.

    Raises InputError where the shapes do not fit. Source: Zhang et al., IJCV 2018, without their margin of
    15 pixels (widen the regions for that).
    """
    masks = as_masks(regions, maps)
    flat = maps.reshape(len(maps), -1)
    hit = np.take_along_axis(masks.reshape(len(maps), -1), flat.argmax(1)[:, None], 1)[:, 0]
    varies = flat.max(1, initial=-np.inf) > flat.min(1, initial=np.inf)
    found: NDArray[np.float64] = (hit & varies).astype(np.float64)
    return found


def energy_inside(maps: Array, regions: Array) -> NDArray[np.float64]:
    """Return the share of each map's positive mass that lies inside the region, float64 [N] in 0..1.

    Arguments as for `pointing_game`. Negative values count as 0; a map without mass gives NaN.

    Raises InputError where the shapes do not fit. Source: Wang et al., CVPRW 2020, arXiv 1910.01279, the
    energy-based pointing game.
    """
    masks = as_masks(regions, maps)
    mass = np.maximum(maps, 0).astype(np.float64)
    inside, whole = (mass * masks).sum((1, 2)), mass.sum((1, 2))
    found: NDArray[np.float64] = np.divide(
        inside, whole, out=np.full(len(maps), np.nan), where=whole > 0
    )
    return found


def as_masks(regions: Array, maps: Array) -> NDArray[np.bool_]:
    """Return regions as masks of the maps' shape; a pixel is in a box if its centre is."""
    if maps.ndim != 3:
        raise InputError(f"maps are {list(maps.shape)}, not [N, H, W]")
    if regions.shape == maps.shape:
        return regions.astype(bool)
    n, h, w = maps.shape
    if regions.shape != (n, 4):
        raise InputError(
            f"regions are {list(regions.shape)}: give masks {[n, h, w]} or boxes {[n, 4]}"
        )
    left, top, right, bottom = (side[:, None, None] for side in regions.T)
    y, x = np.arange(h)[:, None] + 0.5, np.arange(w) + 0.5
    inside: NDArray[np.bool_] = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    return inside


def iou(maps: Array, regions: Array, threshold: float = 0.5) -> NDArray[np.float64]:
    """Return intersection over union of each map's high part with the region, float64 [N] in 0..1.

    Arguments as for `pointing_game`. The high part: values of at least `threshold` (above 0, at most 1) of
    the map's maximum; none in a map that is nowhere above 0. Up is better; 0 where both are empty.

    Raises ConfigError, InputError where the shapes do not fit. Source: as for weakly supervised
    localisation; Zhou et al., CVPR 2016, threshold 0.2 there.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold {threshold!r} must be above 0 and at most 1")
    masks = as_masks(regions, maps)
    highest = maps.max((1, 2), keepdims=True)
    high = (maps >= threshold * highest) & (highest > 0)
    both, either = (high & masks).sum((1, 2)), (high | masks).sum((1, 2))
    found: NDArray[np.float64] = both / np.where(either > 0, either, 1)
    return found
