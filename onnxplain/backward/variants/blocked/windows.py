"""Pooling, and convolutions with strides."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.conv import Array, Windows, adjoint, spatial, turned
from onnxplain.backward.rules.pool import first_maxima
from onnxplain.backward.variants.blocked.masks import STEEP, is_pooled, step
from onnxplain.backward.variants.blocked.table import lifted, on, repeated, shaped, whole_blocks

_FAR = 2.0**100  # from activations below 2**76, whole numbers of it can be told
_MOST_TAPS = 9


@on("GlobalAveragePool")
def global_average_pool(c: Context, g: Tensor) -> Tensor:
    """Every pixel gets g / pixels."""
    maps, sizes = c.node.inputs[0], spatial(c, c.node.inputs[0])
    mean = lifted(c.op, g, c.node.outputs[0].shape, 1 / prod(sizes))
    return repeated(c.op, mean, sizes, maps.shape)


@on("AveragePool")
def average_pool(c: Context, g: Tensor) -> Tensor | None:
    """Windows that lie side by side: every pixel gets g / pixels of its window."""
    windows = Windows.of(c)
    if not _tiles(c, windows):
        return None
    mean = lifted(c.op, g, c.node.outputs[0].shape, 1 / prod(windows.kernel))
    return repeated(c.op, mean, windows.kernel, c.node.inputs[0].shape)


@on("MaxPool")
def max_pool(c: Context, g: Tensor) -> Tensor:
    """Send g to the first maximum of each window; where windows do not overlap, nothing is to be added up."""
    op, maps = c.op, c.node.inputs[0]
    if is_pooled(c, maps):
        g = op.Mul(g, step(c, c.y[0]))
    indices = _first_maxima(c)
    if indices is None:
        indices = first_maxima(c)
    shape = op.Shape(c.x[0])
    if _lie_apart(c, Windows.of(c)):
        windows = {k: c.attr(k) for k in ("kernel_shape", "strides")}
        routed = op.MaxUnpool(g, indices, shape, **windows)
    else:
        zeros = op.Expand(op.constant(0, g.dtype), shape)
        flat, to, what = (op.Reshape(t, [-1]) for t in (zeros, indices, g))
        flat = op.ScatterElements(flat, to, what, axis=0, reduction="add")
        routed = op.Reshape(flat, shape)
    return lifted(c.op, shaped(routed, maps.shape), maps.shape)


def _first_maxima(c: Context) -> Tensor | None:
    """Return where each window has its first maximum, as `first_maxima` does; None where that is simpler.

    Tap after tap a Conv fetches one pixel per window, and a step tells whether nothing is missing to y. The
    tap found first takes y out of reach of the others, the further the later it is: so far tells which.
    """
    op, windows, maps, pooled = c.op, Windows.of(c), c.node.inputs[0], c.node.outputs[0]
    channels, (h, w), outputs = int(maps.shape[1]), spatial(c, maps), spatial(c, pooled)
    dense = prod(windows.strides) == 1  # as many windows as pixels: as slow tap by tap
    if (
        not whole_blocks(channels)
        or dense
        or prod(windows.kernel) > _MOST_TAPS
        or not prod(outputs)
    ):
        return None
    ends = [s[-1] + r for s, r in zip(windows.starts(outputs), windows.reach, strict=True)]
    pads = [*windows.before, *(max(0, end - n) for end, n in zip(ends, (h, w), strict=True))]
    rows, columns = windows.starts(outputs)
    taps = [np.multiply(tap, windows.dilations) for tap in np.ndindex(*windows.kernel)]
    offsets = [int(y) * w + int(x) for y, x in taps]
    inside = [_within(rows + y, h)[:, None] & _within(columns + x, w) for y, x in taps]
    # Where y = 0 zeros of padding are found, too, which is harmless where nothing is sent from there.
    sound = not any(pads) or is_pooled(c, maps)
    far_outside = None if sound else _everywhere(c, np.where(inside, 0, -_FAR), c.x[0])

    def conv(x: Tensor, weights: Array, **attrs: Any) -> Tensor:
        weights = np.broadcast_to(np.float32(weights), (channels, 1, *weights.shape))
        return shaped(op.Conv(x, weights, group=channels, **attrs), pooled.shape)

    def plus(a: Tensor, b: Tensor) -> Tensor:
        return shaped(op.Add(a, b), pooled.shape)

    slides = {"strides": windows.strides, "dilations": windows.dilations, "pads": pads}
    one = np.ones((1, 1))
    missing = conv(c.y[0], -one)
    hots = np.eye(len(taps), dtype=np.float32)
    for offset, hot, within in zip(offsets, hots, inside, strict=True):
        if far_outside is not None and not within.all():
            own = np.broadcast_to(hot[None, :, None, None], (channels, len(taps), 1, 1))
            reach = plus(op.Conv(far_outside, own), missing)
        else:
            reach = missing
        found = plus(conv(c.x[0], hot.reshape(windows.kernel), **slides), reach)
        found = shaped(op.HardSigmoid(found, alpha=STEEP, beta=1.0), pooled.shape)
        missing = plus(conv(found, -_FAR * (offset + 1) * one), missing)
    tap = op.Cast(op.Mul(missing, -1 / _FAR), to=int(TensorProto.INT64), dtype=np.dtype(np.int64))
    tap = op.Clip(tap, 1, offsets[-1] + 1)  # what NaN became is no position
    planes = np.arange(channels)[:, None, None] * h * w
    firsts = op.constant((planes + rows[:, None] * w + columns - 1)[None], np.int64)
    images = op.Range(0, op.Squeeze(op.Shape(c.x[0], end=1)), 1)
    images = op.Mul(op.Reshape(images, [-1, 1, 1, 1]), channels * h * w)
    return op.Add(tap, op.Add(firsts, images))


def _within(positions: Array, size: int) -> Array:
    return (positions >= 0) & (positions < size)


def _everywhere(c: Context, planes: Array, like: Tensor) -> Tensor:
    """Return planes [k, h, w] as [N, k, h, w], for as many images as `like` has."""
    count = c.op.Concat(c.op.Shape(like, end=1), planes.shape, axis=0)
    grid = c.op.Expand(c.op.constant(planes[None], np.float32), count)
    return shaped(grid, ["N", *planes.shape])


def _lie_apart(c: Context, windows: Windows) -> bool:
    """Whether windows share no pixel and end inside their input, as onnxruntime's MaxUnpool wants it."""
    inputs, outputs = spatial(c, c.node.inputs[0]), spatial(c, c.node.outputs[0])
    sizes = zip(inputs, outputs, windows.reach, windows.strides, strict=True)
    return not any(windows.before) and all(r <= s and (m - 1) * s + r <= n for n, m, r, s in sizes)


