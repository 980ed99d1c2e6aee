"""Shapes of every tensor and the folding of shape arithmetic, with the number of images left open.

Exporters write `Shape -> Gather -> Concat -> Reshape` chains. Instead of symbolic algebra, the graph is
inferred for two concrete image counts: what agrees is a constant, what grows in proportion is "N" (or
"12N" where heads or windows are merged into the image axis).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter, dtype_to_onnx

from onnxplain.errors import ModelError
from onnxplain.graph.fold import Array, evaluate
from onnxplain.graph.infer import SMALL, Sizes, Type, infer_node

_COUNTS = (2, 3)  # any two different image counts
_LARGEST = (1 << 31) - 1  # no layer has an axis of so many elements
Types = dict[str, Type]
Pair = tuple[Array, Array]  # a value at each of the two image counts


def resolve(graph: gs.Graph, inputs: Mapping[str, tuple[int | str, ...]]) -> None:
    """Set shape and dtype of every tensor, and fold what does not depend on the input.

    `inputs` gives the shape of each graph input, "N" standing for the number of images. The graph must be
    sorted topologically. Raises ModelError when the shapes contradict each other.
    """
    for tensor in graph.inputs:
        tensor.shape = list(inputs[tensor.name])
    types: tuple[Types, Types] = ({}, {})
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            for known in types:
                known[tensor.name] = (dtype_to_onnx(tensor.dtype), tuple(tensor.shape))
    for known, count in zip(types, _COUNTS, strict=True):
        for x in graph.inputs:
            sizes = tuple(at_count(s, count) for s in inputs[x.name])
            known[x.name] = (dtype_to_onnx(x.dtype), sizes)
    values: dict[str, Pair] = {}
    for node in graph.nodes:
        _visit(node, types, values, graph.opset)
    _store_shapes(graph, types)
    _store_values(graph, values)


def _visit(node: gs.Node, types: tuple[Types, Types], values: dict[str, Pair], opset: int) -> None:
    """Note the values of a node's outputs where its inputs are known, else their types."""
    pair = evaluate_pair(node, types, values, opset)
    if pair is None:
        proto = OnnxExporter.export_node(node)
        for which, known in enumerate(types):
            known.update(infer_node(proto, opset, known, steering(node, values, which)))
        return
    for y, *both in zip(node.outputs, *pair, strict=True):
        if not y.is_empty():
            values[y.name] = (both[0], both[1])
            for known, value in zip(types, both, strict=True):
                known[y.name] = (dtype_to_onnx(value.dtype), value.shape)


def steering(node: gs.Node, values: Mapping[str, Pair], which: int) -> dict[str, Array]:
    """Return the inputs of a node that are known and small, at one of the two counts."""
    found = {}
    for x in node.inputs:
        if isinstance(x, gs.Constant) and prod(x.shape) > SMALL:
            continue
        pair = _pair(x, values)
        if pair is not None and pair[which].size <= SMALL and pair[which].dtype.kind in "fiub":
            found[x.name] = pair[which]
    return found


def join(a: int | None, b: int | None) -> int | str | None:
    """Return the symbolic size of an axis that is `a` at two images and `b` at three."""
    if a is None or b is None:
        return None
    if a == b:
        return a
    k, rest = divmod(a, _COUNTS[0])
    return (f"{k}N" if k > 1 else "N") if rest == 0 and b == k * _COUNTS[1] else None


def at_count(size: int | str, count: int) -> int:
    """Return a symbolic size ("N", "12N" or a number) at `count` images."""
    return int(size[:-1] or 1) * count if isinstance(size, str) else size


def evaluate_pair(
    node: gs.Node, types: Sequence[Types], values: Mapping[str, Pair], opset: int
) -> tuple[list[Array], list[Array]] | None:
    """Return the node's outputs at the two counts, or None where they depend on the model's input."""
    if node.op in ("Shape", "Size"):
        a, b = (_shape_op(node, known.get(node.inputs[0].name, (0, None))[1]) for known in types)
        return None if a is None or b is None else ([a], [b])
    if node.op == "DequantizeLinear":
        return None  # onnxruntime must keep seeing quantised weights
    if not all(isinstance(x, gs.Constant) or x.is_empty() or x.name in values for x in node.inputs):
        return None
    pairs = [_pair(x, values) for x in node.inputs]
    first = evaluate(node, [None if p is None else p[0] for p in pairs], opset)
    if first is None:
        return None
    if all(p is None or p[0] is p[1] for p in pairs):
        return first, first
    if sum(y.size for y in first) > SMALL:
        return None  # a large tensor that depends on the image count: let the runtime make it
    second = evaluate(node, [None if p is None else p[1] for p in pairs], opset)
    return None if second is None else (first, second)


def _pair(tensor: gs.Tensor, values: Mapping[str, Pair]) -> Pair | None:
    if isinstance(tensor, gs.Constant):
        value = np.asarray(tensor.values)
        return value, value
    return values.get(tensor.name)


def _shape_op(node: gs.Node, shape: Sizes | None) -> Array | None:
    known = [size for size in shape or () if size is not None]
    if shape is None or len(known) < len(shape):
        return None
    if node.op == "Size":
        return np.asarray(np.prod(known, dtype=np.int64))
    start, end = node.attrs.get("start", 0), node.attrs.get("end", len(known))
    return np.asarray(known[start:end], dtype=np.int64)


def _store_shapes(graph: gs.Graph, types: Sequence[Types]) -> None:
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Constant) or not all(name in known for known in types):
            continue
        (kind, a), (_, b) = (known[name] for known in types)
        if kind != TensorProto.UNDEFINED:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        if max((n or 0 for n in a or ()), default=0) > _LARGEST:
            raise ModelError(f"tensor {name!r} would have sizes {list(a or ())}")
        if a is not None and b is not None and len(a) == len(b):
            tensor.shape = [join(m, n) for m, n in zip(a, b, strict=True)]


def _store_values(graph: gs.Graph, values: Mapping[str, Pair]) -> None:
    """Turn tensors with one value into constants, and Reshape targets into constants with one -1."""
    kept = []
    for node in graph.nodes:
        if node.op == "Reshape":
            _settle_target(node)
        known = [values.get(y.name) for y in node.outputs if not y.is_empty()]
        if known and all(pair is not None and _same(*pair) for pair in known):
            tensors = list(node.outputs)
            node.outputs.clear()
            for tensor in tensors:
                if not tensor.is_empty():
                    tensor.to_constant(values[tensor.name][0])
        else:
            kept.append(node)
    graph.nodes = kept


def _settle_target(node: gs.Node) -> None:
    """Write down the shape that was inferred, the axis of images as -1, if that says it all."""
    shape = node.outputs[0].shape
    if shape is None or any(s is None for s in shape) or 0 in shape:
        return
    if sum(isinstance(s, str) for s in shape) <= 1:
        target = np.array([-1 if isinstance(s, str) else s for s in shape], np.int64)
        node.inputs[1] = gs.Constant(f"{node.outputs[0].name}.target", target)
        node.attrs.pop("allowzero", None)


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
