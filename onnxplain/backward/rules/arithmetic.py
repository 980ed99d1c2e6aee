"""Arithmetic with broadcasting (the walk sums signals back to each input's shape), and scans."""

from __future__ import annotations

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.shape import cast, plain_axis
from onnxplain.backward.table import VJP


@VJP.on("Add", "Sum")
def add(c: Context, g: Tensor) -> list[Tensor]:
    """Give every term the signal."""
    return [g] * len(c.x)


@VJP.on("Mean")
def mean(c: Context, g: Tensor) -> list[Tensor]:
    """Give every term its share."""
    return [c.op.Div(g, len(c.x))] * len(c.x)


@VJP.on("Sub")
def sub(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Give the first the signal, the second its negative."""
    return g, c.op.Neg(g)


@VJP.on("Mul")
def mul(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Give each factor the signal times the other."""
    a, b = c.x
    return c.op.Mul(g, b), c.op.Mul(g, a)


@VJP.on("Div")
def div(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Use d(a/b) = da/b - y db/b."""
    quotient = c.op.Div(g, c.x[1])
    return quotient, c.op.Neg(c.op.Mul(quotient, c.y[0]))


@VJP.on("Pow")
def power(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Use p x^(p-1), which is 0 for p = 0, and y log x, taken as 0 where x <= 0."""
    op, x, p = c.op, c.x[0], cast(c, c.x[1], c.x[0].dtype)
    slope = op.Where(op.Equal(p, 0), 0, op.Mul(p, op.Pow(x, op.Sub(p, 1))))
    log = op.Log(op.Where(op.Greater(x, 0), x, 1))
    return op.Mul(g, slope), op.Mul(g, op.Mul(c.y[0], log))


@VJP.on("Max", "Min")
def extremum(c: Context, g: Tensor) -> list[Tensor]:
    """Give the signal to the extreme input, of equal ones to the first."""
    gradients = []
    for x in c.x:
        hit = c.op.Equal(x, c.y[0])
        gradients.append(c.op.Where(hit, g, 0))
        g = c.op.Where(hit, 0, g)
    return gradients


@VJP.on("Where")
def where(c: Context, g: Tensor) -> tuple[None, Tensor, Tensor]:
    """Give the signal to the branch that was chosen."""
    condition = c.x[0]
    return None, c.op.Where(condition, g, 0), c.op.Where(condition, 0, g)


@VJP.on("Mod")
def mod(c: Context, g: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate x - trunc(x / b) b between its jumps."""
    x, b = c.x
    return g, c.op.Mul(g, c.op.Div(c.op.Sub(c.y[0], x), b))


@VJP.on("CumSum")
def cumsum(c: Context, g: Tensor) -> Tensor:
    """Run the sum the other way."""
    axis = plain_axis(c, int(c.const(1).item()), c.x[0])
    return c.op.CumSum(g, axis, exclusive=c.attr("exclusive", 0), reverse=1 - c.attr("reverse", 0))


@VJP.on("Trilu")
def trilu(c: Context, g: Tensor) -> Tensor:
    """Keep the same triangle."""
    for axis in (-2, -1):
        plain_axis(c, axis, c.x[0])
    return c.op.Trilu(g, c.x[1] if c.has(1) else None, upper=c.attr("upper", 1))
