"""Moving elements: reshapes, slices, gathers, joins, casts; and helpers for other families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context, Shape
from onnxplain.backward.table import VJP

Indices = np.ndarray[Any, np.dtype[np.int64]]


# --- helpers --------------------------------------------------------------------------------------
def plain_axis(c: Context, axis: int, tensor: Tensor) -> int:
    """Return `axis` of `tensor` from the front; raises UnsupportedOpError for the image axis."""
    shape = c.shape(tensor)
    if not -len(shape) <= axis < len(shape):
        raise c.refuse(f"its axis {axis} does not exist in {tensor.name!r} of {len(shape)} axes")
    if isinstance(shape[axis], str):
        raise c.refuse("it mixes the images of a batch")
    return axis % len(shape)


def cast(c: Context, tensor: Tensor, dtype: Any) -> Tensor:
    """Return `tensor` as `dtype` (itself where it is that already)."""
    if tensor.dtype is not None and np.dtype(tensor.dtype) == np.dtype(dtype):
        return tensor
    kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    return c.op.Cast(tensor, to=kind, dtype=np.dtype(dtype))


def expand_like(c: Context, g: Tensor, tensor: Tensor) -> Tensor:
    """Repeat `g` along axes of size 1 up to the shape of `tensor`; seeds keep their count."""
    return c.op.Expand(g, [1 if isinstance(s, str) else s for s in c.shape(tensor)])


def zeros_like(c: Context, g: Tensor, tensor: Tensor) -> Tensor:
    """Return zeros in the shape of `tensor`, for as many images as `g` has (on the same axis)."""
    sizes = [
        c.op.Shape(g, start=i, end=i + 1) if isinstance(s, str) else c.op.constant([s], np.int64)
        for i, s in enumerate(c.shape(tensor))
    ]
    return c.op.Expand(c.op.constant(0, g.dtype), c.op.Concat(*sizes, axis=0))


def pad_axes(c: Context, g: Tensor, rank: int, sides: Mapping[int, Sequence[int]]) -> Tensor:
    """Pad `g`, which has `rank` axes, with zeros: (before, after) by axis; negative sides cut off.

    All axes are written down: onnxruntime (1.31) moves a Transpose past a Pad with an `axes` input as if
    `pads` held all axes, and then fails.
    """
    pads = np.zeros((2, rank), np.int64)
    for axis, side in sides.items():
        pads[:, axis] = side
    padded: Tensor = c.op.Pad(g, pads.ravel())
    return padded


def spread(c: Context, g: Tensor, axis: int, indices: Indices, shape: Shape) -> Tensor:
    """Transpose `take(x, indices, axis)`, x of `shape`: element i of `g` adds to place indices[i].

    A run of neighbours is a Pad. Otherwise a zero is appended to `g` and every place gathers what
    lands there: fast everywhere, which scattering is not.
    """
    op, n, size, rank = c.op, len(indices), int(shape[axis]), len(shape)
    if n and np.array_equal(indices, np.arange(indices[0], indices[0] + n)):
        if n == size:
            return g
        return pad_axes(c, g, rank, {axis: (indices[0], size - indices[0] - n)})
    counts = np.bincount(indices, minlength=size)
    most = int(counts.max(initial=1))
    order = np.argsort(indices, kind="stable")
    nth = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    sources = np.full((size, most), n)  # n is the zero that is padded on
    sources[indices[order], nth] = order
    padded = pad_axes(c, g, rank, {axis: (0, 1)})
    if most == 1:
        return op.Gather(padded, sources[:, 0], axis=axis)
    return op.ReduceSum(op.Gather(padded, sources, axis=axis), [axis + 1], keepdims=0)


# --- reshapes -------------------------------------------------------------------------------------
@VJP.on("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(c: Context, g: Tensor) -> Tensor:
    """Return to the shape before."""
    return c.reshape_like(g, c.x[0])


@VJP.on("Transpose")
def transpose(c: Context, g: Tensor) -> Tensor:
    """Permute back; the default reverses the axes."""
    order = c.attr("perm", list(range(len(c.shape(c.x[0]))))[::-1])
    return c.op.Transpose(g, perm=np.argsort(order))


@VJP.on("Expand")
def expand(c: Context, g: Tensor) -> Tensor:
    """Sum over the copies."""
    return c.unbroadcast(g, c.shape(c.y[0]), c.x[0])


@VJP.on("Tile")
def tile(c: Context, g: Tensor) -> Tensor:
    """Part each repeated axis into (copies, size) and sum over the copies."""
    parted: list[int] = []
    copies: list[int] = []
    for axis, (size, times) in enumerate(zip(c.shape(c.x[0]), c.const(1), strict=True)):
        if times != 1:
            plain_axis(c, axis, c.x[0])
            copies.append(len(parted))
            parted.append(int(times))
        parted.append(-1 if isinstance(size, str) else size)
    return c.op.ReduceSum(c.op.Reshape(g, parted), copies, keepdims=0) if copies else g


# --- joining and parting --------------------------------------------------------------------------
@VJP.on("Concat")
def concat(c: Context, g: Tensor) -> list[Tensor]:
    """Give each part its piece."""
    axis = plain_axis(c, c.attr("axis"), c.y[0])
    if len(c.x) == 1:
        return [g]
    sizes = [c.shape(x)[axis] for x in c.x]
    return list(c.op.Split(g, sizes, axis=axis, outputs=len(sizes)))


@VJP.on("Split")
def split(c: Context, *signals: Tensor | None) -> Tensor:
    """Join the pieces; one that took no part in the result counts as zeros."""
    axis = plain_axis(c, c.attr("axis", 0), c.x[0])
    given = [g for g in signals if g is not None]
    if len(given) == len(signals):
        return c.op.Concat(*given, axis=axis)
    sizes = [int(c.shape(y)[axis]) for y in c.y]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    parts = [
        spread(c, g, axis, at, c.shape(c.x[0]))
        for g, at in zip(signals, places, strict=True)
        if g is not None
    ]
    return c.op.Sum(*parts)


# --- picking --------------------------------------------------------------------------------------
@VJP.on("Slice")
def slice_(c: Context, g: Tensor) -> Tensor:
    """Put the elements back between zeros, one axis after the other."""
    shape, picked = c.shape(c.x[0]), c.shape(c.y[0])
    starts, ends = c.const(1).ravel(), c.const(2).ravel()
    axes = c.const(3) if c.has(3) else np.arange(len(starts))
    steps = c.const(4) if c.has(4) else np.ones_like(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = shape[axis]
        if isinstance(size, str) and picked[axis] == size and step == 1:
            continue  # all images
        at = plain_axis(c, int(axis), c.x[0])
        g = spread(c, g, at, np.arange(size)[start:end:step], shape)
    return g


@VJP.on("Gather")
def gather(c: Context, g: Tensor) -> Tensor:
    """Add what was picked to where it came from; the indices must be constants."""
    x, indices = c.x[0], c.const(1)
    axis, shape = plain_axis(c, c.attr("axis", 0), x), c.shape(x)
    if indices.ndim != 1:
        sizes = [*shape[:axis], indices.size, *shape[axis + 1 :]]
        g = c.op.Reshape(g, [-1 if isinstance(s, str) else s for s in sizes])
    return spread(c, g, axis, indices.reshape(-1) % int(shape[axis]), shape)


@VJP.on("GatherElements")
def gather_elements(c: Context, g: Tensor) -> Tensor:
    """Scatter-add along the axis; the indices may be computed."""
    axis, at = plain_axis(c, c.attr("axis", 0), c.x[0]), _for_seeds(c, g)
    return c.op.ScatterElements(zeros_like(c, g, c.x[0]), at, g, axis=axis, reduction="add")


@VJP.on("GatherND")
def gather_nd(c: Context, g: Tensor) -> Tensor:
    """Do as `gather` with the indexed axes merged into one; constant indices, no batch_dims."""
    indices, shape = c.const(1), c.shape(c.x[0])
    if c.attr("batch_dims", 0):
        raise c.refuse("batch_dims is not implemented")
    merged = [int(shape[plain_axis(c, i, c.x[0])]) for i in range(indices.shape[-1])]
    places = np.ravel_multi_index(tuple(np.moveaxis(indices % merged, -1, 0)), merged).reshape(-1)
    rest = [-1 if isinstance(s, str) else s for s in shape[len(merged) :]]
    g = c.op.Reshape(g, [places.size, *rest])
    return c.reshape_like(spread(c, g, 0, places, (int(np.prod(merged)), *rest)), c.x[0])


@VJP.on("ScatterElements")
def scatter_elements(c: Context, g: Tensor) -> tuple[Tensor, None, Tensor]:
    """Give the signal to what is written, none to what is overwritten; "add" keeps both."""
    axis = plain_axis(c, c.attr("axis", 0), c.x[0])
    nothing = zeros_like(c, g, c.x[2])
    at = _for_seeds(c, nothing)
    kept = g if _adds(c) else c.op.ScatterElements(g, at, nothing, axis=axis)
    return kept, None, c.op.GatherElements(g, at, axis=axis)


@VJP.on("ScatterND")
def scatter_nd(c: Context, g: Tensor) -> tuple[Tensor, None, Tensor]:
    """Do as `scatter_elements` for constant indices that pick whole slices."""
    at = c.const(1)
    for axis in range(at.shape[-1]):
        plain_axis(c, axis, c.x[0])
    written = c.op.GatherND(g, at)
    return g if _adds(c) else c.op.ScatterND(g, at, c.op.Mul(written, 0)), None, written


def _adds(c: Context) -> bool:
    how = c.attr("reduction", "none")
    if how not in ("none", "add"):
        raise c.refuse(f"reduction {how!r} is not implemented")
    return bool(how == "add")


def _for_seeds(c: Context, like: Tensor) -> Tensor:
    """Return input 1, element-wise indices, as often as `like` has seeds: they may be of one image."""
    data, indices = c.shape(c.x[0]), c.shape(c.x[1])
    if any(
        isinstance(s, str) and not isinstance(i, str) for s, i in zip(data, indices, strict=True)
    ):
        raise c.refuse("it picks some images of a batch")
    return c.op.Expand(c.x[1], c.op.Shape(like))


# --- types ----------------------------------------------------------------------------------------
@VJP.on("Cast")
def cast_rule(c: Context, g: Tensor) -> Tensor:
    """Pass the signal, which is float64 only where the tensor is; straight through rounding."""
    if np.dtype(c.node.outputs[0].dtype).kind in "iub":
        c.note("straight-through where it rounds to whole numbers")
    return cast(c, g, np.float64 if c.x[0].dtype == np.float64 else np.float32)


@VJP.on("Identity", "Dropout")
def identity(c: Context, g: Tensor, *_: None) -> Tensor:
    """Pass the signal: dropout does nothing at inference."""
    return g
