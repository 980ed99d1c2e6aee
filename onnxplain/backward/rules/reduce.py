"""Reductions over axes of one image, and TopK."""

from __future__ import annotations

from collections.abc import Callable

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.shape import cast, expand_like, plain_axis, zeros_like
from onnxplain.backward.table import VJP


def axes_of(c: Context) -> list[int]:
    """Return the reduced axes from the front; raises UnsupportedOpError for the image axis."""
    x = c.x[0]
    axes = c.const(1).ravel().tolist() if c.has(1) else []
    if not axes and not c.attr("noop_with_empty_axes", 0):
        axes = list(range(len(c.shape(x))))
    return [plain_axis(c, axis, x) for axis in axes]


def kept(c: Context, reduced: Tensor, axes: list[int]) -> Tensor:
    """Return the result, or a signal at it, with the reduced axes as axes of size 1."""
    return reduced if c.attr("keepdims", 1) or not axes else c.op.Unsqueeze(reduced, axes)


def scaled(c: Context, g: Tensor, slope: Tensor, axes: list[int]) -> Tensor:
    """Return the signal, repeated along the reduced axes, times a slope."""
    return expand_like(c, c.op.Mul(kept(c, g, axes), slope), c.x[0])


def _total(c: Context, values: Tensor, axes: list[int]) -> Tensor:
    return c.op.ReduceSum(values, axes, keepdims=1, noop_with_empty_axes=1)


# --- sums and means: the signal is repeated -------------------------------------------------------
@VJP.on("ReduceSum")
def reduce_sum(c: Context, g: Tensor) -> Tensor:
    """Give every element the signal."""
    return expand_like(c, kept(c, g, axes_of(c)), c.x[0])


@VJP.on("ReduceMean")
def reduce_mean(c: Context, g: Tensor) -> Tensor:
    """Give every element its share."""
    axes, shape, count = axes_of(c), c.shape(c.x[0]), 1
    for axis in axes:
        count *= int(shape[axis])
    return expand_like(c, c.op.Div(kept(c, g, axes), count), c.x[0])


# --- others: the signal times a slope of the shape of x -------------------------------------------
def _evenly(c: Context, x: Tensor, y: Tensor, axes: list[int]) -> Tensor:
    """Share between equal extremes, as torch.amax does."""
    hit = cast(c, c.op.Equal(x, y), x.dtype)
    return c.op.Div(hit, _total(c, hit, axes))


def _unit(c: Context, x: Tensor, y: Tensor, axes: list[int]) -> Tensor:
    """Return x / |x|, 0 at the origin."""
    return c.op.Where(c.op.Equal(y, 0), 0, c.op.Div(x, y))


def _others(c: Context, x: Tensor, y: Tensor, axes: list[int]) -> Tensor:
    """Return the product of all other elements; zeros are counted, not divided by."""
    op = c.op
    zero = op.Equal(x, 0)
    safe, one = op.Where(zero, 1, x), cast(c, zero, x.dtype)
    other_zeros = op.Sub(_total(c, one, axes), one)
    product = op.ReduceProd(safe, axes, keepdims=1, noop_with_empty_axes=1)
    return op.Where(op.Equal(other_zeros, 0), op.Div(product, safe), 0)


SLOPES: dict[str, Callable[[Context, Tensor, Tensor, list[int]], Tensor]] = {
    "ReduceMax": _evenly,
    "ReduceMin": _evenly,
    "ReduceL1": lambda c, x, y, axes: c.op.Sign(x),
    "ReduceL2": _unit,
    "ReduceProd": _others,
    "ReduceLogSum": lambda c, x, y, axes: c.op.Reciprocal(_total(c, x, axes)),
    "ReduceLogSumExp": lambda c, x, y, axes: c.op.Exp(c.op.Sub(x, y)),
    "ReduceSumSquare": lambda c, x, y, axes: c.op.Mul(x, 2),
}
"""Op -> dy/dx from x, y (reduced axes kept) and the axes."""


@VJP.on(*SLOPES)
def reduction(c: Context, g: Tensor) -> Tensor:
    """Multiply the signal, repeated along the reduced axes, by the slope."""
    axes = axes_of(c)
    return scaled(c, g, SLOPES[c.type](c, c.x[0], kept(c, c.y[0], axes), axes), axes)


@VJP.on("TopK")
def top_k(c: Context, g: Tensor, _: None = None) -> Tensor:
    """Put the values' signals back where they came from."""
    axis = plain_axis(c, c.attr("axis", -1), c.x[0])
    places = c.op.Expand(c.y[1], c.op.Shape(g))  # one image, many seeds
    return c.op.ScatterElements(zeros_like(c, g, c.x[0]), places, g, axis=axis)
