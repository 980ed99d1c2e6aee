"""Let a graph that was exported for one image (or for k) take any number of them.

What pins the count is patched: Reshape targets, Expand targets, class tokens that are concatenated,
initial states, Resize sizes, Squeeze without axes. `follow` tells where the images are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.emit import Emitter
from onnxplain.graph.follow import Images, Patch, Pinned, Walk

__all__ = ["Pinned", "free"]


def free(graph: gs.Graph, inputs: Mapping[str, tuple[int | str, ...]]) -> None:
    """Patch what pins the number of images, in place; the graph must be sorted and stays so.

    `inputs` gives every input's shape with "N" on the axis of images. Raises Pinned where images are
    combined (a sum over the batch) or cannot be followed; the graph may be half patched then, so work
    on a copy. Source: ours.
    """
    walk = Walk(graph, inputs, PATCHES)
    for node in graph.nodes:
        walk.visit(node)
    graph.nodes = walk.nodes
    for tensor in graph.outputs:
        images = walk.images.get(tensor.name)
        if images and walk.size(tensor)[images.axis] != walk.base:
            raise Pinned(tensor.inputs[0], f"leaves output {tensor.name!r} no axis of images")
        if isinstance(tensor, gs.Variable):
            tensor.shape = None  # what the file declared may be pinned


def _reshape(walk: Walk, node: gs.Node) -> Images | None:
    """Put -1 on the axis of images of a constant target (Flatten is a Reshape with such a target)."""
    x = node.inputs[0]
    if x.name not in walk.images:
        return None
    if node.op == "Reshape" and walk.constant(node.inputs[1]) is None:
        return None  # computed from Shape: the exporter cared
    y = node.outputs[0].name
    goal = walk.infer(node, 0)[y][1]
    exported = _grown(walk, node, goal)
    place = _place(walk, x, goal, exported) if 0 not in goal else None
    if place is None:
        raise Pinned(node, "splits the axis of images")
    if place.axis != exported:
        target = np.array(goal, np.int64)
        target[place.axis] = -1
        constant = walk.note(gs.Constant(f"{node.name}.target", target))
        node.op, node.attrs, node.inputs = "Reshape", {}, [x, constant]
    return place


def _grown(walk: Walk, node: gs.Node, goal: Sequence[int]) -> int | None:
    """Return the axis that takes up more images as the node stands, None where it cannot."""
    try:
        far = walk.infer(node, 1)[node.outputs[0].name][1]
    except Pinned:
        return None
    grown = [i for i, (a, b) in enumerate(zip(goal, far, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 else None


def _place(walk: Walk, x: gs.Tensor, goal: Sequence[int], exported: int | None) -> Images | None:
    """Choose where images go in a Reshape of x to `goal`: an axis of their own, or a merged one.

    Row-major order leaves the choice between neighbours: [S,N,E] may become [S,12N,E/12] (heads, merged
    to the right) or [S*N,E] (rows, merged to the left). The exporter's own -1 decides; else images merge
    to the right if what follows them was split. Either is correct as long as the images are followed.
    """
    images, source, before = walk.images[x.name], walk.size(x), walk.before_images(x)
    fits = {}
    for axis, size in enumerate(goal):
        outer, rest = divmod(before, prod(goal[:axis]))
        if rest == 0 and outer and size % (outer * walk.base) == 0:
            fits[axis] = Images(axis, outer)
    own = [p for p in fits.values() if p.outer == 1 and goal[p.axis] == walk.base]
    if own:  # several where axes of size 1 meet; any will do, outputs have images first
        return own[0]
    if exported in fits:
        return fits[exported]
    right = [p for p in fits.values() if p.outer == 1]
    left = [p for p in fits.values() if goal[p.axis] == p.outer * walk.base]
    if not right or not left:
        return next(iter(fits.values()), None)
    after = {prod(source[i:]) for i in range(images.axis + 1, len(source))}
    kept = all(prod(goal[i:]) in after for i in range(right[0].axis + 1, len(goal)))
    return left[0] if kept else right[0]


def _expand(walk: Walk, node: gs.Node) -> Images | None:
    """Let a target that repeats the exported number of images keep the axis as it is."""
    x, pair = node.inputs[0], walk.value(node.inputs[1])
    if pair is None:
        return None
    target, far = pair
    missing = len(target) - len(walk.size(x))
    if x.name not in walk.images:  # a state written for k images, expanded to as many as there are
        for i in np.flatnonzero(target != far).tolist():
            if i >= missing:
                node.inputs[0] = _first(walk, node, 0, i - missing)
        return None
    axis, size = walk.images[x.name].axis, walk.size(x)
    if axis + missing >= 0 and target[axis + missing] == far[axis + missing] == size[axis] != 1:
        kept = np.where(np.arange(len(target)) == axis + missing, 1, target)
        node.inputs[1] = walk.note(gs.Constant(f"{node.name}.target", kept))
    return None


def _gather(walk: Walk, node: gs.Node) -> Images | None:
    """Give a gather from a flattened batch (torch's as_strided) an axis of images: [N,width], axis 1."""
    x, pair = node.inputs[0], walk.value(node.inputs[1])
    if walk.images.get(x.name) != Images(0) or len(walk.size(x)) != 1 or pair is None:
        return None
    width = walk.size(x)[0] // walk.base
    if pair[0].ndim == 0 or len(pair[0]) != walk.base:
        return None
    once = pair[0][:1]
    for indices in pair:  # every image must be read alike, and only by itself
        steps = np.arange(len(indices)).reshape(-1, *[1] * (indices.ndim - 1)) * width
        if (indices != once + steps).any() or once.min() < 0 or once.max() >= width:
            return None
    rows = walk.insert(f"{node.name}.rows", lambda op: op.Reshape(x, [-1, width]))
    node.inputs = [
        rows,
        walk.note(gs.Constant(f"{node.name}.indices", once.reshape(once.shape[1:]))),
    ]
    node.attrs = {**node.attrs, "axis": 1}
    return None


def _concat(walk: Walk, node: gs.Node) -> Images | None:
    """Repeat constants (class tokens) that are joined to something of every image."""
    like = next((x for x in node.inputs if x.name in walk.images), None)
    if like is not None:
        for i in range(len(node.inputs)):
            _repeat(walk, node, i, like)
    return None


def _recurrent(walk: Walk, node: gs.Node) -> Images | None:
    """Repeat initial states that were written for the exported number of images."""
    for i in range(5, min(len(node.inputs), 7)):
        if node.inputs[0].name in walk.images and not node.inputs[i].is_empty():
            _repeat(walk, node, i, node.inputs[0])
    return None


def _repeat(walk: Walk, node: gs.Node, index: int, like: gs.Tensor) -> None:
    """Expand an input that has no images along the axis on which `like` has one entry per image."""
    x, axis = node.inputs[index], walk.images[like.name].axis
    if x.name in walk.images or walk.size(x)[axis : axis + 1] != (walk.base,):
        return
    once, rank = _first(walk, node, index, axis), len(walk.size(x))
    sizes = [1] * rank
    node.inputs[index] = walk.insert(
        f"{node.name}.input{index}",
        lambda op: op.Expand(once, _with_count(op, sizes, axis, like, axis)),
    )


def _first(walk: Walk, node: gs.Node, index: int, axis: int) -> gs.Tensor:
    """Return the one entry that an input repeats along `axis` for each exported image."""
    x = node.inputs[index]
    if walk.size(x)[axis] == 1:
        return x
    pair = walk.value(x)
    first = None if pair is None else np.take(pair[0], [0], axis=axis)
    if pair is None or (pair[0] != first).any():
        raise Pinned(node, f"reads {x.name!r}, which differs between the exported images")
    return walk.note(gs.Constant(f"{node.name}.input{index}.first", first))


def _with_count(
    op: Emitter, sizes: Sequence[int], index: int, like: gs.Tensor, axis: int
) -> gs.Tensor:
    """Write `sizes` with the size of `like` along `axis` put in at `index`."""
    parts = [
        list(sizes[:index]),
        op.Shape(like, start=axis, end=axis + 1),
        list(sizes[index + 1 :]),
    ]
    return op.Concat(*(p for p in parts if not isinstance(p, list) or p), axis=0)


def _broadcast(walk: Walk, node: gs.Node) -> Images | None:
    """Keep one entry of constants that were expanded to the exported number of images."""
    like = next((x for x in node.inputs if x.name in walk.images), None)
    if like is None or walk.base == 1:
        return None
    from_end = walk.images[like.name].axis - len(walk.size(like))
    for i, x in enumerate(node.inputs):
        axis = from_end + len(walk.size(x))
        if x.name not in walk.images and axis >= 0 and walk.size(x)[axis] == walk.base:
            node.inputs[i] = _first(walk, node, i, axis)
    return None


def _squeeze(walk: Walk, node: gs.Node) -> Images | None:
    """Write down which axes go, lest a single image loses its axis."""
    x = node.inputs[0]
    if x.name in walk.images and len(node.inputs) == 1:
        keep = walk.images[x.name].axis
        axes = [i for i, size in enumerate(walk.size(x)) if size == 1 and i != keep]
        node.inputs.append(walk.note(gs.Constant(f"{node.name}.axes", np.array(axes, np.int64))))
    return None


def _resize(walk: Walk, node: gs.Node) -> Images | None:
    """Take the image count out of constant `sizes`."""
    x, sizes = node.inputs[0], walk.constant(node.inputs[3]) if len(node.inputs) > 3 else None
    if x.name not in walk.images or sizes is None:
        return None
    axis, axes = walk.images[x.name].axis, list(node.attrs.get("axes", range(len(sizes))))
    if axis in axes:
        node.inputs[3] = walk.insert(
            f"{node.name}.sizes",
            lambda op: _with_count(op, sizes.tolist(), axes.index(axis), x, axis),
        )
    return None


def _affine_grid(walk: Walk, node: gs.Node) -> Images | None:
    """Take the image count out of a constant `size`."""
    theta, size = node.inputs[0], walk.constant(node.inputs[1])
    if theta.name in walk.images and size is not None:
        node.inputs[1] = walk.insert(
            f"{node.name}.size", lambda op: _with_count(op, size.tolist(), 0, theta, 0)
        )
    return None


PATCHES: dict[str, Patch] = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Expand": _expand,
    "Gather": _gather,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Resize": _resize,
    "AffineGrid": _affine_grid,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "And", "Or"), _broadcast),
}
