"""Canonical form: one spelling per construct, and the forward's numbers unchanged."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxplain.errors import ModelError, UnsupportedOpError
from onnxplain.executor import Executor
from onnxplain.graph.canonical import canonicalize, import_graph
from onnxplain.graph.export import export
from onnxplain.model import load

RNG = np.random.default_rng(3)


def parsed(text: str, opset: int = 18, **weights: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def check_same(model: onnx.ModelProto, shape: tuple[int, ...], images: int = 1) -> list[str]:
    """Assert that the canonical graph gives the original's numbers; return its op types."""
    name = model.graph.input[0].name
    graph, why = canonicalize(import_graph(model), {name: ("N", *shape)})
    assert why is None, why
    executor = Executor("cpu", threads=1)
    x = RNG.normal(size=(images, *shape)).astype(np.float32)
    before = executor.session(model.SerializeToString()).run({name: x})
    part = export(graph, graph.nodes, graph.inputs, graph.outputs)
    after = executor.session(part).run({name: x})
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, rtol=1e-5, atol=1e-6)
    return [node.op for node in graph.nodes]


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(8, 1), (7, 2), (9, 3)])
def test_auto_pad_becomes_pads(mode: str, size: int, stride: int) -> None:
    model = parsed(
        f"""g (float[N, 2, {size}, {size}] x) => (float[N, 3, a, b] y) {{
        c = Conv <auto_pad = "{mode}", strides = [{stride}, {stride}]> (x, w)
        y = MaxPool <auto_pad = "{mode}", kernel_shape = [2, 2]> (c) }}""",
        w=weights(3, 2, 4, 4) if size > 7 else weights(3, 2, 3, 3),
    )
    check_same(model, (2, size, size), images=2)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize("size", [9, 10, 11])
