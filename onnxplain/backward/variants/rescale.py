"""DeepLIFT, Rescale rule (Shrikumar et al. 2017, arXiv 1704.02685, section 3.5).

The signal is a multiplier m, the contribution of x is m (x - x0) with x0 the value at a reference input,
and contributions add up: sum of m (x - x0) = f(x) - f(x0). Linear ops keep their gradient; an activation
takes its secant; what has several inputs is split into products, secants and sums (ours). An op without a
rule here is refused: its gradient would break the sum without a word.
"""

from __future__ import annotations

from typing import Any

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules import activation, norm, quantize, reduce, shape
from onnxplain.backward.table import VJP, RuleTable
from onnxplain.backward.variants.gradient import gradient

RESCALE = RuleTable("rescale", needs_reference=True)
"""DeepLIFT multipliers with the Rescale rule."""

LINEAR = (
    "Add", "Sub", "Sum", "Mean", "Neg", "CumSum", "Trilu",
    "Conv", "ConvTranspose", "BatchNormalization", "AveragePool", "GlobalAveragePool",
    "ReduceSum", "ReduceMean", "Resize", "Pad", "DepthToSpace", "SpaceToDepth",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Concat", "Split",
    "Slice", "Gather", "GatherND", "ScatterND", "Col2Im", "Identity", "Dropout",
    "Cast", "DequantizeLinear", *activation.STEPS,
)  # fmt: skip
"""Ops whose multiplier is the gradient; rounding is passed straight through, as the gradient has it."""

for _op in LINEAR:
    if (_rule := VJP.find(_op)) is not None:
        RESCALE.on(_op, exact=_rule.exact, note=_rule.note)(_rule.apply)


class Moved(Context):
    """A node whose inputs and output are moved to the reference, all the way or half of it."""

    def __init__(self, c: Context, *, halfway: bool) -> None:
        """Move those inputs of `c` that the signal is sent to; the others stay as they are."""
        vars(self).update(vars(c))
        self._halfway = halfway
        self._x = [self._move(x, c.node.inputs[i]) if c.needs(i) else x for i, x in enumerate(c.x)]

    @property
    def x(self) -> list[Any]:
        """Input tensors, moved."""
        return self._x

    @property
    def y(self) -> list[Tensor]:
        """Output tensors, the first moved."""
        first, *others = super().y
        return [self._move(first, self.node.outputs[0]), *others]

    def _move(self, value: Tensor, tensor: Tensor) -> Tensor:
        reference = self._at_reference(tensor)
        if not self._halfway:
            return reference
        middle = self.op.Mul(self.op.Add(value, reference), 0.5)
        middle.shape = tensor.shape
        return middle


def steepness(c: Context, x: Tensor, x0: Tensor, rise: Tensor, derivative: Tensor) -> Tensor:
    """Return rise / (x - x0), and `derivative` where x hardly moves or is infinite."""
    op, run = c.op, c.op.Sub(x, x0)
    moves = op.GreaterOrEqual(op.Abs(run), op.Mul(op.Max(op.Abs(x), 1), 1e-6))
    return op.Where(moves, op.Div(rise, run), derivative)


# --- one moving input: the secant -------------------------------------------------------------------
@RESCALE.on(*activation.PIECES, *activation.DERIVATIVES, "PRelu", "Sign", "Pow")
def secant(c: Context, g: Tensor) -> list[Tensor | None]:
    """Multiply by (y - y0) / (x - x0); a Pow may move in its base or its exponent, not in both."""
    moving = [i for i in range(len(c.x)) if c.needs(i)]
    derivatives = gradient(c, c.op.constant(1, g.dtype))
    if len(moving) > 1 or moving[0] >= len(derivatives):
        raise c.refuse("DeepLIFT has no rule for it unless all inputs but one are constant")
    (i,) = moving
    there = Moved(c, halfway=False)
    rise = c.op.Sub(c.y[0], there.y[0])
    slope = steepness(c, c.x[i], there.x[i], rise, derivatives[i])
    return [c.op.Mul(g, slope) if j == i else None for j in range(len(c.x))]


@RESCALE.on("QuantizeLinear", exact=False, note="straight-through, secant where saturated")
def quantize_linear(c: Context, g: Tensor) -> Tensor:
    """Pass rounding straight through and take the secant of clipping, which is often a fused ReLU."""
    scale, (low, high) = quantize.per_axis(c, 1), quantize.levels(c)
    x, x0 = (c.op.Div(x, scale) for x in (c.x[0], Moved(c, halfway=False).x[0]))
    clipped, clipped0 = (c.op.Max(c.op.Min(t, high), low) for t in (x, x0))
    inside = shape.cast(c, c.op.Equal(x, clipped), g.dtype)
    slope = steepness(c, x, x0, c.op.Sub(clipped, clipped0), inside)
    return c.op.Div(c.op.Mul(g, slope), scale)


@RESCALE.on("ReduceL1")
def reduce_l1(c: Context, g: Tensor) -> Tensor:
    """Sum the absolute values, each with its secant."""
    x, x0 = c.x[0], Moved(c, halfway=False).x[0]
    rise = c.op.Sub(c.op.Abs(x), c.op.Abs(x0))
    slope = steepness(c, x, x0, rise, c.op.Sign(x))
    return reduce.scaled(c, g, slope, reduce.axes_of(c))


