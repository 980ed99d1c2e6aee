"""The gradient in onnxruntime's blocked layout: the numbers of the plain one, and of finite differences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from onnxplain.backward import VJP
from onnxplain.backward.variants.blocked import BLOCKED
from onnxplain.executor import Executor
from onnxplain.graph.canonical import canonicalize, import_graph
from onnxplain.program import Program
from tests import nets
from tests.backward.harness import PLAIN, Case, check_gradient, make_program

MAPS = (16, 4, 4)
SIXTEEN = {
    "k": np.random.default_rng(1).normal(size=(16, 16, 3, 3)).astype(np.float32) / 5,
    "d3": np.random.default_rng(2).normal(size=(16, 1, 3, 3)).astype(np.float32),
    "d5": np.random.default_rng(3).normal(size=(16, 1, 5, 4)).astype(np.float32),
    "s": np.random.default_rng(4).normal(size=(16, 16, 1, 1)).astype(np.float32),
    "w": np.random.default_rng(5).normal(size=(16, 3)).astype(np.float32),
    "wide": np.random.default_rng(6).normal(size=(64, 3)).astype(np.float32),
    "six": np.float32(6),
    "half": np.float32(0.5),
    "four": np.array([1, 1, 4, 3], np.float32),
    "less": np.float32(-0.3),
}


def _case(
    name: str, body: str, shape: tuple[int, ...] = MAPS, scale: float = 1, **more: int
) -> Case:
    used = {k: v for k, v in SIXTEEN.items() if f" {k}" in body.replace(",", " ").replace("(", " ")}
    return Case(name, body, {"x": shape}, None, low=-scale, high=scale, initializers=used, **more)


CASES = [
    _case("Relu", "c = Conv<pads = [1, 1, 1, 1]>(x, k) y = Relu(c)"),
    _case("Clip", "y = Clip(x, less, half)"),
    _case("Clip from above alone", "y = Clip(x,, half)"),
    _case("Clip at 0 and 6", "zero = Constant<value_float = 0.0>() y = Clip(x, zero, six)", scale=9),
    _case("Sigmoid", "y = Sigmoid(x)"),
    _case("SiLU", "g = Sigmoid(x) y = Mul(x, g)", scale=4),
    _case("SiLU, the other way round", "g = Sigmoid(x) y = Mul(g, x)", scale=4),
    _case("SiLU whose gate is read elsewhere", "g = Sigmoid(x) m = Mul(g, x) y = Add(g, m)", scale=4),
    _case("LeakyRelu", "y = LeakyRelu<alpha = 0.1>(x)"),
    _case("LeakyRelu that rises to both sides", "y = LeakyRelu<alpha = -0.5>(x)"),
    _case("HardSigmoid", "y = HardSigmoid<alpha = 0.3, beta = 0.4>(x)", scale=3),
    _case("HardSwish", "y = HardSwish(x)", scale=5),
    _case("x times a HardSigmoid of it", "g = HardSigmoid<alpha = 0.4, beta = 0.3>(x) y = Mul(g, x)",
          scale=3),
    _case("HardSwish whose gate is read elsewhere",
          "g = HardSigmoid(x) m = Mul(g, x) y = Add(g, m)", scale=4),
    _case("squeeze and excite", "p = GlobalAveragePool(x) c = Conv(p, s) g = Sigmoid(c) y = Mul(g, x)"),
    _case("both factors repeated", "p = GlobalAveragePool(x) q = Sigmoid(p) y = Mul(p, q)"),
    _case("global mean", "p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w)"),
    _case("means side by side", "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)"),
    _case("means that overlap", "y = AveragePool<kernel_shape = [2, 2], strides = [1, 1]>(x)"),
    _case("maxima side by side", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"),
    _case("maxima that leave a row", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)", (16, 5, 4)),
    _case("maxima that overlap",
          "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)"),
    _case("maxima that overlap, dense",
          "y = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)"),
    _case("maxima of dilated windows, padded",
          "y = MaxPool<kernel_shape = [3, 3], strides = [2, 1], dilations = [2, 1], pads = [2, 1, 1, 2]>(x)"),
    _case("a pixel repeated", "p = GlobalAveragePool(x) c = Conv(p, s) "
          "y = Resize<mode = \"nearest\">(c, , four)"),
    _case("maxima behind a Relu",
          "r = Relu(x) y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r)"),
    _case("maxima behind a Relu, padded at one side",
          "r = Relu(x) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 0, 0, 0]>(r)",
          (16, 5, 4)),
    _case("maxima behind a Relu, beyond the end",
          "r = Relu(x) y = MaxPool<kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1>(r)",
          (16, 6, 5)),
    _case("maxima beyond the end",
          "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)", (16, 5, 5)),
    _case("maxima of uneven windows that overlap",
          "y = MaxPool<kernel_shape = [2, 3], strides = [1, 2]>(x)", (16, 4, 7)),
    _case("maxima of dilated windows",
          "y = MaxPool<kernel_shape = [2, 2], dilations = [2, 3]>(x)", (16, 5, 6)),
    _case("maxima of many", "y = MaxPool<kernel_shape = [4, 3]>(x)", (16, 5, 4)),
    _case("a Relu that is read beside its maxima",
          "r = Relu(x) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) "
          "a = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(r) y = Add(m, a)"),
    _case("dense, strided", "y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, k)"),
    _case("pointwise, strided", "y = Conv<strides = [2, 2]>(x, s)", (16, 5, 4)),
    _case("depthwise, strided",
          "y = Conv<strides = [2, 2], pads = [1, 1, 1, 1], group = 16>(x, d3)"),
    _case("depthwise, strided, odd sizes",
          "y = Conv<strides = [2, 2], pads = [1, 1, 1, 1], group = 16>(x, d3)", (16, 5, 3)),
    _case("depthwise, uneven strides and pads",
          "y = Conv<strides = [2, 3], pads = [0, 1, 3, 2], group = 16>(x, d5)", (16, 4, 5)),
    _case("depthwise, windows that leave rows",
          "y = Conv<strides = [3, 3], group = 16>(x, d3)", (16, 5, 4)),
    _case("depthwise, more pads than kernel",
          "y = Conv<strides = [2, 2], pads = [3, 3, 1, 1], group = 16>(x, d3)"),
]  # fmt: skip
SAME = {"means that overlap", "LeakyRelu that rises to both sides"}
"""Cases that the plain rules serve."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_equals_finite_differences(case: Case) -> None:
    check_gradient(case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_written_otherwise(case: Case) -> None:
    plain, blocked = _ops(make_program(case, PLAIN)), _ops(make_program(case))
    assert (plain == blocked) == (case.name in SAME)


def test_every_rule_has_a_case() -> None:
    served = {n.op_type for c in CASES if c.name not in SAME for n in c.model().graph.node}
    alike = {"Reshape", "Squeeze", "Unsqueeze"}  # one rule with Flatten
    steps = {"QuantizeLinear", "DequantizeLinear"}  # below: a step function has no differences
    assert not set(BLOCKED) - served - alike - steps


def _ops(program: Program) -> Counter[str]:
    """Count what the fused graph consists of."""
    model = onnx.load_from_string(program._each.fused().model)
    return Counter(n.op_type for n in model.graph.node)


SHARED = "c = Conv<pads = [1, 1, 1, 1]>(x, k) r = Relu(c) d = Clip(r, less, half) y = Sigmoid(d)"


def test_four_passes_share_what_brings_three_masks_into_blocks() -> None:
    """Relu has one mask; Clip has two and Sigmoid two factors, whose product the forward hands on."""
    program = make_program(_case("masks", SHARED))
    one, four = (onnx.load_from_string(program.pair.backward(n).model) for n in (1, 4))
    for model in (one, four):
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, True, True))
        assert {entry.domain for entry in model.opset_import} == {""}
    (ones, fours) = (Counter(n.op_type for n in model.graph.node) for model in (one, four))
    assert ones["Conv"] == 3 + 1 and ones["Mul"] == 3 and not ones["HardSigmoid"]
    assert fours["Conv"] == 3 + 4 and fours["Mul"] == 4 * 3 and not fours["HardSigmoid"]
    assert [i.name for i in four.graph.input] == [i.name for i in one.graph.input]


