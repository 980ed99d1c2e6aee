"""Integer and fused operators -> DequantizeLinear, a float operator, QuantizeLinear: standard domain only.

Rules then need no integer arithmetic, and onnxruntime recognises the pattern and runs its integer kernels
again, so that the numbers stay those of the original file. Weights stay integers behind their
DequantizeLinear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxplain.errors import UnsupportedOpError
from onnxplain.graph.emit import Emitter, Tensor
from onnxplain.graph.fusions import FUSIONS, Rewrite, Written, attributes, optional
from onnxplain.graph.stored import STORED, stored

Grid = tuple[Tensor, Tensor]  # scale and zero point

_FLOAT32 = np.dtype(np.float32)
_KEEPS_GRID = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity"}


def to_qdq(graph: gs.Graph) -> None:
    """Rewrite the operators of `STANDARD` and `CONTRIB` in place; the graph must be sorted and stays so.

    Outputs keep their names. Operators of other domains that are not listed stay. ConvInteger and
    MatMulInteger become float32 Conv and MatMul of whole numbers: exact while sums stay below 2^24.
    Raises UnsupportedOpError for `channels_last` kernels.
    """
    grids: dict[str, Grid] = {}
    nodes: list[gs.Node] = []
    kept = {t.name for t in graph.outputs}
    for node in graph.nodes:
        emitter = Emitter(node.name)
        written = _rewrite(emitter, node, grids, kept)
        nodes += emitter.nodes if written is not None else [node]
        if written is not None:
            _hand_over(node, written if isinstance(written, tuple) else (written,))
        _note_grid(nodes[-1], grids)
    graph.nodes = nodes


def _rewrite(op: Emitter, node: gs.Node, grids: dict[str, Grid], kept: set[str]) -> Written:
    if node.op == "MaxPool" and node.inputs[0].name in grids and len(node.outputs) == 1:
        grid = grids[node.inputs[0].name]  # the maximum is the same on either side
        return _q(op, op.MaxPool(_dq(op, node.inputs[0], *grid), **node.attrs), *grid)
    table = STANDARD | STORED if node.domain in (None, "", "ai.onnx") else CONTRIB
    if node.op not in table or (table is CONTRIB and node.domain != "com.microsoft"):
        return None
    if node.attrs.get("channels_last", 0):
        raise UnsupportedOpError(
            node.op, node.name, "it runs channels-last; export with NCHW layout"
        )
    written = table[node.op](op, node)
    return _as_declared(op, node, written, kept) if node.op in _INTEGER_RESULT else written


def _hand_over(node: gs.Node, written: tuple[Tensor, ...]) -> None:
    """Let the nodes just written produce the tensors that `node` produced."""
    outputs = list(node.outputs)
    node.outputs.clear()
    node.inputs.clear()
    for old, new in zip(outputs, written, strict=False):
        if old.is_empty():
            continue
        producer = new.inputs[0]
        for reader in list(new.outputs):
            reader.inputs = [old if x is new else x for x in reader.inputs]
        producer.outputs = [old if y is new else y for y in producer.outputs]
        old.dtype = new.dtype


def _note_grid(node: gs.Node, grids: dict[str, Grid]) -> None:
    if node.op == "QuantizeLinear" and len(node.inputs) == 3 and "axis" not in node.attrs:
        grids[node.outputs[0].name] = (node.inputs[1], node.inputs[2])
    elif node.op in _KEEPS_GRID and node.inputs[0].name in grids:
        grids[node.outputs[0].name] = grids[node.inputs[0].name]


def _dq(
    op: Emitter, x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int | None = None
) -> Tensor:
    return op.DequantizeLinear(x, scale, zero, axis=axis, dtype=_FLOAT32)


def _q(op: Emitter, y: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    return op.QuantizeLinear(
        y, scale, zero, dtype=np.dtype(np.uint8) if zero is None else zero.dtype
    )


# --- QOperator: every input and the output carries its own scale and zero point ------------------------
def _conv(op: Emitter, node: gs.Node) -> Tensor:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.inputs[:8]
    terms = [_dq(op, x, x_scale, x_zero), _dq(op, w, w_scale, w_zero, axis=0)]
    if (bias := optional(node, 8)) is not None:
        terms.append(_dq(op, bias, op.Mul(x_scale, w_scale), None, axis=0))
    return _q(op, op.Conv(*terms, **attributes(node)), y_scale, y_zero)


def _matmul(op: Emitter, node: gs.Node) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    product = op.MatMul(_dq(op, a, a_scale, a_zero, axis=-2), _dq(op, b, b_scale, b_zero, axis=-1))
    return _q(op, product, y_scale, y_zero)


def _gemm(op: Emitter, node: gs.Node) -> Tensor:
    """Add the int32 bias before scaling, as onnxruntime does: alpha a_scale b_scale (A B + C)."""
    a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
    columns = 0 if node.attrs.get("transB", 0) else 1
    terms = [_dq(op, a, a_scale, a_zero), _dq(op, b, b_scale, b_zero, axis=columns)]
    if (bias := optional(node, 6)) is not None:
        alpha = op.constant(node.attrs.get("alpha", 1.0), np.float32)
        terms.append(_dq(op, bias, op.Mul(op.Mul(a_scale, b_scale), alpha), None, axis=-1))
    y = op.Gemm(*terms, **node.attrs)
    y_scale, y_zero = optional(node, 7), optional(node, 8)
    return y if y_scale is None or y_zero is None else _q(op, y, y_scale, y_zero)


def _binary(float_op: str) -> Rewrite:
    def rewrite(op: Emitter, node: gs.Node) -> Tensor:
        a, b = _dq(op, *node.inputs[:3]), _dq(op, *node.inputs[3:6])
        return _q(op, getattr(op, float_op)(a, b), *node.inputs[6:8])

    return rewrite


def _unary(float_op: str) -> Rewrite:
    def rewrite(op: Emitter, node: gs.Node) -> Tensor:
        y = getattr(op, float_op)(_dq(op, *node.inputs[:3]), **attributes(node))
        return _q(op, y, *node.inputs[3:5])

    return rewrite


def _softmax(op: Emitter, node: gs.Node) -> Tensor:
    """Before opset 13 Softmax flattened the axes from `axis` on into one."""
    x, modern = _dq(op, *node.inputs[:3]), node.attrs.get("opset", 13) >= 13
    axis = node.attrs.get("axis", -1 if modern else 1)
    if modern or axis == -1:
        y = op.Softmax(x, axis=axis)
    else:
        y = op.Reshape(op.Softmax(op.Flatten(x, axis=axis), axis=-1), op.Shape(x))
    return _q(op, y, *node.inputs[3:5])


def _concat(op: Emitter, node: gs.Node) -> Tensor:
    groups = range(2, len(node.inputs), 3)
    parts = [_dq(op, *node.inputs[i : i + 3]) for i in groups]
    return _q(op, op.Concat(*parts, axis=node.attrs["axis"]), *node.inputs[:2])


def _where(op: Emitter, node: gs.Node) -> Tensor:
    a, b = _dq(op, *node.inputs[1:4]), _dq(op, *node.inputs[4:7])
    return _q(op, op.Where(node.inputs[0], a, b), *node.inputs[7:9])


# --- integer arithmetic, scaled outside ----------------------------------------------------------------
def _unscaled(op: Emitter, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Return x - zero as float32: DequantizeLinear with a scale of one, per channel where zero is."""
    value = None if zero is None else _constant(zero)
    channels = value.shape if value is not None and value.size > 1 else ()
    return _dq(op, x, op.constant(np.ones(channels), np.float32), zero, axis)


