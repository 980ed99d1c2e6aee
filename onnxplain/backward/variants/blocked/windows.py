"""Pooling, and convolutions with strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from onnxplain.graph.emit import Emitter
from onnxplain.graph.fold import constant_value

_FAR = 2.0**100  # from activations below 2**76, whole numbers of it can be told
_MOST_TAPS = 9  # of windows that are sought tap by tap
_MOST_STEPS = 10  # along both axes of windows that are sought row by row, then pixel by pixel


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
    op, maps, windows = c.op, c.node.inputs[0], Windows.of(c)
    if is_pooled(c, maps):
        g = op.Mul(g, step(c, c.y[0]))
    whole = whole_blocks(maps.shape[1]) and prod(spatial(c, c.node.outputs[0])) > 0
    whole = whole and not _may_be_infinite(maps)
    if whole and prod(windows.strides) == 1 and sum(windows.kernel) <= _MOST_STEPS:
        return _by_axes(c, shaped(g, c.y[0].shape))
    tellable = whole and prod(windows.kernel) <= _MOST_TAPS
    indices = _first_maxima(c) if tellable else first_maxima(c)
    shape = _sizes(op, g, c.shape(maps))
    if _lie_apart(c, windows):
        attrs = {k: c.attr(k) for k in ("kernel_shape", "strides")}
        routed = op.MaxUnpool(g, indices, shape, **attrs)
    else:
        zeros = op.Expand(op.constant(0, g.dtype), shape)
        flat, to, what = (op.Reshape(t, [-1]) for t in (zeros, indices, g))
        flat = op.ScatterElements(flat, to, what, axis=0, reduction="add")
        routed = op.Reshape(flat, shape)
    return lifted(op, shaped(routed, maps.shape), maps.shape)


def _may_be_infinite(maps: Tensor) -> bool:
    """Whether maps may hold -inf, which 0 times is no number, so that no Conv can fetch their pixels."""
    node = maps.inputs[0] if maps.inputs else None
    if node is None:
        return False
    if node.op == "Pad" and len(node.inputs) > 2 and not node.inputs[2].is_empty():
        value = constant_value(node.inputs[2])
        return value is None or not (np.abs(value) < _FAR).all()
    if node.op in ("Concat", "MaxPool"):
        return any(map(_may_be_infinite, node.inputs))
    return node.op in ("Where", "Log", "Div", "Reciprocal")


def _first_maxima(c: Context) -> Tensor:
    """Return where each window has its first maximum, as `first_maxima` does.

    Tap after tap a Conv fetches one pixel per window, and a step tells whether nothing is missing to y. The
    tap found first takes y out of reach of the others, the further the later it is: so far tells which.
    """
    op, windows, maps, pooled = c.op, Windows.of(c), c.node.inputs[0], c.node.outputs[0]
    channels, (h, w) = int(maps.shape[1]), spatial(c, maps)
    rows, columns = windows.starts(spatial(c, pooled))
    ends = (int(s[-1]) + r for s, r in zip((rows, columns), windows.reach, strict=True))
    pads = [*windows.before, *(max(0, end - n) for end, n in zip(ends, (h, w), strict=True))]
    slides = {"strides": windows.strides, "dilations": windows.dilations, "pads": pads}
    taps = [np.multiply(tap, windows.dilations) for tap in np.ndindex(*windows.kernel)]
    offsets = [int(y) * w + int(x) for y, x in taps]
    inside = [_within(rows + y, h)[:, None] & _within(columns + x, w) for y, x in taps]
    hots, one = np.eye(len(taps)).reshape(-1, *windows.kernel), np.ones((1, 1))
    missing = _each_channel(op, c.y[0], -one, pooled.shape)
    for offset, hot, within in zip(offsets, hots, inside, strict=True):
        fetched = _each_channel(op, c.x[0], hot, pooled.shape, **slides)
        found = _equal(c, fetched, missing, within)
        far = _each_channel(op, found, -_FAR * (offset + 1) * one, pooled.shape)
        missing = _plus(op, far, missing)
    tap = op.Cast(op.Mul(missing, -1 / _FAR), to=int(TensorProto.INT64), dtype=np.dtype(np.int64))
    tap = op.Clip(tap, 1, offsets[-1] + 1)  # what NaN became is no position
    planes = np.arange(channels)[:, None, None] * h * w
    firsts = op.constant((planes + rows[:, None] * w + columns - 1)[None], np.int64)
    images = op.Range(0, op.Squeeze(op.Shape(c.y[0], end=1)), 1)
    images = op.Mul(op.Reshape(images, [-1, 1, 1, 1]), channels * h * w)
    return op.Add(tap, op.Add(firsts, images))


def _by_axes(c: Context, g: Tensor) -> Tensor:
    """Send g to the first maximum of each window, windows one pixel apart: to its row, then to its pixel.

    The maximum is that of the rows' maxima, and the first row that has it has the first pixel, too.
    """
    maps, pooled = c.node.inputs[0], c.node.outputs[0]
    down, right = (_Line.of(Windows.of(c), axis) for axis in (0, 1))
    rows = c.op.MaxPool(
        c.x[0],
        kernel_shape=right.both(right.kernel, 1),
        dilations=right.both(right.dilation, 1),
        pads=[*right.both(right.before, 0), *right.both(right.after, 0)],
    )
    shaped(rows, [*maps.shape[:3], pooled.shape[3]])
    return _along(c, right, _along(c, down, g, rows, c.y[0]), c.x[0], rows)


@dataclass(frozen=True)
class _Line:
    """How a kernel slides along one axis of maps (0 down, 1 right), pixel by pixel."""

    axis: int
    kernel: int
    dilation: int
    before: int
    after: int

    @classmethod
    def of(cls, windows: Windows, axis: int) -> _Line:
        sizes = (windows.kernel, windows.dilations, windows.before, windows.after)
        return cls(axis, *(size[axis] for size in sizes))

    def both(self, this: int, other: int) -> list[int]:
        """Return a size along this axis and one along the other, in the order of the maps."""
        return [other, this] if self.axis else [this, other]

    def laid(self, values: Array) -> Array:
        """Return values along this axis as a plane."""
        return values[None] if self.axis else values[:, None]

    def slides(self, before: int, after: int) -> dict[str, list[int]]:
        """Return the attributes of a Conv along this axis with such pads."""
        pads = [*self.both(before, 0), *self.both(after, 0)]
        return {"dilations": self.both(self.dilation, 1), "pads": pads}


def _along(c: Context, line: _Line, g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Send g to the first maxima y of x along one axis.

    Tap after tap takes from g what belongs to windows whose maximum it is; the last gets what is left.
    """
    op, (n, m) = c.op, (int(t.shape[2 + line.axis]) for t in (x, y))
    if line.kernel == 1 and n == m:
        return g
    to = line.slides(line.before, line.after)
    reach = (line.kernel - 1) * line.dilation
    back = line.slides(reach - line.before, reach - line.after)
    minus, hots, sent = -np.ones((1, 1)), np.eye(line.kernel), None
    missing = _each_channel(op, y, minus, y.shape)
    for i, hot in enumerate(hots):
        part = g
        if i < line.kernel - 1:
            within = _within(np.arange(m) - line.before + i * line.dilation, n)
            fetched = _each_channel(op, x, line.laid(hot), y.shape, **to)
            found = _equal(c, fetched, missing, line.laid(within))
            part = shaped(op.Mul(g, found), y.shape)
            g = _plus(op, _each_channel(op, part, minus, y.shape), g)
        moved = _each_channel(op, part, line.laid(hot[::-1]), x.shape, **back)
        sent = moved if sent is None else _plus(op, moved, sent)
    return sent


