"""Values that do not depend on the model's input: evaluated once, with onnx's own reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxplain.errors import ModelError
from onnxplain.graph.paths import reads

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]

RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
          "Bernoulli"}  # fmt: skip
MAX_FOLDED = 1 << 24
"""Largest constant (elements) that folding may create: a hostile ConstantOfShape must not eat memory."""


def evaluate(node: gs.Node, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    """Return the node's outputs for concrete inputs, or None where it must stay in the graph.

    Random ops, ops with subgraphs, ops outside the standard and results above `MAX_FOLDED` stay.
    """
    if node.domain not in (None, "", "ai.onnx") or node.op in RANDOM or _has_subgraph(node):
        return None
    if node.op == "Constant":
        return [_constant_attribute(node)]
    if _grows_too_large(node, inputs):
        return None
    if any(x is not None and x.dtype.kind not in "fiub" for x in inputs):
        return None  # strings, bfloat16, 4-bit integers: not worth a special case
    return _run_reference(node, inputs, opset)


def constant_value(tensor: gs.Tensor) -> Array | None:
    """Return a tensor's value if it does not depend on the input, else None.

    After canonicalisation these are the constants themselves and the DequantizeLinear of one: the
    latter stays a node, so that onnxruntime still sees quantised weights.
    """
    if isinstance(tensor, gs.Constant):
        return np.asarray(tensor.values)
    producer = tensor.inputs[0] if len(tensor.inputs) == 1 else None
    if producer is None or producer.op != "DequantizeLinear":
        return None
    if not all(isinstance(x, gs.Constant) for x in producer.inputs):
        return None
    x, scale, *zero = (np.asarray(t.values) for t in producer.inputs)
    return dequantize(x, scale, zero[0] if zero else None, producer.attrs.get("axis", 1))


def fixed_nodes(nodes: Sequence[gs.Node]) -> tuple[list[gs.Node], set[str]]:
    """Return those of sorted nodes that depend on constants alone (turned weights), and what they make."""
    found: list[gs.Node] = []
    made: set[str] = set()
    for node in nodes:
        given = [x for x in reads(node) if not x.is_empty()]
        known = given and all(isinstance(x, gs.Constant) or x.name in made for x in given)
        if known and node.op not in RANDOM:
            found.append(node)
            made.update(y.name for y in node.outputs)
    return found, made


def dequantize(x: Array, scale: Array, zero: Array | None = None, axis: int = 1) -> Array:
    """Return (x - zero) * scale, per tensor or along `axis` (ONNX DequantizeLinear, unblocked)."""
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    factor = scale.reshape(shape if scale.size > 1 else ())
    centred = x.astype(np.float32)
    if zero is not None:
        centred -= zero.astype(np.float32).reshape(shape if zero.size > 1 else ())
    with np.errstate(
        all="ignore"
    ):  # whoever feeds the model hears of NaN and infinity from its results
        return np.asarray(centred * factor, dtype=scale.dtype)


def _run_reference(node: gs.Node, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    proto = OnnxExporter.export_node(node)
    proto.name = ""
    del proto.input[:], proto.output[:]
    proto.input.extend(f"x{i}" if x is not None else "" for i, x in enumerate(inputs))
    proto.output.extend(f"y{i}" if not y.is_empty() else "" for i, y in enumerate(node.outputs))
    try:
        with np.errstate(all="ignore"):  # infinities in masks are legitimate constants
            results = iter(_evaluator(proto.SerializeToString(), opset).run(None, feeds))
    except Exception as error:  # the reference kernels trust their inputs and raise anything
        raise ModelError(f"{node.op} (node {node.name!r}) cannot be computed: {error}") from error
    # In order, because sessions share large constants as they are and a Transpose returns a view.
    return [np.asarray(next(results), order="C") if y else np.zeros(0) for y in proto.output]


@lru_cache(maxsize=256)  # making one takes longer than running it, and nodes repeat
def _evaluator(node: bytes, opset: int) -> ReferenceEvaluator:
    from onnx.reference import ReferenceEvaluator

    proto = onnx.NodeProto.FromString(node)
    value = onnx.helper.make_empty_tensor_value_info
    inputs, outputs = ([value(k) for k in names if k] for names in (proto.input, proto.output))
    graph = onnx.helper.make_graph([proto], "fold", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))


def _constant_attribute(node: gs.Node) -> Array:
    if len(node.attrs) != 1:
        raise ModelError(f"Constant (node {node.name!r}) must have one value")
    ((name, value),) = node.attrs.items()
    if isinstance(value, gs.Constant):
        return np.asarray(value.values)
    return np.asarray(value, dtype=np.float32 if name.startswith("value_float") else np.int64)


_NEVER = {
    "Resize",
    "Upsample",
    "Pad",
    "OneHot",
    "EyeLike",
}  # they grow, and nobody computes shapes by them
_GROW = {"ConstantOfShape", "Expand", "Tile", "Range"}


def _grows_too_large(node: gs.Node, inputs: Sequence[Array | None]) -> bool:
    """Whether folding the node would create more than `MAX_FOLDED` elements."""
    if node.op in _NEVER:
        return True
    if node.op not in _GROW:
        return False
    given = [np.zeros(0) if x is None else x.astype(float) for x in inputs]
    if node.op == "ConstantOfShape":
        return bool(given[0].prod() > MAX_FOLDED)
    if node.op in ("Expand", "Tile"):
        return bool(given[1].prod() * given[0].size > MAX_FOLDED)
    if node.op == "Range":
        start, limit, delta = (float(x.item()) if x.size == 1 else 0.0 for x in given)
        return delta == 0 or not (limit - start) / delta <= MAX_FOLDED
    return False


def _has_subgraph(node: gs.Node) -> bool:
    return any(isinstance(v, gs.Graph) for v in node.attrs.values())
