"""The table, how rules join it, and what brings a tensor into blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP, Apply, RuleTable
from onnxplain.backward.variants.gradient import gradient
from onnxplain.graph.emit import Emitter

BLOCK = 16
"""Channels of a block; the depthwise kernel wants whole ones."""


def on(*ops: str, at_output: bool = False) -> Callable[[Apply], Apply]:
    """Register a rule for feature maps; where it returns None, or for other tensors, VJP's serves."""

    def register(apply: Apply) -> Apply:
        def rule(c: Context, g: Tensor, *others: None) -> Any:
            fits = is_maps(c.node.outputs[0] if at_output else c.node.inputs[0])
            found = apply(c, g) if fits else None
            return gradient(c, g) if found is None else found

        for op in ops:
            known = VJP.find(op)
            assert known is not None, op
            BLOCKED.on(op, exact=known.exact, note=known.note)(rule)
        return apply

    return register


def whole_blocks(channels: int) -> bool:
    """Whether channels fill their blocks."""
    return channels % BLOCK == 0


def is_maps(tensor: Tensor) -> bool:
    """Whether a tensor is float32 [N, C, H, W]."""
    shape = tensor.shape
    return (
        tensor.dtype == np.float32
        and shape is not None
        and len(shape) == 4
        and shape[0] == "N"
        and all(isinstance(s, int) for s in shape[1:])
    )


def lifted(op: Emitter, g: Tensor, shape: Sequence[int | str], scale: float = 1) -> Tensor:
    """Return `g` times `scale` in blocks: a depthwise Conv takes it there, and an Add behind it along."""
    channels = int(shape[1])
    if not whole_blocks(channels):
        return g if scale == 1 else op.Mul(g, scale)
    return shaped(op.Conv(g, np.full((channels, 1, 1, 1), scale), group=channels), shape)


def _enter(op: Emitter, tensor: Tensor) -> Tensor:
    return lifted(op, tensor, tensor.shape) if is_maps(tensor) else tensor


BLOCKED = RuleTable("vjp in blocks", base=VJP, enter=_enter)
"""The exact gradient, for one seed per image, on the CPU."""


def repeated(op: Emitter, x: Tensor, times: Sequence[int], shape: Sequence[int | str]) -> Tensor:
    """Repeat every pixel of `x` along height and width, up to `shape`."""
    found = op.Resize(
        x, None, op.constant([1, 1, *times], np.float32), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    return shaped(found, shape)


def shaped(tensor: Tensor, shape: Sequence[int | str]) -> Tensor:
    """Say what shape a tensor has, where onnxruntime cannot infer the number of images."""
    tensor.shape = list(shape)
    return tensor
