"""Element-wise functions and Softmax.

Smooth functions are rows of `DERIVATIVES`, piecewise linear ones rows of `PIECES`. Masks are read
off the output where its sign tells as much: the runtime can then still fuse the function into the
Conv before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.shape import plain_axis
from onnxplain.backward.table import VJP

Slope = float | int

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # the standard's


# --- piecewise linear: a mask and the slope on either side of it ----------------------------------
def _positive(c: Context) -> Tensor:
    return c.op.Greater(c.y[0], 0)


def _inside_clip(c: Context) -> Tensor:
    """Strictly inside, as the derivative of ReLU at 0 is 0; an omitted bound does not clip."""
    y, bounds = c.y[0], c.x[1:]
    tests = [
        compare(y, bound)
        for compare, bound in zip((c.op.Greater, c.op.Less), bounds, strict=False)
        if bound is not None
    ]
    if not tests:
        return c.op.Equal(y, y)
    return tests[0] if len(tests) == 1 else c.op.And(*tests)


def _leaky_relu(c: Context) -> tuple[Tensor, Slope, Slope]:
    alpha = c.attr("alpha", 0.01)
    return c.op.Greater(c.y[0] if alpha >= 0 else c.x[0], 0), 1, alpha


def _hard_sigmoid(c: Context) -> tuple[Tensor, Slope, Slope]:
    inside = c.op.And(c.op.Greater(c.y[0], 0), c.op.Less(c.y[0], 1))
    return inside, c.attr("alpha", 0.2), 0


PIECES: dict[str, Callable[[Context], tuple[Tensor, Slope, Slope]]] = {
    "Relu": lambda c: (_positive(c), 1, 0),
    "LeakyRelu": _leaky_relu,
    "ThresholdedRelu": lambda c: (c.op.Greater(c.x[0], c.attr("alpha", 1.0)), 1, 0),
    "Clip": lambda c: (_inside_clip(c), 1, 0),
    "HardSigmoid": _hard_sigmoid,
    "Shrink": lambda c: (c.op.Greater(c.op.Abs(c.x[0]), c.attr("lambd", 0.5)), 1, 0),
}
"""Op -> (mask, slope where it holds, slope elsewhere)."""


@VJP.on(*PIECES)
def piecewise(c: Context, g: Tensor) -> Tensor:
    """Scale the signal by one slope or the other; at a kink by the left or flat side's."""
    mask, here, elsewhere = PIECES[c.type](c)
    return c.op.Where(mask, _scaled(c, g, here), _scaled(c, g, elsewhere))


def _scaled(c: Context, g: Tensor, slope: Slope) -> Tensor | int:
    if slope == 0:
        return 0
    return g if slope == 1 else c.op.Mul(g, slope)


@VJP.on("PRelu")
def prelu(c: Context, g: Tensor) -> Tensor:
    """Pass where x > 0, else scale by the slope; the slope is a constant of the network."""
    x, slope = c.x
    return c.op.Where(c.op.Greater(x, 0), g, c.op.Mul(g, slope))


# --- smooth ---------------------------------------------------------------------------------------
def _celu(c: Context) -> Tensor:
    alpha = c.attr("alpha", 1.0)
    return c.op.Where(_positive(c), 1, c.op.Add(c.op.Div(c.y[0], alpha), 1))


def _elu(c: Context) -> Tensor:
    return c.op.Where(c.op.Greater(c.x[0], 0), 1, c.op.Add(c.y[0], c.attr("alpha", 1.0)))


def _selu(c: Context) -> Tensor:
    alpha, gamma = c.attr("alpha", _SELU_ALPHA), c.attr("gamma", _SELU_GAMMA)
    return c.op.Where(c.op.Greater(c.x[0], 0), gamma, c.op.Add(c.y[0], alpha * gamma))


def _hard_swish(c: Context) -> Tensor:
    """Differentiate x clip(x / 6 + 1/2, 0, 1): x / 3 + 1/2 between -3 and 3, 0 or 1 outside."""
    x, op = c.x[0], c.op
    return op.Where(op.Less(op.Abs(x), 3), op.Add(op.Div(x, 3), 0.5), op.Relu(op.Sign(x)))


