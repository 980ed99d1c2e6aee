"""Resize: interpolation written down as one small matrix per axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP
from onnxplain.graph.emit import Emitter

Array = np.ndarray[Any, Any]

_LARGEST = 1 << 27
"""Elements of a matrix (1 GB): enough to double a picture of 8192 pixels across, not to eat a machine."""

_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@VJP.on("Resize")
def resize(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Since y = M x along each axis, g goes back through each M transposed."""
    if c.attr("antialias", 0):
        raise c.refuse("antialias is not supported")
    inputs, outputs = c.shape(c.node.inputs[0]), list(c.shape(c.node.outputs[0]))
    matrices = _matrices(c)
    factors = [_repeats(matrices[a]) if a in matrices else 1 for a in range(2, len(inputs))]
    if matrices and min(matrices) >= 2 and all(factors):
        mean = c.op.AveragePool(g, kernel_shape=factors, strides=factors)
        return c.op.Mul(mean, prod(factors))
    for axis, matrix in matrices.items():
        g = _multiply(c.op, g, matrix.T, axis, outputs)
        outputs[axis] = inputs[axis]
    return g


def _matrices(c: Context) -> dict[int, Array]:
    """Return M [size of y, size of x] for every axis that the node changes."""
    found = {}
    sizes = zip(c.shape(c.node.inputs[0]), c.shape(c.node.outputs[0]), _scales(c), strict=True)
    for axis, (n, m, scale) in enumerate(sizes):
        if n == m and scale == 1:
            continue
        if isinstance(n, str) or isinstance(m, str):
            raise c.refuse("it resizes along the axis of images")
        if n * m > _LARGEST:
            raise c.refuse(f"it resizes an axis of {n} to {m}")
        found[axis] = interpolation(c, n, m, scale)
    return found


def _scales(c: Context) -> list[np.float32]:
    """Return the scale of each axis. Computed sizes will do: the shapes say what they come to."""
    inputs, outputs = c.shape(c.node.inputs[0]), c.shape(c.node.outputs[0])
    axes = [a % len(inputs) for a in c.attr("axes", range(len(inputs)))]
    scales = np.ones(len(inputs), np.float32)
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    if c.has(2) and c.const(2).size:
        scales[axes] = c.const(2)
    elif policy == "stretch":
        for i, (n, m) in enumerate(zip(inputs, outputs, strict=True)):
            scales[i] = 1 if n == m else np.float32(m) / np.float32(n)
    else:
        wanted = c.const(3).astype(np.float32) / np.array([inputs[a] for a in axes], np.float32)
        scales[axes] = min(wanted) if policy == "not_larger" else max(wanted)
    return list(scales)


def interpolation(c: Context, n: int, m: int, scale: np.float32) -> Array:
    """Return M [m, n] with y = M x, for one axis from size `n` to `m` (ONNX Resize, opset 18).

    Positions are computed in float32 as onnxruntime does: their rounding decides ties of "nearest".
    """
    at, mode = _positions(c, n, m, scale).astype(np.float64), c.attr("mode", "nearest")
    if mode == "nearest":
        taps = _ROUND[c.attr("nearest_mode", "round_prefer_floor")](at)[:, None]
        weights = np.ones((m, 1))
    elif mode == "linear":
        taps = np.floor(at)[:, None] + np.arange(2)
        weights = 1 - np.abs(taps - at[:, None])
    else:
        taps = np.floor(at)[:, None] + np.arange(-1, 3)
        weights = _cubic(np.abs(taps - at[:, None]), c.attr("cubic_coeff_a", -0.75))
        if c.attr("exclude_outside", 0):
            weights = weights * ((taps >= 0) & (taps < n))
            weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((m, n))
    np.add.at(matrix, (np.arange(m)[:, None], np.clip(taps, 0, n - 1).astype(int)), weights)
    return matrix


def _positions(c: Context, n: int, m: int, scale: np.float32) -> Array:
    """Return the input coordinate of every output, in float32."""
    mode = c.attr("coordinate_transformation_mode", "half_pixel")
    out, half = np.arange(m, dtype=np.float32), np.float32(0.5)
    if mode == "align_corners":
        return out * np.float32(n - 1) / np.float32(max(m - 1, 1))
    if mode == "asymmetric":
        return out / scale
    if mode == "pytorch_half_pixel" and m == 1:
        return np.zeros(1, np.float32)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (out + half) / scale - half
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(m) / (scale * np.float32(n))
        return half * np.float32(n) * (np.float32(1) - adjustment) + (out + half) / scale - half
    raise c.refuse(f"coordinate_transformation_mode {mode!r} is not supported")


def _cubic(distance: Array, a: float) -> Array:
    """Return the weight of a tap at each distance, 0 to 2 (Keys 1981, eq. 15 for a = -1/2)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return np.where(distance <= 1, near, far)


def _repeats(matrix: Array) -> int:
    """Return f where the matrix repeats every element f times, else 0."""
    m, n = matrix.shape
    return m // n if m % n == 0 and np.array_equal(matrix, np.repeat(np.eye(n), m // n, 0)) else 0


def _multiply(
    op: Emitter, g: gs.Tensor, matrix: Array, axis: int, shape: Sequence[int | str]
) -> Any:
    """Return `matrix` [new, old] times `g` along `axis`; `shape` is what g has, images as a string."""
    trailing = [-1 if isinstance(s, str) else s for s in shape[axis + 1 :]]
    if not trailing:
        return op.MatMul(g, matrix.T)
    left = op.constant(matrix, g.dtype)
    if len(trailing) == 1:
        return op.MatMul(left, g)
    flat = op.Reshape(g, [0] * (axis + 1) + [-1])
    return op.Reshape(op.MatMul(left, flat), [0] * axis + [len(matrix), *trailing])
