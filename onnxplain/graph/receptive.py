"""Receptive fields: the part of the picture that one position of a feature map can see.

Theoretical, from kernels, strides, dilations and paddings alone. What reaches a position through a global
statistic (a squeeze-and-excitation gate, a normalisation over the whole map) is left out: it would make
every field the whole picture and say nothing about where the evidence lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.layers import Layer, trace_axes
from onnxplain.graph.paths import differentiable_edges

Array = np.ndarray[Any, Any]
_WINDOWED = ("Conv", "MaxPool", "AveragePool", "LpPool")
_SCALING = ("Resize", "DepthToSpace", "SpaceToDepth")


def receptive_fields(
    graph: gs.Graph, source: str, axes: str, layer: Layer, positions: Array
) -> Array:
    """Return the boxes (top, left, bottom, right) in pixels, int64 [P, 4], end exclusive, clipped.

    positions: int [P, 2], row and column in `layer`, a feature map. axes: those of the input `source`.
    """
    roles = trace_axes(graph.nodes, source, axes)
    sizes = _sizes(graph, roles)
    height, width = sizes[source]
    whole = np.tile([0, 0, height, width], (len(positions), 1))
    # Per tensor the first and the last row and column that are seen, [P, 2 (row, column), 2 (first, last)].
    seen = {layer.name: np.stack([positions, positions], axis=2).astype(np.float64)}
    for node in reversed(graph.nodes):
        for x, y in differentiable_edges(node):
            if y.name not in seen or _is_gate(x, sizes):
                continue
            if x.name not in sizes:
                return whole  # rows and columns are merged here: positions lose their meaning
            seen[x.name] = _union(seen.get(x.name), _before(node, x, y, seen[y.name], sizes))
    if source not in seen:
        return whole
    limits = np.array([height, width])[None, :]
    first = np.clip(np.floor(seen[source][:, :, 0]), 0, limits - 1)
    last = np.clip(np.ceil(seen[source][:, :, 1]), first, limits - 1)
    return np.concatenate([first, last + 1], axis=1).astype(np.int64)


def _sizes(graph: gs.Graph, roles: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return height and width of the tensors that have them."""
    tensors, found = graph.tensors(), {}
    for name, role in roles.items():
        shape = tensors[name].shape
        if shape is None or "H" not in role or "W" not in role:
            continue
        h, w = shape[role.index("H")], shape[role.index("W")]
        if isinstance(h, int) and isinstance(w, int):
            found[name] = (h, w)
    return found


def _is_gate(x: gs.Tensor, sizes: Mapping[str, tuple[int, int]]) -> bool:
    """Whether a tensor holds one value per channel: a global statistic that scales the map."""
    if x.name in sizes:
        return sizes[x.name] == (1, 1)
    return x.shape is not None and len(x.shape) <= 2


def _before(
    node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Array, sizes: Mapping[str, tuple[int, int]]
) -> Array:
    """Return what is seen of the input `x` of a node, from what is seen of its output `y`."""
    first, last = seen[:, :, 0], seen[:, :, 1]
    if node.op in (*_WINDOWED, "ConvTranspose"):
        kernel, stride, dilation, pad = _window(node)
        reach = (kernel - 1) * dilation
        if node.op == "ConvTranspose":
            return np.stack([np.ceil((first + pad - reach) / stride), (last + pad) // stride], 2)
        return np.stack([first * stride - pad, last * stride - pad + reach], 2)
    if sizes[x.name] == sizes.get(y.name):
        return seen
    if node.op in _SCALING:
        ratio = np.array(sizes[x.name]) / np.array(sizes[y.name])
        beside = float(node.attrs.get("mode") == "cubic")
        return np.stack(
            [(first + 0.5) * ratio - 0.5 - beside, (last + 0.5) * ratio - 0.5 + beside], 2
        )
    if node.op == "Pad" and len(constant := _constants(node)) == 1 and len(constant[0]) == 8:
        role = np.flatnonzero(constant[0][:4] + constant[0][4:])  # the padded axes, rows first
        before = constant[0][:4][role]
        if len(before) == 2:
            return seen - before[None, :, None]
    h, w = sizes[x.name]
    return np.broadcast_to(np.array([[0, h - 1], [0, w - 1]], float), seen.shape)


def _window(node: gs.Node) -> tuple[Array, ...]:
    """Return kernel, strides, dilations and leading pads of a windowed op, rows and columns."""
    kernel = node.attrs.get("kernel_shape") or node.inputs[1].shape[2:]
    given = [kernel, *(node.attrs.get(k, [1, 1]) for k in ("strides", "dilations"))]
    return tuple(np.array(v[:2]) for v in [*given, node.attrs.get("pads", [0, 0])])


def _constants(node: gs.Node) -> list[Array]:
    """Return the values of Pad's `pads` (and `axes`, where it has them)."""
    given = [t for i, t in enumerate(node.inputs) if i in (1, 3) and not t.is_empty()]
    return [t.values for t in given if isinstance(t, gs.Constant)]


def _union(a: Array | None, b: Array) -> Array:
    if a is None:
        return b
    return np.stack([np.minimum(a[..., 0], b[..., 0]), np.maximum(a[..., 1], b[..., 1])], 2)
