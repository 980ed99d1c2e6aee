"""Concats that begin alike, as DenseNets have them: the longer one takes the shorter one whole."""

from __future__ import annotations

from collections.abc import Collection

import onnx_graphsurgeon as gs


def nest(graph: gs.Graph, kept: Collection[str]) -> None:
    """Let a Concat read the output of an earlier one instead of the parts they share, in place.

    The numbers are the same. Going backward, a block of n layers has n sums of two signals then, instead of
    a sum for each pair of layers. `kept` names tensors that nothing more may read: their signal is asked for,
    and it is that of the nodes that read them as it is.
    """
    known: dict[tuple[int, tuple[str, ...]], gs.Tensor] = {}
    for node in graph.nodes:
        if node.op != "Concat":
            continue
        axis, inputs = int(node.attrs["axis"]), list(node.inputs)
        names = tuple(x.name for x in inputs)
        for count in range(len(names) - 1, 1, -1):
            whole = known.get((axis, names[:count]))
            if whole is not None:
                node.inputs = [whole, *inputs[count:]]
                break
        if node.outputs[0].name not in kept:
            known[axis, names] = node.outputs[0]
