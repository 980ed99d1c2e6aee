"""What the gradient of a quantised net is the gradient of: the same net with rounding taken away.

Straight-through, a QuantizeLinear and its DequantizeLinear are a clipped identity. `held_oracle` is that
function in float64 near one input, rounded there as onnxruntime rounds; `without_rounding` is that net.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

import onnxplain as ox
from tests.oracle import Oracle

Array = np.ndarray[Any, Any]


def held_oracle(model: ox.Model, feeds: dict[str, Array]) -> Oracle:
    """Return the canonical graph, its quantisers and kinks held as onnxruntime has them at one image.

    A value halfway between two levels rounds one way in float32 and the other in float64, and in a deep
    net soon other elements saturate: that is another function, not another gradient.
    """
    nodes = model.graph.nodes
    before = [n.inputs[0].name for n in nodes.nodes if n.op == "QuantizeLinear"]
    behind = [n.outputs[0].name for n in nodes.nodes if n.op in ("Relu", "Clip")]
    at = model.values(feeds, list(dict.fromkeys(before + behind)))
    return Oracle(gs.export_onnx(nodes), at=at)


def without_rounding(model: ox.Model) -> onnx.ModelProto:
    """Return the net up to its logit with Clip in place of each QuantizeLinear; weights stay as they are."""
    graph = model.graph.nodes.copy()
    real: set[str] = set()  # what was integer levels
    for node in graph.nodes:
        if node.op == "QuantizeLinear":
            x, scale, zero = node.inputs
            kind, offset = np.iinfo(zero.dtype), zero.values.astype(np.float64)
            ends = [np.float32((end - offset) * scale.values) for end in (kind.min, kind.max)]
            bounds = [gs.Constant(f"{node.name}.{i}", np.array(v)) for i, v in enumerate(ends)]
            node.op, node.attrs, node.inputs = "Clip", {}, [x, *bounds]
        elif not any(x.name in real for x in node.inputs):
            continue
        elif node.op == "DequantizeLinear":
            node.op, node.attrs, node.inputs = "Identity", {}, node.inputs[:1]
        for y in node.outputs:
            y.dtype = np.dtype(np.float32)
            real.add(y.name)
    graph.outputs = [graph.tensors()[model.graph.logit.tensor]]
    proto = gs.export_onnx(graph.cleanup(remove_unused_graph_inputs=False))
    del proto.graph.value_info[:]
    return proto
