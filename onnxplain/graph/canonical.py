"""Any valid model -> one form, once, so that each backward rule has a single version.

Canonical form: opset >= 18, functions inlined, constants and shape arithmetic folded, explicit padding,
no Identity, Dropout or CastLike, no QOperator or *Integer ops, operators that are others put together
(Attention) written out, every tensor's shape known with "N" for the number of images. The forward's
numbers do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from onnxplain.errors import ModelError, UnsupportedOpError
from onnxplain.graph import batch, follow, quantized, shapes
from onnxplain.graph.attention import ATTENTION
from onnxplain.graph.emit import Emitter
from onnxplain.graph.functions import FUNCTIONS
from onnxplain.graph.fusions import Rewrite
from onnxplain.graph.infer import STANDARD
from onnxplain.graph.lift import lift
from onnxplain.graph.weights import Array

G_LOGGER.severity = G_LOGGER.ERROR  # its remarks would land on the user's terminal

_LEAST = float(np.finfo(np.float32).min)
InputShapes = Mapping[str, tuple[int | str, ...]]


def import_graph(
    proto: onnx.ModelProto,
    weights: Mapping[str, Array] = MappingProxyType({}),
    name: str = "onnxplain",
) -> gs.Graph:
    """Return the lifted model as a sorted graph, shapes not yet known; raises ModelError on a cycle.

    `weights` are the values of inputs that stand for constants (`ModelFile`); they are not copied. `name`
    goes into every model made of the graph: it tells whose weights lie beside.
    """
    graph = gs.import_onnx(lift(proto))
    graph.name = name
    for tensor in [t for t in graph.inputs if t.name in weights]:
        tensor.to_constant(weights[tensor.name])
    graph.inputs = [t for t in graph.inputs if t.name not in weights]
    try:
        graph.toposort()
    except Exception as error:  # graphsurgeon raises a bare exception on a cycle
        raise ModelError("the graph has a cycle, so it cannot be run") from error
    return graph


def canonicalize(graph: gs.Graph, inputs: InputShapes) -> tuple[gs.Graph, str | None]:
    """Return the canonical form of `graph` and, if the image count had to stay fixed, the reason.

    `inputs` gives every input's shape with "N" on the axis of images. Raises ModelError where shapes
    contradict each other, UnsupportedOpError for BatchNormalization in training mode.
    """
    quantized.to_qdq(graph)
    free = graph.copy()
    try:
        batch.free(free, dict(inputs))
        _settle(free, inputs)
        return free, None
    except (batch.Pinned, ModelError) as problem:
        if isinstance(problem, UnsupportedOpError):
            raise
        if (follow.exported_count(graph, inputs) or 1) > 1:
            raise ModelError(
                f"exported for several images at once, which cannot be undone: {problem}"
            ) from problem
        pinned = {k: tuple(shapes.at_count(s, 1) for s in v) for k, v in inputs.items()}
        _settle(graph, pinned)
        return graph, str(problem)


def _settle(graph: gs.Graph, inputs: InputShapes) -> None:
    shapes.resolve(graph, inputs)
    while inline_branches(graph):
        shapes.resolve(graph, inputs)
    if rewrite(graph, REWRITES):
        shapes.resolve(graph, inputs)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()


def inline_branches(graph: gs.Graph) -> bool:
    """Replace each If whose condition is constant by the branch taken; return whether there was one."""
    settled = [n.op == "If" and isinstance(n.inputs[0], gs.Constant) for n in graph.nodes]
    nodes: list[gs.Node] = []
    for node, known in zip(graph.nodes, settled, strict=True):
        nodes += follow.branch(node, bool(node.inputs[0].values.all())) if known else [node]
    graph.nodes = nodes
    return any(settled)


def rewrite(graph: gs.Graph, table: Mapping[str, Rewrite], prefix: str = "canonical") -> bool:
    """Replace nodes by what `table[op](emitter, node)` returns, in place; None keeps the node.

    The result is either a tensor that exists already (consumers are rewired to it) or one just written,
    whose node then takes over the old output, name included. Nodes of which more than the first output is
    used stay. Returns whether nodes were written.
    """
    nodes, wrote = [], False
    outputs = {t.name for t in graph.outputs}
    for index, node in enumerate(graph.nodes):
        emitter = Emitter(f"{prefix}{index}")
        known = node.op in table and node.domain in STANDARD
        result = table[node.op](emitter, node) if known else None
        nodes += emitter.nodes
        others = any(y.outputs or y.name in outputs for y in node.outputs[1:])
        if result is None or others or (not emitter.nodes and node.outputs[0].name in outputs):
            nodes.append(node)
            continue
        old = node.outputs[0]
        node.outputs.clear()
        if emitter.nodes:
            emitter.nodes[-1].outputs = [old]
            wrote = True
        else:
            _rewire(old, result)
    graph.nodes = nodes
    return wrote


def _rewire(old: gs.Tensor, new: gs.Tensor) -> None:
    for consumer in list(old.outputs):
        for i, tensor in enumerate(consumer.inputs):
            if tensor is old:
                consumer.inputs[i] = new


# --- the rewrites: one function per op ----------------------------------------------------------------
def _pass_through(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    return node.inputs[0]


def _cast(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    same = node.inputs[0].dtype is not None and node.inputs[0].dtype == node.outputs[0].dtype
    return node.inputs[0] if same else None


def _cast_like(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    target = node.inputs[1].dtype
    if node.inputs[0].dtype == target:
        return node.inputs[0]
    return op.Cast(node.inputs[0], to=int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(target))))


def _dropout(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if isinstance(training, gs.Constant) and bool(np.any(training.values)):
        raise UnsupportedOpError(
            "Dropout", node.name, "it is in training mode; export with model.eval()"
        )
    return node.inputs[0]


def _batch_normalization(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    """Write out statistics that the network computes (tf2onnx's LayerNormalization); else keep."""
    if node.attrs.get("training_mode", 0):
        raise UnsupportedOpError(
            "BatchNormalization", node.name, "it is in training mode; export with model.eval()"
        )
    x, *parameters = node.inputs
    if all(isinstance(p, gs.Constant) for p in parameters):
        return None
    axes = [0, *range(2, len(x.shape))]
    scale, bias, mean, variance = (op.Unsqueeze(p, axes) for p in parameters)
    deviation = op.Sqrt(op.Add(variance, node.attrs.get("epsilon", 1e-5)))
    return op.Add(op.Mul(op.Div(op.Sub(x, mean), deviation), scale), bias)


def _explicit_pads(op: Emitter, node: gs.Node) -> gs.Tensor | None:
    """Replace auto_pad and output_shape by pads; write down kernels that some exporters leave out."""
    if any(x.shape is None for x in node.inputs[: 2 if node.op.startswith("Conv") else 1]):
        raise UnsupportedOpError(node.op, node.name, "the shapes of its inputs are not known")
    _set_pads(node)
    if node.op == "Conv":
        _take_over_padding(node, lambda value: value == 0)
    if node.op == "MaxPool" and len(node.outputs) == 1 and not node.attrs.get("ceil_mode", 0):
        _take_over_padding(node, lambda value: value <= _LEAST)
    return None


def _take_over_padding(node: gs.Node, pads: Callable[[float], bool]) -> None:
    """Let a node put around its input what a Pad puts there now: Keras exports "same" convolutions so.

    `pads` tells values that the node's own pads stand for: zeros of a Conv, the least of a MaxPool.
    """
    makers = node.inputs[0].inputs
    if not makers or makers[0].op != "Pad" or makers[0].attrs.get("mode", "constant") != "constant":
        return
    x, amounts, *rest = makers[0].inputs
    value, axes = [*rest, gs.Variable.empty(), gs.Variable.empty()][:2]
    if not value.is_empty() and not (isinstance(value, gs.Constant) and value.values.size == 1):
        return
    same = pads(0.0 if value.is_empty() else float(value.values.item()))
    if not (same and axes.is_empty() and isinstance(amounts, gs.Constant)):
        return
    before, after = np.split(np.asarray(amounts.values, np.int64), 2)
    if (amounts.values < 0).any() or any((*before[:2], *after[:2])):
        return
    added = [*before[2:], *after[2:]]
    whole = [p + int(a) for p, a in zip(node.attrs["pads"], added, strict=True)]
    if node.op == "MaxPool" and any(np.array(whole) >= 2 * node.attrs["kernel_shape"]):
        return  # no window may lie in the padding alone
    node.attrs["pads"] = whole
    node.inputs[0] = x


def _set_pads(node: gs.Node) -> None:
    mode = node.attrs.pop("auto_pad", "NOTSET")
    wanted = node.attrs.pop("output_shape", None)
    rank = len(node.inputs[0].shape) - 2
    if node.op in ("Conv", "ConvTranspose") and "kernel_shape" not in node.attrs:
        node.attrs["kernel_shape"] = [int(s) for s in node.inputs[1].shape[2:]]
    if mode in ("NOTSET", "VALID") and not wanted:
        node.attrs.setdefault("pads", [0] * 2 * rank)
        return
    total = _total_pads(node, wanted)
    small = [t // 2 for t in total]
    large = [t - s for t, s in zip(total, small, strict=True)]
    node.attrs["pads"] = small + large if mode == "SAME_UPPER" else large + small


def _total_pads(node: gs.Node, wanted: list[int] | None) -> list[int]:
    """Return, per axis, the padding that makes the output ceil(size / stride), or as `wanted`."""
    sizes = node.inputs[0].shape[2:]
    if any(not isinstance(n, int) for n in sizes):
        raise UnsupportedOpError(node.op, node.name, "auto_pad needs a known image size")
    kernel, ones = node.attrs["kernel_shape"], [1] * len(sizes)
    strides, dilations = node.attrs.get("strides", ones), node.attrs.get("dilations", ones)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    axes = list(zip(sizes, strides, reach, strict=True))
    if node.op != "ConvTranspose":
        return [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in axes]
    extra = node.attrs.get("output_padding", [0] * len(sizes))
    outputs = list(wanted)[-len(sizes) :] if wanted else [n * s for n, s, _ in axes]
    whole = [(n - 1) * s + r + e for (n, s, r), e in zip(axes, extra, strict=True)]
    total = [w - out for w, out in zip(whole, outputs, strict=True)]
    if min(total) < 0:  # more is wanted than there is
        node.attrs["output_padding"] = [e + max(-t, 0) for e, t in zip(extra, total, strict=True)]
    return [max(t, 0) for t in total]


REWRITES: dict[str, Rewrite] = {
    "Identity": _pass_through,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"), _explicit_pads),
    **ATTENTION,
    **FUNCTIONS,
}
