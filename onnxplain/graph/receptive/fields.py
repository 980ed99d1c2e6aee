"""Receptive fields: the part of the picture that one position of a feature map can see.

Theoretical: from kernels, strides, dilations and paddings alone. What reaches a position through a global
statistic (a squeeze-and-excitation gate, a normalisation over the whole map) is left out: it would make
every field the whole picture and say nothing about where the evidence lies.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import differentiable_edges, find_path
from onnxplain.graph.receptive import moves, windows
from onnxplain.graph.receptive.footprint import Footprint, Rule, everything, sizes

Array = np.ndarray[Any, Any]

_REDUCTIONS = (
    "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ReduceMean", "ReduceSum", "ReduceMax",
    "ReduceMin", "ReduceL1", "ReduceL2",
)  # fmt: skip
_NORMALISATIONS = (
    "LRN", "GroupNormalization", "LayerNormalization", "RMSNormalization", "LpNormalization", "Softmax",
    "LogSoftmax",
)  # fmt: skip
_UNKNOWN = (
    "Gemm", "Einsum", "CumSum", "GridSample", "RoiAlign", "GatherElements", "GatherND", "TopK",
    "ScatterElements", "ScatterND", "Attention", "If", "Loop", "Scan",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool", "LpPool"), windows.window),
    "ConvTranspose": windows.transposed_window,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moves.reshape),
    "Transpose": moves.transpose,
    "Slice": moves.slice_,
    "Split": moves.split,
    "Concat": moves.concat,
    "Gather": moves.gather,
    "Pad": windows.pad,
    "Resize": windows.resize,
    "DepthToSpace": windows.depth_to_space,
    "SpaceToDepth": windows.space_to_depth,
    "Tile": moves.tile,
    **dict.fromkeys(_REDUCTIONS, moves.reduce),
    **dict.fromkeys(_NORMALISATIONS, moves.mix_channels),
    "MatMul": moves.matmul,
    **dict.fromkeys(_UNKNOWN, moves.unknown),
}
"""The ops that move or mix; all others work element by element."""


class ReceptiveFields:
    """What each position of a feature map, or of the grid of its tokens, sees of the picture."""

    def __init__(self, graph: gs.Graph, source: str, axes: str, layer: Layer) -> None:
        """Find the way from `layer` back to the input `source`, whose axes are `axes`."""
        tensors = graph.tensors()
        path = find_path(graph.nodes, {source}, {layer.name})
        if any(tensors[name].shape is None for name in path):
            path = set()
        self._layer, self._axes = layer, axes
        self._from, self._to = tensors[layer.name], tensors[source]
        self._steps = [
            (node, x, y)
            for node in reversed(graph.nodes)
            for x, y in differentiable_edges(node)
            if x.name in path and y.name in path and not _is_gate(node, x, y)
        ]

    def boxes(self, positions: Array) -> Array:
        """Return the boxes (top, left, bottom, right) in pixels, int64 [P, 4], end exclusive.

        positions: int [P, 2], row and column. The box is the whole picture where the path cannot be followed.
        """
        seen = {self._from.name: _at(self._from, self._layer, positions)}
        for node, x, y in self._steps:
            if y.name in seen:
                found = _before(node, x, y, seen[y.name])
                seen[x.name] = _union(seen[x.name], found) if x.name in seen else found
        found = seen.get(self._to.name) or everything(self._to, len(positions))
        rows, columns = (found[self._axes.index(a)] for a in "HW")
        (top, bottom), (left, right) = _ends(rows), _ends(columns)
        return np.stack([top, left, bottom, right], 1)


def _before(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint:
    """Return what of the node's input `x` is seen through the elements `seen` of its output `y`.

    Where it cannot be told that is everything.
    """
    known = node.op not in RULES or node.op in ("Concat", "MatMul") or x is node.inputs[0]
    rule = RULES.get(node.op, moves.element_wise) if known else moves.unknown
    if (found := rule(node, x, y, seen)) is None:
        return everything(x, len(seen[0]))
    if node.op in RULES:  # what sees padding, or another part of a Concat, sees nothing at all
        alive = np.logical_and.reduce([mask.any(1) for mask in found])
        found = found if alive.all() else [mask & alive[:, None] for mask in found]
    return found


def _is_gate(node: gs.Node, x: gs.Tensor, y: gs.Tensor) -> bool:
    """Whether an input is spread over the output's positions: a global statistic that gates a map."""
    if node.op in RULES and node.op not in ("Resize", "Tile"):
        return False
    small, large = sizes(x), sizes(y)
    rich = [sum(n > 1 for n in shape[1:]) for shape in (small, large)]
    return rich[0] <= 1 < rich[1] and prod(small) < prod(large)


def _at(tensor: gs.Tensor, layer: Layer, positions: Array) -> Footprint:
    """Return the footprint of positions in a layer: all their channels; of a vector everything."""
    seen = everything(tensor, len(positions))
    if layer.axes is None or layer.size is None:
        return seen
    at = dict(zip("HW", positions.T, strict=True))
    if layer.grid is not None:
        at = {"T": layer.grid.before + at["H"] * layer.grid.width + at["W"]}
    for axis, place in at.items():
        i = layer.axes.index(axis)
        seen[i] = np.arange(seen[i].shape[1]) == place[:, None]
    return seen


def _union(a: Footprint, b: Footprint) -> Footprint:
    return [x | y for x, y in zip(a, b, strict=True)]


def _ends(mask: Array) -> tuple[Array, Array]:
    """Return the first seen element and the one after the last; all where none is seen."""
    mask = mask | ~mask.any(1, keepdims=True)
    return mask.argmax(1), mask.shape[1] - mask[:, ::-1].argmax(1)
