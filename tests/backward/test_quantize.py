"""Rules that are no derivatives, against torch's fake quantisation and closed formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxplain.backward.rules  # noqa: F401  (registers the rules)
from onnxplain.backward import VJP
from onnxplain.errors import UnsupportedOpError
from onnxplain.executor import Executor
from onnxplain.graph.canonical import canonicalize, import_graph
from onnxplain.program import Program
from tests.backward.harness import Case, make_program

_QDQ = "q = QuantizeLinear{at}(x, s, z) y = DequantizeLinear{at}(q, s, z)"


def _gradient(case: Case, x: np.ndarray, seed: np.ndarray) -> np.ndarray:
    linearized = make_program(case).forward({"x": x})
    return linearized.backward({"y": seed})["x"]


def _torch_gradient(quantized: torch.Tensor, x: torch.Tensor, seed: np.ndarray) -> np.ndarray:
    quantized.backward(torch.from_numpy(seed))
    assert x.grad is not None
    return x.grad.numpy()


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of which a good part saturates, and a seed."""
    x = rng.uniform(-4, 4, size=shape).astype(np.float32)
    return x, rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("zero", "low", "high"), [(0, -128, 127), (-20, -128, 127), (100, 0, 255)])
def test_per_tensor_equals_torch(zero: int, low: int, high: int, rng: np.random.Generator) -> None:
    kind = np.int8 if low < 0 else np.uint8
    arrays = {"s": np.array(0.02, np.float32), "z": np.array(zero, kind)}
    case = Case("", _QDQ.format(at=""), {"x": (3, 40)}, (3, 40), initializers=arrays)
    x, seed = _draw(rng, (2, 3, 40))
    leaf = torch.tensor(x, requires_grad=True)
    fake = torch.fake_quantize_per_tensor_affine(leaf, 0.02, zero, low, high)
    expected = _torch_gradient(fake, leaf, seed)
    assert 0 < (expected == 0).mean() < 1, "nothing saturated, or everything"
    np.testing.assert_allclose(_gradient(case, x, seed), expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_per_channel_equals_torch(axis: int, rng: np.random.Generator) -> None:
    scales = np.array([0.01, 0.02, 0.05], np.float32)
    zeros = np.array([0, 10, -7], np.int8)
    arrays = {"s": scales, "z": zeros}
    body = _QDQ.format(at=f"<axis = {axis}>")
    case = Case("", body, {"x": (3, 3)}, (3, 3), initializers=arrays)
    x, seed = _draw(rng, (20, 3, 3))
    leaf = torch.tensor(x, requires_grad=True)
    fake = torch.fake_quantize_per_channel_affine(
        leaf, torch.tensor(scales), torch.tensor(zeros.astype(np.int32)), axis % 3, -128, 127
    )
    np.testing.assert_allclose(
        _gradient(case, x, seed), _torch_gradient(fake, leaf, seed), rtol=1e-6
    )


def test_the_ends_of_the_range_pass_and_what_is_clipped_does_not() -> None:
    arrays = {"s": np.array(0.5, np.float32), "z": np.array(0, np.int8)}
    case = Case("", _QDQ.format(at=""), {"x": (6,)}, (6,), initializers=arrays)
    x = np.array([[-64.0, -64.2, -64.3, 63.5, 63.7, 63.8]], np.float32)
    found = _gradient(case, x, np.ones((1, 6), np.float32))
    np.testing.assert_array_equal(found, [[1, 1, 0, 1, 1, 0]])


def test_four_bits(rng: np.random.Generator) -> None:
    x, seed = _draw(rng, (2, 10))
    body = "z = Cast<to = 22>(i) " + _QDQ.format(at="")
    arrays = {"s": np.array(0.5, np.float32), "i": np.array(0, np.int8)}
    case = Case("", body, {"x": (10,)}, (10,), initializers=arrays, opset=21)
    inside = (np.round(x / 0.5) >= -8) & (np.round(x / 0.5) <= 7)
    np.testing.assert_allclose(_gradient(case, x, seed), seed * inside, rtol=1e-6)


def test_dynamic_quantisation_holds_its_scale_fixed(rng: np.random.Generator) -> None:
    """The scale spans the whole batch, so the canonical form keeps the number of images at one."""
    body = "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)"
    case = Case("", body, {"x": (10,)}, (10,))
    graph, why = canonicalize(import_graph(case.model()), {"x": ("N", 10)})
    assert why is not None
    x, seed = _draw(rng, (1, 10))
    linearized = Program(graph, ["y"], ["x"], VJP, Executor("cpu")).forward({"x": x})
    np.testing.assert_allclose(linearized.backward({"y": seed})["x"], seed, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "slope", "note"),
    [
        ("y = Floor(x)", 1, "Floor: straight-through"),
        ("y = Ceil(x)", 1, "Ceil: straight-through"),
        ("y = Round(x)", 1, "Round: straight-through"),
        ("y = Sign(x)", 0, "Sign: its derivative is zero almost everywhere, so nothing flows"),
        ("i = Cast<to = 6>(x) y = Cast<to = 1>(i)", 1, "Cast: straight-through"),
    ],
)
def test_surrogates_say_so(body: str, slope: int, note: str, rng: np.random.Generator) -> None:
    case = Case("", body, {"x": (5,)}, (5,))
    x, seed = _draw(rng, (2, 5))
    np.testing.assert_array_equal(_gradient(case, x, seed), slope * seed)
    assert any(n.startswith(note) for n in make_program(case).notes)


