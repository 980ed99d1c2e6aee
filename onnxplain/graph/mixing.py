"""Which axes an operator combines although they keep their size, so that shapes cannot show it.

Softmax along the images would mix them, Conv wants them on axis 0. Operators without a row here either
treat all elements alike or change the size of what they combine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

if TYPE_CHECKING:
    from onnxplain.graph.follow import Walk


def combined_axes(walk: Walk, node: gs.Node, index: int) -> set[int]:
    """Return the axes of an input along which elements must belong to one image."""
    if node.op not in _COMBINED:
        return set()
    rank = len(walk.size(node.inputs[index]))
    return {axis % rank for axis in _COMBINED[node.op](walk, node, index, rank)}


Combined = Callable[["Walk", gs.Node, int, int], Iterable[int]]


def _all_but(*free: int) -> Combined:
    """Images may only be on these axes of the first input, and not in the others (weights)."""
    return lambda walk, node, index, rank: set(range(rank)) - (set() if index else set(free))


def _first_only(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    return range(1, rank)


def _along(default: int) -> Combined:
    return lambda walk, node, index, rank: {node.attrs.get("axis", default)}


def _from(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    return range(0 if index else node.attrs.get("axis", -1) % rank, rank)


def _cumsum(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    axis = walk.constant(node.inputs[1])
    return range(rank) if axis is None else {int(axis.item())}


def _gemm(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    """Rows of A and columns of B may hold images; what is summed over may not."""
    if index == 2:
        return set()
    summed = (1, 0)[index]
    return {1 - summed if node.attrs.get(("transA", "transB")[index], 0) else summed}


def _batch_normalization(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    """Images are on axis 0, or on the axis of channels if the network computes all parameters."""
    computed = all(x.name in walk.images for x in node.inputs[1:])
    return set(range(rank)) - ({1} if computed else {0}) if index == 0 else set(range(not computed))


def _quantize(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    per_axis = prod(walk.size(node.inputs[1])) > 1
    return {node.attrs.get("axis", 1)} if per_axis and index == 0 else set()


def _slice(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    """Return the axes that are read in steps or backwards."""
    values = [walk.constant(x) for x in node.inputs[1:]]
    if index or len(values) < 4 or values[3] is None:
        return set()
    axes = range(rank) if values[2] is None else values[2].ravel().tolist()
    return {axis for axis, step in zip(axes, values[3].ravel().tolist(), strict=False) if step != 1}


def _exported_static(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    """Trust indices that the exporter wrote for any number of images, not those for one."""
    return range(rank if walk.static else 0)


def _recurrent(walk: Walk, node: gs.Node, index: int, rank: int) -> Iterable[int]:
    batch = 0 if node.attrs.get("layout", 0) else 1
    return set(range(rank)) - ({0} if index == 4 else {batch} if index in (0, 5, 6) else set())


_COMBINED: dict[str, Combined] = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along(-1)),
    **dict.fromkeys(("Concat", "TopK"), _along(-1)),
    "Split": _along(0),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from),
    **dict.fromkeys(("Conv", "ConvTranspose", "LRN", "GroupNormalization"), _all_but(0)),
    **dict.fromkeys(("InstanceNormalization", "DepthToSpace", "SpaceToDepth"), _all_but(0)),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool"), _all_but(0, 1)),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool"), _all_but(0, 1)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("ScatterElements", "ScatterND", "ReverseSequence"), _exported_static),
    **dict.fromkeys(("DFT", "MaxUnpool"), _all_but()),
    "MeanVarianceNormalization": lambda walk, node, index, rank: node.attrs.get("axes", (0, 2, 3)),
    **dict.fromkeys(("Attention", "GridSample", "DeformConv"), _first_only),
    "Trilu": lambda walk, node, index, rank: {-1, -2},
    "BatchNormalization": _batch_normalization,
    "CumSum": _cumsum,
    "Gemm": _gemm,
    "Slice": _slice,
}