def _gelu(c: Context) -> Tensor:
    """Return Phi(x) + x phi(x), or the tanh form's slope (Hendrycks and Gimpel 2016)."""
    x, op = c.x[0], c.op
    square = op.Mul(x, x)
    if c.attr("approximate", "none") == "none":
        cumulative = op.Mul(op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1), 0.5)
        density = op.Mul(op.Exp(op.Mul(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        return op.Add(cumulative, op.Mul(x, density))
    k = math.sqrt(2 / math.pi)
    t = op.Tanh(op.Mul(op.Mul(x, k), op.Add(op.Mul(square, 0.044715), 1)))
    inner = op.Mul(op.Add(op.Mul(square, 3 * 0.044715), 1), k)
    slope = op.Mul(op.Mul(x, inner), op.Sub(1, op.Mul(t, t)))
    return op.Mul(op.Add(op.Add(t, 1), slope), 0.5)


def _mish(c: Context) -> Tensor:
    """Differentiate x tanh(softplus x) (Misra 2019)."""
    x, op = c.x[0], c.op
    t = op.Tanh(op.Softplus(x))
    return op.Add(t, op.Mul(op.Mul(x, op.Sub(1, op.Mul(t, t))), op.Sigmoid(x)))


def _swish(c: Context) -> Tensor:
    """Differentiate x sigmoid(alpha x)."""
    x, op, alpha = c.x[0], c.op, c.attr("alpha", 1.0)
    s = op.Sigmoid(op.Mul(x, alpha))
    return op.Add(s, op.Mul(op.Mul(c.y[0], op.Sub(1, s)), alpha))


def _softsign(c: Context) -> Tensor:
    rest = c.op.Sub(1, c.op.Abs(c.y[0]))
    return c.op.Mul(rest, rest)


def _one_minus_square(c: Context, x: Tensor) -> Tensor:
    return c.op.Sub(1, c.op.Mul(x, x))


def _inverse_root(c: Context, radicand: Tensor) -> Tensor:
    return c.op.Reciprocal(c.op.Sqrt(radicand))


DERIVATIVES: dict[str, Callable[[Context], Tensor]] = {
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "HardSwish": _hard_swish,
    "Gelu": _gelu,
    "Mish": _mish,
    "Swish": _swish,
    "Sigmoid": lambda c: c.op.Mul(c.y[0], c.op.Sub(1, c.y[0])),
    "Tanh": lambda c: _one_minus_square(c, c.y[0]),
    "Softplus": lambda c: c.op.Sigmoid(c.x[0]),
    "Softsign": _softsign,
    "Erf": lambda c: c.op.Mul(c.op.Exp(c.op.Neg(c.op.Mul(c.x[0], c.x[0]))), 2 / math.sqrt(math.pi)),
    "Exp": lambda c: c.y[0],
    "Log": lambda c: c.op.Reciprocal(c.x[0]),
    "Sqrt": lambda c: c.op.Div(0.5, c.y[0]),
    "Reciprocal": lambda c: c.op.Neg(c.op.Mul(c.y[0], c.y[0])),
    "Abs": lambda c: c.op.Sign(c.x[0]),
    "Sin": lambda c: c.op.Cos(c.x[0]),
    "Cos": lambda c: c.op.Neg(c.op.Sin(c.x[0])),
    "Tan": lambda c: c.op.Add(c.op.Mul(c.y[0], c.y[0]), 1),
    "Asin": lambda c: _inverse_root(c, _one_minus_square(c, c.x[0])),
    "Acos": lambda c: c.op.Neg(_inverse_root(c, _one_minus_square(c, c.x[0]))),
    "Atan": lambda c: c.op.Reciprocal(c.op.Add(c.op.Mul(c.x[0], c.x[0]), 1)),
    "Sinh": lambda c: c.op.Cosh(c.x[0]),
    "Cosh": lambda c: c.op.Sinh(c.x[0]),
    "Asinh": lambda c: _inverse_root(c, c.op.Add(c.op.Mul(c.x[0], c.x[0]), 1)),
    "Acosh": lambda c: _inverse_root(c, c.op.Sub(c.op.Mul(c.x[0], c.x[0]), 1)),
    "Atanh": lambda c: c.op.Reciprocal(_one_minus_square(c, c.x[0])),
}
"""Op -> dy/dx, from whichever of x and y is cheaper."""


@VJP.on(*DERIVATIVES)
def smooth(c: Context, g: Tensor) -> Tensor:
    """Multiply by the derivative, which does not depend on the signal: one forward computes it."""
    return c.op.Mul(g, DERIVATIVES[c.type](c))


@VJP.on("Neg")
def neg(c: Context, g: Tensor) -> Tensor:
    """Change the sign."""
    return c.op.Neg(g)


# --- piecewise constant ---------------------------------------------------------------------------
STEPS = ("Floor", "Ceil", "Round")


@VJP.on(*STEPS, exact=False, note="straight-through")
def straight_through(c: Context, g: Tensor) -> Tensor:
    """Pass the signal as if nothing was rounded (Bengio et al. 2013)."""
    return g


@VJP.on("Sign", exact=False, note="its derivative is zero almost everywhere, so nothing flows")
def sign(c: Context, g: Tensor) -> Tensor:
    """Multiply by zero, the derivative almost everywhere."""
    return c.op.Mul(g, 0)


# --- Softmax --------------------------------------------------------------------------------------
@VJP.on("Softmax")
def softmax(c: Context, g: Tensor) -> Tensor:
    """Return y (g - sum(g y)), the sum along the axis."""
    axis = [plain_axis(c, c.attr("axis", -1), c.y[0])]
    weighted = c.op.Mul(g, c.y[0])
    total = c.op.ReduceSum(weighted, axis, keepdims=1)
    return c.op.Sub(weighted, c.op.Mul(c.y[0], total))


@VJP.on("LogSoftmax")
def log_softmax(c: Context, g: Tensor) -> Tensor:
    """Return g - exp(y) sum(g), the sum along the axis."""
    axis = [plain_axis(c, c.attr("axis", -1), c.y[0])]
    return c.op.Sub(g, c.op.Mul(c.op.Exp(c.y[0]), c.op.ReduceSum(g, axis, keepdims=1)))