def _within(positions: Array, size: int) -> Array:
    return (positions >= 0) & (positions < size)


def _each_channel(
    op: Emitter, x: Tensor, kernel: Array, shape: Sequence[int | str], **slides: Any
) -> Tensor:
    """Return the Conv of every channel with the same kernel [h, w]."""
    channels = int(shape[1])
    weights = np.broadcast_to(np.float32(kernel), (channels, 1, *kernel.shape))
    return shaped(op.Conv(x, weights, group=channels, **slides), shape)


def _plus(op: Emitter, a: Tensor, b: Tensor) -> Tensor:
    return shaped(op.Add(a, b), a.shape)


def _equal(c: Context, fetched: Tensor, missing: Tensor, within: Array) -> Tensor:
    """Return 1 where a tap has the maximum, where nothing is missing, else 0.

    Not outside (where `within` is not): what is fetched from there is 0, as a maximum may be. Behind a Relu
    that does no harm, as nothing is sent from a maximum of 0.
    """
    op, below = c.op, _plus(c.op, fetched, missing)
    found = shaped(op.HardSigmoid(below, alpha=STEEP, beta=1.0), below.shape)
    if within.all() or is_pooled(c, c.node.inputs[0]):
        return found
    return shaped(op.Mul(found, _everywhere(c, within, found.shape, c.y[0])), found.shape)


def _sizes(op: Emitter, like: Tensor, shape: Sequence[int | str]) -> Tensor:
    """Return [N, *shape[1:]] as a tensor of the graph, with as many images as `like` has.

    To be asked for its shape, `like` leaves the blocks: take one that is small, or leaves them anyway. A
    grid that hung on the model's input would be made first of all, and lie in the way until it is needed.
    """
    found: Tensor = op.Concat(op.Shape(like, end=1), list(shape[1:]), axis=0)
    return found


def _everywhere(c: Context, plane: Array, shape: Sequence[int | str], like: Tensor) -> Tensor:
    """Return a plane, or what is repeated to one, as maps [N, C, h, w]: for every channel and image."""
    channels, *sizes = (int(size) for size in shape[1:])
    one = np.broadcast_to(np.float32(plane), (1, 1, *sizes))
    planes = c.op.Expand(c.op.constant(one, np.float32), _sizes(c.op, like, one.shape))
    grid = shaped(planes, ["N", *one.shape[1:]])
    return shaped(c.op.Conv(grid, np.ones((channels, 1, 1, 1))), shape)


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
    firsts = np.zeros(sizes)
    firsts[:: windows.strides[0], :: windows.strides[1]] = 1
    whole: list[int | str] = ["N", len(weights), *sizes]
    spread = c.op.Mul(repeated(c.op, g, windows.strides, whole), _everywhere(c, firsts, whole, g))
    return c.op.Conv(
        spread,
        turned(weights, len(weights)),
        pads=pads,
        dilations=windows.dilations,
        group=len(weights),
    )
