"""Quantisers and their opposites: masks of what saturates; their scales cancel."""

from __future__ import annotations

import numpy as np
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.variants.blocked.masks import has_step, masked, step
from onnxplain.backward.variants.blocked.table import is_maps, on
from onnxplain.graph.fold import constant_value


@on("QuantizeLinear")
def quantize(c: Context, g: Tensor) -> Tensor | None:
    """Pass between the values that saturate; the scale cancels against the DequantizeLinear's behind."""
    bounds = _saturating(c.node.outputs[0])
    if bounds is None:
        return None
    steps = zip(bounds, (True, False), strict=True)
    return masked(c, g, *(step(c, c.x[0], at, above) for at, above in steps))


@on("DequantizeLinear", at_output=True)
def dequantize(c: Context, g: Tensor) -> Tensor | None:
    """Leave the scale to the QuantizeLinear before, where it cancels."""
    return None if _saturating(c.node.inputs[0]) is None else g


def _saturating(quantised: Tensor) -> tuple[float, float] | None:
    """Return the largest float32 that saturates from below and the smallest from above.

    None where scales do not cancel: the tensor is not written by one QuantizeLinear and read by
    DequantizeLinear alone, all with one constant scale.
    """
    nodes = [*quantised.inputs, *quantised.outputs]
    if [n.op for n in nodes] != ["QuantizeLinear", *["DequantizeLinear"] * (len(nodes) - 1)]:
        return None
    ends = [quantised.inputs[0].inputs[0], *(node.outputs[0] for node in quantised.outputs)]
    constants = [constant_value(node.inputs[1]) for node in nodes]
    scales = {None if s is None or s.size != 1 else s.item() for s in constants}
    if len(scales) > 1 or None in scales or not all(map(is_maps, ends)):
        return None
    scale, dtype = np.float32(scales.pop()), np.dtype(quantised.dtype)
    zeros = nodes[0].inputs[2:]
    zero = constant_value(zeros[0]) if zeros else np.zeros(1, np.int64)
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16) or zero is None or zero.size != 1:
        return None
    if not 2.0**-60 < scale < 2.0**26:  # zero, below it, or not finite: nothing to search for
        return None
    limits = np.iinfo(dtype)
    bounds = (
        _first_beyond(scale, int(limits.min) - int(zero.item()), -1),
        _first_beyond(scale, int(limits.max) - int(zero.item()), 1),
    )
    return bounds if all(map(has_step, bounds)) else None


def _first_beyond(scale: np.float32, level: int, side: int) -> float:
    """Return the float32 nearest to 0 that is rounded to a level beyond this one, up (1) or down (-1)."""
    x, away = np.float32((level + side / 2) * scale), np.float32(side * np.inf)
    while side * np.rint(x / scale) <= side * level:
        x = np.nextafter(x, away)
    while side * np.rint(np.nextafter(x, -away) / scale) > side * level:
        x = np.nextafter(x, -away)
    return float(x)
