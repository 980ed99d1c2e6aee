"""Faults of a file that libraries answer with errors of their own kind: found first, and named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from onnxplain.errors import ModelError
from onnxplain.graph.infer import STANDARD


def check_text(model: ModelProto, name: str) -> None:
    """Raise ModelError where a name or a text attribute is not UTF-8, which protobuf does not look at."""
    _check(f"{name}: its metadata", (t for e in model.metadata_props for t in (e.key, e.value)))
    for graph in graphs(model.graph):
        for kind, named in (
            ("input", graph.input),
            ("output", graph.output),
            ("stored tensor", graph.initializer),
        ):
            for i, thing in enumerate(named):
                _check(f"{name}: {kind} {i}", (thing.name,))
        for i, node in enumerate(graph.node):
            _check(f"{name}: node {i} of its graph", _texts(node))


def check_ops(model: ModelProto, name: str) -> None:
    """Raise ModelError for an op that the opset has not, or a node that says too much or too little."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    functions = {(f.domain, f.name): f for f in model.functions}
    opset = max(versions.get("", 0), versions.get("ai.onnx", 0))
    for graph in graphs(model.graph):
        for node in graph.node:
            where = f"{name}: {node.op_type} (node {node.name!r})"
            called = functions.get((node.domain, node.op_type))
            if called is not None and (
                len(node.input) > len(called.input) or len(node.output) > len(called.output)
            ):
                raise ModelError(
                    f"{where} gives the model's function of this name {len(node.input)} inputs and "
                    f"{len(node.output)} outputs; it has {len(called.input)} and {len(called.output)}"
                )
            if called is None and node.domain in STANDARD and 0 < opset < 1 << 31:
                _check_op(node.op_type, opset, where)
                if node.op_type == "Constant" and len(node.attribute) != 1:
                    raise ModelError(f"{where} must have one value, it has {len(node.attribute)}")


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from graphs(inner)


def _check_op(op: str, opset: int, where: str) -> None:
    if onnx.defs.has(op, opset, ""):
        return
    if onnx.defs.has(op, ""):
        raise ModelError(f"{where} is not in opset {opset}: export the model with a later one")
    raise ModelError(
        f"{where} is no ONNX operator: its exporter wrote one that does not exist; use another version of it"
    )


def _texts(node: NodeProto) -> Iterator[str | bytes]:
    yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
    for attribute in node.attribute:
        yield attribute.name
        yield from (attribute.s, *attribute.strings)


def _check(where: str, texts: Iterable[str | bytes]) -> None:
    """Decode bytes: text attributes are stored so, and protobuf hands names out so that it cannot decode."""
    for text in texts:
        try:
            if isinstance(text, bytes):
                text.decode()
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{where} holds text that is not UTF-8 ({error.object[:20]!r}): the file is damaged; export "
                "or copy it again"
            ) from error
