"""Quantisation: the straight-through estimator (Bengio et al. 2013), zero where the range clips.

Signals at quantised tensors are float32. Scales and zero points are held fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.shape import cast
from onnxplain.backward.table import VJP
from onnxplain.graph.fold import constant_value


@VJP.on("QuantizeLinear", exact=False, note="straight-through, zero where saturated")
def quantize(c: Context, g: Tensor) -> Tensor:
    """Divide by scale where round(x / scale) + zero is not clipped (as torch.fake_quantize)."""
    op, scale, (low, high) = c.op, per_axis(c, 1), levels(c)
    level = op.Round(op.Div(c.x[0], scale))
    fits = op.And(op.GreaterOrEqual(level, low), op.LessOrEqual(level, high))
    return op.Where(fits, op.Div(g, scale), 0)


@VJP.on("DequantizeLinear", exact=False, note="straight-through")
def dequantize(c: Context, g: Tensor) -> Tensor:
    """Multiply by the scale."""
    return c.op.Mul(g, per_axis(c, 1))


def levels(c: Context) -> tuple[Any, Any]:
    """Return the lowest and highest level of a QuantizeLinear, zero point taken off."""
    name = np.dtype(c.node.outputs[0].dtype).name
    kind, bits = name.rstrip("0123456789"), name.lstrip("uint")
    if kind not in ("int", "uint"):
        raise c.refuse(f"quantisation to {name} is not implemented")
    span = 1 << int(bits)
    low = 0 if kind == "uint" else -span // 2
    if not c.has(2):
        return low, low + span - 1
    zero = per_axis(c, 2)
    return c.op.Sub(low, zero), c.op.Sub(low + span - 1, zero)


def per_axis(c: Context, i: int) -> Tensor | np.ndarray[Any, Any]:
    """Return input `i`, a scale or zero point, as a float that broadcasts against x."""
    if c.attr("block_size", 0):
        raise c.refuse("block-wise quantisation of activations is not implemented")
    if c.shape(c.x[i]) == () and constant_value(c.node.inputs[i]) is None:
        return cast(c, c.x[i], np.float32)  # dynamic quantisation
    values, rank = c.const(i).astype(np.float32), len(c.shape(c.x[0]))
    if values.size == 1:
        return values.reshape(())
    return values.reshape(-1, *[1] * (rank - 1 - c.attr("axis", 1) % rank))
