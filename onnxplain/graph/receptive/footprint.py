"""Footprints: which elements of a tensor are seen, and the arithmetic on them.

A footprint is one mask per axis, [P, size] of booleans for P questions at once; the axis of images, whose
size is open, counts as one. What an op sees is a product of what it sees along each axis, so nothing is
lost but the shape of unions and of merged axes, whose hull stays right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

Array = np.ndarray[Any, Any]
Footprint = list[Array]
Rule = Callable[[gs.Node, gs.Tensor, gs.Tensor, Footprint], Footprint | None]
"""(node, input, output, footprint in the output) -> footprint in the input; None: it cannot be told."""


def sizes(x: gs.Tensor) -> list[int]:
    """Return the length of each axis, 1 for one that is open."""
    return [n if isinstance(n, int) else 1 for n in x.shape or ()]


def everything(x: gs.Tensor, count: int) -> Footprint:
    """Return the footprint of `count` questions that see all of a tensor."""
    return [np.ones((count, n), bool) for n in sizes(x)]


def gathered(mask: Array, taken: Array, n: int) -> Array:
    """Return which of n elements are seen where output i shows element `taken[i]`, outside 0..n none."""
    found = np.zeros((n, len(mask)), bool)
    inside = (taken >= 0) & (taken < n)
    np.logical_or.at(found, taken[inside], mask.T[inside])
    return found.T


def product(masks: Sequence[Array], count: int) -> Array:
    """Return the joint mask of several axes, flattened row by row."""
    joint = np.ones((count, 1), bool)
    for mask in masks:
        joint = (joint[:, :, None] & mask[:, None, :]).reshape(count, -1)
    return joint


def replaced(seen: Footprint, axis: int, mask: Array) -> Footprint:
    """Replace the mask of one axis."""
    found = list(seen)
    found[axis] = mask
    return found
