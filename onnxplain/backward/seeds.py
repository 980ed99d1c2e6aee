"""Seeds that are nearly all zero, written in a graph from what says where they are not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxplain.graph.emit import Emitter


def plant(op: Emitter, seed: gs.Tensor, output: str, axis: int) -> list[gs.Tensor]:
    """Write a seed from planes and the channels they stand in; return the inputs for both."""
    one = [1 if i == axis else s for i, s in enumerate(seed.shape)]
    planes = gs.Variable(f"planes({output})", dtype=seed.dtype, shape=one)
    channels = gs.Variable(f"channels({output})", dtype=np.dtype(np.int64), shape=["B"])
    count = seed.shape[axis]
    hot = op.OneHot(channels, count, op.constant([0, 1], seed.dtype), dtype=seed.dtype)
    spread = [-1 if i == 0 else count if i == axis else 1 for i in range(len(one))]
    _called(op.Mul(planes, op.Reshape(hot, spread)), seed)
    return [planes, channels]


def pick(
    op: Emitter,
    seed: gs.Tensor,
    values: gs.Tensor,
    nodes: Sequence[gs.Node],
    fixed: Collection[str],
) -> tuple[gs.Tensor, list[gs.Node]]:
    """Write a seed that is 1 at one element of each image, from the number of the element.

    Return the input for the numbers, int64 [N], where a negative one asks for the largest of `values`, and
    what `multiplied` leaves of `nodes`.
    """
    numbers = gs.Variable(f"element({values.name})", dtype=np.dtype(np.int64), shape=seed.shape[:1])
    index = op.Where(op.Less(numbers, 0), largest(op, values), numbers)
    _called(one_hot(op, index, seed.shape[1:], seed.dtype), seed)
    return numbers, multiplied(op, seed, index, nodes, fixed)


def largest(op: Emitter, values: gs.Tensor) -> gs.Tensor:
    """Return the number of the largest element of each image, int64 [N]; of equals the first."""
    index: gs.Tensor = op.ArgMax(op.Flatten(op.float(values), axis=1), axis=1, keepdims=0)
    return index


def one_hot(op: Emitter, index: gs.Tensor, sizes: Sequence[int], dtype: Any) -> gs.Tensor:
    """Return seeds [N, *sizes], float32 or float64, that are 1 at the element `index` [N] and 0 elsewhere."""
    hot: gs.Tensor = op.OneHot(
        index, prod(sizes), op.constant([0, 1], np.float32), dtype=np.float32
    )
    if dtype != np.float32:  # onnxruntime has no OneHot of float64
        hot = op.Cast(hot, to=int(TensorProto.DOUBLE), dtype=np.dtype(dtype))
    return hot if len(sizes) == 1 else op.Reshape(hot, [-1, *sizes])


def multiplied(
    op: Emitter,
    seed: gs.Tensor,
    index: gs.Tensor,
    nodes: Sequence[gs.Node],
    fixed: Collection[str],
) -> list[gs.Node]:
    """Write the products of a one-hot seed with matrices, which are rows of them; return the other nodes.

    seed: [N, C], 1 at `index` [N]. nodes: what reads it; products that are no such rows are left as they are.
    fixed: names of what depends on constants alone.
    """
    others = []
    for node in nodes:
        rows = _rows(op, node, seed, index, fixed)
        if rows is None:
            others.append(node)
        else:
            _called(rows, node.outputs[0])
    return others


def _rows(
    op: Emitter, node: gs.Node, seed: gs.Tensor, index: gs.Tensor, fixed: Collection[str]
) -> gs.Tensor | None:
    """Return a product of the seed with a matrix as rows of the matrix; None where it is something else."""
    if node.op not in ("Gemm", "MatMul") or len(node.inputs) != 2:
        return None
    (first, matrix), axis = node.inputs, int(node.attrs.get("transB", 0) != 0)
    if first.name != seed.name or len(seed.shape) != 2 or node.attrs.get("transA", 0):
        return None
    if matrix.inputs and matrix.inputs[0].op == "Transpose" and matrix.name in fixed:
        matrix, axis = matrix.inputs[0].inputs[0], 1 - axis
    known = isinstance(matrix, gs.Constant) or matrix.name in fixed
    if not known or matrix.shape is None or len(matrix.shape) != 2:
        return None
    rows = op.Gather(matrix, index, axis=axis, dtype=matrix.dtype)
    rows = op.Transpose(rows, perm=[1, 0]) if axis else rows
    alpha = float(node.attrs.get("alpha", 1))
    return rows if alpha == 1 else op.Mul(rows, alpha)


def _called(tensor: gs.Tensor, like: gs.Tensor) -> None:
    """Let a tensor be read in the place of another."""
    tensor.name, tensor.dtype, tensor.shape = like.name, like.dtype, like.shape