def test_nine_seeds_of_an_image_take_two_runs_of_four_and_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = _case("masks", SHARED)
    linearized = make_program(case).forward(case.draw(np.random.default_rng(1), 1))
    with nets.counted_runs(monkeypatch) as rows:
        linearized.backward({"y": np.ones((9, *MAPS), np.float32)})
    assert rows == [4, 4, 1]


def test_long_passes_are_not_written_four_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor those of small maps, or down to a layer, where they are."""
    case = _case("masks", SHARED)
    program = make_program(case)
    assert program.pair.each and program.pair.steps == 5
    assert program.pair.entering == 3 * 16 * 4 * 4
    with monkeypatch.context() as patch:
        patch.setattr("onnxplain.program.FEW_ELEMENTS", 3 * 16 * 4 * 4 + 1)
        assert not make_program(case).pair.each
    graph, _ = canonicalize(import_graph(case.model()), {"x": ("N", *MAPS)})
    assert not Program(graph, ["y"], ["r"], VJP, Executor("cpu")).pair.each
    monkeypatch.setattr("onnxplain.program.MANY_STEPS", 19)
    assert not make_program(case).pair.each


def test_a_gate_that_is_asked_for_keeps_its_signal() -> None:
    case = _case("SiLU", "g = Sigmoid(x) y = Mul(x, g)")
    graph, _ = canonicalize(import_graph(case.model()), {"x": ("N", *MAPS)})
    program, plain = (
        Program(graph, ["y"], ["x", "g"], rules, Executor("cpu", threads=1))
        for rules in (VJP, PLAIN)
    )
    x, seed = (case.draw(np.random.default_rng(i), 2)["x"] for i in (1, 2))
    found = program.fused({"x": x}, {"y": seed})
    np.testing.assert_allclose(found["gradient(g)"], seed * x, rtol=1e-6)
    plain = plain.forward({"x": x}).backward({"y": seed})["x"]
    np.testing.assert_allclose(found["gradient(x)"], plain, rtol=1e-5, atol=1e-6)


def _both(body: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient at x by the plain rules and by these."""
    return _gradients(_case("at x", body, x.shape[1:]), x)