def _constant(tensor: Tensor) -> Any:
    if isinstance(tensor, gs.Constant):
        return tensor.values
    producer = tensor.inputs[0] if tensor.inputs else None
    return (
        producer.attrs["value"].values
        if producer is not None and producer.op == "Constant"
        else None
    )


def _conv_integer(op: Emitter, node: gs.Node) -> Tensor:
    x, w = node.inputs[:2]
    a, b = _unscaled(op, x, optional(node, 2), 1), _unscaled(op, w, optional(node, 3), 0)
    return op.Conv(a, b, **node.attrs)


def _matmul_integer(op: Emitter, node: gs.Node) -> Tensor:
    a, b = node.inputs[:2]
    return op.MatMul(
        _unscaled(op, a, optional(node, 2), -2), _unscaled(op, b, optional(node, 3), -1)
    )


def _as_declared(op: Emitter, node: gs.Node, y: Tensor, kept: set[str]) -> Tensor:
    """Return y itself where only casts to float read it, else the int32 that was promised."""
    readers = node.outputs[0].outputs
    floats = all(r.op == "Cast" and r.attrs["to"] == TensorProto.FLOAT for r in readers)
    if floats and node.outputs[0].name not in kept:
        return y
    return op.Cast(y, to=int(TensorProto.INT32), dtype=np.dtype(np.int32))


