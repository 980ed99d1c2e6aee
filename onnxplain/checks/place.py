"""Measures of where maps lie: on the object, or where nothing is. Float64 [n], NaN: not applicable."""

from __future__ import annotations

import numpy as np

from onnxplain.checks.seen import View, numbers
from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.metrics.localise import energy_inside
from onnxplain.metrics.localise import pointing_game as pointing

CELLS = 8
"""Maps are compared with those of other images at this many cells a side."""


def pointing_game(v: View) -> Array:
    """Whether the hottest pixel is on the object; NaN without annotation."""
    return _annotated(v, pointing(v.maps(), v.masks))


def energy_in_object(v: View) -> Array:
    """The share of the map's mass on the object; NaN without annotation."""
    return _annotated(v, energy_inside(v.maps(), v.masks))


def border_mass(v: View) -> Array:
    """The share of the map's mass in a frame along the borders."""
    maps = v.maps()
    h, w = maps.shape[1:]
    y, x = (max(1, round(v.options["width"] * n)) for n in (h, w))
    frame = np.ones((h, w), bool)
    frame[y : h - y, x : w - x] = False
    return _inside(maps, frame)


def corner_mass(v: View) -> Array:
    """The share of the map's mass in that corner which has most of it."""
    maps = v.maps()
    h, w = maps.shape[1:]
    y, x = (max(1, round(v.options["size"] * n)) for n in (h, w))
    corners = []
    for rows in (slice(0, y), slice(h - y, h)):
        for columns in (slice(0, x), slice(w - x, w)):
            corner = np.zeros((h, w), bool)
            corner[rows, columns] = True
            corners.append(_inside(maps, corner))
    most: Array = np.max(corners, axis=0)
    return most


def region_mass(v: View) -> Array:
    """The share of the map's mass in a box given in shares of the input's width and height."""
    maps = v.maps()
    h, w = maps.shape[1:]
    box = np.array(v.options["box"]) * (w, h, w, h)
    return energy_inside(maps, np.repeat(box[None], len(maps), 0))


def constant(v: View) -> Array:
    """Whether the map is the same everywhere: zero, or without any contrast."""
    maps = v.maps()
    return numbers(maps.max((1, 2)) == maps.min((1, 2)))


def cells(v: View) -> Array:
    """The map as a vector of `CELLS` x `CELLS` means, centred, of length 1 (0 for a constant one)."""
    maps = v.maps().astype(np.float64)
    rows, columns = (_pooling(n, CELLS) for n in maps.shape[1:])
    vectors = (rows @ maps @ columns.T).reshape(len(maps), -1)
    vectors -= vectors.mean(1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9)
    return unit


def likeness_to_others(vectors: Array) -> Array:
    """Return the mean correlation of each of n >= 2 maps' cells with those of all other images."""
    n = len(vectors)
    if n < 2:
        raise InputError("two images or more are needed to compare their maps")
    whole = vectors.sum(0)
    found: Array = ((vectors * (whole - vectors)).sum(1)) / (n - 1)
    return found


def _annotated(v: View, values: Array) -> Array:
    return np.where(v.masks.any((1, 2)), values, np.nan)


def _inside(maps: Array, mask: Array) -> Array:
    return energy_inside(maps, np.broadcast_to(mask, maps.shape))


def _pooling(size: int, cells: int) -> Array:
    """Return the matrix [cells, size] that takes means over cells of equal width (shares of pixels count)."""
    edges = np.linspace(0, size, cells + 1)
    pixel = np.arange(size)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    means: Array = np.maximum(high - low, 0) * (cells / size)
    return means