def _gradients(case: Case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, of which the blocked is the same in one graph, in two, and among other seeds."""
    linearized = make_program(case, PLAIN).forward({"x": x})
    seed = np.random.default_rng(8).normal(size=linearized["y"].shape).astype(np.float32)
    plain = linearized.backward({"y": seed})["x"]
    program = make_program(case)
    blocked = program.fused({"x": x}, {"y": seed})["gradient(x)"]
    in_two = program.forward({"x": x}).backward({"y": seed})["x"]
    np.testing.assert_array_equal(in_two, blocked)
    seeds = np.concatenate([np.zeros((4, *seed.shape[1:]), np.float32), seed[:1]])
    for order in ([4, 0, 1, 2, 3], [0, 1, 4, 2], [3, 2, 1, 0, 4]):
        among = program.forward({"x": x[:1]}).backward({"y": seeds[order]})["x"]
        np.testing.assert_array_equal(among[order.index(4)], blocked[0])
    return plain, blocked


@pytest.mark.parametrize("at", [0.0, 6.0])
def test_bounds_are_outside_and_their_neighbours_inside(at: float) -> None:
    body = "zero = Constant<value_float = 0.0>() y = Clip(x, zero, six)"
    bound = np.float32(at)
    near = [np.nextafter(bound, np.float32(v)) for v in (-9, 9)]
    normal = np.float32(np.finfo(np.float32).tiny)
    values = [bound, *near, np.float32(1e-30), normal, np.float32(3e38), -normal]
    values = [v for v in values if v == 0 or abs(v) >= normal]  # denormals are on the slope
    x = np.resize(np.array(values, np.float32), (1, *MAPS))
    plain, blocked = _both(body, x)
    np.testing.assert_array_equal(blocked, plain)
    assert (plain == 0).any() and (plain != 0).any()


POOLS = {
    "side by side": "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
    "overlapping": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)",
    "dense": "y = MaxPool<kernel_shape = [3, 3]>(x)",
    "dense, padded": "y = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)",
    "dense, of a row": "y = MaxPool<kernel_shape = [1, 5], pads = [0, 2, 0, 2]>(x)",
    "dense, dilated": "y = MaxPool<kernel_shape = [3, 2], dilations = [2, 3], pads = [1, 0, 2, 1]>(x)",
    "padded": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)",
    "dense, behind a Relu, padded":
        "r = Relu(x) y = MaxPool<kernel_shape = [5, 3], pads = [2, 1, 2, 1]>(r)",
    "dense, as large as can be told": "y = MaxPool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(x)",
    "dense, larger": "y = MaxPool<kernel_shape = [6, 5], pads = [2, 2, 3, 2]>(x)",
    "strides of three": "y = MaxPool<kernel_shape = [4, 2], strides = [3, 1], pads = [2, 0, 1, 1]>(x)",
    "a row of every other": "y = MaxPool<kernel_shape = [1, 3], strides = [2, 2]>(x)",
    "dilated": "y = MaxPool<kernel_shape = [2, 2], strides = [2, 1], dilations = [3, 2]>(x)",
    "behind a Relu": "r = Relu(x) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)",
    "behind a Relu, padded":
        "r = Relu(x) y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r)",
}  # fmt: skip


@pytest.mark.parametrize("body", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("scale", [1, 1e-30, 1e22])
def test_of_equal_maxima_the_first_gets_the_signal(body: str, scale: float) -> None:
    x = np.random.default_rng(3).integers(-2, 3, (3, 32, 6, 6)).astype(np.float32)
    x[:, 0] = -1  # what a Relu leaves nothing of
    plain, blocked = _both(body, x * np.float32(scale))
    np.testing.assert_allclose(blocked, plain, rtol=1e-6, atol=1e-6)
    assert (plain != 0).any()


@pytest.mark.parametrize("body", POOLS.values(), ids=POOLS)
def test_maxima_that_differ_by_the_last_bit(body: str) -> None:
    steps = np.random.default_rng(3).integers(0, 4, (3, 32, 6, 6))
    for start in (1.0, 0.3, 1e-25, 3e22):
        near = [np.float32(start)]
        while len(near) < 4:
            near.append(np.nextafter(near[-1], np.float32(np.inf)))
        plain, blocked = _both(body, np.array(near)[steps])
        np.testing.assert_allclose(blocked, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("low", [-np.inf, np.finfo(np.float32).min, -1e31])
def test_maxima_beside_what_is_out_of_reach(low: float, strides: int) -> None:
    """As a Pad that SAME pooling is exported with, and masks, leave it."""
    pool = f"MaxPool<kernel_shape = [3, 3], strides = [{strides}, {strides}]"
    x = np.random.default_rng(3).normal(size=(2, 16, 6, 6)).astype(np.float32)
    value = f"low = Constant<value_float = {np.format_float_scientific(low) if low > -np.inf else '-inf'}>()"
    for body in (
        f"a = Identity(x) {value} amounts = Constant<value_ints = [0, 0, 0, 0, 0, 0, 1, 1]>() "
        f"p = Pad(a, amounts, low) y = {pool}>(p)",
        f"{value} zero = Constant<value_float = 0.0>() m = Less(x, zero) h = Where(m, low, x) "
        f"y = {pool}, pads = [1, 1, 1, 1]>(h)",
    ):
        plain, blocked = _both(body, x)
        np.testing.assert_allclose(blocked, plain, rtol=1e-6, atol=1e-6)
        assert (plain != 0).any()


def test_dense_maxima_of_any_size() -> None:
    """With strides, whole numbers of 2**100 must be told from the maxima."""
    x = np.random.default_rng(3).normal(size=(2, 16, 6, 6)).astype(np.float32)
    body = "big = Constant<value_float = 1e31>() h = Mul(x, big) y = " + POOLS["dense, padded"][4:]
    plain, blocked = _both(body.replace("(x)", "(h)"), x)
    np.testing.assert_allclose(blocked, plain, rtol=1e-5, atol=1e25)


@pytest.mark.parametrize("body", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_inside(body: str, value: float) -> None:
    """A position that is none would be refused, with words about indices."""
    x = np.random.default_rng(3).normal(size=(2, 16, 6, 6)).astype(np.float32)
    x[0, 3, 2, 2] = value
    program = make_program(_case("at x", body, x.shape[1:]))
    seed = np.ones((2, *program.seed_sizes["y"]), np.float32)
    found = program.fused({"x": x}, {"y": seed})["gradient(x)"]
    _, expected = _both(body, x[1:])
    np.testing.assert_array_equal(found[1:] != 0, expected != 0)


def test_a_relu_that_is_asked_for_has_its_own_signal() -> None:
    """Where signals start or are read at a Relu's output, they are not masked for it."""
    body = "r = Relu(x) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)"
    case = _case("asked", body)
    graph, _ = canonicalize(import_graph(case.model()), {"x": ("N", *MAPS)})
    x = np.random.default_rng(1).normal(size=(2, *MAPS)).astype(np.float32) - 1
    ones = {"y": np.ones((2, 16, 2, 2), np.float32), "r": np.ones((2, *MAPS), np.float32)}
    for outputs, wrt in ((["y"], ["x", "r"]), (["y", "r"], ["x"])):
        seeds = {name: ones[name] for name in outputs}
        found, plain = (
            Program(graph, outputs, wrt, rules, Executor("cpu", threads=1)).fused({"x": x}, seeds)
            for rules in (VJP, PLAIN)
        )
        for name in wrt:
            np.testing.assert_allclose(found[f"gradient({name})"], plain[f"gradient({name})"])
            assert found[f"gradient({name})"].any()
    everywhere = found["gradient(x)"][x > 0]
    assert (everywhere >= 1).all(), "the seed at r reaches what the maxima leave out"


QDQ = "q = QuantizeLinear(x, {scale}, {zero}) y = DequantizeLinear(q, {scale}, {zero})"


def _quantising(scale: float, zero: np.ndarray, body: str = QDQ) -> Case:
    """Return the case of what is quantised and back."""
    constants = {"s": np.float32(scale), "z": zero}
    text = body.format(scale="s", zero="z")
    return Case("QDQ", text, {"x": MAPS}, None, opset=21, initializers=constants)


def _is_in_blocks(case: Case) -> bool:
    """Whether the masks of quantisers are steps that stay in blocks."""
    return _ops(make_program(case))["HardSigmoid"] > 0


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.023517316, 1.7e-5])
@pytest.mark.parametrize(
    "zero", [np.uint8(0), np.uint8(121), np.int8(-128), np.int8(3), np.int16(-7)]
)
def test_quantisation_passes_between_the_same_two_floats(scale: float, zero: np.ndarray) -> None:
    limits = np.iinfo(zero.dtype)
    ends = np.array([limits.min - 0.5, limits.max + 0.5]) - int(zero)
    values = [np.float32(end * np.float32(scale)) for end in ends]
    for _ in range(9):  # floats around both ends, one after the other
        values += [
            np.nextafter(values[-2], np.float32(-9e9)),
            np.nextafter(values[-1], np.float32(9e9)),
        ]
        values = [
            np.nextafter(values[0], np.float32(9e9)),
            np.nextafter(values[1], np.float32(-9e9)),
            *values,
        ]
    x = np.resize(np.array(values, np.float32), (1, *MAPS))
    case = _quantising(scale, zero)
    assert _is_in_blocks(case)
    plain, blocked = _gradients(case, x)
    np.testing.assert_allclose(blocked, plain, rtol=1e-6)  # g times and divided by the scale
    np.testing.assert_array_equal(blocked == 0, plain == 0)
    assert (plain == 0).any() and (plain != 0).any()


