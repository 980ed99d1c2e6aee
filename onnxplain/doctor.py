"""Look at a model and say what can be explained, how each op is differentiated, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from onnxplain.backward import VJP
from onnxplain.backward.variants.rescale import RESCALE
from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import differentiable_edges, find_path
from onnxplain.model import Model


@dataclass(frozen=True)
class Op:
    """One op type on the way from logit to input: how many nodes, and how each is differentiated.

    `gradient` and `rescale` (LIFT-CAM's multipliers) are "exact", a note such as "straight-through", or
    "no rule".
    """

    type: str
    count: int
    gradient: str
    rescale: str


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found; `verdict` is "ready", "ready with ..." or "not explainable: ..."."""

    model: str
    sha256: str
    verdict: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    logit: str
    activation: str
    classes: int | None
    labels: int
    images: str
    preprocess: str
    ops: tuple[Op, ...]
    off_path: tuple[str, ...]
    default_layer: str | None
    why_default_layer: str
    layers: tuple[Layer, ...]

    @property
    def ready(self) -> bool:
        """Whether gradients can be computed."""
        return self.verdict.startswith("ready")

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as JSON-able data."""
        return {"ready": self.ready, **asdict(self)}


def inspect(model: Model) -> Inspection:
    """Inspect a loaded model; runs nothing."""
    graph = model.graph
    path = find_path(graph.nodes.nodes, {graph.source.name}, {graph.logit.tensor})
    on_path: Counter[str] = Counter()
    off_path: Counter[str] = Counter()
    for node in graph.nodes.nodes:
        edges = differentiable_edges(node)
        flows = any(x.name in path and y.name in path for x, y in edges)
        (on_path if flows else off_path)[str(node.op)] += 1
    ops = tuple(
        Op(op, count, _how(op, VJP), _how(op, RESCALE)) for op, count in on_path.most_common()
    )
    pre = (
        model.preprocess.source
        if model.spec.is_picture
        else "the input is not a picture: feed arrays"
    )
    return Inspection(
        model=model.name,
        sha256=model.sha256,
        verdict=_verdict(ops, bool(path)),
        inputs=tuple(_written(i.name, i.dtype, i.shape, i.open_size) for i in graph.inputs),
        outputs=tuple(logit.output for logit in graph.logits),
        logit=str(graph.logit),
        activation=graph.logit.activation,
        classes=model.classes,
        labels=len(model.labels or ()),
        images="any number at once" if graph.pinned is None else f"one by one ({graph.pinned})",
        preprocess=pre,
        ops=ops,
        off_path=tuple(sorted(off_path)),
        default_layer=None if graph.default_layer is None else graph.default_layer.name,
        why_default_layer=graph.why_default_layer,
        layers=graph.layers,
    )


def _how(op: str, table: Any) -> str:
    rule = table.find(op)
    if rule is None:
        return "no rule"
    return "exact" if rule.exact else str(rule.note)


def _verdict(ops: tuple[Op, ...], reachable: bool) -> str:
    if not reachable:
        return "not explainable: the logit does not depend on the input"
    missing = [op.type for op in ops if op.gradient == "no rule"]
    if missing:
        return f"not explainable: no backward rule for {', '.join(missing)}"
    inexact = [op.type for op in ops if op.gradient != "exact"]
    return f"ready with approximate rules for {', '.join(inexact)}" if inexact else "ready"


def _written(name: str, dtype: Any, shape: tuple[int | str, ...], open_size: bool) -> str:
    note = " (size left open by the file)" if open_size else ""
    return f"{name}: {dtype} {' x '.join(map(str, shape))}{note}"
