"""The one reverse walk: it sums fan-out, un-broadcasts, checks counts and skips what is off the path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context, unbroadcast
from onnxplain.backward.table import NOTHING, Rule, RuleTable
from onnxplain.errors import UnsupportedOpError
from onnxplain.graph.emit import Emitter
from onnxplain.graph.infer import STANDARD
from onnxplain.graph.paths import differentiable_edges, find_path

BROADCASTING = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Where",
    "PRelu",
    "Mod",
}
"""Ops whose inputs broadcast against each other: their rules return gradients of the output's shape."""


def walk(
    nodes: Sequence[gs.Node],
    seeds: Mapping[str, gs.Tensor],
    wrt: Sequence[str],
    rules: RuleTable,
    op: Emitter,
    references: Mapping[str, gs.Tensor],
) -> tuple[dict[str, gs.Tensor], list[str]]:
    """Write the backward pass of `nodes` (in topological order) with `op`.

    `seeds` are the signals at the outputs. Returns the signal at each tensor of `wrt` that has one, and
    the notes of the rules used that are not exact ("QuantizeLinear: straight-through").
    Raises UnsupportedOpError for an op without a rule, or a rule that lacks a gradient the path needs.
    """
    path = find_path(nodes, set(wrt), set(seeds))
    signals: dict[str, gs.Tensor] = {n: s for n, s in seeds.items() if n in path}
    notes: dict[str, None] = {}
    readers = Counter(x.name for node in nodes for x in node.inputs)
    shared = {name for name, count in readers.items() if count > 1} | {*seeds, *wrt}
    for node in reversed(nodes):
        edges = [(x.name, y.name) for x, y in differentiable_edges(node)]
        incoming = [signals.get(y.name) for y in node.outputs]
        if not any(x in path and y in path for x, y in edges) or not any(
            g is not None for g in incoming
        ):
            continue
        flowing = {x for x, _ in edges if x in path}
        on_path = [x.name in flowing for x in node.inputs]
        rule = rules.find(node.op) if node.domain in STANDARD else None
        if rule is None:
            raise UnsupportedOpError(node.op, node.name, _why_no_rule(node, rules))
        c = Context(node, op, on_path, references, wrt, shared)
        if not rule.exact:
            c.note(rule.note)
        gradients = _apply(rule, c, incoming)
        notes.update(dict.fromkeys(c.notes))
        for x, wanted, g in zip(node.inputs, on_path, gradients, strict=False):
            if wanted and g is not None:
                _accumulate(signals, op, x, g)
    return {name: signals[name] for name in wrt if name in signals}, list(notes)


def _why_no_rule(node: gs.Node, rules: RuleTable) -> str:
    if any(isinstance(v, gs.Graph) for v in node.attrs.values()):
        return "control flow that depends on the input; export the branch that is taken"
    if node.domain not in STANDARD:
        return f"it belongs to the domain {node.domain!r}; export with standard ONNX ops only"
    return (
        f"it has no rule in table {rules.name!r}; explain a tensor before it, a layer after it, or take "
        "score-cam, which only runs forward"
    )


def _apply(rule: Rule, c: Context, incoming: list[gs.Tensor | None]) -> list[gs.Tensor | None]:
    node = c.node
    result = rule.apply(c, *incoming) if len(incoming) > 1 else rule.apply(c, incoming[0])
    gradients = list(result) if isinstance(result, (tuple, list)) else [result]
    gradients += [None] * (len(node.inputs) - len(gradients))
    if len(gradients) > len(node.inputs):
        raise c.refuse(f"its rule gave {len(gradients)} gradients for {len(node.inputs)} inputs")
    for i, (x, g) in enumerate(zip(node.inputs, gradients, strict=True)):
        if not c.needs(i):
            continue
        if g is None:
            raise c.refuse(
                f"its gradient with respect to input {i} ({x.name!r}) is not implemented"
            )
        if g is NOTHING:
            gradients[i] = None
        elif node.op in BROADCASTING and (g.shape is None or tuple(g.shape) != c.shape(x)):
            gradients[i] = unbroadcast(c.op, g, c.shape(node.outputs[0]), c.shape(x))
    return gradients


def _accumulate(signals: dict[str, gs.Tensor], op: Emitter, x: gs.Tensor, g: gs.Tensor) -> None:
    known = signals.get(x.name)
    signals[x.name] = g if known is None else op.Add(known, g)
