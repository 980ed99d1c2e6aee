"""What a position sees through the ops of a picture: windows, padding, enlarging, space and depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.graph.receptive.footprint import Array, Footprint, gathered, sizes

_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def window(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Spread every position over the taps of its window."""
    found = [seen[0], np.ones((len(seen[0]), sizes(x)[1]), bool) if node.op == "Conv" else seen[1]]
    for mask, n, kernel, stride, dilation, pad in _geometry(node, x, seen):
        span = (mask.shape[1] - 1) * stride + 1
        padded = np.zeros((len(mask), max(pad + n, span + (kernel - 1) * dilation)), bool)
        for start in range(0, kernel * dilation, dilation):
            padded[:, start : start + span : stride] |= mask
        found.append(padded[:, pad : pad + n])
    return found


def transposed_window(
    node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint
) -> Footprint | None:
    """Collect the positions that every tap of an input position spreads to."""
    found = [seen[0], np.ones((len(seen[0]), sizes(x)[1]), bool)]
    for mask, n, kernel, stride, dilation, pad in _geometry(node, x, seen):
        span = (n - 1) * stride + 1
        padded = np.zeros((len(mask), max(pad + mask.shape[1], span + kernel * dilation)), bool)
        padded[:, pad : pad + mask.shape[1]] = mask
        taps = [padded[:, d : d + span : stride] for d in range(0, kernel * dilation, dilation)]
        found.append(np.logical_or.reduce(taps))
    return found


def pad(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See what was copied or moved there; constants see nothing."""
    given = [t for i, t in enumerate(node.inputs) if i in (1, 3) and not t.is_empty()]
    if not all(isinstance(t, gs.Constant) for t in given):
        return None
    pads = given[0].values.reshape(2, -1).T.tolist()
    axes = given[1].values.tolist() if len(given) > 1 else range(len(seen))
    found, mode = list(seen), node.attrs.get("mode", "constant")
    for axis, (first, last) in zip(axes, pads, strict=True):
        n = sizes(x)[axis]
        at = np.arange(-first, n + last)
        if mode != "constant" and min(first, last) >= 0:
            at = np.pad(np.arange(n), (first, last), mode)
        found[axis] = gathered(seen[axis], at, n)
    return found


def resize(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """Follow nearest, linear and cubic interpolation along each axis that changes."""
    found, mode = [], node.attrs.get("mode", "nearest")
    for n, mask in zip(sizes(x), seen, strict=True):
        if n == mask.shape[1]:
            found.append(mask)
            continue
        at = _positions(node, n, mask.shape[1])
        low, high = np.floor(at), np.ceil(at)
        taps = [low, high]
        if mode == "nearest":
            taps = [_ROUND[node.attrs.get("nearest_mode", "round_prefer_floor")](at)]
        elif mode == "cubic":
            taps += [np.where(low < high, low - 1, low), np.where(low < high, high + 1, low)]
        inside = [np.clip(t, 0, n - 1).astype(int) for t in taps]
        found.append(np.logical_or.reduce([gathered(mask, t, n) for t in inside]))
    return found


def depth_to_space(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See the position that the block came from."""
    size = node.attrs["blocksize"]
    maps = [np.any(mask.reshape(len(mask), -1, size), axis=2) for mask in seen[2:]]
    return [seen[0], np.ones((len(seen[0]), sizes(x)[1]), bool), *maps]


def space_to_depth(node: gs.Node, x: gs.Tensor, y: gs.Tensor, seen: Footprint) -> Footprint | None:
    """See the whole block."""
    maps = [mask.repeat(node.attrs["blocksize"], 1) for mask in seen[2:]]
    return [seen[0], np.ones((len(seen[0]), sizes(x)[1]), bool), *maps]


def _geometry(
    node: gs.Node, x: gs.Tensor, seen: Footprint
) -> list[tuple[Array, int, int, int, int, int]]:
    """Return per spatial axis the mask, the input's length, kernel, stride, dilation, leading pad."""
    kernel = node.attrs.get("kernel_shape") or node.inputs[1].shape[2:]
    ones, none = [1] * len(kernel), [0] * len(kernel)
    given = [node.attrs.get(k) or ones for k in ("strides", "dilations")]
    pads = (node.attrs.get("pads") or none)[: len(kernel)]
    return list(zip(seen[2:], sizes(x)[2:], kernel, *given, pads, strict=True))


def _positions(node: gs.Node, n: int, m: int) -> Array:
    """Return where m samples lie among n, in samples (ONNX Resize)."""
    mode, out = node.attrs.get("coordinate_transformation_mode", "half_pixel"), np.arange(m)
    if mode == "align_corners":
        return out * (n - 1) / max(m - 1, 1)
    if mode == "asymmetric":
        return out * n / m
    return (out + 0.5) * n / m - 0.5
