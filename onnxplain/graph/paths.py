"""Along which edges of a graph a signal can flow backward, and what lies between two sets of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_graphsurgeon as gs

from onnxplain.errors import LayerError, UnsupportedOpError

# The output depends on the input's shape only, or is piecewise constant and merely selects: no signal.
WITHOUT_SIGNAL = {
    "Shape", "Size", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not",
    "Xor", "IsNaN", "IsInf", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "OneHot", "Bernoulli",
    "Unique", "Hardmax",
}  # fmt: skip
# Ops that carry a signal only from some of their inputs: the others are indices, conditions, boxes, or, for
# the quantisers, scales that the straight-through rule holds fixed.
_SIGNAL_INPUTS = {
    "Gather": (0,), "GatherElements": (0,), "GatherND": (0,), "Where": (1, 2), "QuantizeLinear": (0,),
    "DequantizeLinear": (0,), "RoiAlign": (0,), "MaxUnpool": (0,), "ReverseSequence": (0,),
}  # fmt: skip
_CUTS = ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "OneHot", "Hardmax", "Unique")


def reads(node: gs.Node) -> list[gs.Tensor]:
    """Return the tensors a node reads: its inputs, and what the bodies of If, Loop or Scan capture."""
    captured = []
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            made = {y.name for inner in value.nodes for y in inner.outputs}
            made |= {t.name for t in value.inputs}
            inside = [x for inner in value.nodes for x in reads(inner)] + list(value.outputs)
            captured += [x for x in inside if x.name not in made]
    return [*node.inputs, *captured]


def differentiable_edges(node: gs.Node) -> Iterable[tuple[gs.Tensor, gs.Tensor]]:
    """Yield (input, output) pairs along which a signal can flow backward through `node`."""
    if node.op in WITHOUT_SIGNAL:
        return
    carrying = _SIGNAL_INPUTS.get(node.op)
    outputs = node.outputs[:1] if node.op in ("MaxPool", "TopK", "Dropout") else node.outputs
    for i, tensor in enumerate(reads(node)):
        if tensor.is_empty() or isinstance(tensor, gs.Constant):
            continue
        if carrying is None or i in carrying:
            yield from ((tensor, y) for y in outputs)


def find_path(nodes: Sequence[gs.Node], wrt: set[str], outputs: set[str]) -> set[str]:
    """Return the names of the tensors through which `outputs` depend differentiably on `wrt`.

    Raises UnsupportedOpError, naming the first op that cuts the gradient, when there is no such tensor.
    """
    reached, depends = set(wrt), set(wrt)
    cut: gs.Node | None = None
    for node in nodes:
        reached.update(y.name for x, y in differentiable_edges(node) if x.name in reached)
        if any(x.name in depends for x in reads(node)):
            depends.update(y.name for y in node.outputs)
            if cut is None and node.op in _CUTS and any(x.name in reached for x in node.inputs):
                cut = node
    used = set(outputs) & reached
    if not used:
        if cut is not None and depends & outputs:
            raise UnsupportedOpError(
                cut.op, cut.name, "its result has no gradient; explain a tensor before it"
            )
        return set()
    for node in reversed(nodes):
        used.update(x.name for x, y in differentiable_edges(node) if y.name in used)
    return used & reached


def needed(
    nodes: Sequence[gs.Node], results: Iterable[str], stop: Iterable[str] = ()
) -> list[gs.Node]:
    """Return the nodes that `results` need, in order; tensors in `stop` are given from outside."""
    given = set(stop)
    wanted = set(results) - given
    kept = []
    for node in reversed(nodes):
        if any(y.name in wanted for y in node.outputs):
            kept.append(node)
            wanted.update(x.name for x in reads(node) if x.name not in given)
    return kept[::-1]


def read_beside(graph: gs.Graph, layers: Sequence[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the model inputs that `outputs` read beside `layers`."""
    tail = needed(graph.nodes, outputs, stop=layers)
    read = {x.name for node in tail for x in reads(node)} - set(layers)
    return tuple(t.name for t in graph.inputs if t.name in read)


def check_cut(graph: gs.Graph, layers: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise LayerError where inputs that `layers` come from reach `outputs` beside them too."""
    feeding = {x.name for node in needed(graph.nodes, layers) for x in reads(node)} | set(layers)
    tail = needed(graph.nodes, outputs, stop=layers)
    # Reading an input's shape alone (to count the images) is no path around the layer.
    read = {x.name for node in tail if node.op not in ("Shape", "Size") for x in reads(node)}
    if feeding & set(read_beside(graph, layers, outputs)) & read:
        raise LayerError(
            f"layer {', '.join(layers)!r} is not a cut: other paths from the input reach the output beside "
            "it; choose a layer that `onnxplain inspect` marks as a cut"
        )