# --- products: the other factor halfway --------------------------------------------------------------
@RESCALE.on("Mul", "MatMul", "Gemm", "Einsum", "ReduceSumSquare", "ReduceL2")
def halfway(c: Context, g: Tensor) -> list[Tensor | None]:
    """Use a b - a0 b0 = (a - a0) (b + b0) / 2 + (b - b0) (a + a0) / 2.

    Squares are products. The gradient x / y of a norm is exact halfway, too: y^2 - y0^2 is the
    difference of the squares, and (y - y0) (y + y0).
    """
    if c.type == "Einsum" and sum(map(c.needs, range(len(c.x)))) > 2:
        raise c.refuse("DeepLIFT has no rule for a product of more than two computed tensors")
    return gradient(Moved(c, halfway=True), g)


@RESCALE.on("LpPool", "GlobalLpPool")
def lp_pool(c: Context, g: Tensor) -> list[Tensor | None]:
    """Treat p = 2 as `ReduceL2`."""
    if c.attr("p", 2) != 2:
        raise c.refuse("DeepLIFT has no rule for it unless p is 2")
    return gradient(Moved(c, halfway=True), g)


@RESCALE.on("Div")
def quotient(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Use a / b - a0 / b0 = (a - a0) / b - a0 (b - b0) / (b b0).

    Not halfway: what is divided by its own norm has a b0 near 0 at a zero reference.
    """
    op, (a0, b0) = c.op, Moved(c, halfway=False).x
    r, r0 = op.Reciprocal(c.x[1]), op.Reciprocal(b0)
    return op.Mul(g, r), op.Neg(op.Mul(g, op.Mul(a0, op.Mul(r, r0))))


# --- selections ----------------------------------------------------------------------------------------
@RESCALE.on("Max", "Min", "ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool")
def selection(c: Context, g: Tensor, *_: None) -> list[Tensor | None]:
    """With e the more extreme of y and y0, send e - y0 to the winner here and y - e to the one there.

    What overlapping windows send to one input adds up; each input divides it by its own difference.
    """
    op, there = c.op, Moved(c, halfway=False)
    y, y0 = c.y[0], there.y[0]
    extreme = (op.Min if c.type.endswith("Min") else op.Max)(y, y0)
    here = gradient(c, op.Mul(g, op.Sub(extreme, y0)))
    gone = gradient(there, op.Mul(g, op.Sub(y, extreme)))
    plain = gradient(c, g)
    inputs = zip(c.x, there.x, here, gone, plain, strict=False)
    return [steepness(c, x, x0, op.Add(a, b), p) for x, x0, a, b, p in inputs]


@RESCALE.on("Where")
def where(c: Context, g: Tensor) -> list[Tensor | None]:
    """Keep the gradient: a constant condition chooses the same at the reference."""
    c.const(0)
    return gradient(c, g)


@RESCALE.on("GridSample", "RoiAlign", "ReverseSequence")
def reading(c: Context, g: Tensor) -> list[Tensor | None]:
    """Keep the gradient: at the reference, too, the same places are read."""
    if c.type != "GridSample":
        c.const(1)
    elif c.needs(1):
        raise c.refuse("DeepLIFT has no rule for a grid that depends on the input")
    return gradient(c, g)


# --- normalisations --------------------------------------------------------------------------------------
@RESCALE.on(*norm.NORMS)
def normalization(c: Context, g: Tensor, *_: None) -> Tensor:
    """Split into products and secants, as `rules.norm` does where it gets a reference."""
    return norm.NORMS[c.type](c, g, c.x[0], c.x0[0])


@RESCALE.on("LogSoftmax")
def log_softmax(c: Context, g: Tensor) -> Tensor:
    """Subtract the log of the sum of exponentials."""
    axes = [shape.plain_axis(c, c.attr("axis", -1), c.x[0])]
    total = c.op.ReduceSum(g, axes, keepdims=1)
    return c.op.Sub(g, c.op.Mul(total, _log_sum_exp(c, axes)))


@RESCALE.on("Softmax")
def softmax(c: Context, g: Tensor) -> Tensor:
    """Take exp of LogSoftmax: unlike exp over sum, no exponential can overflow or divide by zero."""
    axis, there = c.attr("axis", -1), Moved(c, halfway=False)
    u, u0 = (c.op.LogSoftmax(x, axis=axis) for x in (c.x[0], there.x[0]))
    y = c.y[0]
    slope = steepness(c, u, u0, c.op.Sub(y, there.y[0]), y)
    return log_softmax(c, c.op.Mul(g, slope))


@RESCALE.on("ReduceLogSumExp")
def reduce_log_sum_exp(c: Context, g: Tensor) -> Tensor:
    """Chain the secants of exp and log."""
    axes = reduce.axes_of(c)
    return reduce.scaled(c, g, _log_sum_exp(c, axes), axes)


def _log_sum_exp(c: Context, axes: list[int]) -> Tensor:
    """Return the multipliers of log sum exp(x); the largest exponential of the two inputs is 1."""
    op, x, x0 = c.op, c.x[0], Moved(c, halfway=False).x[0]
    top = op.Max(*(op.ReduceMax(t, axes, keepdims=1) for t in (x, x0)))
    e, e0 = (op.Exp(op.Sub(t, top)) for t in (x, x0))
    s, s0 = (op.ReduceSum(t, axes, keepdims=1) for t in (e, e0))
    rise = op.Sub(*(op.ReduceLogSumExp(t, axes, keepdims=1) for t in (x, x0)))
    of_log = steepness(c, s, s0, rise, op.Reciprocal(s))
    return op.Mul(of_log, steepness(c, x, x0, op.Sub(e, e0), e))
