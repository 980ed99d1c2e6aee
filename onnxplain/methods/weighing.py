"""How class activation maps weigh channels: formulas written once, for arrays and for files.

`op` is `NUMPY`, which computes, or an `Emitter`, which writes the same operators into a graph
(`onnxplain.export`). A is the layer's activation, G its signal, [n, K, h, w] both; a weight is per channel
[n, K, 1, 1] or per position [n, K, h, w].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Formula = Callable[[Any, Any, Any], Any]
"""(op, A, G) -> weight."""

_POSITIONS = (2, 3)


def mean_signal(op: Any, a: Any, g: Any) -> Any:
    """Return the mean of G (Grad-CAM, eq. 1)."""
    return op.ReduceMean(g, _POSITIONS, keepdims=1)


def plus_plus(op: Any, a: Any, g: Any) -> Any:
    """Alpha = G^2 / (2 G^2 + sum(A) G^3), weight = sum alpha relu(G) (eq. 19, exponential score)."""
    square = op.Mul(g, g)
    total = op.ReduceSum(a, _POSITIONS, keepdims=1)
    below = op.Add(op.Mul(square, 2), op.Mul(op.Mul(square, g), total))
    nothing = op.Equal(below, 0)
    alpha = op.Where(nothing, 0, op.Div(square, op.Where(nothing, 1, below)))
    return op.ReduceSum(op.Mul(alpha, op.Relu(g)), _POSITIONS, keepdims=1)


def shared_signal(op: Any, a: Any, g: Any) -> Any:
    """Return sum(G A) / (sum(A) + 1e-7) (XGrad-CAM, eq. 8)."""
    total = op.Add(op.ReduceSum(a, _POSITIONS, keepdims=1), 1e-7)
    return op.Div(contribution(op, a, g), total)


def contribution(op: Any, a: Any, g: Any) -> Any:
    """alpha_k = sum_ij m A: DeepLIFT rescale contributions of channel k, reference zeros (eq. 9 to 11)."""
    return op.ReduceSum(op.Mul(g, a), _POSITIONS, keepdims=1)


def signal(op: Any, a: Any, g: Any) -> Any:
    """Return G at every position (HiResCAM, eq. 5)."""
    return g


def positive_signal(op: Any, a: Any, g: Any) -> Any:
    """Return relu(G) at every position (LayerCAM, eq. 5)."""
    return op.Relu(g)