def test_a_cast_between_floats_is_exact(rng: np.random.Generator) -> None:
    case = Case("", "h = Cast<to = 10>(x) y = Cast<to = 1>(h)", {"x": (5,)}, (5,))
    x, seed = _draw(rng, (2, 5))
    np.testing.assert_array_equal(_gradient(case, x, seed), seed)
    assert make_program(case).notes == ()


def test_notes_name_quantisation_and_exact_rules_none() -> None:
    arrays = {"s": np.array(0.02, np.float32), "z": np.array(0, np.int8)}
    case = Case("", _QDQ.format(at=""), {"x": (3,)}, (3,), initializers=arrays)
    assert set(make_program(case).notes) == {
        "QuantizeLinear: straight-through, zero where saturated",
        "DequantizeLinear: straight-through",
    }
    assert make_program(Case("", "y = Relu(x)", {"x": (3,)}, (3,))).notes == ()
    assert all(not VJP.find(op).exact for op in ("QuantizeLinear", "DequantizeLinear", "Sign"))


@pytest.mark.parametrize(
    ("body", "arrays"),
    [
        ("q = QuantizeLinear<block_size = 2>(x, s) y = DequantizeLinear<block_size = 2>(q, s)",
         {"s": np.full((1, 2), 0.1, np.float32)}),
        ("z = Cast<to = 17>(f) q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
         {"s": np.array(0.1, np.float32), "f": np.array(0, np.float32)}),
    ],
    ids=["blocks", "float8"],
)  # fmt: skip
def test_other_quantisation_is_refused(body: str, arrays: dict[str, np.ndarray]) -> None:
    case = Case("", body, {"x": (4,)}, (4,), initializers=arrays, opset=21)
    with pytest.raises(UnsupportedOpError, match=r"Linear \(node .*not implemented"):
        make_program(case)


def test_dynamic_scale_outside_integer_arithmetic_is_held_fixed_too(
    rng: np.random.Generator,
) -> None:
    """Through the scale, the pixels at the ends of the range would get a gradient of their own."""
    w = rng.integers(-9, 9, (10, 3)).astype(np.int8)
    body = """q, s, z = DynamicQuantizeLinear(x) c = MatMulInteger(q, w, z) f = Cast<to = 1>(c)
              y = Mul(f, s)"""
    case = Case("", body, {"x": (10,)}, (3,), initializers={"w": w})
    graph, _ = canonicalize(import_graph(case.model()), {"x": ("N", 10)})
    x, seed = _draw(rng, (1, 10))[0], rng.normal(size=(1, 3)).astype(np.float32)
    linearized = Program(graph, ["y"], ["x"], VJP, Executor("cpu")).forward({"x": x})
    found = linearized.backward({"y": seed})["x"]
    np.testing.assert_allclose(found, seed @ w.T, rtol=1e-5)
