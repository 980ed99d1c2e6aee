"""Targets, maps and heat maps as operators in a file: what `target`, `cam` and `saliency` do on arrays.

The weightings and the maximum over colours are the same functions as there (`methods.weighing`,
`saliency.strongest`), and so is the matrix that enlarges; what only moves axes is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from onnxplain.errors import TargetError
from onnxplain.graph.layers import Layer
from onnxplain.methods.cam import Row
from onnxplain.methods.maps import order_of
from onnxplain.results import interpolation
from onnxplain.target import Target, single_ones


def of_type(op: Any, x: Any, dtype: Any) -> Any:
    """Return a tensor as `dtype`."""
    if x.dtype is not None and np.dtype(x.dtype) == dtype:
        return x
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return op.Cast(x, to=int(kind), dtype=np.dtype(dtype))


def single(op: Any, x: Any) -> Any:
    """Return a tensor as float32."""
    return of_type(op, x, np.float32)


# --- what is explained ----------------------------------------------------------------------------------
def existing(op: Any, index: Any, count: int) -> Any:
    """Return `index`, negative ones counted from the end; a run with one outside 0..count-1 fails.

    OneHot would answer it with zeros, and the map would be blank.
    """
    return op.Gather(op.constant(np.arange(count), np.int64), index)


def fixed(
    op: Any, target: Target, values: Any, sizes: Sequence[int], dtype: Any
) -> tuple[Any, Any]:
    """Return the seed of a target that is the same for all images, as many as `values` has.

    And the number of the element, int64 [N], where the seed is 1 at one and 0 elsewhere; else None. Raises
    TargetError for one that depends on the image.
    """
    if (target.index is None and target.weights is None) or target.above is not None:
        raise TargetError(
            f"target {target} depends on the image: export the predicted class, a fixed one, or "
            'target="input" or "seed"'
        )
    seed = target.seeds(np.zeros((1, *sizes), np.float32)).seed
    number = single_ones(seed)
    every = op.Shape(values, end=1)
    index = None if number is None else op.Expand(op.constant(number, np.int64), every)
    return op.Expand(op.constant(seed, dtype), op.Shape(values)), index


# --- maps -----------------------------------------------------------------------------------------------
def cam(op: Any, row: Row, layer: Layer, a: Any, g: Any) -> Any:
    """Return the map [N, h, w] of a CAM, signed, as `cam`'s values."""
    a, g = (_channels_first(op, single(op, x), layer) for x in (a, g))
    shown = _in_picture(op, a, layer)
    if not row.cut:
        a, g = shown, _in_picture(op, g, layer)
    assert row.formula is not None
    return op.ReduceSum(op.Mul(row.formula(op, a, g), shown), [1], keepdims=0)


def enlarged(op: Any, maps: Any, size: tuple[int, int], to: tuple[int, int]) -> Any:
    """Return maps [N, h, w] of `size` at the size `to`, bilinear (`results.bilinear`)."""
    rows, columns = (interpolation(n, m) for n, m in zip(size, to, strict=True))
    return op.MatMul(op.MatMul(op.constant(rows, np.float32), maps), columns.T)


def scaled(op: Any, maps: Any) -> Any:
    """Return maps [N, h, w] scaled to 0..1 per image, constant ones to zeros (`results.minmax`)."""
    low = op.ReduceMin(maps, [1, 2], keepdims=1)
    span = op.Sub(op.ReduceMax(maps, [1, 2], keepdims=1), low)
    return op.Div(op.Sub(maps, low), op.Where(op.Greater(span, 0), span, 1))


def _channels_first(op: Any, x: Any, layer: Layer) -> Any:
    """Return [n, *layer.shape] as [n, K, h, w], or tokens as [n, K, T, 1]."""
    perm = order_of(layer)
    first = x if perm == sorted(perm) else op.Transpose(x, perm=perm)
    return first if layer.grid is None else op.Unsqueeze(first, [3])


def _in_picture(op: Any, x: Any, layer: Layer) -> Any:
    """Return the patches among tokens [n, K, T, 1] as [n, K, h, w]; feature maps as they are."""
    if layer.grid is None:
        return x
    patches = op.Gather(x, list(layer.grid.patches), axis=2)
    return op.Reshape(patches, [-1, layer.channels, layer.grid.height, layer.grid.width])
