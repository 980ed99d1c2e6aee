"""Element type and sizes of one node's outputs, by onnx's own inference.

onnx infers in C++ and trusts what it is given: a Slice of a negative size, or a Split into more outputs
than it was told to make, ends the process instead of raising. So nodes are inferred one by one, and
sizes are checked before they are handed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, TypeProto

from onnxplain.errors import ModelError

Sizes = tuple[int | None, ...]
Type = tuple[int, Sizes | None]
"""Element type and sizes of a tensor; None for a size, or for all of them, that is not known."""

SMALL = 1 << 12
"""Constants of up to this many elements can steer shapes; weights need not."""

STANDARD = (None, "", "ai.onnx")
"""How files write the domain of the standard operators."""

_LENGTHS = {"pads", "strides", "dilations", "kernel_shape", "output_shape", "output_padding"}
_LIKE_INPUT = {"MeanVarianceNormalization", "GroupNormalization"}  # functions, without an inference


def infer_node(
    node: NodeProto,
    opset: int,
    types: Mapping[str, Type],
    values: Mapping[str, np.ndarray[Any, Any] | TensorProto],
) -> dict[str, Type]:
    """Return what is known of the outputs of `node`, by name.

    `types` of its inputs, `values` of those that are constant and small. Nothing is known of an operator
    outside the standard, of one with subgraphs, or where an input's type is not known.
    Raises ModelError, naming the op, where sizes contradict each other or come out negative.
    """
    given = {name for name in node.input if name}
    if any(name not in types for name in given) or not _has_inference(node, opset):
        return {}
    if node.op_type in _LIKE_INPUT:
        return {node.output[0]: types[node.input[0]]}
    _check_attributes(node)
    if node.op_type == "Slice" and any(len(types[k][1] or ()) > 1 for k in node.input[1:] if k):
        raise _contradiction(node, "its starts, ends, axes and steps must be lists")
    found = _run(node, opset, types, {k: values[k] for k in given if k in values})
    for name, (_, sizes) in found.items():
        if any(size is not None and size < 0 for size in sizes or ()):
            raise _contradiction(node, f"its output {name!r} would have a negative size")
    return found


def check_sizes(
    graph: GraphProto, opset: int, outside: Mapping[str, Type] = MappingProxyType({})
) -> None:
    """Infer a graph of any opset, before C++ passes that do so on their own see it.

    `outside` is what is known of tensors that a subgraph captures. Raises ModelError as `infer_node`.
    """
    types = dict(outside)
    types |= {x.name: type_of(x.type) for x in graph.input if x.type.HasField("tensor_type")}
    types |= {t.name: (t.data_type, tuple(t.dims)) for t in graph.initializer}
    values = {t.name: t for t in graph.initializer if prod(t.dims) <= SMALL}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                check_sizes(attribute.g, opset, types)
            elif node.op_type == "Constant" and attribute.HasField("t"):
                values[node.output[0]] = attribute.t
        types |= infer_node(node, opset, types, values)


def _has_inference(node: NodeProto, opset: int) -> bool:
    if node.domain not in STANDARD or not onnx.defs.has(node.op_type, opset, ""):
        return False
    return not any(a.HasField("g") or a.graphs for a in node.attribute)


def _check_attributes(node: NodeProto) -> None:
    """Refuse what onnx takes on trust."""
    numbers = {a.name: a.i for a in node.attribute}
    if node.op_type == "Split" and numbers.get("num_outputs", len(node.output)) != len(node.output):
        raise _contradiction(node, f"num_outputs is not {len(node.output)}, its number of outputs")
    for attribute in node.attribute:
        if attribute.name in _LENGTHS and any(abs(n) >= 1 << 31 for n in attribute.ints):
            raise _contradiction(node, f"{attribute.name} {list(attribute.ints)} are no lengths")
    if node.op_type == "GatherND" and numbers.get("batch_dims", 0) < 0:
        raise _contradiction(node, "batch_dims is negative")


def _run(
    node: NodeProto,
    opset: int,
    types: Mapping[str, Type],
    values: Mapping[str, np.ndarray[Any, Any] | TensorProto],
) -> dict[str, Type]:
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    given = {name: _proto(*types[name]) for name in node.input if name}
    data = {k: _tensor(v, k) for k, v in values.items()}
    opsets = [onnx.helper.make_opsetid("", opset)]
    try:
        made = onnx.shape_inference.infer_node_outputs(
            schema, node, given, data, opset_imports=opsets
        )
    except Exception as error:  # onnx raises its own C++ types; all mean the same to a user
        raise _contradiction(
            node, str(error).strip().splitlines()[-1].rsplit("] ", 1)[-1]
        ) from error
    return {k: type_of(v) for k, v in made.items() if k and v.HasField("tensor_type")}


def fully_known(types: Mapping[str, Type]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return the types whose sizes are all known."""
    found = {}
    for name, (kind, sizes) in types.items():
        known = tuple(size for size in sizes or () if size is not None)
        if sizes is not None and len(known) == len(sizes):
            found[name] = (kind, known)
    return found


def type_of(proto: TypeProto) -> Type:
    """Read element type and sizes off a tensor's type."""
    kind = proto.tensor_type
    if not kind.HasField("shape"):
        return kind.elem_type, None
    sizes = (d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return kind.elem_type, tuple(sizes)


def _proto(kind: int, sizes: Sizes | None) -> TypeProto:
    return onnx.helper.make_tensor_type_proto(kind, sizes)


def _tensor(value: np.ndarray[Any, Any] | TensorProto, name: str) -> TensorProto:
    if isinstance(value, TensorProto):
        return value
    return onnx.numpy_helper.from_array(value, name)


def _contradiction(node: NodeProto, reason: str) -> ModelError:
    return ModelError(f"{node.op_type} (node {node.name!r}): {reason}")
