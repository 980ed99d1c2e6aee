"""How alike are two maps of one image? Maps a, b [N, H, W] in, a number per image out, float64 [N].

Two constant maps are alike, a constant one is like no other [ours]: no measure gives NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import ConfigError, InputError

Array = np.ndarray[Any, Any]
Numbers = NDArray[np.float64]


def rank_correlation(a: Array, b: Array) -> Numbers:
    """Return Spearman's correlation over the positions, in -1..1; equal values share their mean rank.

    Two constant maps give 1, one of them 0. Raises InputError where the shapes differ.
    """
    from scipy.stats import rankdata

    _check(a, b)
    ranks = [rankdata(m.reshape(len(m), -1), axis=1) for m in (a, b)]
    x, y = (r - r.mean(1, keepdims=True) for r in ranks)
    size = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    found = np.divide((x * y).sum(1), size, out=np.zeros(len(a)), where=size > 0)
    return np.where(_constant(a) & _constant(b), 1.0, found)


def top_overlap(a: Array, b: Array, share: float = 0.1) -> Numbers:
    """Return which share of the highest positions of `a` are also among those of `b`, in 0..1.

    share: how many positions count as the highest, of all; at least one. Ties go to the first position.
    Raises ConfigError (share outside 0..1), InputError.
    """
    _check(a, b)
    if not 0 < share <= 1:
        raise ConfigError(f"share = {share} must be above 0 and at most 1")
    k = max(1, round(share * a[0].size)) if len(a) else 1
    chosen = []
    for maps in (a, b):
        flat = maps.reshape(len(maps), -1)
        top = np.argsort(-flat, axis=1, kind="stable")[:, :k]
        marked = np.zeros(flat.shape, bool)
        np.put_along_axis(marked, top, True, 1)
        chosen.append(marked)
    found: Numbers = (chosen[0] & chosen[1]).sum(1) / k
    return np.where(_constant(a) | _constant(b), 1.0 * (_constant(a) & _constant(b)), found)


def ssim(a: Array, b: Array) -> Numbers:
    """Return the mean structural similarity of maps in 0..1, in -1..1.

    Wang et al., IEEE TIP 2004, eq. 13: Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03,
    L = 1, moments of the population; borders are mirrored. Raises InputError where the shapes differ.
    """
    from scipy.ndimage import gaussian_filter

    _check(a, b)

    def mean(m: Array) -> Array:
        return np.asarray(gaussian_filter(m, (0, 1.5, 1.5), truncate=3.5, mode="reflect"))

    x, y = a.astype(np.float64), b.astype(np.float64)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    local = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    found: Numbers = local.mean((1, 2))
    return found


def centre_shift(a: Array, b: Array) -> Numbers:
    """Return how far the centre of mass moves, as a share of the picture's diagonal, in 0..1.

    Negative values have no mass. Two maps without mass give 0, one of them 1. Raises InputError.
    """
    _check(a, b)
    h, w = a.shape[1:]
    centres, empty = [], []
    for maps in (a, b):
        mass = np.maximum(maps, 0).astype(np.float64)
        whole = mass.sum((1, 2))
        empty.append(whole == 0)
        divisor = np.where(whole > 0, whole, 1)
        centres.append((mass.sum(2) @ np.arange(h) / divisor, mass.sum(1) @ np.arange(w) / divisor))
    (ya, xa), (yb, xb) = centres
    moved: Numbers = np.hypot(ya - yb, xa - xb) / np.hypot(h, w)
    return np.where(empty[0] | empty[1], 1.0 * (empty[0] ^ empty[1]), moved)


def _check(a: Array, b: Array) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise InputError(f"maps are {list(a.shape)} and {list(b.shape)}, not both [N, H, W]")


def _constant(maps: Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = maps.max((1, 2)) == maps.min((1, 2))
    return found
