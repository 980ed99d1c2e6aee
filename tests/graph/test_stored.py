"""Weights in types that NumPy does not have: written out with the numbers that the file says."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxplain.graph.canonical import canonicalize, import_graph

SHAPE = (8, 6)


def _int4(rng: np.random.Generator, *shape: int, kind: int = TensorProto.INT4) -> np.ndarray:
    low = -8 if kind == TensorProto.INT4 else 0
    levels = rng.integers(low, low + 16, shape)
    return levels.astype(helper.tensor_dtype_to_np_dtype(kind))


def _model(rng: np.random.Generator, form: str) -> onnx.ModelProto:
    """Return y = x + w, w stored as `form` says."""
    bfloat16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    steps = rng.uniform(0.1, 0.4, (8, 6)).astype(np.float32)
    forms = {
        "bfloat16": ([steps.astype(bfloat16)], "Cast", {"to": TensorProto.FLOAT}),
        "per tensor": ([_int4(rng, *SHAPE), steps[0, 0]], "DequantizeLinear", {}),
        "per axis": ([_int4(rng, *SHAPE), steps[0], _int4(rng, 6)], "DequantizeLinear", {"axis": -1}),
        "unsigned": ([_int4(rng, *SHAPE, kind=TensorProto.UINT4), steps[:, 0],
                      _int4(rng, 8, kind=TensorProto.UINT4)], "DequantizeLinear", {"axis": 0}),
        "blocks": ([_int4(rng, *SHAPE), steps[:2], _int4(rng, 2, 6)], "DequantizeLinear",
                   {"axis": 0, "block_size": 4}),
        "int8 in blocks": ([rng.integers(-99, 99, SHAPE).astype(np.int8), steps[:, :2]],
                           "DequantizeLinear", {"axis": 1, "block_size": 3}),
    }  # fmt: skip
    arrays, op, attributes = forms[form]
    names = [f"c{i}" for i in range(len(arrays))]
    nodes = [
        helper.make_node(op, names, ["w"], **attributes),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *SHAPE]) for n in "xy"]
    stored = [numpy_helper.from_array(np.asarray(a), n) for a, n in zip(arrays, names, strict=True)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    "form", ["bfloat16", "per tensor", "per axis", "unsigned", "blocks", "int8 in blocks"]
)
def test_weights_are_the_floats_of_the_reference(form: str, rng: np.random.Generator) -> None:
    model = _model(rng, form)
    x = np.zeros((1, *SHAPE), np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0][0]
    graph, why = canonicalize(import_graph(model), {"x": ("N", *SHAPE)})
    assert why is None
    (node,) = graph.nodes
    weights = [t.values for t in node.inputs if isinstance(t, gs.Constant)]
    assert node.op == "Add" and weights[0].dtype == np.float32
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(weights[0], expected)


def test_int8_weights_stay_integers(rng: np.random.Generator) -> None:
    """onnxruntime has kernels for them."""
    model = _model(rng, "per tensor")
    levels = rng.integers(-99, 99, SHAPE).astype(np.int8)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(levels, "c0"))
    graph, _ = canonicalize(import_graph(model), {"x": ("N", *SHAPE)})
    assert [n.op for n in graph.nodes] == ["DequantizeLinear", "Add"]
