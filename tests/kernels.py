"""Float64 kernels of the ops that onnx's reference evaluator runs slowly or in float32, in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx.reference.op_run import OpRun

from tests.sampling import SAMPLING

torch.set_num_threads(1)  # beside the tests' onnxruntime, more only wait for each other

Array = np.ndarray[Any, Any]
_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


class Kernel(OpRun):
    op_domain = ""


class Conv(Kernel):
    def _run(self, x, w, b=None, **attrs):
        geometry = Window(x.shape[2:], {**attrs, "kernel_shape": w.shape[2:]})
        padded, weight, group = geometry.pad(tensor(x), 0.0), tensor(w), attrs.get("group") or 1
        if group == x.shape[1] == len(w):
            y = geometry.depthwise(padded, weight)
        else:
            conv = _CONV[x.ndim - 3]
            y = conv(padded, weight, None, geometry.strides, 0, geometry.dilations, group)
        if b is not None:
            y += tensor(b).reshape(-1, *[1] * (x.ndim - 2))
        return (y.numpy(),)


class ConvTranspose(Kernel):
    def _run(self, x, w, b=None, **attrs):
        rank = x.ndim - 2
        strides = _ints(attrs, "strides", [1] * rank)
        dilations = _ints(attrs, "dilations", [1] * rank)
        extra = _ints(attrs, "output_padding", [0] * rank)
        assert (attrs.get("auto_pad") or "NOTSET") == "NOTSET" and not attrs.get("output_shape")
        pads = _ints(attrs, "pads", [0] * 2 * rank)
        group = attrs.get("group") or 1
        full = _CONV_TRANSPOSE[rank - 1](
            tensor(x), tensor(w), None, strides, 0, 0, group, dilations
        )
        for i in range(rank):
            stop = full.shape[2 + i] + extra[i] - pads[rank + i]
            wider = max(stop - full.shape[2 + i], 0)
            full = F.pad(full, [0] * 2 * (rank - 1 - i) + [0, wider])
            full = full.narrow(2 + i, pads[i], stop - pads[i])
        y = full if b is None else full + tensor(b).reshape(-1, *[1] * rank)
        return (y.numpy(),)


class MaxPool(Kernel):
    def _run(self, x, **attrs):
        rank = x.ndim - 2
        geometry = Window(x.shape[2:], attrs)
        padded = geometry.pad(tensor(x), -np.inf)
        y = _MAX_POOL[rank - 1](padded, geometry.kernel, geometry.strides, 0, geometry.dilations)
        return (y.numpy(),)


class AveragePool(Kernel):
    def _run(self, x, count_include_pad=None, **attrs):
        geometry = Window(x.shape[2:], attrs)
        total = geometry.sum(tensor(x))
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=total.dtype)
        if count_include_pad:  # the pads count, what ceil_mode adds beyond them does not
            ones = geometry.pad(ones, 1.0, overhang=False)
            counted = geometry.sum(ones, padded=True)
        else:
            counted = geometry.sum(ones)
        return ((total / counted).numpy(),)


class BatchNormalization(Kernel):
    def _run(self, x, scale, b, mean, var, epsilon=None, **attrs):
        assert not attrs.get("training_mode")
        per_channel = [v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, b, mean, var)]
        scale, b, mean, var = per_channel
        return ((x - mean) / np.sqrt(var + (1e-5 if epsilon is None else epsilon)) * scale + b,)


class Erf(Kernel):
    def _run(self, x):
        return (torch.erf(tensor(x)).numpy(),)  # onnx's own computes in float32


class Gelu(Kernel):
    def _run(self, x, approximate=None):
        return (F.gelu(tensor(x), approximate=approximate or "none").numpy(),)


class GroupNormalization(Kernel):
    def _run(self, x, scale, bias, epsilon=1e-5, num_groups=None, **more):
        rows = x.reshape(len(x), num_groups, -1)
        centred = rows - rows.mean(2, keepdims=True)
        rows = centred / np.sqrt((centred**2).mean(2, keepdims=True) + epsilon)
        per_channel = (-1, *[1] * (x.ndim - 2))
        return (rows.reshape(x.shape) * scale.reshape(per_channel) + bias.reshape(per_channel),)


class RMSNormalization(Kernel):
    def _run(self, x, scale, axis=-1, epsilon=1e-5, **more):
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (x / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon) * scale,)


class Gemm(Kernel):
    def _run(self, a, b, c=None, alpha=None, beta=None, transA=None, transB=None):
        left, right = (a.T if transA else a), (b.T if transB else b)
        y = (1.0 if alpha is None else alpha) * (left @ right)
        return (y if c is None else y + (1.0 if beta is None else beta) * c,)


class Window:
    """Where the windows of a convolution or pooling lie: kernel, strides, dilations, pads."""

    def __init__(self, sizes: Sequence[int], attrs: Mapping[str, Any]) -> None:
        rank = len(sizes)
        self.kernel = list(attrs["kernel_shape"])
        self.strides = _ints(attrs, "strides", [1] * rank)
        self.dilations = _ints(attrs, "dilations", [1] * rank)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        self.pads = _pads(attrs, sizes, reach, self.strides)
        self.overhang = [0] * rank
        if attrs.get("ceil_mode"):
            for i, (n, s) in enumerate(zip(sizes, self.strides, strict=True)):
                before, after = self.pads[i], self.pads[rank + i]
                count = -(-(n + before + after - reach[i]) // s) + 1
                if (count - 1) * s >= n + before:  # would begin in the padding
                    count -= 1
                end = (count - 1) * s + reach[i]
                self.overhang[i] = max(end - (n + before + after), 0)

    def pad(self, x: torch.Tensor, value: float, overhang: bool = True) -> torch.Tensor:
        rank = len(self.kernel)
        sides: list[int] = []
        for i in reversed(range(rank)):
            sides += [self.pads[i], self.pads[rank + i] + (self.overhang[i] if overhang else 0)]
        return F.pad(x, sides, value=value) if any(sides) else x

    def depthwise(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolve each channel of padded x with its own kernel, tap by tap (torch's is slow)."""
        sizes, y = x.shape[2:], None
        reach = [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]
        for tap in np.ndindex(*self.kernel):
            window = [
                slice(t * d, n - r + t * d, s)
                for t, d, n, r, s in zip(
                    tap, self.dilations, sizes, reach, self.strides, strict=True
                )
            ]
            factor = weight[(slice(None), 0, *tap)].reshape(-1, *[1] * len(sizes))
            part = x[(slice(None), slice(None), *window)]
            y = factor * part if y is None else y.addcmul_(factor, part)
        return y

    def sum(self, x: torch.Tensor, padded: bool = False) -> torch.Tensor:
        """Return the sum of each window; `padded` input lacks the overhang only."""
        beyond = [s for o in reversed(self.overhang) for s in (0, o)]
        whole = F.pad(x, beyond) if padded else self.pad(x, 0.0)
        ones = torch.ones((x.shape[1], 1, *self.kernel), dtype=x.dtype)
        return self.depthwise(whole, ones)


def _pads(
    attrs: Mapping[str, Any], sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[int]:
    mode = attrs.get("auto_pad") or "NOTSET"
    if mode == "NOTSET":
        return _ints(attrs, "pads", [0] * 2 * len(sizes))
    if mode == "VALID":
        return [0] * 2 * len(sizes)
    total = [
        max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, strides, reach, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if mode == "SAME_UPPER" else large + small


def _ints(attrs: Mapping[str, Any], name: str, default: list[int]) -> list[int]:
    given = attrs.get(name)
    return list(given) if given is not None and len(given) else default


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy: torch warns of arrays it may not write to


KERNELS = [
    Conv, ConvTranspose, MaxPool, AveragePool, BatchNormalization, GroupNormalization, RMSNormalization,
    Erf, Gelu, Gemm, *SAMPLING,
]  # fmt: skip
