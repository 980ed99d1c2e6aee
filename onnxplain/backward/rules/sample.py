"""Reading a picture between its pixels: GridSample and RoiAlign."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.conv import spatial
from onnxplain.backward.rules.pool import route
from onnxplain.backward.rules.shape import cast, zeros_like
from onnxplain.backward.table import VJP
from onnxplain.graph.fold import constant_value

_A = -0.75  # the cubic kernel's (Keys 1981), as the standard has it
_KERNELS: dict[str, tuple[int, list[list[float]]]] = {
    "nearest": (0, [[1]]),
    "linear": (0, [[1, -1], [0, 1]]),
    "cubic": (-1, [[0, _A, -2 * _A, _A], [1, 0, -_A - 3, _A + 2], [0, -_A, 2 * _A + 3, -_A - 2],
                   [0, 0, _A, -_A]]),
}  # fmt: skip
"""Mode -> first tap, and each tap's weight as a polynomial in how far the point lies behind pixel 0."""
_NAMES = {"bilinear": "linear", "bicubic": "cubic"}  # before opset 20


@dataclass(frozen=True)
class Taps:
    """The pixels of one axis that a point reads, all [N, taps, points].

    `at`: whole-numbered positions; `weight`; `slope`: of the weight along the grid's coordinate.
    """

    at: Tensor
    weight: Tensor
    slope: Tensor

    def beside(self, c: Context, axis: int, rank: int) -> Taps:
        """Give every axis an axis of taps of its own."""
        axes = [i for i in range(1, rank + 1) if i != axis + 1]
        return Taps(*(c.op.Unsqueeze(t, axes) for t in (self.at, self.weight, self.slope)))


