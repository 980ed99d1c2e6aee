"""Pooling: maxima route the signal to one pixel each, averages and norms spread it over their windows."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context
from onnxplain.backward.rules.conv import Array, Windows, adjoint, spatial
from onnxplain.backward.table import VJP


# --- maxima ----------------------------------------------------------------------------------------
@VJP.on("MaxPool", "GlobalMaxPool")
def max_pool(c: Context, g: gs.Tensor, *indices: None) -> gs.Tensor:
    """All of a window's signal goes to its first maximum, also where several tie."""
    return route(c, winners(c), g)


def winners(c: Context) -> Any:
    """Return [N, C, windows]: where in its flattened plane each window has its first maximum."""
    if c.type == "GlobalMaxPool":
        return c.op.ArgMax(c.op.Reshape(c.x[0], [0, 0, -1]), axis=2, keepdims=1)
    # All planes have one size.
    return c.op.Mod(c.op.Reshape(first_maxima(c), [0, 0, -1]), prod(spatial(c, c.node.inputs[0])))


def first_maxima(c: Context) -> Any:
    """Return where each window of a MaxPool has its first maximum, counted through the whole tensor."""
    attrs = {k: v for k, v in c.node.attrs.items() if k != "storage_order"}
    return c.op.MaxPool(c.x[0], outputs=2, **attrs)[1]


def route(c: Context, positions: gs.Tensor, g: gs.Tensor) -> gs.Tensor:
    """Add each window's `g` to a plane of zeros, shaped like the node's input, at `positions`.

    Windows may overlap: what they send to one pixel adds up. Positions of one image serve many seeds.
    """
    op, sizes = c.op, spatial(c, c.node.inputs[0])
    flat = op.Reshape(g, [0, 0, -1])
    planes = op.Concat(op.Shape(g, end=2), [prod(sizes)], axis=0)
    zeros = op.Expand(op.constant([[[0]]], g.dtype), planes)
    positions = op.Expand(positions, op.Shape(flat))
    routed = op.ScatterElements(zeros, positions, flat, axis=2, reduction="add")
    return op.Reshape(routed, [0, 0, *sizes])


@VJP.on("MaxUnpool")
def max_unpool(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Gather what lies where each element was put; positions count through the whole tensor."""
    if c.has(2):
        raise c.refuse("output_shape is not implemented")
    flat = c.op.Reshape(g, [-1])
    picked = c.op.GatherElements(flat, c.op.Reshape(c.x[1], [-1]), axis=0)
    return c.reshape_like(picked, c.node.inputs[0])


# --- averages and norms ----------------------------------------------------------------------------
@VJP.on("AveragePool")
def average_pool(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Every pixel of a window gets g / (pixels that the window counts)."""
    windows = Windows.of(c)
    return _spread(c, c.op.Div(g, _counts(c, windows)), windows)


@VJP.on("GlobalAveragePool")
def global_average_pool(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Every pixel gets g / pixels."""
    sizes = spatial(c, c.node.inputs[0])
    return c.op.Expand(c.op.Div(g, prod(sizes)), [1, 1, *sizes])


@VJP.on("LpPool")
def lp_pool(c: Context, g: gs.Tensor) -> gs.Tensor:
    """With y = (sum |x|^p)^(1/p), dy/dx = sign(x) (|x| / y)^(p-1), and 0 where y is."""
    p = c.attr("p", 2)
    return c.op.Mul(_spread(c, _over_power(c, g, p), Windows.of(c)), _signed_power(c, p))


@VJP.on("GlobalLpPool")
def global_lp_pool(c: Context, g: gs.Tensor) -> gs.Tensor:
    """LpPool over the whole plane."""
    p = c.attr("p", 2)
    return c.op.Mul(_over_power(c, g, p), _signed_power(c, p))


def _spread(c: Context, g: gs.Tensor, windows: Windows) -> gs.Tensor:
    """Add each window's `g` to every pixel that the window covers."""
    channels = c.shape(c.node.inputs[0])[1]
    if isinstance(channels, str):
        raise c.refuse("images are counted by the channel axis")
    return adjoint(c, g, np.ones((channels, 1, *windows.kernel), np.float32), windows, channels)


def _counts(c: Context, windows: Windows) -> Array:
    """Return how many taps each window averages over, one array axis per spatial axis.

    Taps in the padding count if `count_include_pad`; those that ceil_mode adds behind it never do.
    """
    inputs, outputs = spatial(c, c.node.inputs[0]), spatial(c, c.node.outputs[0])
    padded = c.attr("count_include_pad", 0)
    counts = []
    for axis, starts in enumerate(windows.starts(outputs)):
        taps = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        low = -windows.before[axis] if padded else 0
        high = inputs[axis] + (windows.after[axis] if padded else 0)
        counts.append(((taps >= low) & (taps < high)).sum(1))
    return np.asarray(np.maximum(reduce(np.multiply.outer, counts), 1))


def _over_power(c: Context, g: gs.Tensor, p: int) -> Any:
    op, y = c.op, c.y[0]
    if p == 1:
        return g
    return op.Where(op.Greater(y, 0), op.Div(g, op.Pow(y, p - 1)), 0)


def _signed_power(c: Context, p: int) -> Any:
    op, x = c.op, c.x[0]
    if p == 1:
        return op.Sign(x)
    return x if p == 2 else op.Mul(op.Sign(x), op.Pow(op.Abs(x), p - 1))
