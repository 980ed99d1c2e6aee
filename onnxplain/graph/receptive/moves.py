"""What an element sees through the ops that align, reorder or mix axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.receptive.footprint import Footprint, gathered, product, replaced, sizes


def element_wise(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Follow broadcasting."""
    lengths = sizes(x)
    aligned = seen[len(seen) - len(lengths) :]
    if len(lengths) > len(seen):
        return None
    found = []
    for n, mask in zip(lengths, aligned, strict=True):
        if n not in (1, mask.shape[1]):
            return None
        found.append(mask if n == mask.shape[1] else np.ones_like(mask[:, :1]))
    return found


def reshape(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Carry over axes that stay; take apart and put together those that are merged or split."""
    if prod(sizes(x)) != prod(sizes(y)):  # images are merged with something
        return None
    found: Footprint = []
    for a, b in _groups(sizes(x), sizes(y)):
        inner = seen[b.start : b.stop]
        lengths = sizes(x)[a.start : a.stop]
        if [m.shape[1] for m in inner] == lengths:
            found += inner
        elif all(m.all() for m in inner):
            found += [np.ones((len(seen[0]), n), bool) for n in lengths]
        else:
            joint = product(inner, len(seen[0])).reshape(-1, *lengths)
            axes = set(range(1, joint.ndim))
            found += [np.any(joint, axis=tuple(axes - {axis})) for axis in sorted(axes)]
    return found if len(found) == len(x.shape) else None


def transpose(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Put the axes back."""
    order = node.attrs.get("perm", list(range(len(seen)))[::-1])
    return [seen[order.index(i)] for i in range(len(seen))]


def slice_(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See the elements that are taken, whatever the step."""
    if not all(isinstance(i, gs.Constant) for i in node.inputs[1:]):
        return None
    starts, stops, *more = [i.values.tolist() for i in node.inputs[1:]]
    axes = more[0] if more else range(len(starts))
    steps = more[1] if len(more) > 1 else [1] * len(starts)
    found = list(seen)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        n = sizes(x)[axis]
        found[axis] = gathered(seen[axis], np.arange(n)[start:stop:step], n)
    return found


def split(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See this part of the input."""
    axis, n = node.attrs.get("axis", 0), sizes(x)
    at = next(i for i, one in enumerate(node.outputs) if one is y)
    start = sum(sizes(one)[axis] for one in node.outputs[:at])
    return replaced(seen, axis, gathered(seen[axis], start + np.arange(sizes(y)[axis]), n[axis]))


def concat(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See this input's part of the output."""
    axis = node.attrs["axis"]
    stops = np.cumsum([sizes(one)[axis] for one in node.inputs])
    n = sizes(x)[axis]
    places = [
        seen[axis][:, s - n : s] for one, s in zip(node.inputs, stops, strict=True) if one is x
    ]
    return replaced(seen, axis, np.logical_or.reduce(places))


def gather(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See the elements that constant indices take."""
    if not isinstance(node.inputs[1], gs.Constant):
        return None
    axis, n = node.attrs.get("axis", 0) % len(x.shape), sizes(x)
    taken = node.inputs[1].values
    inner = product(seen[axis : axis + taken.ndim], len(seen[0]))
    mask = gathered(inner, taken.reshape(-1) % n[axis], n[axis])
    return [*seen[:axis], mask, *seen[axis + taken.ndim :]]


def tile(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See every repetition."""
    return [np.any(m.reshape(len(m), -1, n), axis=1) for m, n in zip(seen, sizes(x), strict=True)]


def reduce(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Keep the axes that stay, see all of the others."""
    if len(seen) != len(x.shape):
        return None
    pairs = zip(sizes(x), seen, strict=True)
    return [m if m.shape[1] == n else np.ones((len(m), n), bool) for n, m in pairs]


def mix_channels(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See all of the normalised axis; statistics of whole maps are left out."""
    axis = {"LRN": 1, "GroupNormalization": 1}.get(node.op, node.attrs.get("axis", -1))
    return replaced(seen, axis, np.ones_like(seen[axis]))


def matmul(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See rows of the first input, columns of the second."""
    if min(len(i.shape) for i in node.inputs) < 2 or node.inputs[0] is node.inputs[1]:
        return None
    kept = -2 if x is node.inputs[0] else -1
    lengths = sizes(x)
    outer = [
        m if m.shape[1] == n else np.ones((len(m), n), bool)
        for m, n in zip(seen[len(seen) - len(lengths) : -2], lengths[:-2], strict=True)
    ]
    whole = np.ones((len(seen[0]), lengths[-3 - kept]), bool)
    return [*outer, seen[kept], whole] if kept == -2 else [*outer, whole, seen[kept]]


def unknown(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> None:
    """Say that it cannot be told."""


def _groups(a: Sequence[int], b: Sequence[int]) -> list[tuple[range, range]]:
    """Return the smallest runs of axes of two shapes of equally many elements that match."""
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        start, (m, n) = (i, j), (a[i], b[j])
        i, j = i + 1, j + 1
        while m != n and (i < len(a) if m < n else j < len(b)):
            if m < n:
                m, i = m * a[i], i + 1
            else:
                n, j = n * b[j], j + 1
        if i == len(a) or j == len(b):
            i, j = len(a), len(b)  # the rest has length 1
        found.append((range(start[0], i), range(start[1], j)))
    return found