@pytest.mark.parametrize("scale", [-0.1, 1e-40, 1e30])
def test_scales_of_no_use(scale: float) -> None:
    """What no tool writes, a damaged file may hold: no search for its ends that goes on for ever."""
    x = np.random.default_rng(4).normal(size=(2, *MAPS)).astype(np.float32)
    case = _quantising(scale, np.int8(3))
    assert not _is_in_blocks(case)
    plain, blocked = _gradients(case, x)
    np.testing.assert_array_equal(blocked, plain)


READERS = {  # of a quantised tensor -> whether the scales cancel
    "an op between": (
        "m = Transpose<perm = [0, 1, 3, 2]>(q) y = DequantizeLinear(m, {scale}, {zero})", False,
    ),
    "another scale behind": (
        "two = Constant<value_float = 0.2>() y = DequantizeLinear(q, two, {zero})", False,
    ),
    "two of its own scale": (
        "a = DequantizeLinear(q, {scale}, {zero}) b = DequantizeLinear(q, {scale}, {zero}) y = Add(a, b)",
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("readers", "cancels"), READERS.values(), ids=READERS)
def test_who_reads_a_quantised_tensor(readers: str, cancels: bool) -> None:
    x = np.random.default_rng(4).normal(size=(2, *MAPS)).astype(np.float32) * 20
    case = _quantising(0.1, np.int8(3), "q = QuantizeLinear(x, {scale}, {zero}) " + readers)
    assert _is_in_blocks(case) == cancels
    plain, blocked = _gradients(case, x)
    np.testing.assert_allclose(blocked, plain, rtol=1e-6)
    assert (plain == 0).any() and (plain != 0).any()
