"""Integer and fused operators in standard form: onnxruntime computes the numbers of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from onnx import TensorProto
from PIL import Image

from onnxplain.errors import UnsupportedOpError
from onnxplain.graph import shapes
from onnxplain.graph.canonical import import_graph
from onnxplain.graph.quantized import CONTRIB, STANDARD, to_qdq
from tests.nets import build

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
IMAGES = (2, 4, 5, 5)
ROWS = (3, 4)
LAST_BIT = 1e-6


def whole(*shape: int, kind: str = "int8") -> Array:
    """Return random integers over most of the range of their type."""
    low, high = {"int8": (-120, 120), "uint8": (5, 250), "int32": (-900, 900)}[kind]
    return RNG.integers(low, high, shape).astype(kind)


def steps(channels: int) -> Array:
    """Return one scale per channel."""
    return RNG.uniform(0.01, 0.03, channels).astype(np.float32)


# Scales and zero points that the rows below share: q is x on the first grid, results are on the second.
GRID = (
    "<float xs = { 0.021 }, uint8 xz = { 117 }, float ys = { 0.034 }, uint8 yz = { 98 }, "
    "float ws = { 0.013 }>"
)
QUANTUM = 0.034  # of the second grid
UNARY = "r = com.microsoft.{op}(q, xs, xz, ys, yz)"
BINARY = "p = QuantizeLinear(x, ws, yz) r = com.microsoft.{op}(q, xs, xz, p, ws, yz, ys, yz)"

# (operator, what is special) -> (input shape, body, weights, tolerance); the body ends in r on the second
# grid or, where it says so, in y itself. Tolerance 0: every bit.
CASES: dict[tuple[str, str], tuple[tuple[int, ...], str, dict[str, Array], float]] = {
    ("QLinearConv", "per channel, bias, strides"): (
        IMAGES,
        "r = QLinearConv<pads = [1, 1, 1, 1], strides = [2, 1]>(q, xs, xz, w, s, z, ys, yz, b)",
        {
            "w": whole(6, 4, 3, 3),
            "s": steps(6),
            "z": np.zeros(6, np.int8),
            "b": whole(6, kind="int32"),
        },
        0,
    ),
    ("QLinearConv", "per tensor, uint8 weights, groups"): (
        IMAGES,
        "r = QLinearConv<group = 2>(q, xs, xz, w, ws, xz, ys, yz)",
        {"w": whole(6, 2, 3, 3, kind="uint8")},
        0,
    ),
    ("QLinearMatMul", "per tensor"): (
        ROWS,
        "r = QLinearMatMul(q, xs, xz, w, ws, z, ys, yz)",
        {"w": whole(4, 6), "z": np.array(3, np.int8)},
        0,
    ),
    ("QLinearMatMul", "per column"): (
        ROWS,
        "r = QLinearMatMul(q, xs, xz, w, s, z, ys, yz)",
        {"w": whole(4, 6), "s": steps(6), "z": np.zeros(6, np.int8)},
        0,
    ),
    ("QGemm", "bias, transB, alpha, per row of B"): (
        ROWS,
        "r = com.microsoft.QGemm<transB = 1, alpha = 0.5>(q, xs, xz, w, s, z, b, ys, yz)",
        {"w": whole(6, 4), "s": steps(6), "z": np.zeros(6, np.int8), "b": whole(6, kind="int32")},
        0,
    ),
    ("QGemm", "float result"): (
        ROWS,
        "y = com.microsoft.QGemm(q, xs, xz, w, ws, z)",
        {"w": whole(4, 6), "z": np.array(3, np.int8)},
        LAST_BIT,
    ),
    **{
        (op, ""): (IMAGES, UNARY.format(op=op), {}, 0)
        for op in ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool")
    },
    ("QLinearAveragePool", "padding counted"): (
        IMAGES,
        "r = com.microsoft.QLinearAveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], "
        "count_include_pad = 1>(q, xs, xz, ys, yz)",
        {},
        0,
    ),
    **{(op, ""): (IMAGES, BINARY.format(op=op), {}, 0) for op in ("QLinearAdd", "QLinearMul")},
    ("QLinearConcat", ""): (
        IMAGES,
        "p = QuantizeLinear(x, ws, yz) "
        "r = com.microsoft.QLinearConcat<axis = 1>(ys, yz, q, xs, xz, p, ws, yz)",
        {},
        0,
    ),
    ("QLinearWhere", ""): (
        IMAGES,
        "p = QuantizeLinear(x, ws, yz) zero = Sub(x, x) c = Greater(x, zero) "
        "r = com.microsoft.QLinearWhere(c, q, xs, xz, p, ws, yz, ys, yz)",
        {},
        0,
    ),
    ("QLinearSoftmax", "last axis"): (
        ROWS,
        "r = com.microsoft.QLinearSoftmax<axis = -1, opset = 13>(q, xs, xz, fine, xz)",
        {"fine": np.array(1 / 256, np.float32)},
        0,
    ),
    ("QLinearSoftmax", "flattened, as before opset 13"): (
        IMAGES,
        "r = com.microsoft.QLinearSoftmax<axis = 2, opset = 12>(q, xs, xz, fine, yz)",
        {"fine": np.array(1 / 256, np.float32)},
        0,
    ),
    ("ConvInteger", "cast to float"): (
        IMAGES,
        "c = ConvInteger<pads = [1, 1, 1, 1]>(q, w, xz) f = Cast<to = 1>(c) y = Mul(f, ws)",
        {"w": whole(6, 4, 3, 3)},
        0,
    ),
    ("ConvInteger", "zero point of the weights, integer result"): (
        IMAGES,
        "y = ConvInteger(q, w, xz, z)",
        {"w": whole(6, 4, 3, 3, kind="uint8"), "z": np.array(100, np.uint8)},
        0,
    ),
    ("MatMulInteger", "zero point per column"): (
        ROWS,
        "c = MatMulInteger(q, w, xz, z) f = Cast<to = 1>(c) y = Mul(f, ws)",
        {"w": whole(4, 6, kind="uint8"), "z": whole(6, kind="uint8")},
        0,
    ),
    ("MatMulIntegerToFloat", ""): (
        ROWS,
        "y = com.microsoft.MatMulIntegerToFloat(q, w, xs, s, xz, z, b)",
        {"w": whole(4, 6), "s": steps(6), "z": np.zeros(6, np.int8), "b": steps(6)},
        LAST_BIT,
    ),
    ("DynamicQuantizeLinear", "two-sided"): (
        ROWS,
        "a, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(a, s, z)",
        {},
        0,
    ),
    ("DynamicQuantizeLinear", "positive"): (
        ROWS,
        "e = Exp(x) a, s, z = DynamicQuantizeLinear(e) y = DequantizeLinear(a, s, z)",
        {},
        0,
    ),
    ("DynamicQuantizeLinear", "all zero"): (
        ROWS,
        "o = Sub(x, x) a, s, z = DynamicQuantizeLinear(o) d = DequantizeLinear(a, s, z) y = Add(d, s)",
        {},
        0,
    ),
    **{
        (op, "of onnxruntime's domain"): (
            IMAGES,
            "a = com.microsoft.QuantizeLinear<axis = 1>(x, s, z) "
            "y = com.microsoft.DequantizeLinear<axis = 1>(a, s, z)",
            {"s": steps(4), "z": whole(4)},
            0,
        )
        for op in ("QuantizeLinear", "DequantizeLinear")
    },
    ("DynamicQuantizeMatMul", ""): (
        ROWS,
        "y = com.microsoft.DynamicQuantizeMatMul(x, w, s, z, b)",
        {"w": whole(4, 6), "s": steps(6), "z": np.zeros(6, np.int8), "b": steps(6)},
        LAST_BIT,
    ),
    ("FusedConv", "shortcut"): (
        IMAGES,
        'y = com.microsoft.FusedConv<activation = "Relu", pads = [1, 1, 1, 1]>(x, w, b, x)',
        {"w": RNG.normal(size=(4, 4, 3, 3)).astype(np.float32), "b": steps(4)},
        LAST_BIT,
    ),
    ("FusedConv", "LeakyRelu"): (
        IMAGES,
        'y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.3]>(x, w)',
        {"w": RNG.normal(size=(4, 4, 3, 3)).astype(np.float32)},
        LAST_BIT,
    ),
    ("FusedGemm", "LeakyRelu"): (
        ROWS,
        'y = com.microsoft.FusedGemm<activation = "LeakyRelu", activation_alpha = 0.2, transB = 1>'
        "(x, w, b)",
        {"w": RNG.normal(size=(6, 4)).astype(np.float32), "b": steps(6)},
        LAST_BIT,
    ),
    ("Gelu", ""): (ROWS, "y = com.microsoft.Gelu(x)", {}, LAST_BIT),
    ("BiasGelu", ""): (ROWS, "y = com.microsoft.BiasGelu(x, b)", {"b": steps(4)}, LAST_BIT),
    ("QuickGelu", ""): (ROWS, "y = com.microsoft.QuickGelu<alpha = 1.5>(x)", {}, LAST_BIT),
}
IDS = [" ".join(key).strip() for key in CASES]


def model(key: tuple[str, str]) -> onnx.ModelProto:
    shape, body, weights, _ = CASES[key]
    head = f"(float[{', '.join(map(str, shape))}] x) => (y) {GRID}"
    scale, zero = ("fine" if "fine" in weights else "ys"), ("xz" if "fine, xz" in body else "yz")
    tail = f"y = DequantizeLinear(r, {scale}, {zero})" if "r = " in body else ""
    proto = build(head, f"q = QuantizeLinear(x, xs, xz) {body} {tail}", **weights)
    proto.opset_import.add(domain="com.microsoft", version=1)
    return proto


def rewritten(proto: onnx.ModelProto) -> gs.Graph:
    graph = import_graph(proto)
    to_qdq(graph)
    shapes.resolve(graph, {x.name: ("N", *x.shape[1:]) for x in graph.inputs})
    return graph


def run(proto: onnx.ModelProto, x: Array, fuse: bool = True) -> Array:
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fuse else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    data = proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_every_rewrite_has_a_case() -> None:
    assert {op for op, _ in CASES} == set(STANDARD) | set(CONTRIB)


@pytest.mark.parametrize("key", CASES, ids=IDS)
def test_onnxruntime_gives_the_same_numbers(key: tuple[str, str]) -> None:
    proto, tolerance = model(key), CASES[key][3]
    x = np.random.default_rng(1).normal(size=CASES[key][0]).astype(np.float32)
    graph = rewritten(proto)
    assert all(n.domain in (None, "") and n.op not in STANDARD for n in graph.nodes)
    before, after = run(proto, x), run(gs.export_onnx(graph), x)
    assert before.dtype == after.dtype
    assert np.ptp(before) > 0 or "all zero" in key[1]
    np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance * np.abs(before).max())
    unfused = run(gs.export_onnx(graph), x, fuse=False)  # what the nodes say, not what they fuse to
    quantum = QUANTUM if "r = " in CASES[key][1] else LAST_BIT * np.abs(before).max()
    np.testing.assert_allclose(unfused, before, rtol=tolerance, atol=1.01 * quantum)


@pytest.mark.parametrize("key", CASES, ids=IDS)
def test_outputs_keep_their_names_and_weights_stay_integers(key: tuple[str, str]) -> None:
    proto = model(key)
    tensors = rewritten(proto).tensors()
    assert {y for n in proto.graph.node for y in n.output} <= set(tensors)
    for weight in proto.graph.initializer:
        if weight.name == "w" and weight.data_type != TensorProto.FLOAT:
            assert tensors["w"].values.dtype.itemsize == 1
            assert {n.op for n in tensors["w"].outputs} == {"DequantizeLinear"}


def test_the_maximum_of_integers_is_taken_in_float() -> None:
    proto = build(
        f"(float[2, 4, 6, 6] x) => (y) {GRID}",
        """q = QuantizeLinear(x, xs, xz) t = Transpose<perm = [0, 1, 3, 2]>(q)
        m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(t) y = DequantizeLinear(m, xs, xz)""",
    )
    graph = rewritten(proto)
    (pool,) = [n for n in graph.nodes if n.op == "MaxPool"]
    assert pool.inputs[0].dtype == np.float32
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(gs.export_onnx(graph), x), run(proto, x))


def test_channels_last_is_refused_by_name() -> None:
    proto = build(
        f"(float[2, 5, 5, 4] x) => (y) {GRID}",
        """q = QuantizeLinear(x, xs, xz) y = com.microsoft.QLinearGlobalAveragePool
        <channels_last = 1>(q, xs, xz, ys, yz)""",
    )
    proto.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(UnsupportedOpError, match=r"QLinearGlobalAveragePool.*channels-last"):
        rewritten(proto)


def test_unknown_operators_of_other_domains_stay() -> None:
    proto = build("(float[2, 4] x) => (y)", "y = com.microsoft.Inverse(x)")
    proto.opset_import.add(domain="com.microsoft", version=1)
    graph = import_graph(proto)
    to_qdq(graph)
    assert [n.op for n in graph.nodes] == ["Inverse"]


def test_real_int8_squeezenet_keeps_every_bit(shared: Path) -> None:
    proto = onnx.load(shared / "data/models/imagenet/squeezenet1_1_ortq_qoperator.onnx")
    files = sorted((shared / "data/images/imagenet_sample").iterdir())[:3]
    pixels = np.stack([np.asarray(Image.open(f).convert("RGB").resize((224, 224))) for f in files])
    x = ((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2)
    after = run(gs.export_onnx(rewritten(proto)), x.astype(np.float32))
    before = run(proto, x.astype(np.float32))
    assert np.unique(before).size > 50
    np.testing.assert_array_equal(after, before)


def test_real_integer_mnist_keeps_every_bit(shared: Path) -> None:
    proto = onnx.load(shared / "data/models/mnist/mnist_cntk_int8_convinteger.onnx")
    digits = np.load(shared / "data/images/mnist_test_1000.npz")["images"][:10] / np.float32(255)
    graph = import_graph(proto)
    to_qdq(graph)
    shapes.resolve(graph, {"Input3": (1, 1, 28, 28)})
    assert not {"ConvInteger", "MatMulInteger"} & {n.op for n in graph.nodes}
    changed = gs.export_onnx(graph)
    for digit in digits:
        np.testing.assert_array_equal(
            run(changed, digit[None, None]), run(proto, digit[None, None])
        )
