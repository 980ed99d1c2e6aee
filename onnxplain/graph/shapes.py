"""Shapes of every tensor and the folding of shape arithmetic, with the number of images left open.

Exporters write `Shape -> Gather -> Concat -> Reshape` chains. Instead of symbolic algebra, the graph is
inferred for two concrete image counts: what agrees is a constant, what grows in proportion is "N" (or
"12N" where heads or windows are merged into the image axis).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter, dtype_to_onnx

from onnxplain.errors import ModelError
from onnxplain.graph.fold import Array, evaluate

_COUNTS = (2, 3)  # any two different image counts
_SMALL = 1 << 12  # constants up to this size take part in shape inference; weights need not
Sizes = dict[str, tuple[int | None, ...]]
Pair = tuple[Array, Array]  # a value at each of the two image counts


def resolve(graph: gs.Graph, inputs: Mapping[str, tuple[int | str, ...]]) -> None:
    """Set shape and dtype of every tensor, and fold what does not depend on the input.

    `inputs` gives the shape of each graph input, "N" standing for the number of images. The graph must be
    sorted topologically. Raises ModelError when the shapes contradict each other.
    """
    for tensor in graph.inputs:
        tensor.shape = list(inputs[tensor.name])
    values: dict[str, Pair] = {}
    while True:
        sizes = [_infer(graph, inputs, n, i, values) for i, n in enumerate(_COUNTS)]
        if not _evaluate_all(graph, sizes, values):
            break
    _store_shapes(graph, sizes)
    _store_values(graph, values)


def join(a: int | None, b: int | None) -> int | str | None:
    """Return the symbolic size of an axis that is `a` at two images and `b` at three."""
    if a is None or b is None:
        return None
    if a == b:
        return a
    k, rest = divmod(a, _COUNTS[0])
    return (f"{k}N" if k > 1 else "N") if rest == 0 and b == k * _COUNTS[1] else None


def _infer(
    graph: gs.Graph,
    inputs: Mapping[str, tuple[int | str, ...]],
    count: int,
    which: int,
    values: Mapping[str, Pair],
) -> dict[str, tuple[int, tuple[int | None, ...]]]:
    """Return element type and sizes by tensor name, for `count` images."""
    model = _skeleton(graph, inputs, count, {k: v[which] for k, v in values.items()})
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx raises its own C++ types; all mean the same to a user
        raise ModelError(f"the shapes of this graph contradict each other: {error}") from error
    infos = list(inferred.graph.value_info) + list(inferred.graph.output) + list(model.graph.input)
    found = {k: (dtype_to_onnx(v[which].dtype), v[which].shape) for k, v in values.items()}
    for info in infos:
        kind = info.type.tensor_type
        sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
        if kind.HasField("shape"):
            found[info.name] = (kind.elem_type, sizes)
        elif kind.elem_type:
            found.setdefault(info.name, (kind.elem_type, (None,)))
    return found


def _skeleton(
    graph: gs.Graph,
    inputs: Mapping[str, tuple[int | str, ...]],
    count: int,
    values: Mapping[str, Array],
) -> onnx.ModelProto:
    """Export the graph with weights as typed inputs, so that inference costs nothing for large ones."""
    make = onnx.helper.make_tensor_value_info
    infos, initializers = [], []
    for tensor in graph.inputs:
        sizes = [at_count(s, count) for s in inputs[tensor.name]]
        infos.append(make(tensor.name, dtype_to_onnx(tensor.dtype), sizes))
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            if tensor.values.size <= _SMALL:
                initializers.append(OnnxExporter.export_tensor_proto(tensor))
            else:
                infos.append(make(tensor.name, dtype_to_onnx(tensor.dtype), list(tensor.shape)))
    initializers += [onnx.numpy_helper.from_array(v, k) for k, v in values.items()]
    nodes = [
        OnnxExporter.export_node(n)
        for n in graph.nodes
        if not any(y.name in values for y in n.outputs)
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(t.name) for t in graph.outputs]
    proto = onnx.helper.make_graph(nodes, "skeleton", infos, outputs, initializers)
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    opsets += [o for o in graph.import_domains or [] if o.domain not in ("", "ai.onnx")]
    return onnx.helper.make_model(proto, opset_imports=opsets)


def at_count(size: int | str, count: int) -> int:
    """Return a symbolic size ("N", "12N" or a number) at `count` images."""
    return int(size[:-1] or 1) * count if isinstance(size, str) else size


def _evaluate_all(graph: gs.Graph, sizes: list[Any], values: dict[str, Pair]) -> bool:
    """Evaluate every node whose inputs are known at both counts; return whether any was new."""
    known = len(values)
    for node in graph.nodes:
        if all(y.name in values for y in node.outputs) or not node.outputs:
            continue
        pair = _evaluate_pair(node, sizes, values, graph.opset)
        if pair is not None:
            for y, a, b in zip(node.outputs, *pair, strict=True):
                if not y.is_empty():
                    values[y.name] = (a, b)
    return len(values) > known


def _evaluate_pair(
    node: gs.Node, sizes: list[Any], values: dict[str, Pair], opset: int
) -> tuple[list[Array], list[Array]] | None:
    if node.op in ("Shape", "Size"):
        shapes = [_shape_of(node.inputs[0], s) for s in sizes]
        known = [tuple(n for n in shape if n is not None) for shape in shapes]
        if any(len(k) < len(shape) for k, shape in zip(known, shapes, strict=True)):
            return None
        a, b = (_shape_op(node, shape) for shape in known)
        return [a], [b]
    if node.op == "DequantizeLinear":
        return None  # onnxruntime must keep seeing quantised weights
    pairs = [_pair(x, values) for x in node.inputs]
    if any(p is None and not x.is_empty() for p, x in zip(pairs, node.inputs, strict=True)):
        return None
    first = evaluate(node, [None if p is None else p[0] for p in pairs], opset)
    if first is None:
        return None
    if all(p is None or p[0] is p[1] for p in pairs):
        return first, first
    if sum(y.size for y in first) > _SMALL:
        return None  # a large tensor that depends on the image count: let the runtime make it
    second = evaluate(node, [None if p is None else p[1] for p in pairs], opset)
    return None if second is None else (first, second)


def _shape_of(tensor: gs.Tensor, sizes: Any) -> tuple[int | None, ...]:
    if isinstance(tensor, gs.Constant):
        return tuple(tensor.shape)
    found: tuple[int | None, ...] = sizes.get(tensor.name, (0, (None,)))[1]
    return found


def _pair(tensor: gs.Tensor, values: Mapping[str, Pair]) -> Pair | None:
    if isinstance(tensor, gs.Constant):
        value = np.asarray(tensor.values)
        return value, value
    return values.get(tensor.name)


def _shape_op(node: gs.Node, shape: tuple[int, ...]) -> Array:
    if node.op == "Size":
        return np.asarray(np.prod(shape, dtype=np.int64))
    start, end = node.attrs.get("start", 0), node.attrs.get("end", len(shape))
    return np.asarray(shape[start:end], dtype=np.int64)


def _store_shapes(graph: gs.Graph, sizes: list[Any]) -> None:
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Constant) or not all(name in s for s in sizes):
            continue
        (kind, a), (_, b) = (s[name] for s in sizes)
        if kind != TensorProto.UNDEFINED:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        if len(a) == len(b) and a != (None,):
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
