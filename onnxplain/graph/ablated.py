"""The rest of a network from a layer on, with some of the layer's channels replaced."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxplain.errors import LayerError
from onnxplain.graph.emit import Emitter
from onnxplain.graph.export import Part, export
from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import check_cut, needed, read_beside

KEEP, BASE = "keep", "base"


def ablated(graph: gs.Graph, layer: Layer, output: str) -> tuple[Part, tuple[str, ...]]:
    """Return layer, keep [N, K], base [1, K] -> output, and the model inputs that are read beside them.

    The rest of the network sees A keep + base (1 - keep) of the layer's activation A, which may be of one
    image: it is broadcast against many rows of keep. Raises LayerError for a layer that is no cut, or
    without channels.
    """
    if layer.channels is None:
        raise LayerError(
            f"layer {layer.name!r} of shape {layer.shape} has no channels to keep or replace"
        )
    graph = graph.copy()
    tensors = graph.tensors()
    tail = needed(graph.nodes, [output], stop=[layer.name])
    check_cut(graph, [layer.name], [output])
    beside = read_beside(graph, [layer.name], [output])
    inside = tensors[layer.name]
    a = gs.Variable(layer.name, inside.dtype, ["images", *layer.shape])
    keep = gs.Variable(KEEP, a.dtype, ["N", layer.channels])
    base = gs.Variable(BASE, a.dtype, [1, layer.channels])
    op = Emitter("ablated")
    others = [i for i in range(1, 1 + len(layer.shape)) if i != layer.channel_axis]
    on, fill = (op.Unsqueeze(t, others) if others else t for t in (keep, base))
    kept = op.Add(op.Mul(a, on), op.Mul(fill, op.Sub(1, on)))
    kept.shape = inside.shape
    for node in tail:
        node.inputs = [kept if x.name == layer.name else x for x in node.inputs]
    beside_it = [t for t in graph.inputs if t.name in beside]
    return export(graph, [*op.nodes, *tail], [a, keep, base, *beside_it], [tensors[output]]), beside
