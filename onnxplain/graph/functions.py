"""Standard operators that are others put together: written out, they need no rule of their own."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.emit import Emitter, Tensor
from onnxplain.graph.fusions import Rewrite, optional


def _affine_grid(op: Emitter, node: gs.Node) -> Tensor | None:
    """Map the regular grid over [-1, 1]^d, in homogeneous coordinates, by theta [N, d, d + 1]."""
    shape = node.outputs[0].shape
    if shape is None or any(not isinstance(s, int) for s in shape[1:]):
        return None
    sizes = shape[1:-1]
    aligned = node.attrs.get("align_corners", 0)
    lines = [np.linspace(-1, 1, n) if aligned else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    axes = np.meshgrid(*lines, indexing="ij")[::-1]  # x first
    points = np.stack([*axes, np.ones(sizes)]).reshape(len(sizes) + 1, -1)
    mapped = op.Transpose(op.MatMul(node.inputs[0], points), perm=[0, 2, 1])
    return op.Reshape(mapped, [0, *sizes, len(sizes)])


def _center_crop_pad(op: Emitter, node: gs.Node) -> Tensor | None:
    """Cut off or pad with zeros alike on both sides; the odd pixel goes behind."""
    x, wanted = node.inputs
    if x.shape is None or not isinstance(wanted, gs.Constant):
        return None
    rank = len(x.shape)
    axes = [a % rank for a in node.attrs.get("axes", range(rank))]
    sizes = {a: (x.shape[a], int(n)) for a, n in zip(axes, wanted.values, strict=True)}
    if any(not isinstance(old, int) for old, _ in sizes.values()):
        return None
    cut = {a: ((old - new) // 2, new) for a, (old, new) in sizes.items() if old > new}
    if cut:
        starts, ends = zip(*((start, start + new) for start, new in cut.values()), strict=True)
        x = op.Slice(x, starts, ends, list(cut))
    sides = np.zeros((2, rank), np.int64)
    for a, (old, new) in sizes.items():
        before = max(new - old, 0) // 2
        sides[:, a] = before, max(new - old, 0) - before
    return op.Pad(x, sides.ravel()) if sides.any() else x


def _compress(op: Emitter, node: gs.Node) -> Tensor | None:
    """Gather what a constant condition selects along an axis."""
    x, condition = node.inputs
    if "axis" not in node.attrs or not isinstance(condition, gs.Constant):
        return None
    return op.Gather(x, np.flatnonzero(condition.values), axis=node.attrs["axis"])


def _deform_conv(op: Emitter, node: gs.Node) -> Tensor | None:
    """Sample every tap of the kernel where its offset points, then multiply by the weights.

    Modulated deformable convolution, Zhu et al. 2019 (arXiv 1811.11168, eq. 1).
    """
    x, w, offset = node.inputs[:3]
    if x.shape is None or len(x.shape) != 4 or offset.shape is None or w.shape is None:
        return None
    (channels, *sizes), (outputs, _, *kernel), out = x.shape[1:], w.shape, offset.shape[2:]
    taps, points = prod(kernel), prod(out)
    group, parts = node.attrs.get("group", 1), node.attrs.get("offset_group", 1)
    where = op.Reshape(offset, [-1, taps, 2, points])
    where = op.Add(where, _undeformed(node, kernel, out))
    scale = np.array(sizes)[:, None]  # to pixels of [-1, 1], whose outer borders are the ends
    grid = op.Add(op.Mul(where, 2 / scale), 1 / scale - 1)
    grid = op.Transpose(op.Gather(grid, [1, 0], axis=2), perm=[0, 1, 3, 2])
    seen = op.GridSample(op.Reshape(x, [-1, channels // parts, *sizes]), grid)
    if (mask := optional(node, 4)) is not None:
        seen = op.Mul(seen, op.Reshape(mask, [-1, 1, taps, points]))
    columns = op.Reshape(seen, [-1, group, channels // group * taps, points])
    y = op.MatMul(op.Reshape(w, [group, outputs // group, -1]), columns)
    y = op.Reshape(y, [-1, outputs, *out])
    bias = optional(node, 3)
    return y if bias is None else op.Add(y, op.Reshape(bias, [-1, 1, 1]))


def _undeformed(node: gs.Node, kernel: list[int], out: list[int]) -> np.ndarray:
    """Return where each tap of each window lies without an offset: [taps, (row, column), points]."""
    axes = []
    for i in (0, 1):
        stride, dilation = (node.attrs.get(k, (1, 1))[i] for k in ("strides", "dilations"))
        start = np.arange(out[i]) * stride - node.attrs.get("pads", (0,) * 4)[i]
        axes.append(start + np.arange(kernel[i])[:, None] * dilation)
    rows, columns = axes
    shape = (kernel[0], kernel[1], out[0], out[1])
    both = [
        np.broadcast_to(rows[:, None, :, None], shape),
        np.broadcast_to(columns[None, :, None, :], shape),
    ]
    return np.stack([p.reshape(prod(kernel), -1) for p in both], axis=1).astype(np.float64)


FUNCTIONS: dict[str, Rewrite] = {
    "AffineGrid": _affine_grid,
    "CenterCropPad": _center_crop_pad,
    "Compress": _compress,
    "DeformConv": _deform_conv,
}
"""Operator -> the same in others; None where it must stay."""
