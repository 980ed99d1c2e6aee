"""Float64 kernels of quantised ops that pass changes straight through.

What rounding and clipping do is recorded in the first run and held from then on, so that central
differences are those of the straight-through function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from tests import kernels

Array = np.ndarray[Any, Any]


def straight_through(at: Mapping[str, Array]) -> list[type[OpRun]]:
    """Return kernels of the quantisers that share what was recorded.

    `at` gives what a runtime had before its QuantizeLinears, by name: then its rounding is held, not that of
    float64, which goes the other way where a value lies halfway between two levels.
    """
    seen: dict[str, Any] = {}

    def step(node: str, x: Array, scale: Array, zero: Array, there: Array | None = None) -> Array:
        """Return levels as doubles: x / scale, moved to where it was rounded; constant where clipped."""
        info = np.iinfo(zero.dtype)
        t, offset = x / scale, zero.astype(np.float64)
        if node not in seen:
            known = t if there is None else there / scale.astype(np.float32)
            assert np.abs(known - t).max() < 0.01, "not the network that the runtime ran"
            level = np.round(known) + offset
            clipped = np.clip(level, info.min, info.max)
            seen[node] = (level - offset - t, clipped, clipped == level)
        moved, clipped, fits = seen[node]
        return np.where(fits, t + moved + offset, clipped)

    class QuantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x, scale, zero=None, axis=None, **more):
            zero = np.zeros((), np.uint8) if zero is None else zero
            parts = (_along(v, x.ndim, axis) for v in (scale, zero))
            return (step(self.onnx_node.output[0], x, *parts, at.get(self.onnx_node.input[0])),)

    class DequantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x, scale, zero=None, axis=None, block_size=None, **more):
            if block_size:
                rows = np.arange(x.shape[axis]) // block_size
                return (x.astype(np.float64) * np.take(scale, rows, axis),)
            offset = 0.0 if zero is None else _along(zero, x.ndim, axis).astype(np.float64)
            return ((x.astype(np.float64) - offset) * _along(scale, x.ndim, axis),)

    class DynamicQuantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x):
            node = self.onnx_node.output[0]
            if f"{node}.range" not in seen:
                low, high = min(x.min(), 0.0), max(x.max(), 0.0)
                scale = (high - low) / 255
                seen[f"{node}.range"] = (
                    scale,
                    np.clip(np.round(-low / scale), 0, 255).astype(np.uint8),
                )
            scale, zero = seen[f"{node}.range"]
            return step(node, x, scale, zero), np.asarray(scale), zero

    class ConvInteger(kernels.Conv):
        def _run(self, x, w, xz=None, wz=None, **attrs):
            a = x.astype(np.float64) - (0 if xz is None else float(xz))
            b = w.astype(np.float64) - (0 if wz is None else wz.astype(np.float64))
            return super()._run(a, b, None, **attrs)

    class MatMulInteger(OpRun):
        op_domain = ""

        def _run(self, a, b, az=None, bz=None):
            left = a.astype(np.float64) - (0 if az is None else float(az))
            return (left @ (b.astype(np.float64) - (0 if bz is None else bz.astype(np.float64))),)

    def conv(node: Any, a: Array, w: Array, b: Array | None) -> Array:
        attributes = {k.name: getattr(node, k.name) for k in node.onnx_node.attribute}
        attributes.pop("activation", None)
        return kernels.Conv._run(node, a, w, b, **attributes)[0]

    class QLinearConv(OpRun):
        op_domain = ""

        def _run(self, x, xs, xz, w, ws, wz, ys, yz, b=None, **more):
            bias = None if b is None else b * (xs * ws)
            y = conv(self, _real(x, xs, xz), _real(w, ws, wz, 0), bias)
            return (step(self.onnx_node.output[0], y, ys, yz),)

    class QLinearAdd(OpRun):
        op_domain = "com.microsoft"

        def _run(self, a, sa, za, b, sb, zb, ys, yz, **more):
            total = _real(a, sa, za) + _real(b, sb, zb)
            return (step(self.onnx_node.output[0], total, ys, yz),)

    class QLinearGlobalAveragePool(OpRun):
        op_domain = "com.microsoft"

        def _run(self, x, xs, xz, ys, yz, **more):
            mean = _real(x, xs, xz).mean((2, 3), keepdims=True)
            return (step(self.onnx_node.output[0], mean, ys, yz),)

    class QGemm(OpRun):
        op_domain = "com.microsoft"

        def _run(self, a, sa, za, b, sb, zb, c, ys, yz, **more):
            assert self.transB == 1 and self.alpha == 1
            y = _real(a, sa, za) @ _real(b, sb, zb, 0).T + c * (sa * sb)
            return (step(self.onnx_node.output[0], y, ys, yz),)

    class FusedConv(OpRun):
        op_domain = "com.microsoft"

        def _run(self, x, w, b=None, z=None, **more):
            assert self.activation == "Relu"
            y = conv(self, x, w, b) + (0 if z is None else z)
            return (np.maximum(y, 0),)

    fused = [QLinearConv, QLinearAdd, QLinearGlobalAveragePool, QGemm, FusedConv]
    ours = [QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, ConvInteger, MatMulInteger]
    microsoft = [
        type(kind.__name__, (kind,), {"op_domain": "com.microsoft"})
        for kind in (QuantizeLinear, DequantizeLinear)
    ]
    return [*ours, *fused, *microsoft]


def _along(value: Array, rank: int, axis: int | None) -> Array:
    """Shape a scale or zero point to broadcast against a tensor of `rank`."""
    if value.size == 1:
        return value.reshape(())
    at = (1 if axis is None else axis) % rank
    return value.reshape([-1 if i == at else 1 for i in range(rank)])


def _real(x: Array, scale: Array, zero: Array, axis: int | None = None) -> Array:
    """Return the numbers that levels stand for."""
    offset = _along(zero, x.ndim, axis).astype(np.float64)
    return (x.astype(np.float64) - offset) * _along(scale, x.ndim, axis)


def held_kinks(at: Mapping[str, Array]) -> list[type[OpRun]]:
    """Return kernels that keep their side of a kink: levels lie on a grid, so many lie exactly on one.

    Of equal elements the first is the largest, and what is at a bound is outside, as onnxplain has it.
    """
    seen: dict[str, Any] = {}

    class MaxPool(kernels.Kernel):
        def _run(self, x, **attrs):
            window = kernels.Window(x.shape[2:], attrs)
            padded = window.pad(kernels.tensor(x), -np.inf).numpy()
            (kh, kw), (sh, sw) = window.kernel, window.strides
            height, width = (n - k + 1 for n, k in zip(padded.shape[2:], (kh, kw), strict=True))
            taps = np.stack(
                [
                    padded[..., i : i + height : sh, j : j + width : sw]
                    for i, j in np.ndindex(kh, kw)
                ]
            )
            best = seen.setdefault(self.onnx_node.output[0], taps.argmax(0))
            return (np.take_along_axis(taps, best[None], 0)[0],)

    class Relu(OpRun):
        op_domain = ""

        def _run(self, x):
            name = self.onnx_node.output[0]
            return (np.where(seen.setdefault(name, at.get(name, x) > 0), x, 0.0),)

    class Clip(OpRun):
        op_domain = ""

        def _run(self, x, low=-np.inf, high=np.inf, **more):
            name, clipped = self.onnx_node.output[0], np.clip(x, low, high)
            there = at.get(name, clipped)
            inside, ends = seen.setdefault(name, ((there > low) & (there < high), clipped))
            return (np.where(inside, x, ends),)

    return [MaxPool, Relu, Clip]