@VJP.on("GridSample")
def grid_sample(c: Context, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Send the signal to the pixels read by their weights, and to the grid by the weights' slopes.

    Jaderberg et al. 2015 (arXiv 1506.02025, eq. 6 and 7).
    """
    op, sizes = c.op, spatial(c, c.node.inputs[0])
    points, rank = prod(spatial_of_grid(c)), len(sizes)
    taps = [_taps(c, axis, size).beside(c, axis, rank) for axis, size in enumerate(sizes)]
    strides = [prod(sizes[axis + 1 :]) for axis in range(rank)]
    terms = [op.Mul(t.at, stride) for t, stride in zip(taps, strides, strict=True)]
    at = op.Reshape(reduce(op.Add, terms), [0, 1, -1])
    signal = op.Reshape(g, [0, 0, 1, points])
    to_image = to_grid = None
    if c.needs(0):
        weight = op.Reshape(reduce(op.Mul, [t.weight for t in taps]), [0, 1, -1, points])
        to_image = route(c, at, op.Mul(signal, weight))
    if c.needs(1):
        to_grid = _to_grid(c, g, signal, at, taps)
    return to_image, to_grid


def spatial_of_grid(c: Context) -> tuple[int, ...]:
    """Return the sizes of the result behind images and channels."""
    return spatial(c, c.node.outputs[0])


def _to_grid(c: Context, g: Tensor, signal: Tensor, at: Tensor, taps: list[Taps]) -> Tensor:
    op, points = c.op, prod(spatial_of_grid(c))
    if _mode(c) == "nearest":
        c.note("the nearest pixel has no slope, so nothing flows to the grid")
        return zeros_like(c, g, c.node.inputs[1])
    channels = int(c.shape(c.node.inputs[0])[1])
    pixels = op.Reshape(c.x[0], [0, 0, -1])
    read = op.GatherElements(pixels, op.Expand(at, [1, channels, 1]), axis=2)
    read = op.ReduceSum(op.Mul(op.Reshape(read, [0, 0, -1, points]), signal), [1], keepdims=0)
    found = []
    for axis, own in enumerate(taps):
        others = [t.weight for i, t in enumerate(taps) if i != axis]
        slope = op.Reshape(reduce(op.Mul, others, own.slope), [0, -1, points])
        found.append(op.ReduceSum(op.Mul(read, slope), [1], keepdims=1))
    rows = op.Concat(*found[::-1], axis=1)  # x first
    return c.reshape_like(op.Transpose(rows, perm=[0, 2, 1]), c.node.inputs[1])


def _mode(c: Context) -> str:
    mode = str(c.attr("mode", "linear"))
    return _NAMES.get(mode, mode)


def _taps(c: Context, axis: int, size: int) -> Taps:
    op, aligned, mode = c.op, c.attr("align_corners", 0), _mode(c)
    if mode not in _KERNELS:
        raise c.refuse(f"mode {mode!r} does not exist")
    rank = len(c.shape(c.node.inputs[0])) - 2
    grid = op.Reshape(op.Gather(c.x[1], rank - 1 - axis, axis=-1), [0, 1, -1])
    unit, low = ((size - 1) / 2, 0.0) if aligned else (size / 2, -0.5)
    t = op.Add(op.Mul(op.Add(grid, 1), unit), low)
    t = op.Round(t) if mode == "nearest" else t
    t, slope = _inside(c, t, op.constant(unit, grid.dtype), size, low)
    first, polynomials = _KERNELS[mode]
    base = op.Floor(t)
    behind = op.Sub(t, base)
    at = op.Add(base, np.arange(first, first + len(polynomials))[:, None])
    steps = np.array(polynomials)
    weight = _polynomial(c, behind, steps)
    slope = op.Mul(_polynomial(c, behind, steps[:, 1:] * np.arange(1, steps.shape[1])), slope)
    if _padding(c) == "zeros":
        inside = op.And(op.GreaterOrEqual(at, 0), op.LessOrEqual(at, size - 1))
        weight, slope = op.Where(inside, weight, 0), op.Where(inside, slope, 0)
    elif _padding(c) == "reflection":
        at = op.Round(_inside(c, at, slope, size, low)[0])
    return Taps(cast(c, op.Clip(at, 0, size - 1), np.int64), weight, slope)


def _padding(c: Context) -> str:
    return str(c.attr("padding_mode", "zeros"))


def _inside(c: Context, t: Tensor, slope: Tensor, size: int, low: float) -> tuple[Tensor, Tensor]:
    """Return positions beyond the borders clipped or reflected, with the slope that they then have."""
    op, padding, span = c.op, _padding(c), size - 1 - 2 * low
    if padding == "zeros":
        return t, slope
    outside = op.Or(op.Less(t, low), op.Greater(t, low + span))
    if padding == "border" or span == 0:
        return op.Where(outside, op.Clip(t, 0, size - 1), t), op.Where(outside, 0, slope)
    back = op.Sub(t, low)  # a wave that rises and falls, 2 span long
    back = op.Sub(back, op.Mul(op.Floor(op.Div(back, 2 * span)), 2 * span))
    back = op.Sub(back, span)
    reflected = op.Sub(low + span, op.Abs(back))
    falling = op.Mul(op.Neg(op.Sign(back)), slope)
    return op.Where(outside, reflected, t), op.Where(outside, falling, slope)


def _polynomial(c: Context, x: Tensor, coefficients: np.ndarray[Any, Any]) -> Any:
    """Evaluate one polynomial for each tap at x [N, 1, points]; lowest power first."""
    total = c.op.Mul(x, 0)
    for column in coefficients.T[::-1]:
        total = c.op.Add(c.op.Mul(total, x), column[:, None])
    return total


# --- regions ---------------------------------------------------------------------------------------
@VJP.on("RoiAlign")
def roi_align(c: Context, g: Tensor) -> Tensor:
    """Along each axis a bin is a weighted mean of rows (columns): y = A x B^T for each box, so A^T g B.

    He et al. 2017 (arXiv 1703.06870, section 3).
    """
    op, (images, channels, height, width) = c.op, c.shape(c.node.inputs[0])
    if c.attr("mode", "avg") != "avg":
        raise c.refuse("only mode 'avg' is implemented")
    if isinstance(images, str):
        raise c.refuse("its boxes belong to several images")
    if constant_value(c.node.inputs[1]) is None:
        c.note("its boxes are held fixed")
    height, width, channels = int(height), int(width), int(channels)
    rows, columns = _bins(c, 1, height), _bins(c, 0, width)
    wide = op.MatMul(g, op.Unsqueeze(columns, [1]))  # [boxes, C, bins, W]
    wide = op.Reshape(op.Transpose(wide, perm=[0, 2, 1, 3]), [-1, channels * width])
    own = op.Equal(c.x[2], np.arange(images)[:, None])  # [N, boxes]
    own = op.Unsqueeze(cast(c, own, g.dtype), [2, 3])
    tall = op.Reshape(op.Mul(own, rows), [images, -1, height])  # [N, boxes * bins, H]
    found = op.MatMul(op.Transpose(tall, perm=[0, 2, 1]), wide)
    found = op.Reshape(found, [images, height, channels, width])
    return op.Transpose(found, perm=[0, 2, 1, 3])


def _bins(c: Context, axis: int, size: int) -> Tensor:
    """Return the weight of each of `size` pixels in each bin of each box, [boxes, bins, size]."""
    op, bins = c.op, c.attr(("output_width", "output_height")[axis], 1)
    half = c.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    ends = op.Mul(c.x[1], c.attr("spatial_scale", 1.0))
    start, end = (op.Sub(op.Gather(ends, [i], axis=1), 0.5 * half) for i in (axis, axis + 2))
    length = op.Sub(end, start) if half else op.Max(op.Sub(end, start), 1)
    width = op.Reshape(op.Div(length, bins), [-1, 1, 1])
    samples: Any = c.attr("sampling_ratio", 0)
    most = samples
    if not samples:  # as many as pixels in a bin
        boxes = c.const(1) * np.float32(c.attr("spatial_scale", 1.0))
        lengths = np.maximum(boxes[:, axis + 2] - boxes[:, axis], 0 if half else 1)
        samples = np.maximum(np.ceil(lengths / np.float32(bins)), 1).reshape(-1, 1, 1)
        most = int(samples.max())
    step = np.arange(most) + 0.5
    inside = np.arange(bins)[:, None] + step / samples
    t = op.Add(op.Mul(width, inside), op.Unsqueeze(start, [2]))
    seen = op.And(op.GreaterOrEqual(t, -1), op.LessOrEqual(t, size))
    near = op.Sub(op.Unsqueeze(op.Clip(t, 0, size - 1), [3]), np.arange(size))
    weight = op.Where(op.Unsqueeze(seen, [3]), op.Relu(op.Sub(1, op.Abs(near))), 0)
    counted = (step < samples) / samples
    return op.ReduceSum(op.Mul(weight, counted[..., None]), [2], keepdims=0)
