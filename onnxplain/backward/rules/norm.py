"""Normalisations. One backward, `normalise_backward`, serves all that divide by a deviation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP
from onnxplain.graph.emit import Emitter

Array = np.ndarray[Any, Any]
Norm = Callable[[Context, gs.Tensor, gs.Tensor, gs.Tensor | None], gs.Tensor]


def normalise_backward(
    op: Emitter,
    g: gs.Tensor,
    x: gs.Tensor,
    x0: gs.Tensor | None,
    axes: Sequence[int],
    eps: float,
    *,
    centre: bool = True,
) -> gs.Tensor:
    """Send `g` back through y = d s, where d = x - mean(x) and s = (mean(d^2) + eps)^(-1/2) over `axes`.

    Without a reference x0 the result is the gradient. With one it is the DeepLIFT multiplier [ours] by
    d s - d0 s0 = s (d - d0) + d0 (s - s0): at zero activations s0 is eps^(-1/2), about 300, and halfway it
    would drown what moves. d d takes its other factor halfway, and s its secant over v = mean(d^2),
    which is -(s s0)^2 / (s + s0) and so needs no division by a difference. Contributions then add up:
    sum of m (x - x0) = sum of g (y - y0). `centre=False` leaves the mean in.
    """
    d, s = _standardise(op, x, axes, eps, centre)
    d0, s0 = (d, s) if x0 is None else _standardise(op, x0, axes, eps, centre)
    d_mid, s_mid = _middle(op, d, d0), _middle(op, s, s0)
    both = op.Mul(s, s0)
    slope = op.Mul(both, op.Div(both, s_mid))  # -2 ds/dv: s^3 without a reference
    at_s = op.ReduceMean(op.Mul(g, d0), axes, keepdims=1)
    at_d = op.Sub(op.Mul(g, s), op.Mul(d_mid, op.Mul(slope, at_s)))
    return op.Sub(at_d, op.ReduceMean(at_d, axes, keepdims=1)) if centre else at_d


def _standardise(
    op: Emitter, x: gs.Tensor, axes: Sequence[int], eps: float, centre: bool
) -> tuple[Any, Any]:
    d = op.Sub(x, op.ReduceMean(x, axes, keepdims=1)) if centre else x
    variance = op.ReduceMean(op.Mul(d, d), axes, keepdims=1)
    return d, op.Reciprocal(op.Sqrt(op.Add(variance, eps)))


def _middle(op: Emitter, a: Any, b: Any) -> Any:
    return a if a is b else op.Mul(op.Add(a, b), 0.5)


# --- the ops: how each lays out groups and scale, as (c, g, x, x0) with x0 None for the gradient -----
def _layer(c: Context, g: gs.Tensor, x: gs.Tensor, x0: gs.Tensor | None) -> gs.Tensor:
    """LayerNormalization and RMSNormalization: the last axes, one scale for each position."""
    rank = len(c.shape(c.node.inputs[0]))
    axes = range(c.attr("axis", -1) % rank, rank)
    g, centre = c.op.Mul(g, c.x[1]), c.type == "LayerNormalization"
    return normalise_backward(c.op, g, x, x0, axes, c.attr("epsilon", 1e-5), centre=centre)


def _instance(c: Context, g: gs.Tensor, x: gs.Tensor, x0: gs.Tensor | None) -> gs.Tensor:
    """Each channel over its plane."""
    rank = len(c.shape(c.node.inputs[0]))
    g = c.op.Mul(g, _by_channel(c, c.const(1)))
    return normalise_backward(c.op, g, x, x0, range(2, rank), c.attr("epsilon", 1e-5))


def _group(c: Context, g: gs.Tensor, x: gs.Tensor, x0: gs.Tensor | None) -> gs.Tensor:
    """Groups of channels; the scale has one entry per group in opset 18, per channel since 21."""
    scale, channels = c.const(1), c.shape(c.node.inputs[0])[1]
    g = c.op.Mul(g, _by_channel(c, np.repeat(scale, int(channels) // scale.size)))
    g, x, x0 = (
        None if t is None else c.op.Reshape(t, [0, c.attr("num_groups"), -1]) for t in (g, x, x0)
    )
    grouped = normalise_backward(c.op, g, x, x0, [2], c.attr("epsilon", 1e-5))
    return c.reshape_like(grouped, c.node.inputs[0])


def _mean_variance(c: Context, g: gs.Tensor, x: gs.Tensor, x0: gs.Tensor | None) -> gs.Tensor:
    """MeanVarianceNormalization adds 1e-9 to the deviation: 1e-18 to the variance, where that matters."""
    shape = c.shape(c.node.inputs[0])
    axes = [a % len(shape) for a in c.attr("axes", (0, 2, 3))]
    if any(isinstance(shape[a], str) for a in axes):
        raise c.refuse("it mixes the images of a batch")
    return normalise_backward(c.op, g, x, x0, axes, 1e-18)


def _local_response(c: Context, g: gs.Tensor, x: gs.Tensor, x0: gs.Tensor | None) -> gs.Tensor:
    """LRN: y = x q with q = D^-beta and D = bias + alpha / size * (x^2 summed over near channels)."""
    op, beta = c.op, c.attr("beta", 0.75)
    shares = _shares(c)
    x, big, q = _response(c, x, shares)
    x0, big0, q0 = (x, big, q) if x0 is None else _response(c, x0, shares)
    x_mid, big_mid, q_mid = (_middle(op, a, b) for a, b in ((x, x0), (big, big0), (q, q0)))
    slope = op.Mul(op.Div(q_mid, big_mid), -beta)
    if x0 is not x:  # the secant, where its difference is safely above rounding
        rise, run = op.Sub(q, q0), op.Sub(big, big0)
        far = op.Greater(op.Abs(run), op.Mul(big_mid, 0.01))
        slope = op.Where(far, op.Div(rise, op.Where(far, run, 1)), slope)
    g = op.Reshape(g, [0, 0, -1])
    at_big = op.MatMul(op.constant(shares.T, x.dtype), op.Mul(op.Mul(g, x_mid), slope))
    found = op.Add(op.Mul(g, q_mid), op.Mul(op.Mul(at_big, x_mid), 2))
    return c.reshape_like(found, c.node.inputs[0])


def _response(c: Context, x: gs.Tensor, shares: Array) -> tuple[Any, Any, Any]:
    """Return x with flat planes, D and D^-beta."""
    x = c.op.Reshape(x, [0, 0, -1])
    total = c.op.MatMul(c.op.constant(shares, x.dtype), c.op.Mul(x, x))
    big = c.op.Add(total, c.attr("bias", 1.0))
    return x, big, c.op.Pow(big, -c.attr("beta", 0.75))


def _shares(c: Context) -> Array:
    """Return alpha / size at [i, j] where channel j is in the window of channel i."""
    size, channels = c.attr("size"), np.arange(int(c.shape(c.node.inputs[0])[1]))
    ahead = channels - channels[:, None]
    window = (ahead >= -((size - 1) // 2)) & (ahead <= size // 2)
    return np.asarray(window * (c.attr("alpha", 1e-4) / size))


NORMS: dict[str, Norm] = {
    "LayerNormalization": _layer,
    "RMSNormalization": _layer,
    "InstanceNormalization": _instance,
    "GroupNormalization": _group,
    "MeanVarianceNormalization": _mean_variance,
    "LRN": _local_response,
}
"""Op type -> its backward (c, g, x, x0): a variant registers them with x0 = c.x0[0]."""


@VJP.on(*NORMS)
def normalization(c: Context, g: gs.Tensor | None, *statistics: gs.Tensor | None) -> gs.Tensor:
    """Exact with respect to x; scale and bias must not depend on the input."""
    if g is None or any(s is not None for s in statistics):
        raise c.refuse("its mean and deviation are used as outputs")
    return NORMS[c.type](c, g, c.x[0], None)


# --- the others --------------------------------------------------------------------------------------
@VJP.on("BatchNormalization")
def batch_normalization(c: Context, g: gs.Tensor) -> gs.Tensor:
    """A scale per channel; the canonical form writes out computed or training statistics."""
    scale = c.const(1) / np.sqrt(c.const(4) + c.attr("epsilon", 1e-5))
    return c.op.Mul(g, _by_channel(c, scale))


@VJP.on("LpNormalization")
def lp_normalization(c: Context, g: gs.Tensor) -> gs.Tensor:
    """With y = x / |x|_p, d|x|_p / dx is sign(x) for p = 1, y for p = 2; no signal where |x| is 0."""
    op, x, y, axis, p = c.op, c.x[0], c.y[0], c.attr("axis", -1), c.attr("p", 2)
    size = (op.ReduceL1 if p == 1 else op.ReduceL2)(x, [axis], keepdims=1)
    along = op.ReduceSum(op.Mul(g, y), [axis], keepdims=1)
    slope = op.Sub(g, op.Mul(along, op.Sign(x) if p == 1 else y))
    given = op.Greater(size, 0)
    return op.Where(given, op.Div(slope, op.Where(given, size, 1)), 0)


def _by_channel(c: Context, values: Array) -> Array:
    """Shape one value per channel so that it broadcasts against the node's input."""
    return values.reshape(-1, *[1] * (len(c.shape(c.node.inputs[0])) - 2))
