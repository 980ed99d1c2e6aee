"""Rectifiers and gates: masks as steep HardSigmoids."""

from __future__ import annotations

from functools import reduce
from typing import Any

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.variants.blocked.table import lifted, on, shaped
from onnxplain.graph.fold import constant_value

STEEP = 2.0**127  # times any float32 above zero that is not denormal: at least 1
_STEEP_ASIDE = 2.0**100  # the same for differences from a bound that is not tiny


def step(c: Context, x: Tensor, at: float = 0, above: bool = True) -> Tensor | None:
    """Return 1 where x > at (or x < at), else 0: a HardSigmoid so steep that nothing lies on its slope.

    None for bounds that a power of two cannot take there exactly.
    """
    if not has_step(at):
        return None
    steep = (_STEEP_ASIDE if at else STEEP) * (1 if above else -1)
    return shaped(c.op.HardSigmoid(x, alpha=steep, beta=-steep * at), x.shape)


def has_step(at: float) -> bool:
    """Whether a power of two can take a step there exactly."""
    return at == 0 or 2.0**-60 < abs(at) < 2.0**26


@on("Relu")
def relu(c: Context, g: Tensor) -> Tensor:
    """Pass where y > 0; what a MaxPool alone reads is masked there, where there is less of it."""
    return g if is_pooled(c, c.node.outputs[0]) else c.op.Mul(g, step(c, c.y[0]))


def is_pooled(c: Context, tensor: Tensor) -> bool:
    """Whether a tensor comes from a Relu, and one MaxPool alone reads it."""
    ends = (*tensor.inputs, *tensor.outputs[:1])
    return [node.op for node in ends] == ["Relu", "MaxPool"] and not c.is_shared(tensor)


@on("Clip")
def clip(c: Context, g: Tensor) -> Tensor | None:
    """Pass strictly inside the bounds."""
    inside = []
    for i, above in ((1, True), (2, False)):
        if c.has(i):
            bound = constant_value(c.node.inputs[i])
            mask = None if bound is None else step(c, c.y[0], float(bound), above)
            if mask is None:
                return None
            inside.append(mask)
    return masked(c, g, *inside)


@on("LeakyRelu")
def leaky_relu(c: Context, g: Tensor) -> Tensor | None:
    """Scale by 1 where y > 0, else by alpha: a step of this height."""
    alpha = float(c.attr("alpha", 0.01))
    if not 0 <= alpha <= 1:
        return None
    slope = c.op.HardSigmoid(step(c, c.y[0]), alpha=1 - alpha, beta=alpha)
    return c.op.Mul(g, shaped(slope, c.y[0].shape))


@on("HardSigmoid")
def hard_sigmoid(c: Context, g: Tensor) -> Tensor:
    """Scale by alpha strictly between 0 and 1."""
    scaled = lifted(c.op, g, c.y[0].shape, float(c.attr("alpha", 0.2)))
    return masked(c, scaled, step(c, c.y[0]), step(c, c.y[0], 1, above=False))


def masked(c: Context, g: Tensor, *masks: Tensor | None) -> Tensor:
    """Multiply by masks, first with each other: several seeds share their product."""
    if not masks:
        return g
    product: Any = reduce(lambda a, b: shaped(c.op.Mul(a, b), a.shape), masks)  # type: ignore[union-attr]
    return c.op.Mul(g, product)


@on("Sigmoid")
def sigmoid(c: Context, g: Tensor) -> Tensor:
    """Multiply by y (1 - y)."""
    return masked(c, g, c.y[0], rest(c, c.y[0]))


def rest(c: Context, share: Tensor) -> Tensor:
    """Return 1 - share, for shares of 0 to 1."""
    rest: Tensor = c.op.HardSigmoid(share, alpha=-1.0, beta=1.0)
    return rest