def test_output_shape_becomes_pads(mode: str, size: int) -> None:
    model = parsed(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 3, a, b] y) {{
        y = ConvTranspose <auto_pad = "{mode}", strides = [2, 2], output_shape = [{size}, {size}]>
            (x, w) }}""",
        w=weights(2, 3, 4, 4),
    )
    check_same(model, (2, 5, 5), images=2)


AROUND = "n = Constant <value_ints = [0, 0, 1, 0, 0, 0, 2, 1]> ()"
PADS = {  # what comes before y = Conv(p, w) -> whether the Conv does the padding
    "zeros": (f"{AROUND} p = Pad (x, n)", True),
    "zeros, said": (f"{AROUND} v = Constant <value_float = 0.0> () p = Pad (x, n, v)", True),
    "read elsewhere, too": ("n = Constant <value_ints = [0, 0, 1, 1, 0, 0, 1, 1]> () p = Pad (x, n) "
                            "q = MaxPool <kernel_shape = [3, 3]> (p)", True),
    "ones": (f"{AROUND} v = Constant <value_float = 1.0> () p = Pad (x, n, v)", False),
    "reflected": (AROUND + ' p = Pad <mode = "reflect"> (x, n)', False),
    "cut": ("n = Constant <value_ints = [0, 0, -1, 0, 0, 0, 2, 1]> () p = Pad (x, n)", False),
    "channels": ("n = Constant <value_ints = [0, 1, 0, 0, 0, -1, 0, 0]> () p = Pad (x, n)", False),
    "along named axes": ("n = Constant <value_ints = [1, 2]> () a = Constant <value_ints = [3]> () "
                         "p = Pad (x, n, , a)", False),
}  # fmt: skip


@pytest.mark.parametrize(("before", "taken"), PADS.values(), ids=PADS)
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER"])
def test_a_conv_takes_over_the_zeros_around_its_input(
    before: str, taken: bool, auto_pad: str
) -> None:
    also = ", float[N, 2, f, h] q" if " q = " in before else ""
    model = parsed(
        f"""g (float[N, 2, 6, 6] x) => (float[N, 3, a, b] y{also}) {{ {before}
        y = Conv <strides = [2, 2], auto_pad = "{auto_pad}"> (p, w) }}""",
        w=weights(3, 2, 3, 3),
    )
    ops = check_same(model, (2, 6, 6), images=2)
    assert ("Pad" in ops) == (not taken or bool(also))


@pytest.mark.parametrize(
    ("amounts", "value", "pool", "taken"),
    [
        ("0, 0, 0, 0, 0, 0, 1, 1", "-inf", "", True),
        ("0, 0, 1, 0, 0, 0, 2, 1", "-3.4028235e38", "", True),
        ("0, 0, 1, 1, 0, 0, 1, 1", "-inf", ", pads = [1, 1, 1, 1]", True),
        ("0, 0, 1, 1, 0, 0, 1, 1", "-1e30", "", False),
        ("0, 0, 1, 1, 0, 0, 1, 1", "0.0", "", False),
        ("0, 0, 3, 0, 0, 0, 0, 0", "-inf", "", False),
        ("0, 0, 0, 0, 0, 0, 1, 1", "-inf", ", ceil_mode = 1", False),
    ],
)
def test_a_max_pool_takes_over_what_can_be_no_maximum(
    amounts: str, value: str, pool: str, taken: bool
) -> None:
    model = parsed(
        f"""g (float[N, 2, 7, 7] x) => (float[N, 2, a, b] y) {{
        n = Constant <value_ints = [{amounts}]> () p = Pad (x, n, v)
        y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]{pool}> (p) }}""",
        v=np.array(float(value), np.float32),
    )
    assert ("Pad" in check_same(model, (2, 7, 7), images=2)) == (not taken)


def test_shape_arithmetic_is_folded_and_the_image_count_stays_free() -> None:
    model = parsed(
        """g (float[N, 2, 4, 4] x) => (float[N, 32] y) {
        s = Shape (x)  zero = Constant <value = int64[1] {0}> ()
        n = Gather <axis = 0> (s, zero)  rest = Constant <value = int64[1] {-1}> ()
        t = Concat <axis = 0> (n, rest)  y = Reshape (x, t) }"""
    )
    assert check_same(model, (2, 4, 4), images=5) == ["Reshape"]


def test_identity_dropout_and_empty_casts_are_removed() -> None:
    model = parsed(
        """g (float[N, 3] x) => (float[N, 3] y) {
        a = Identity (x)  b = Dropout (a)  c = Cast <to = 1> (b)  y = Relu (c) }"""
    )
    assert check_same(model, (3,)) == ["Relu"]


def test_an_output_that_is_an_identity_keeps_its_name() -> None:
    model = parsed("g (float[N, 3] x) => (float[N, 3] y) { r = Relu (x)  y = Identity (r) }")
    assert check_same(model, (3,)) == ["Relu", "Identity"]


def test_batch_normalization_with_computed_statistics_is_written_out() -> None:
    """The way tf2onnx writes a Keras LayerNormalization."""
    model = parsed(
        """g (float[N, 3, 4] x) => (float[3, N, 4] y) {
        t = Transpose <perm = [1, 0, 2]> (x)
        axes = Constant <value = int64[2] {0, 2}> ()
        m = ReduceMean <keepdims = 0> (t, axes)
        v = ReduceSumSquare <keepdims = 0> (t, axes)
        nil = Sub (m, m)  one = Exp (nil)
        y = BatchNormalization (t, one, nil, m, v) }"""
    )
    assert "BatchNormalization" not in check_same(model, (3, 4), images=2)


def test_training_mode_is_refused() -> None:
    model = parsed(
        """g (float[N, 3, 4] x) => (float[N, 3, 4] y) {
        y, m, v = BatchNormalization <training_mode = 1> (x, one, one, one, one) }""",
        one=np.ones(3, np.float32),
    )
    with pytest.raises(UnsupportedOpError, match="training mode"):
        canonicalize(import_graph(model), {"x": ("N", 3, 4)})


def test_old_opsets_are_lifted() -> None:
    model = parsed(
        """g (float[N, 2, 4, 4] x) => (float[N, 2, 8, 8] y) {
        c = Clip <min = -0.5, max = 0.5> (x)
        p = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (c)
        s = Slice <axes = [2, 3], starts = [1, 1], ends = [5, 5]> (p)
        f = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
        y = Upsample <mode = "nearest"> (s, f) }""",
        opset=9,
    )
    assert "Upsample" not in check_same(model, (2, 4, 4))


def test_softmax_before_opset_13_flattens_from_its_axis_on() -> None:
    model = parsed("g (float[N, 2, 3] x) => (float[N, 2, 3] y) { y = Softmax <axis = 1> (x) }", 11)
    check_same(model, (2, 3))


def test_an_if_with_a_constant_condition_is_inlined() -> None:
    model = parsed(
        """g (float[N, 3] x) => (float[N, 3] y) {
        c = Constant <value = bool[1] {1}> ()
        y = If (c) <
            then_branch = t () => (float[N, 3] p) { p = Relu (x) },
            else_branch = e () => (float[N, 3] q) { q = Neg (x) }
        > }"""
    )
    assert "If" not in check_same(model, (3,))


def test_contradicting_shapes_are_one_error() -> None:
    model = parsed("g (float[N, 3] x) => (float[N, 4] y) { y = Add (x, w) }", w=weights(5))
    with pytest.raises(ModelError):
        load(model).predict(weights(1, 3))


def test_a_hostile_constant_of_shape_is_not_allocated() -> None:
    model = parsed(
        """g (float[N, 1] x) => (float[N, 1] y) {
        s = Constant <value = int64[3] {100000, 100000, 100}> ()
        big = ConstantOfShape (s)  z = ReduceSum <keepdims = 0> (big)  y = Add (x, z) }"""
    )
    graph, _ = canonicalize(import_graph(model), {"x": ("N", 1)})
    assert "ConstantOfShape" in [n.op for n in graph.nodes]
