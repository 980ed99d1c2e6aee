"""Look at a model and say what can be explained, how each op is differentiated, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from onnxplain.backward import VJP
from onnxplain.backward.variants.rescale import RESCALE
from onnxplain.errors import ModelError, OnnxplainError
from onnxplain.executor import Array
from onnxplain.feeds import Feeds
from onnxplain.graph.doubts import doubts
from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import differentiable_edges, find_path
from onnxplain.methods.cam import cam
from onnxplain.methods.gradient import gradient
from onnxplain.model import Model
from onnxplain.verify import noise

_TRIALS = 3
_MOST_TRIED = 1 << 24  # numbers in an input: a file may claim any size


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
    """What `inspect` found.

    `verdict` is "ready", "ready with straight-through ops: ..." or "not explainable because ...".
    `doubts` are values in the file that look like an exporter's mistake.
    """

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
    doubts: tuple[str, ...]
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
    """Inspect a loaded model, and try the gradient and LIFT-CAM on noise: ready means that they ran."""
    graph = model.graph
    on_path, off_path = _count_ops(model)
    verdict, notes = _gradient_verdict(model)
    lift_cam = _lift_cam_verdict(model)
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
        lift_cam=lift_cam,
        doubts=doubts(graph.nodes),
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
    """Differentiate noise; return the verdict and the notes of rules that are not exact."""
    try:
        notes = model.program((model.graph.logit.tensor,), (model.graph.source.name,), VJP).notes
        tried = _try(model, lambda x: gradient(model, x).values)
    except OnnxplainError as error:
        return f"not explainable because {_bare(error, model)}", ()
    ops = list(dict.fromkeys(note.partition(": ")[0] for note in notes))
    kind = "straight-through" if all("straight-through" in note for note in notes) else "inexact"
    return (f"{tried} with {kind} ops: {', '.join(ops)}" if ops else tried), notes


def _lift_cam_verdict(model: Model) -> str:
    """Make LIFT-CAM of noise at the default layer; say whether that worked."""
    layer = model.default_layer
    if layer is None:
        return f"not possible: {model.why_default_layer}"
    try:
        notes = model.program((model.graph.logit.tensor,), (layer.name,), RESCALE).notes
        tried = _try(model, lambda x: cam(model, x, kind="lift_cam").values)
    except OnnxplainError as error:
        return f"not possible at the default layer: {_bare(error, model)}"
    return f"{tried}, not exact: {'; '.join(notes)}" if notes else tried


def _try(model: Model, method: Callable[[Feeds], Array]) -> str:
    """Run a method on noise; raises ModelError where all it finds is zero."""
    if sum(prod(map(int, i.shape[1:])) for i in model.graph.inputs) > _MOST_TRIED:
        return "ready (not tried: the input is too large)"
    for seed in range(_TRIALS):
        if method(noise(model, seed)).any():
            return "ready"
    raise ModelError(
        f"all it finds on {_TRIALS} noise images is zero: the output does not change with the input there "
        "(it saturates, is rounded, or its units are off)"
    )


def _bare(error: Exception, model: Model) -> str:
    return str(error).removeprefix(f"{model.name}: ")


def _how(op: str, notes: tuple[str, ...]) -> str:
    """Return how an op was differentiated in this model."""
    if op not in VJP:
        return "no rule"
    own = [note.partition(": ")[2] for note in notes if note.startswith(f"{op}: ")]
    return "; ".join(own) or "exact"


def _written(name: str, dtype: Any, shape: tuple[int | str, ...], open_size: bool) -> str:
    note = " (size left open by the file)" if open_size else ""
    return f"{name}: {dtype} {' x '.join(map(str, shape))}{note}"
