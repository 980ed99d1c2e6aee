"""Protobuf-level tidying: one opset, no functions, no initializers repeated as inputs, unique names.

The C++ passes of onnx (inliner, version converter) copy the whole model through bytes. Weights are left
out of what they see and put back after, so a large file costs no more than a small one.
"""

from __future__ import annotations

import onnx
from onnx import inliner, version_converter

from onnxplain.errors import ModelError
from onnxplain.graph.infer import check_sizes
from onnxplain.graph.precheck import graphs

MIN_OPSET = 18
"""Rules are written for this opset and later; older models are lifted to it."""

_SMALL = 1 << 12  # bytes; smaller initializers (shapes, axes, scales) steer the conversion


def lift(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `proto` at opset >= 18 with functions inlined and every node named uniquely.

    Raises ModelError when the model has no nodes, or its opset cannot be lifted.
    """
    if not proto.graph.node:
        raise ModelError("the model has no nodes: nothing to explain")
    weights = {t.name: t for t in proto.graph.initializer if t.ByteSize() > _SMALL}
    model = _without_weights(proto, weights)
    if model.functions:
        model = _inline(model)
    if opset_of(model) < MIN_OPSET:
        model = _convert(model)
    inputs = [i for i in model.graph.input if i.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    used = {name for graph in graphs(model.graph) for node in graph.node for name in node.input}
    model.graph.initializer.extend(t for name, t in weights.items() if name in used)
    _name_nodes(model.graph)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operator set that the model imports."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise ModelError("the model imports no standard ONNX operator set")


def _without_weights(
    proto: onnx.ModelProto, weights: dict[str, onnx.TensorProto]
) -> onnx.ModelProto:
    """Copy everything but the large initializers, which become typed inputs.

    value_info is dropped: some exporters write wrong shapes there (an NHWC shape on an NCHW tensor).
    """
    model = onnx.ModelProto(ir_version=max(proto.ir_version, 8))
    model.functions.extend(proto.functions)
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        model.opset_import.add(domain=domain, version=entry.version)
    graph, source = model.graph, proto.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    for node in graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    initialized = {t.name for t in source.initializer}
    graph.input.extend(i for i in source.input if i.name not in initialized)
    graph.output.extend(source.output)
    graph.sparse_initializer.extend(source.sparse_initializer)
    graph.initializer.extend(t for t in source.initializer if t.name not in weights)
    for name, tensor in weights.items():
        info = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
        graph.input.append(info)
    return model


def _inline(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # onnx raises its own C++ types; all mean the same to a user
        names = ", ".join(sorted({f.name for f in model.functions}))
        raise ModelError(
            f"its functions ({names[:100]}) cannot be written out: {str(error).strip()[-200:]}; export the "
            "model without functions"
        ) from error


def _convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """Lift the opset, having checked the sizes that the converter would take on trust."""
    version = opset_of(model)
    for graph in graphs(model.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            for size in info.type.tensor_type.shape.dim:
                if size.dim_value < 0:  # how some exporters write an open size
                    size.Clear()
    check_sizes(model.graph, version)
    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # onnx raises its own C++ types; all mean the same to a user
        raise ModelError(
            f"opset {version} could not be lifted to {MIN_OPSET}: {str(error).strip()[:300]}; "
            "export the model with opset 18 or later"
        ) from error


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own: onnxruntime rejects two of one name."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name