def _dynamic(op: Emitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear to uint8 (ONNX operator text); all-zero input gets scale 1 (onnxruntime).

    What is quantised is divided by the scale here and multiplied by it later. The straight-through rule
    holds the first fixed, so the second is held too: else pixels at the range's ends get a false gradient.
    """
    zero, top = op.constant(0, np.float32), op.constant(255, np.float32)
    low = op.Min(op.ReduceMin(x, keepdims=0, dtype=_FLOAT32), zero)
    high = op.Max(op.ReduceMax(x, keepdims=0, dtype=_FLOAT32), zero)
    span = op.Sub(high, low)
    scale = op.Where(op.Equal(span, zero), op.constant(1.0, np.float32), op.Div(span, top))
    rounded = op.Round(op.Clip(op.Sub(zero, op.Div(low, scale)), zero, top))
    point = op.Cast(rounded, to=int(TensorProto.UINT8), dtype=np.dtype(np.uint8))
    held = _dq(op, op.constant(1, np.uint8), scale)  # the same number; no signal passes it
    return _q(op, x, held, point), held, point


def _dynamic_linear(op: Emitter, node: gs.Node) -> Written:
    return _dynamic(op, node.inputs[0])


def _dynamic_matmul(op: Emitter, node: gs.Node) -> Tensor:
    a, b, b_scale = node.inputs[:3]
    weight = _dq(op, b, b_scale, optional(node, 3), axis=-1)
    return _plus(op, op.MatMul(_dq(op, *_dynamic(op, a)), weight), optional(node, 4))


def _matmul_integer_to_float(op: Emitter, node: gs.Node) -> Tensor:
    a, b, a_scale, b_scale = node.inputs[:4]
    left = _dq(op, a, a_scale, optional(node, 4), axis=-2)
    right = _dq(op, b, b_scale, optional(node, 5), axis=-1)
    return _plus(op, op.MatMul(left, right), optional(node, 6))


def _plus(op: Emitter, y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else op.Add(y, bias)


# --- onnxruntime's own spelling of the two ----------------------------------------------------------------
def _quantize(op: Emitter, node: gs.Node) -> Tensor:
    zero = optional(node, 2)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    return op.QuantizeLinear(*node.inputs, dtype=dtype, **attributes(node))


def _dequantize(op: Emitter, node: gs.Node) -> Tensor:
    dtype = node.inputs[1].dtype
    return stored(op, node) or op.DequantizeLinear(*node.inputs, dtype=dtype, **attributes(node))


_INTEGER_RESULT = {"ConvInteger", "MatMulInteger"}
STANDARD: dict[str, Rewrite] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "DynamicQuantizeLinear": _dynamic_linear,
}
"""Operator -> what it means in float arithmetic (ONNX standard)."""

CONTRIB: dict[str, Rewrite] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearSoftmax": _softmax,
    "QLinearConcat": _concat,
    "QLinearWhere": _where,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    **FUSIONS,
}
"""Operator of domain com.microsoft -> the same (onnxruntime, docs/ContribOperators.md)."""
