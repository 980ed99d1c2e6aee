"""The float64 oracle for nets of several inputs or outputs, and for quantised ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests import kernels
from tests.oracle import _SQUASHING as SQUASHING
from tests.oracle import _TRANSPARENT as VIEWS
from tests.oracle import Oracle, _in_double

Array = np.ndarray[Any, Any]
GRIDS = ("QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear")


class ZooOracle(Oracle):
    """One output of a net as a function of one input, the others held, in float64.

    Quantisers pass changes straight through: what rounding and clipping do is recorded in the first run and
    held from then on, so that central differences are those of the straight-through function.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        source: str,
        others: Mapping[str, Array],
        output: str | None = None,
    ) -> None:
        self.proto = _in_double(_bound(model, others, output))
        self.logit, self.input = _scores(self.proto.graph), source
        if self.logit not in [o.name for o in self.proto.graph.output]:
            self.proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(self.logit))
        ops = [GroupNormalization, RMSNormalization, *_straight_through()]
        if any(n.op_type in GRIDS for n in self.proto.graph.node):
            ops += _held_kinks()
        ops += kernels.KERNELS  # the first of a name is used
        self._evaluator = ReferenceEvaluator(self.proto, new_ops=ops)


def _held_kinks() -> list[type[OpRun]]:
    """Return kernels that keep their side of a kink: levels lie on a grid, so many lie exactly on one.

    Of equal elements the first is the largest, and what is at a bound is outside, as onnxplain has it.
    """
    seen: dict[str, Any] = {}

    class MaxPool(kernels._Kernel):
        def _run(self, x, **attrs):  # type: ignore[no-untyped-def]
            window = kernels._Window(x.shape[2:], attrs)
            padded = window.pad(kernels._tensor(x), -np.inf).numpy()
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

    class Relu(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x):  # type: ignore[no-untyped-def]
            return (np.where(seen.setdefault(self.onnx_node.output[0], x > 0), x, 0.0),)

    class Clip(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x, low=-np.inf, high=np.inf, **more):  # type: ignore[no-untyped-def]
            inside = seen.setdefault(self.onnx_node.output[0], (x > low) & (x < high))
            return (np.where(inside, x, np.clip(x, low, high)),)

    return [MaxPool, Relu, Clip]


def _scores(graph: onnx.GraphProto) -> str:
    """Return what is explained: before an output's Softmax or Sigmoid, before the quantiser at its end."""
    makers = {y: n for n in graph.node for y in n.output}
    quantisers = ("QuantizeLinear", "DequantizeLinear")

    def up(name: str, until: tuple[str, ...]) -> str:
        """Walk up through views and quantisers to before the highest node of `until`."""
        found = name
        while name in makers and makers[name].op_type in (*VIEWS, *quantisers):
            node = makers[name]
            name = node.input[0]
            found = name if node.op_type in until else found
        return found

    ends = [makers.get(up(output.name, (*VIEWS, *quantisers))) for output in graph.output]
    for squashing in (("Softmax", "LogSoftmax"), SQUASHING):  # scores before boxes
        for node in ends:
            if node is not None and node.op_type in squashing:
                return up(node.input[0], ("QuantizeLinear",))
    return up(graph.output[0].name, ("QuantizeLinear",))


def _bound(
    model: onnx.ModelProto, others: Mapping[str, Array], output: str | None
) -> onnx.ModelProto:
    """Return a copy with constant inputs, one output and no bfloat16."""
    bound = onnx.inliner.inline_local_functions(model)
    graph = bound.graph
    for name, value in others.items():
        (info,) = (i for i in graph.input if i.name == name)
        graph.input.remove(info)
        graph.initializer.append(numpy_helper.from_array(value, name))
    if output is not None:
        unwanted = [o for o in graph.output if o.name != output]
        for info in unwanted:
            graph.output.remove(info)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    return bound


class GroupNormalization(OpRun):  # type: ignore[misc]
    """onnx's own computes in float32."""

    op_domain = ""

    def _run(self, x, scale, bias, epsilon=1e-5, num_groups=None, **more):  # type: ignore[no-untyped-def]
        rows = x.reshape(len(x), num_groups, -1)
        centred = rows - rows.mean(2, keepdims=True)
        rows = centred / np.sqrt((centred**2).mean(2, keepdims=True) + epsilon)
        per_channel = (-1, *[1] * (x.ndim - 2))
        return (rows.reshape(x.shape) * scale.reshape(per_channel) + bias.reshape(per_channel),)


