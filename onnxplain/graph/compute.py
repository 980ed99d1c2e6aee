"""ONNX operators on arrays: what an `Emitter` writes into a graph, computed at once.

A formula that is written once, `op.ReduceSum(op.Mul(g, a), (2, 3))`, then serves arrays and files alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class NumPy:
    """ONNX operators on arrays, as far as formulas use them; sums are in float64, as terms cancel."""

    Abs, Add, Div, Equal, Mul, Neg, Where = (
        staticmethod(f)
        for f in (np.abs, np.add, np.divide, np.equal, np.multiply, np.negative, np.where)
    )

    @staticmethod
    def Relu(x: Array) -> Array:
        """Return what is positive of x, and zeros."""
        positive: Array = np.maximum(x, 0)
        return positive

    @staticmethod
    def Slice(x: Array, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Array:
        """Return a part of x along some axes."""
        parts = [slice(None)] * x.ndim
        for axis, start, end in zip(axes, starts, ends, strict=True):
            parts[axis] = slice(start, end)
        return x[tuple(parts)]

    @staticmethod
    def ReduceSum(x: Array, axes: Sequence[int], keepdims: int = 1) -> Array:
        """Return the sum over axes, in float64."""
        return np.asarray(x.sum(tuple(axes), keepdims=bool(keepdims), dtype=np.float64))

    @staticmethod
    def ReduceMean(x: Array, axes: Sequence[int], keepdims: int = 1) -> Array:
        """Return the mean over axes."""
        return np.asarray(x.mean(tuple(axes), keepdims=bool(keepdims)))

    @staticmethod
    def ReduceMax(x: Array, axes: Sequence[int], keepdims: int = 1) -> Array:
        """Return the largest value over axes."""
        return np.asarray(x.max(tuple(axes), keepdims=bool(keepdims)))

    @staticmethod
    def ReduceMin(x: Array, axes: Sequence[int], keepdims: int = 1) -> Array:
        """Return the least value over axes."""
        return np.asarray(x.min(tuple(axes), keepdims=bool(keepdims)))


NUMPY = NumPy()