def _tiles(c: Context, windows: Windows) -> bool:
    """Whether windows cover their input side by side, each pixel once."""
    outputs = spatial(c, c.node.outputs[0])
    covered = tuple(m * k for m, k in zip(outputs, windows.kernel, strict=True))
    return (
        windows.kernel == windows.strides
        and not any(windows.before + windows.after)
        and windows.reach == windows.kernel
        and covered == spatial(c, c.node.inputs[0])
    )


@on("Conv")
def conv(c: Context, g: Tensor) -> Tensor | None:
    """Strided: depthwise as a Conv of g between zeros, else back into blocks after the ConvTranspose."""
    windows, maps = Windows.of(c), c.node.inputs[0]
    if prod(windows.strides) == 1:
        return None
    weights, group = c.const(1), int(c.attr("group", 1))
    depthwise = group == maps.shape[1] == len(weights) and whole_blocks(group)
    if depthwise and (spread := _between_zeros(c, g, weights, windows)) is not None:
        return spread
    return lifted(c.op, adjoint(c, g, weights, windows, group), maps.shape)


def _between_zeros(c: Context, g: Tensor, weights: Array, windows: Windows) -> Tensor | None:
    """Put zeros between the pixels of g, then convolve: repeated, all but the first of each are taken out."""
    maps = c.node.inputs[0]
    outputs, inputs = spatial(c, c.node.outputs[0]), spatial(c, maps)
    sizes = tuple(m * s for m, s in zip(outputs, windows.strides, strict=True))
    axes = list(zip(inputs, sizes, windows.reach, windows.before, strict=True))
    pads = [r - 1 - b for _, _, r, b in axes] + [n - m + b for n, m, _, b in axes]
    if min(pads) < 0:
        return None
    firsts = np.zeros((1, *sizes))
    firsts[:, :: windows.strides[0], :: windows.strides[1]] = 1
    # in blocks, and for every channel
    grid = c.op.Conv(_everywhere(c, firsts, g), np.ones((len(weights), 1, 1, 1)))
    whole: list[int | str] = ["N", len(weights), *sizes]
    spread = c.op.Mul(repeated(c.op, g, windows.strides, whole), grid)
    return c.op.Conv(
        spread,
        turned(weights, len(weights)),
        pads=pads,
        dilations=windows.dilations,
        group=len(weights),
    )
