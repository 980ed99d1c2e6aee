"""What onnxruntime's fused operators mean in standard ones, for files that it saved after optimising.

Source: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.emit import Emitter, Tensor

Written = Tensor | tuple[Tensor, ...] | None
Rewrite = Callable[[Emitter, gs.Node], Written]
"""Writes what a node means; returns its outputs, or None where the node must stay."""

_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


def attributes(node: gs.Node, *dropped: str) -> dict[str, Any]:
    """Return a node's attributes without the ones that its standard counterpart does not know."""
    return {k: v for k, v in node.attrs.items() if k not in (*dropped, "channels_last")}


def optional(node: gs.Node, index: int) -> Tensor | None:
    """Return an input, or None where the node leaves it out."""
    x = node.inputs[index] if index < len(node.inputs) else None
    return None if x is None or x.is_empty() else x


def _with_activation(float_op: str) -> Rewrite:
    def rewrite(op: Emitter, node: gs.Node) -> Written:
        activation = node.attrs.get("activation", "Relu")
        if activation not in _ACTIVATIONS:
            return None
        plain = attributes(node, "activation", "activation_params", *_GEMM_PARAMETERS)
        y = getattr(op, float_op)(*node.inputs[:3], **plain)
        if (shortcut := optional(node, 3)) is not None:
            y = op.Add(y, shortcut)
        names, values = _ACTIVATIONS[activation], node.attrs.get("activation_params", [])
        parameters = dict(zip(names, values, strict=False))
        for name in names:
            parameters.setdefault(name, node.attrs.get(f"activation_{name}"))
        return getattr(op, activation)(y, **parameters)

    return rewrite


_GEMM_PARAMETERS = ("activation_alpha", "activation_beta", "activation_gamma")


def _gelu(op: Emitter, node: gs.Node) -> Tensor:
    x = op.Add(*node.inputs) if len(node.inputs) == 2 else node.inputs[0]
    half, root, one = (op.CastLike(op.constant(v, np.float32), x) for v in (0.5, 2**-0.5, 1.0))
    return op.Mul(op.Mul(x, half), op.Add(op.Erf(op.Mul(x, root)), one))


def _quick_gelu(op: Emitter, node: gs.Node) -> Tensor:
    x = node.inputs[0]
    alpha = op.CastLike(op.constant(node.attrs.get("alpha", 1.702), np.float32), x)
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


FUSIONS: dict[str, Rewrite] = {
    "FusedConv": _with_activation("Conv"),
    "FusedGemm": _with_activation("Gemm"),
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
}
