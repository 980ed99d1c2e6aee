"""Convolution and transposed convolution: the backward of each is the other, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Windows:
    """How a kernel slides: one entry per spatial axis; pads are explicit in the canonical form."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, c: Context) -> Windows:
        """Read the windows of a convolution or pooling node."""
        kernel = tuple(c.attr("kernel_shape"))
        ones, rank = (1,) * len(kernel), len(kernel)
        pads = tuple(c.attr("pads", (0,) * 2 * rank))
        strides, dilations = c.attr("strides", ones), c.attr("dilations", ones)
        return cls(kernel, tuple(strides), tuple(dilations), pads[:rank], pads[rank:])

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels from the first to the last tap, both counted."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True))

    def starts(self, outputs: tuple[int, ...]) -> Iterator[Array]:
        """Yield, per axis, the input index of every window's first tap (negative in the padding)."""
        for m, s, b in zip(outputs, self.strides, self.before, strict=True):
            yield np.arange(m) * s - b


def spatial(c: Context, tensor: gs.Tensor) -> tuple[int, ...]:
    """Return the sizes behind batch and channels; the image axis among them is refused."""
    sizes = c.shape(tensor)[2:]
    if any(isinstance(s, str) for s in sizes):
        raise c.refuse(f"images are not counted by the first axis of {tensor.name!r}")
    return tuple(int(s) for s in sizes)


def adjoint(c: Context, g: gs.Tensor, weights: Array, windows: Windows, group: int) -> gs.Tensor:
    """Return the transpose of `Conv(·, weights)` applied to `g`, at exactly the size of the node's input.

    Stride 1 is a Conv with the weights turned round, several times faster in onnxruntime than the
    ConvTranspose that other strides need.
    """
    inputs, outputs = spatial(c, c.node.inputs[0]), spatial(c, c.node.outputs[0])
    axes = list(zip(inputs, outputs, windows.reach, windows.before, strict=True))
    before = [r - 1 - b for _, _, r, b in axes]
    after = [n - m + b for n, m, _, b in axes]
    if prod(windows.strides) == 1 and min(before + after) >= 0:
        pads = before + after
        return c.op.Conv(
            g, turned(weights, group), dilations=windows.dilations, pads=pads, group=group
        )
    return _transposed(c, g, weights, windows, group)


def _transposed(
    c: Context, g: gs.Tensor, weights: Array, windows: Windows, group: int
) -> gs.Tensor:
    inputs, outputs = spatial(c, c.node.inputs[0]), spatial(c, c.node.outputs[0])
    extents = [
        (m - 1) * s + r for m, s, r in zip(outputs, windows.strides, windows.reach, strict=True)
    ]
    sides = list(zip(inputs, extents, windows.before, windows.after, strict=True))
    # Pixels of the padded input behind the last window.
    unread = [n + b + a - extent for n, extent, b, a in sides]
    attrs = {"strides": windows.strides, "dilations": windows.dilations, "group": group}
    if windows.before == windows.after and min(unread) >= 0:
        pads = windows.before + windows.after
        return c.op.ConvTranspose(g, weights, pads=pads, output_padding=unread, **attrs)
    # onnxruntime's CUDA kernel takes no uneven pads: write everything, then cut the input out of it.
    missing = [max(b + n - extent, 0) for n, extent, b, _ in sides]
    whole = c.op.ConvTranspose(g, weights, output_padding=missing, **attrs)
    ends = [b + n for b, n in zip(windows.before, inputs, strict=True)]
    return c.op.Slice(whole, windows.before, ends, range(2, 2 + len(ends)))


def turned(weights: Array, group: int) -> Array:
    """Swap input and output channels within each group and reverse the kernel along every axis."""
    outputs, inputs, *kernel = weights.shape
    swapped = weights.reshape(group, outputs // group, inputs, *kernel).swapaxes(1, 2)
    turned = np.flip(swapped, tuple(range(3, swapped.ndim)))
    return np.reshape(turned, (group * inputs, outputs // group, *kernel))


@VJP.on("Conv")
def conv(c: Context, g: gs.Tensor) -> gs.Tensor:
    """With respect to x only: the weights must not depend on the input."""
    return adjoint(c, g, c.const(1), Windows.of(c), c.attr("group", 1))


@VJP.on("ConvTranspose")
def conv_transpose(c: Context, g: gs.Tensor) -> gs.Tensor:
    """A Conv whose pads make it read, for each pixel of x, what that pixel wrote."""
    windows, inputs = Windows.of(c), spatial(c, c.node.inputs[0])
    before, outputs = windows.before, spatial(c, c.node.outputs[0])
    axes = zip(inputs, outputs, windows.strides, windows.reach, before, strict=True)
    after = [max((n - 1) * s + r - b - m, 0) for n, m, s, r, b in axes]
    attrs = {"strides": windows.strides, "dilations": windows.dilations, "pads": [*before, *after]}
    return c.op.Conv(g, c.const(1), group=c.attr("group", 1), **attrs)


@VJP.on("Col2Im")
def col2im(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Cut the blocks out again: a Conv of each channel with kernels that have a single one."""
    block = c.const(2).tolist()
    columns, taps = c.shape(c.node.inputs[0])[1], prod(block)
    channels = int(columns) // taps
    eye = np.tile(np.eye(taps).reshape(taps, 1, *block), (channels, 1, *[1] * len(block)))
    options = {k: c.attr(k) for k in ("dilations", "pads", "strides")}
    return c.reshape_like(c.op.Conv(g, eye, group=channels, **options), c.node.inputs[0])
