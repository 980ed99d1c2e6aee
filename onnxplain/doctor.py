"""Look at a model and say what can be explained, how each op is differentiated, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from onnxplain.backward import VJP
from onnxplain.backward.variants.rescale import RESCALE
from onnxplain.errors import ModelError
from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import differentiable_edges, find_path
from onnxplain.model import Model


@dataclass(frozen=True)
class Op:
    """One op type on the way from input to logit: how many nodes, and how it is differentiated.

    `gradient` is "exact", a note such as "straight-through", or "no rule".
    """

    type: str
    count: int
    gradient: str


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
    lift_cam: str
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
    """Inspect a loaded model: writes the backward passes to see that they can be written, runs nothing."""
    graph = model.graph
    on_path, off_path = _count_ops(model)
    verdict, notes = _gradient_verdict(model)
    pre = (
        model.preprocess.source
        if model.spec.is_picture
        else "the input is not a picture: feed arrays"
    )
    return Inspection(
        model=model.name,
        sha256=model.sha256,
        verdict=verdict,
        inputs=tuple(_written(i.name, i.dtype, i.shape, i.open_size) for i in graph.inputs),
        outputs=tuple(logit.output for logit in graph.logits),
        logit=str(graph.logit),
        activation=graph.logit.activation,
        classes=model.classes,
        labels=len(model.labels or ()),
        images="any number at once" if graph.pinned is None else f"one by one ({graph.pinned})",
        preprocess=pre,
        ops=tuple(Op(op, n, _how(op, notes)) for op, n in on_path.most_common()),
        lift_cam=_lift_cam_verdict(model),
        off_path=tuple(sorted(off_path)),
        default_layer=None if graph.default_layer is None else graph.default_layer.name,
        why_default_layer=graph.why_default_layer,
        layers=graph.layers,
    )


def _count_ops(model: Model) -> tuple[Counter[str], Counter[str]]:
    """Count op types that a signal passes from logit to input, and the others."""
    nodes, logit = model.graph.nodes.nodes, model.graph.logit.tensor
    path = find_path(nodes, {model.graph.source.name}, {logit})
    on_path: Counter[str] = Counter()
    off_path: Counter[str] = Counter()
    for node in nodes:
        edges = differentiable_edges(node)
        flows = any(x.name in path and y.name in path for x, y in edges)
        (on_path if flows else off_path)[str(node.op)] += 1
    return on_path, off_path


def _gradient_verdict(model: Model) -> tuple[str, tuple[str, ...]]:
    """Write the backward pass; return the verdict and the notes of rules that are not exact."""
    logit, source = model.graph.logit.tensor, model.graph.source
    try:
        notes = model.program((logit,), (source.name,), VJP).notes
    except ModelError as error:
        return f"not explainable: {error}", ()
    inexact = list(dict.fromkeys(note.split(":")[0] for note in notes))
    return (f"ready, with surrogate rules for {', '.join(inexact)}" if inexact else "ready"), notes


def _lift_cam_verdict(model: Model) -> str:
    """Say whether LIFT-CAM's multipliers can be written from the default layer on."""
    layer = model.default_layer
    if layer is None:
        return "no layer to explain"
    try:
        notes = model.program((model.graph.logit.tensor,), (layer.name,), RESCALE).notes
    except ModelError as error:
        return f"not possible at the default layer: {error}"
    return f"ready, not exact: {'; '.join(notes)}" if notes else "ready"


def _how(op: str, notes: tuple[str, ...]) -> str:
    """Return how an op was differentiated in this model."""
    if op not in VJP:
        return "no rule"
    own = [note.partition(": ")[2] for note in notes if note.startswith(f"{op}: ")]
    return "; ".join(own) or "exact"


def _written(name: str, dtype: Any, shape: tuple[int | str, ...], open_size: bool) -> str:
    note = " (size left open by the file)" if open_size else ""
    return f"{name}: {dtype} {' x '.join(map(str, shape))}{note}"
