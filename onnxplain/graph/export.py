"""Part of a graph -> a standard, serialised ONNX model."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

_IR_VERSION = 10  # the first with every element type of opset 21; onnxruntime reads it since 1.18


def to_bytes(
    graph: gs.Graph,
    nodes: Sequence[gs.Node],
    inputs: Sequence[gs.Tensor],
    outputs: Sequence[gs.Tensor],
) -> bytes:
    """Serialise `nodes` (sorted) with the given inputs and outputs, in the opset of `graph`."""
    part = gs.Graph(
        nodes=list(nodes),
        inputs=list(inputs),
        outputs=list(outputs),
        name=graph.name,
        opset=graph.opset,
        import_domains=graph.import_domains,
        producer_name="onnxplain",
    )
    model = gs.export_onnx(part, do_type_check=False, ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())