class RMSNormalization(OpRun):  # type: ignore[misc]
    """onnx's own computes in float32."""

    op_domain = ""

    def _run(self, x, scale, axis=-1, epsilon=1e-5, **more):  # type: ignore[no-untyped-def]
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (x / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon) * scale,)


def _straight_through() -> list[type[OpRun]]:
    """Return kernels of the quantisers that share what was recorded."""
    seen: dict[str, Any] = {}

    def step(node: str, x: Array, scale: Array, zero: Array) -> Array:
        """Return levels as doubles: x / scale, moved to where it was rounded; constant where clipped."""
        info = np.iinfo(zero.dtype)
        t, offset = x / scale, zero.astype(np.float64)
        if node not in seen:
            level = np.round(t) + offset
            clipped = np.clip(level, info.min, info.max)
            seen[node] = (level - offset - t, clipped, clipped == level)
        moved, clipped, fits = seen[node]
        return np.where(fits, t + moved + offset, clipped)

    class QuantizeLinear(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x, scale, zero=None, axis=None, **more):  # type: ignore[no-untyped-def]
            zero = np.zeros((), np.uint8) if zero is None else zero
            parts = (_along(v, x.ndim, axis) for v in (scale, zero))
            return (step(self.onnx_node.output[0], x, *parts),)

    class DequantizeLinear(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x, scale, zero=None, axis=None, block_size=None, **more):  # type: ignore[no-untyped-def]
            if block_size:
                rows = np.arange(x.shape[axis]) // block_size
                return (x.astype(np.float64) * np.take(scale, rows, axis),)
            offset = 0.0 if zero is None else _along(zero, x.ndim, axis).astype(np.float64)
            return ((x.astype(np.float64) - offset) * _along(scale, x.ndim, axis),)

    class DynamicQuantizeLinear(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x):  # type: ignore[no-untyped-def]
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
        def _run(self, x, w, xz=None, wz=None, **attrs):  # type: ignore[no-untyped-def]
            a = x.astype(np.float64) - (0 if xz is None else float(xz))
            b = w.astype(np.float64) - (0 if wz is None else wz.astype(np.float64))
            return super()._run(a, b, None, **attrs)

    class MatMulInteger(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, a, b, az=None, bz=None):  # type: ignore[no-untyped-def]
            left = a.astype(np.float64) - (0 if az is None else float(az))
            return (left @ (b.astype(np.float64) - (0 if bz is None else bz.astype(np.float64))),)

    def conv(node: Any, a: Array, w: Array, b: Array | None) -> Array:
        attributes = {k.name: getattr(node, k.name) for k in node.onnx_node.attribute}
        attributes.pop("activation", None)
        return kernels.Conv._run(node, a, w, b, **attributes)[0]

    class QLinearConv(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x, xs, xz, w, ws, wz, ys, yz, b=None, **more):  # type: ignore[no-untyped-def]
            bias = None if b is None else b * (xs * ws)
            y = conv(self, _real(x, xs, xz), _real(w, ws, wz, 0), bias)
            return (step(self.onnx_node.output[0], y, ys, yz),)

    class QLinearAdd(OpRun):  # type: ignore[misc]
        op_domain = "com.microsoft"

        def _run(self, a, sa, za, b, sb, zb, ys, yz, **more):  # type: ignore[no-untyped-def]
            total = _real(a, sa, za) + _real(b, sb, zb)
            return (step(self.onnx_node.output[0], total, ys, yz),)

    class QLinearGlobalAveragePool(OpRun):  # type: ignore[misc]
        op_domain = "com.microsoft"

        def _run(self, x, xs, xz, ys, yz, **more):  # type: ignore[no-untyped-def]
            mean = _real(x, xs, xz).mean((2, 3), keepdims=True)
            return (step(self.onnx_node.output[0], mean, ys, yz),)

    class QGemm(OpRun):  # type: ignore[misc]
        op_domain = "com.microsoft"

        def _run(self, a, sa, za, b, sb, zb, c, ys, yz, **more):  # type: ignore[no-untyped-def]
            assert self.transB == 1 and self.alpha == 1
            y = _real(a, sa, za) @ _real(b, sb, zb, 0).T + c * (sa * sb)
            return (step(self.onnx_node.output[0], y, ys, yz),)

    class FusedConv(OpRun):  # type: ignore[misc]
        op_domain = "com.microsoft"

        def _run(self, x, w, b=None, z=None, **more):  # type: ignore[no-untyped-def]
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
