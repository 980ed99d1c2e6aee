"""Products with gates, what gates come from, and Reshapes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx_graphsurgeon import Node, Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.conv import Array, spatial
from onnxplain.backward.table import NOTHING
from onnxplain.backward.variants.blocked.masks import rest, step
from onnxplain.backward.variants.blocked.table import BLOCKED, is_maps, lifted, on, repeated, shaped
from onnxplain.backward.variants.gradient import gradient
from onnxplain.graph.emit import Emitter


@BLOCKED.instead("Mul")
def mul_by_gates(op: Emitter, node: Node) -> Tensor | None:
    """Repeat a factor [N, C, 1, 1] over the maps: a Mul of equal shapes stays in blocks, backwards too."""
    maps, factors = node.outputs[0], node.inputs
    if not all(is_maps(x) and x.shape[1] == maps.shape[1] for x in (maps, *factors)):
        return None
    sizes = maps.shape[2:]
    gates = [x.shape[2:] == [1, 1] != sizes for x in factors]
    if not any(gates):
        return None
    full = [
        repeated(op, x, sizes, maps.shape) if g else x for x, g in zip(factors, gates, strict=True)
    ]
    return op.Mul(*full)


@on("Resize")
def resize(c: Context, g: Tensor) -> Tensor | None:
    """Single pixels that were repeated: the sum, by way of the mean."""
    pixels, maps = c.node.inputs[0], c.node.outputs[0]
    sizes = spatial(c, maps)
    repeated = c.attr("mode", "nearest") == "nearest" and pixels.shape[1] == maps.shape[1]
    if spatial(c, pixels) != (1, 1) or not repeated:
        return None
    if c.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None  # what lies outside is a constant
    return shaped(c.op.Mul(c.op.GlobalAveragePool(g), prod(sizes)), pixels.shape)


@BLOCKED.instead("HardSwish")
def hard_swish(op: Emitter, node: Node) -> Tensor | None:
    """Write x times its HardSigmoid, as the standard has it."""
    x = node.inputs[0]
    if not is_maps(x):
        return None
    return op.Mul(x, shaped(op.HardSigmoid(x, alpha=1 / 6, beta=0.5), x.shape))


def _silu(c: Context, gate: Node, s: Tensor) -> Tensor:
    """Return s + x s (1 - s)."""
    return c.op.Add(s, c.op.Mul(c.y[0], rest(c, s)))


def _hard_silu(c: Context, gate: Node, h: Tensor) -> Tensor:
    """Return h + x h', with x h' = h - beta between the bounds: 2 h - beta [h > 0] - (1 - beta) [h = 1]."""
    beta, channels = float(gate.attrs.get("beta", 0.5)), int(h.shape[1])

    def times(x: Tensor | None, weight: float, *bias: Array) -> Tensor:
        weights = np.full((channels, 1, 1, 1), weight)
        return shaped(c.op.Conv(x, weights, *bias, group=channels), h.shape)

    above, below = step(c, h), step(c, h, 1, above=False)
    ends = shaped(c.op.Add(times(above, -beta), times(below, 1 - beta)), h.shape)
    return c.op.Add(times(h, 2, np.full(channels, beta - 1)), ends)


SLOPES = {"Sigmoid": _silu, "HardSigmoid": _hard_silu}
"""Op that makes a gate of x -> the slope of x times it."""


@on("Mul", at_output=True)
def mul(c: Context, g: Tensor) -> list[Any] | None:
    """SiLU and HardSwish as one product with their slope; other factors are brought into blocks once."""
    for x, s in ((0, 1), (1, 0)):
        gate = next((n for n in c.node.inputs[s].inputs if n.op in SLOPES), None)
        if gate is None or gate.inputs[0].name != c.node.inputs[x].name:
            continue
        if c.needs(x) and not c.is_wrt(s):
            slope = shaped(SLOPES[gate.op](c, gate, c.x[s]), c.node.outputs[0].shape)
            return [c.op.Mul(g, slope) if i == x else NOTHING for i in (0, 1)]
    if not all(map(is_maps, c.node.inputs)) or c.node.inputs[0].shape != c.node.inputs[1].shape:
        return None
    a, b = (shaped(c.op.Identity(x), x.shape) for x in c.x)
    return [c.op.Mul(g, b), c.op.Mul(g, a)]


@on("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshaped(c: Context, g: Tensor) -> Tensor:
    """Say what shape the maps have again: from a Reshape to -1 nobody could tell."""
    maps = c.node.inputs[0]
    found = gradient(c, g)[0]
    assert found is not None
    return lifted(c.op, shaped(found, maps.shape), maps.shape)
