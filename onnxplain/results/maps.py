"""Two steps between signed values and a picture: enlarge, and scale to [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
_LARGEST = np.finfo(np.float32).max


def bilinear(maps: np.ndarray, size: tuple[int, int]) -> Map:
    """Resize maps [..., h, w] to [..., H, W] with half-pixel centres, without antialiasing.

    The same numbers as torch.nn.functional.interpolate(mode="bilinear", align_corners=False).

    Example:
        >>> bilinear(np.array([[0.0, 1.0]]), (1, 4)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    rows, columns = (interpolation(n, m) for n, m in zip(maps.shape[-2:], size, strict=True))
    resized: np.ndarray = rows @ maps @ columns.T
    return resized.astype(np.float32)


def minmax(maps: np.ndarray) -> Map:
    """Scale each map of [N, ...] so that its smallest value is 0 and its largest 1.

    A constant map becomes all zeros.
    """
    axes = tuple(range(1, maps.ndim))
    low = maps.min(axes, keepdims=True)
    span = maps.max(axes, keepdims=True).astype(np.float64) - low
    if maps.dtype != np.float32 or (span > _LARGEST).any():
        maps = maps.astype(np.float64)
    scaled: np.ndarray = (maps - low) / np.where(span > 0, span, 1).astype(maps.dtype)
    return scaled.astype(np.float32, copy=False)


def interpolation(n: int, m: int) -> np.ndarray:
    """Return the matrix [m, n] that interpolates n samples linearly at m positions."""
    position = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    low = np.minimum(position.astype(int), max(n - 2, 0))
    share = position - low
    weights = np.zeros((m, n))
    weights[np.arange(m), low] = 1 - share
    weights[np.arange(m), np.minimum(low + 1, n - 1)] += share
    return weights
