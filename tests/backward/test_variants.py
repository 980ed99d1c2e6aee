"""DeepLIFT's rescale multipliers and guided backpropagation: axioms on every op, formulas by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants import GUIDED, RESCALE
from onnxplain.backward.variants.rescale import LINEAR
from onnxplain.errors import UnsupportedOpError
from onnxplain.program import Linearized, Program
from tests.backward.cases import CASES
from tests.backward.harness import Case, check_several_seeds, make_program

Arrays = dict[str, np.ndarray]

NO_RULE = {
    "Mod": "the jumps belong to no input",
    "ReduceProd": "a product of many factors",
    "ReduceLogSum": "rare",
    "TopK": "what is chosen may change",
    "GatherElements": "its indices are computed",
    "ScatterElements": "its indices are computed",
    "MaxUnpool": "what it undoes may choose otherwise",
    "LpNormalization": "its norm is zero at a zero reference",
}
SOMETIMES_REFUSED = {
    "Pow", "Where", "Einsum", "LpPool", "GlobalLpPool", "GridSample", "ReverseSequence",
}  # fmt: skip


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _head(name: str, body: str, x: tuple[int, ...], **weights: np.ndarray) -> Case:
    return Case(name, body, {"x": x}, (2,), low=0.0, high=2.0, initializers=weights, opset=20)


_CLASSES = "f = Flatten(p) y = Gemm<transB = 1>(f, w, b)"
_POOLED = f"p = GlobalAveragePool(h) {_CLASSES}"
_LAST = {"w": _weights(2, 3), "b": _weights(2)}
_CONV = {"k": _weights(3, 3, 3, 3), "kb": _weights(3)}
_NORM = {"s": _weights(3), "t": _weights(3), "m": _weights(3), "v": _weights(3) ** 2}
_MLP = "f = Flatten(p) a = Gemm(f, w1, b1) r = Relu(a) y = Gemm<transB = 1>(r, w, b)"

HEADS = [
    _head("GAP and Linear", "p = GlobalAveragePool(x) " + _CLASSES, (3, 4, 4), **_LAST),
    _head("MaxPool and MLP", "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) " + _MLP,
          (3, 4, 4), w1=_weights(12, 3), b1=_weights(3), **_LAST),
    _head("overlapping MaxPool and MLP",
          "p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x) " + _MLP,
          (3, 5, 5), w1=_weights(27, 3), b1=_weights(3), **_LAST),
    _head("BN, ReLU and GAP",
          "n = BatchNormalization(x, s, t, m, v) h = Relu(n) " + _POOLED, (3, 4, 4), **_NORM, **_LAST),
    _head("residual block",
          "c = Conv<pads = [1, 1, 1, 1]>(x, k, kb) r = Relu(c) a = Add(r, x) h = Relu(a) " + _POOLED,
          (3, 4, 4), **_CONV, **_LAST),
    _head("GELU", "c = Conv(x, k, kb) h = Gelu(c) " + _POOLED, (3, 4, 4), **_CONV, **_LAST),
    _head("squeeze and excitation, HardSwish",
          """c = Conv(x, k, kb) g = GlobalAveragePool(c) e = Conv(g, k1) s = HardSigmoid(e)
             m = Mul(c, s) h = HardSwish(m) """ + _POOLED,
          (3, 4, 4), k1=_weights(3, 3, 1, 1), **_CONV, **_LAST),
    _head("LayerNorm", """t0 = Transpose<perm = [0, 2, 1]>(x) n = LayerNormalization(t0, s, t)
          h = Transpose<perm = [0, 2, 1]>(n) """ + _POOLED, (3, 5), s=_NORM["s"], t=_NORM["t"], **_LAST),
    _head("Softmax attention",
          """q = MatMul(x, w1) k = Transpose<perm = [0, 2, 1]>(x) l = MatMul(q, k) a = Softmax(l)
             h = MatMul(a, x) """ + _POOLED, (3, 4), w1=_weights(4, 4), **_LAST),
]  # fmt: skip


def run(program: Program, x: Arrays, x0: Arrays) -> Linearized:
    program.set_reference(x0)
    return program.forward(x)


def check_completeness(case: Case, x0: Arrays, program: Program) -> None:
    """Assert sum of m (x - x0) = <seed, f(x) - f(x0)> for every image, and seeds apart from images."""
    rng = np.random.default_rng(3)
    images = 1 if case.pinned else 2
    x = case.draw(rng, images)
    linearized = run(program, x, x0)
    seed = rng.normal(size=linearized["y"].shape).astype(np.float32)
    rise = seed * (linearized["y"] - program.tail(x0)["y"])
    found = linearized.backward({"y": seed})
    total = sum((found[k] * (x[k] - x0[k])).reshape(images, -1).sum(1) for k in found)
    rise = rise.reshape(images, -1)
    scale = np.abs(rise).sum(1).max()
    np.testing.assert_allclose(total, rise.sum(1), rtol=1e-4, atol=1e-4 * scale)
    fused = program.fused(x, {"y": seed})
    for name, value in found.items():
        np.testing.assert_allclose(fused[f"gradient({name})"], value, rtol=1e-4, atol=1e-5)
    if not case.pinned:
        check_several_seeds(program, x, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rescale_is_complete_for_every_op_or_refused(case: Case) -> None:
    try:
        program = make_program(case, RESCALE)
    except UnsupportedOpError as error:
        assert error.op in SOMETIMES_REFUSED | set(NO_RULE)
        return
    check_completeness(case, case.draw(np.random.default_rng(8), 1), program)


@pytest.mark.parametrize("reference", ["zero", "drawn"])
@pytest.mark.parametrize("case", HEADS, ids=str)
def test_rescale_is_complete_for_heads(case: Case, reference: str) -> None:
    x0 = case.draw(np.random.default_rng(8), 1)
    if reference == "zero":
        x0 = {k: np.zeros_like(v) for k, v in x0.items()}
    check_completeness(case, x0, make_program(case, RESCALE))


def test_every_gradient_rule_has_a_multiplier_or_a_reason() -> None:
    assert set(LINEAR) <= set(VJP)
    assert {op for op in VJP if op not in RESCALE} == set(NO_RULE)


def test_a_node_without_rescale_rule_is_refused_by_name() -> None:
    case = Case("", "y, i = TopK(x, k)", {"x": (4,)}, (2,), initializers={"k": np.array([2])})
    with pytest.raises(UnsupportedOpError, match="TopK"):
        make_program(case, RESCALE)


# --- multipliers by hand -----------------------------------------------------------------------------
def multipliers(case: Case, x: dict[str, Any], x0: Arrays | None = None) -> Arrays:
    """Return the multipliers of one image for a seed of ones; without x0 the reference is zero."""
    program = make_program(case, RESCALE)
    batch = {k: np.asarray(v, np.float32)[None] for k, v in x.items()}
    linearized = run(program, batch, x0 or {k: np.zeros_like(v) for k, v in batch.items()})
    ones = np.ones_like(linearized["y"])
    return {k: v[0] for k, v in linearized.backward({"y": ones}).items()}


@pytest.mark.parametrize(
    ("weights", "bias", "expected"),
    [((2.0, -1.0), 0.0, (2.0, -1.0)), ((2.0, 2.0), -1.0, (1.5, 1.5))],
    ids=["E1", "E2"],
)
def test_worked_examples(weights: tuple, bias: float, expected: tuple) -> None:
    """ReLU(2a - b) and ReLU(2a + 2b - 1) at (1, 1), reference 0."""
    arrays = {"w": np.array([weights], np.float32), "b": np.array([bias], np.float32)}
    case = Case(
        "", "z = Gemm<transB = 1>(x, w, b) y = Relu(z)", {"x": (2,)}, (1,), initializers=arrays
    )
    np.testing.assert_allclose(multipliers(case, {"x": [1, 1]})["x"], expected, rtol=1e-6)


def test_hidden_layer_takes_the_secant_of_each_unit(rng: np.random.Generator) -> None:
    w1, b1, w2 = rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=(5, 1))
    arrays = {k: v.astype(np.float32) for k, v in {"w1": w1, "b1": b1, "w2": w2}.items()}
    case = Case("", "h = Gemm(x, w1, b1) a = Tanh(h) y = Gemm(a, w2)", {"x": (4,)}, (1,),
                initializers=arrays)  # fmt: skip
    x = rng.normal(size=4)
    h, h0 = x @ w1 + b1, b1
    expected = w1 @ ((np.tanh(h) - np.tanh(h0)) / (h - h0) * w2[:, 0])
    np.testing.assert_allclose(multipliers(case, {"x": x})["x"], expected, rtol=1e-4)


def test_product_takes_the_other_factor_halfway() -> None:
    case = Case("", "y = Mul(a, b)", {"a": (1,), "b": (1,)}, (1,))
    x0 = {"a": np.array([[1.0]], np.float32), "b": np.array([[2.0]], np.float32)}
    found = multipliers(case, {"a": [3.0], "b": [8.0]}, x0)
    assert (found["a"].item(), found["b"].item()) == (5.0, 2.0)


def test_overlapping_windows_add_what_they_send_to_one_pixel() -> None:
    """Windows (1, 5), (5, 2) both choose the 5; the reference (4, 0, 3) chose the 4 and the 3."""
    case = Case("", "y = MaxPool<kernel_shape = [2]>(x)", {"x": (1, 3)}, (1, 2))
    x0 = {"x": np.array([[[4.0, 0.0, 3.0]]], np.float32)}
    found = multipliers(case, {"x": [[1.0, 5.0, 2.0]]}, x0)
    np.testing.assert_allclose(found["x"], [[0.0, (1 + 2) / 5, 0.0]], atol=1e-6)


def test_a_falling_maximum_charges_the_pixel_that_held_it() -> None:
    case = Case("", "y = MaxPool<kernel_shape = [2]>(x)", {"x": (1, 2)}, (1, 1))
    x0 = {"x": np.array([[[4.0, 0.0]]], np.float32)}
    found = multipliers(case, {"x": [[1.0, 3.0]]}, x0)
    np.testing.assert_allclose(found["x"], [[(3 - 4) / (1 - 4), 0.0]], atol=1e-6)


@pytest.mark.parametrize("op", ["Gelu", "Softplus", "Sqrt", "HardSwish", "Relu"])
def test_an_input_at_its_reference_takes_the_derivative(op: str) -> None:
    case = Case("", f"y = {op}(x)", {"x": (3,)}, (3,), opset=20)
    x = {"x": np.array([[0.5, 1.5, 4.0]], np.float32)}
    found = run(make_program(case, RESCALE), x, x).backward({"y": np.ones((1, 3), np.float32)})
    plain = make_program(case).forward(x).backward({"y": np.ones((1, 3), np.float32)})
    np.testing.assert_allclose(found["x"], plain["x"], rtol=1e-6)


def test_softmax_survives_large_logits_and_masks() -> None:
    mask = np.array([0, 0, 0, -np.inf], np.float32)
    case = Case("", "z = Add(x, m) s = Softmax(z) y = Mul(s, x)", {"x": (4,)}, (4,),
                initializers={"m": mask})  # fmt: skip
    x = np.array([300.0, -200.0, 299.0, 50.0])
    found = multipliers(case, {"x": x})["x"]
    share = np.exp(-1) / (1 + np.exp(-1))
    assert np.isfinite(found).all()
    np.testing.assert_allclose((found * x).sum(), 300 * (1 - share) + 299 * share, rtol=1e-4)


def test_saturation_takes_its_secant() -> None:
    """A clipped uint8 is a ReLU: from -1 to 2 the clipped value rises by 2 over 3."""
    arrays = {"s": np.array(0.01, np.float32), "z": np.array(0, np.uint8)}
    case = Case("", "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", {"x": (2,)}, (2,),
                initializers=arrays)  # fmt: skip
    x0 = {"x": np.array([[-1.0, 1.0]], np.float32)}
    found = multipliers(case, {"x": [2.0, 1.5]}, x0)
    np.testing.assert_allclose(found["x"], [2 / 3, 1.0], rtol=1e-5)


# --- guided backpropagation --------------------------------------------------------------------------
def signal(case: Case, x: np.ndarray, seed: np.ndarray, rules: RuleTable) -> np.ndarray:
    linearized = make_program(case, rules).forward({"x": x.astype(np.float32)})
    return linearized.backward({"y": seed.astype(np.float32)})["x"]


def test_guided_passes_positive_signals_through_positive_units(rng: np.random.Generator) -> None:
    w1, w2 = rng.normal(size=(6, 8)), rng.normal(size=(8, 3))
    arrays = {"w1": w1.astype(np.float32), "w2": w2.astype(np.float32)}
    case = Case("", "h = MatMul(x, w1) a = Relu(h) z = MatMul(a, w2) y = Relu(z)", {"x": (6,)}, (3,),
                initializers=arrays)  # fmt: skip
    x, seed = rng.normal(size=(4, 6)), rng.normal(size=(4, 3))
    h = x @ w1
    z = np.maximum(h, 0) @ w2
    at_z = np.where((z > 0) & (seed > 0), seed, 0) @ w2.T
    expected = np.where((h > 0) & (at_z > 0), at_z, 0) @ w1.T
    np.testing.assert_allclose(signal(case, x, seed, GUIDED), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("Clip(x, zero, six)", [0, 0, 2, 0, 0]),
        ("LeakyRelu(x)", [0, 0, 2, 0, 3]),
        ("Elu(x)", [0, 0, 2, 0, 3]),
        ("PRelu(x, slope)", [0, 0, 2, 0, 3]),
        ("ThresholdedRelu<alpha = 1.5>(x)", [0, 0, 2, 0, 3]),
    ],
)
def test_guided_treats_relatives_of_relu_alike(call: str, expected: list[int]) -> None:
    arrays = {"zero": np.float32(0), "six": np.float32(6), "slope": np.array([0.1], np.float32)}
    used = {k: np.asarray(v) for k, v in arrays.items() if k in call}
    case = Case("", f"y = {call}", {"x": (5,)}, (5,), initializers=used)
    x, seed = np.array([[-1, -1, 2, 2, 8]]), np.array([[1, -1, 2, -2, 3]])
    np.testing.assert_array_equal(signal(case, x, seed, GUIDED), [expected])


@pytest.mark.parametrize("body", ["y = Clip(x, low)", "y = Gelu(x)", "y = Conv(x, k)"])
def test_guided_keeps_the_gradient_of_everything_else(body: str, rng: np.random.Generator) -> None:
    arrays = {"low": np.array(-1, np.float32), "k": _weights(1, 1, 2)}
    used = {k: v for k, v in arrays.items() if f" {k})" in body}
    size = 3 if "Conv" in body else 4
    case = Case("", body, {"x": (1, 4)}, (1, size), initializers=used, opset=20)
    x, seed = rng.normal(size=(2, 1, 4)), rng.normal(size=(2, 1, size))
    np.testing.assert_array_equal(signal(case, x, seed, GUIDED), signal(case, x, seed, VJP))
