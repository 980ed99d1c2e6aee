"""Padding, shuffles between depth and space, reversal: pixels that move without change."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.context import Context
from onnxplain.backward.rules.shape import pad_axes, plain_axis, spread
from onnxplain.backward.table import VJP


@VJP.on("Pad")
def pad(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Constant padding is cut off again; other modes add what was copied back to where it came from."""
    x, mode = c.node.inputs[0], c.attr("mode", "constant")
    rank = len(c.shape(x))
    axes = [int(a) % rank for a in c.const(3)] if c.has(3) else list(range(rank))
    pads = dict(zip(axes, c.const(1).reshape(2, -1).T.tolist(), strict=True))
    pads = {plain_axis(c, a, x): sides for a, sides in pads.items() if any(sides)}
    if mode == "constant":
        cut = {axis: (-before, -after) for axis, (before, after) in pads.items()}
        return pad_axes(c, g, rank, cut) if cut else g
    for axis, (before, after) in pads.items():
        if mode not in ("reflect", "edge", "wrap"):
            raise c.refuse(f"mode {mode!r} does not exist")
        if min(before, after) < 0:
            raise c.refuse(f"mode {mode!r} with negative pads is not supported")
        size = int(c.shape(x)[axis])
        g = spread(c, g, axis, np.pad(np.arange(size), (before, after), mode), c.shape(x))
    return g


@VJP.on("SpaceToDepth")
def space_to_depth(c: Context, g: gs.Tensor) -> gs.Tensor:
    """DepthToSpace in the order that SpaceToDepth is defined by."""
    return c.op.DepthToSpace(g, blocksize=c.attr("blocksize"), mode="DCR")


@VJP.on("DepthToSpace")
def depth_to_space(c: Context, g: gs.Tensor) -> gs.Tensor:
    """SpaceToDepth; with mode CRD the block's axes go behind the channels instead of before."""
    size = c.attr("blocksize")
    if c.attr("mode", "DCR") == "DCR":
        return c.op.SpaceToDepth(g, blocksize=size)
    _, _, height, width = c.shape(c.node.outputs[0])
    blocks = c.op.Reshape(g, [0, 0, height // size, size, width // size, size])
    return c.reshape_like(c.op.Transpose(blocks, perm=[0, 1, 3, 5, 2, 4]), c.node.inputs[0])


@VJP.on("ReverseSequence")
def reverse_sequence(c: Context, g: gs.Tensor) -> gs.Tensor:
    """Reverse again; lengths of one image serve many seeds."""
    axes = {"batch_axis": c.attr("batch_axis", 1), "time_axis": c.attr("time_axis", 0)}
    rows = c.op.Shape(g, start=axes["batch_axis"], end=axes["batch_axis"] + 1)
    return c.op.ReverseSequence(g, c.op.Expand(c.x[1], rows), **axes)
