"""Element-wise functions and Softmax."""

from typing import Any

import numpy as np

from tests.backward.harness import Case

_ERF = 5e-2
"""onnx's reference computes Erf in float32, so differences are coarse; test_onnx_backend is sharp."""


def _unary(call: str, low: float = -3.0, high: float = 3.0, name: str = "", **more: Any) -> Case:
    return Case(name or call, f"y = {call}(x)", {"x": (2, 5)}, (2, 5), low=low, high=high, **more)


def _clip(name: str, inputs: str, **bounds: float) -> Case:
    arrays = {k: np.array(v, np.float32) for k, v in bounds.items()}
    return Case(name, f"y = Clip(x{inputs})", {"x": (2, 5)}, (2, 5), initializers=arrays)


_SLOPE = np.array([[[0.25]], [[-0.5]]], np.float32)

CASES = [
    *map(_unary, ("Relu", "Selu", "Sigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Mish")),
    *map(_unary, ("Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Exp", "Abs", "Neg")),
    *(_unary(op, 0.2, 3.0) for op in ("Log", "Sqrt", "Reciprocal")),
    *(_unary(op, -0.9, 0.9) for op in ("Asin", "Acos", "Atanh")),
    _unary("Tan", -1.2, 1.2),
    _unary("Acosh", 1.1, 3.0),
    _unary("HardSwish", -5.0, 5.0, name="HardSwish, both flat ends"),
    _unary("HardSigmoid", -4.0, 4.0),
    _unary("HardSigmoid<alpha = 0.5, beta = 0.3>"),
    _unary("Selu<alpha = 1.5, gamma = 0.8>"),
    _unary("LeakyRelu"),
    _unary("LeakyRelu<alpha = 0.3>"),
    _unary("LeakyRelu<alpha = -0.3>"),
    _unary("Elu"),
    _unary("Elu<alpha = 0.5>"),
    _unary("Celu"),
    _unary("Celu<alpha = 2.0>"),
    _unary("ThresholdedRelu"),
    _unary("ThresholdedRelu<alpha = -0.5>"),
    _unary("Shrink<bias = 0.5, lambd = 1.0>"),
    _unary("Shrink"),
    _unary("Erf", tolerance=_ERF),
    _unary("Gelu", opset=20, tolerance=_ERF),
    _unary('Gelu<approximate = "tanh">', opset=20),
    _unary("Swish", opset=24),
    _unary("Swish<alpha = 1.7>", opset=24),
    _clip("Clip, both bounds", ", low, high", low=-0.4, high=0.5),
    _clip("Clip, low only", ", low", low=-0.4),
    _clip("Clip, high only", ", , high", high=0.3),
    Case("Clip, no bounds", "y = Clip(x)", {"x": (3,)}, (3,)),
    Case("PRelu, one slope", "y = PRelu(x, s)", {"x": (2, 3)}, (2, 3),
         initializers={"s": np.array([0.1], np.float32)}),
    Case("PRelu, per channel", "y = PRelu(x, s)", {"x": (2, 3, 2)}, (2, 3, 2),
         initializers={"s": _SLOPE}),
    Case("SiLU", "s = Sigmoid(x) y = Mul(x, s)", {"x": (2, 3)}, (2, 3)),
    Case("signed root", "a = Abs(x) r = Sqrt(a) s = Sign(x) y = Mul(s, r)", {"x": (2, 3)}, (2, 3)),
    *(
        Case(f"{op}<axis = {axis}>", f"y = {op}<axis = {axis}>(x)", {"x": (3, 4)}, (3, 4), high=3.0)
        for op in ("Softmax", "LogSoftmax")
        for axis in (-1, 1)
    ),
    Case("Softmax, default axis", "y = Softmax(x)", {"x": (2, 5)}, (2, 5)),
]  # fmt: skip
