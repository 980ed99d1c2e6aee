"""The gradient once more, in nodes that onnxruntime's CPU computes without leaving its blocked layout.

onnxruntime keeps activations in blocks of 8 or 16 channels (NCHWc) through Conv, pooling, Concat, nearest
Resize, HardSigmoid, Sigmoid, and Add and Mul of equal shapes; around anything else it writes them out in
order and back, which takes as long as the op. The numbers are those of `VJP`, whose rules serve wherever a
tensor is not float32 [N, C, H, W]. For graphs in which each image has one seed: shapes must agree. What
comes from another graph, a residual, has left the blocks, and is lifted into them once. What each of these
rules gains is in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx_graphsurgeon import Node, Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.rules.conv import Array, Windows, adjoint, spatial, turned
from onnxplain.backward.rules.pool import first_maxima
from onnxplain.backward.table import NOTHING, VJP, Apply, RuleTable
from onnxplain.backward.variants.gradient import gradient
from onnxplain.graph.emit import Emitter
from onnxplain.graph.fold import constant_value

_BLOCK = 16  # channels; the depthwise kernel wants whole blocks
_STEEP = 2.0**127  # times any float32 above zero that is not denormal: at least 1
_STEEP_ASIDE = 2.0**100  # the same for differences from a bound that is not tiny

_FAR = 2.0**100  # from activations below 2**76, whole numbers of it can be told
_MOST_TAPS = 9


def _on(*ops: str, at_output: bool = False) -> Callable[[Apply], Apply]:
    """Register a rule for feature maps; where it returns None, or for other tensors, VJP's serves."""

    def register(apply: Apply) -> Apply:
        def rule(c: Context, g: Tensor, *others: None) -> Any:
            fits = _is_maps(c.node.outputs[0] if at_output else c.node.inputs[0])
            found = apply(c, g) if fits else None
            return gradient(c, g) if found is None else found

        for op in ops:
            known = VJP.find(op)
            assert known is not None, op
            BLOCKED.on(op, exact=known.exact, note=known.note)(rule)
        return apply

    return register


def _is_maps(tensor: Tensor) -> bool:
    """Whether a tensor is float32 [N, C, H, W]."""
    shape = tensor.shape
    return (
        tensor.dtype == np.float32
        and shape is not None
        and len(shape) == 4
        and shape[0] == "N"
        and all(isinstance(s, int) for s in shape[1:])
    )


def _lifted(op: Emitter, g: Tensor, shape: Sequence[int | str], scale: float = 1) -> Tensor:
    """Return `g` times `scale` in blocks: a depthwise Conv takes it there, and an Add behind it along."""
    channels = int(shape[1])
    if channels % _BLOCK:
        return g if scale == 1 else op.Mul(g, scale)
    return _shaped(op.Conv(g, np.full((channels, 1, 1, 1), scale), group=channels), shape)


def _enter(op: Emitter, tensor: Tensor) -> Tensor:
    return _lifted(op, tensor, tensor.shape) if _is_maps(tensor) else tensor


BLOCKED = RuleTable("vjp in blocks", base=VJP, enter=_enter)
"""The exact gradient, for one seed per image, on the CPU."""


def _repeated(op: Emitter, x: Tensor, times: Sequence[int], shape: Sequence[int | str]) -> Tensor:
    """Repeat every pixel of `x` along height and width, up to `shape`."""
    found = op.Resize(
        x, None, op.constant([1, 1, *times], np.float32), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    return _shaped(found, shape)


def _shaped(tensor: Tensor, shape: Sequence[int | str]) -> Tensor:
    """Say what shape a tensor has, where onnxruntime cannot infer the number of images."""
    tensor.shape = list(shape)
    return tensor


# --- masks ----------------------------------------------------------------------------------------------
def _step(c: Context, x: Tensor, at: float = 0, above: bool = True) -> Tensor | None:
    """Return 1 where x > at (or x < at), else 0: a HardSigmoid so steep that nothing lies on its slope.

    None for bounds that a power of two cannot take there exactly.
    """
    if not _has_step(at):
        return None
    steep = (_STEEP_ASIDE if at else _STEEP) * (1 if above else -1)
    return _shaped(c.op.HardSigmoid(x, alpha=steep, beta=-steep * at), x.shape)


def _has_step(at: float) -> bool:
    return at == 0 or 2.0**-60 < abs(at) < 2.0**26


@_on("Relu")
def relu(c: Context, g: Tensor) -> Tensor:
    """Pass where y > 0; what a MaxPool alone reads is masked there, where there is less of it."""
    return g if _is_pooled(c, c.node.outputs[0]) else c.op.Mul(g, _step(c, c.y[0]))


def _is_pooled(c: Context, tensor: Tensor) -> bool:
    """Whether a tensor comes from a Relu, and one MaxPool alone reads it."""
    ends = (*tensor.inputs, *tensor.outputs[:1])
    return [node.op for node in ends] == ["Relu", "MaxPool"] and not c.is_shared(tensor)


@_on("Clip")
def clip(c: Context, g: Tensor) -> Tensor | None:
    """Pass strictly inside the bounds."""
    inside = []
    for i, above in ((1, True), (2, False)):
        if c.has(i):
            bound = constant_value(c.node.inputs[i])
            mask = None if bound is None else _step(c, c.y[0], float(bound), above)
            if mask is None:
                return None
            inside.append(mask)
    return _masked(c, g, *inside)


@_on("LeakyRelu")
def leaky_relu(c: Context, g: Tensor) -> Tensor | None:
    """Scale by 1 where y > 0, else by alpha: a step of this height."""
    alpha = float(c.attr("alpha", 0.01))
    if not 0 <= alpha <= 1:
        return None
    slope = c.op.HardSigmoid(_step(c, c.y[0]), alpha=1 - alpha, beta=alpha)
    return c.op.Mul(g, _shaped(slope, c.y[0].shape))


@_on("HardSigmoid")
def hard_sigmoid(c: Context, g: Tensor) -> Tensor:
    """Scale by alpha strictly between 0 and 1."""
    scaled = _lifted(c.op, g, c.y[0].shape, float(c.attr("alpha", 0.2)))
    return _masked(c, scaled, _step(c, c.y[0]), _step(c, c.y[0], 1, above=False))


def _masked(c: Context, g: Tensor, *masks: Tensor | None) -> Tensor:
    """Multiply by masks, first with each other: several seeds share their product."""
    if not masks:
        return g
    product: Any = reduce(lambda a, b: _shaped(c.op.Mul(a, b), a.shape), masks)  # type: ignore[union-attr]
    return c.op.Mul(g, product)


@_on("Sigmoid")
def sigmoid(c: Context, g: Tensor) -> Tensor:
    """Multiply by y (1 - y)."""
    return _masked(c, g, c.y[0], _rest(c, c.y[0]))


def _rest(c: Context, share: Tensor) -> Tensor:
    """Return 1 - share, for shares of 0 to 1."""
    rest: Tensor = c.op.HardSigmoid(share, alpha=-1.0, beta=1.0)
    return rest


# --- quantisation ---------------------------------------------------------------------------------------
@_on("QuantizeLinear")
def quantize(c: Context, g: Tensor) -> Tensor | None:
    """Pass between the values that saturate; the scale cancels against the DequantizeLinear's behind."""
    bounds = _saturating(c.node.outputs[0])
    if bounds is None:
        return None
    steps = zip(bounds, (True, False), strict=True)
    return _masked(c, g, *(_step(c, c.x[0], at, above) for at, above in steps))


@_on("DequantizeLinear", at_output=True)
def dequantize(c: Context, g: Tensor) -> Tensor | None:
    """Leave the scale to the QuantizeLinear before, where it cancels."""
    return None if _saturating(c.node.inputs[0]) is None else g


def _saturating(quantised: Tensor) -> tuple[float, float] | None:
    """Return the largest float32 that saturates from below and the smallest from above.

    None where scales do not cancel: the tensor is not written by one QuantizeLinear and read by
    DequantizeLinear alone, all with one constant scale.
    """
    nodes = [*quantised.inputs, *quantised.outputs]
    if [n.op for n in nodes] != ["QuantizeLinear", *["DequantizeLinear"] * (len(nodes) - 1)]:
        return None
    ends = [quantised.inputs[0].inputs[0], *(node.outputs[0] for node in quantised.outputs)]
    constants = [constant_value(node.inputs[1]) for node in nodes]
    scales = {None if s is None or s.size != 1 else s.item() for s in constants}
    if len(scales) > 1 or None in scales or not all(map(_is_maps, ends)):
        return None
    scale, dtype = np.float32(scales.pop()), np.dtype(quantised.dtype)
    zeros = nodes[0].inputs[2:]
    zero = constant_value(zeros[0]) if zeros else np.zeros(1, np.int64)
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16) or zero is None or zero.size != 1:
        return None
    if not 2.0**-60 < scale < 2.0**26:  # zero, below it, or not finite: nothing to search for
        return None
    limits = np.iinfo(dtype)
    bounds = (
        _first_beyond(scale, int(limits.min) - int(zero.item()), -1),
        _first_beyond(scale, int(limits.max) - int(zero.item()), 1),
    )
    return bounds if all(map(_has_step, bounds)) else None


def _first_beyond(scale: np.float32, level: int, side: int) -> float:
    """Return the float32 nearest to 0 that is rounded to a level beyond this one, up (1) or down (-1)."""
    x, away = np.float32((level + side / 2) * scale), np.float32(side * np.inf)
    while side * np.rint(x / scale) <= side * level:
        x = np.nextafter(x, away)
    while side * np.rint(np.nextafter(x, -away) / scale) > side * level:
        x = np.nextafter(x, -away)
    return float(x)


# --- products -------------------------------------------------------------------------------------------
@BLOCKED.instead("Mul")
def mul_by_gates(op: Emitter, node: Node) -> Tensor | None:
    """Repeat a factor [N, C, 1, 1] over the maps: a Mul of equal shapes stays in blocks, backwards too."""
    maps, factors = node.outputs[0], node.inputs
    if not all(_is_maps(x) and x.shape[1] == maps.shape[1] for x in (maps, *factors)):
        return None
    sizes = maps.shape[2:]
    gates = [x.shape[2:] == [1, 1] != sizes for x in factors]
    if not any(gates):
        return None
    full = [
        _repeated(op, x, sizes, maps.shape) if g else x for x, g in zip(factors, gates, strict=True)
    ]
    return op.Mul(*full)


@_on("Resize")
def resize(c: Context, g: Tensor) -> Tensor | None:
    """Single pixels that were repeated: the sum, by way of the mean."""
    pixels, maps = c.node.inputs[0], c.node.outputs[0]
    sizes = spatial(c, maps)
    repeated = c.attr("mode", "nearest") == "nearest" and pixels.shape[1] == maps.shape[1]
    if spatial(c, pixels) != (1, 1) or not repeated:
        return None
    if c.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None  # what lies outside is a constant
    return _shaped(c.op.Mul(c.op.GlobalAveragePool(g), prod(sizes)), pixels.shape)


@BLOCKED.instead("HardSwish")
def hard_swish(op: Emitter, node: Node) -> Tensor | None:
    """Write x times its HardSigmoid, as the standard has it."""
    x = node.inputs[0]
    if not _is_maps(x):
        return None
    return op.Mul(x, _shaped(op.HardSigmoid(x, alpha=1 / 6, beta=0.5), x.shape))


def _silu(c: Context, gate: Node, s: Tensor) -> Tensor:
    """Return s + x s (1 - s)."""
    return c.op.Add(s, c.op.Mul(c.y[0], _rest(c, s)))


def _hard_silu(c: Context, gate: Node, h: Tensor) -> Tensor:
    """Return h + x h', with x h' = h - beta between the bounds: 2 h - beta [h > 0] - (1 - beta) [h = 1]."""
    beta, channels = float(gate.attrs.get("beta", 0.5)), int(h.shape[1])

    def times(x: Tensor | None, weight: float, *bias: Array) -> Tensor:
        weights = np.full((channels, 1, 1, 1), weight)
        return _shaped(c.op.Conv(x, weights, *bias, group=channels), h.shape)

    above, below = _step(c, h), _step(c, h, 1, above=False)
    ends = _shaped(c.op.Add(times(above, -beta), times(below, 1 - beta)), h.shape)
    return c.op.Add(times(h, 2, np.full(channels, beta - 1)), ends)


SLOPES = {"Sigmoid": _silu, "HardSigmoid": _hard_silu}
"""Op that makes a gate of x -> the slope of x times it."""


@_on("Mul", at_output=True)
def mul(c: Context, g: Tensor) -> list[Any] | None:
    """SiLU and HardSwish as one product with their slope; other factors are brought into blocks once."""
    for x, s in ((0, 1), (1, 0)):
        gate = next((n for n in c.node.inputs[s].inputs if n.op in SLOPES), None)
        if gate is None or gate.inputs[0].name != c.node.inputs[x].name:
            continue
        if c.needs(x) and not c.is_wrt(s):
            slope = _shaped(SLOPES[gate.op](c, gate, c.x[s]), c.node.outputs[0].shape)
            return [c.op.Mul(g, slope) if i == x else NOTHING for i in (0, 1)]
    if not all(map(_is_maps, c.node.inputs)) or c.node.inputs[0].shape != c.node.inputs[1].shape:
        return None
    a, b = (_shaped(c.op.Identity(x), x.shape) for x in c.x)
    return [c.op.Mul(g, b), c.op.Mul(g, a)]


@_on("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshaped(c: Context, g: Tensor) -> Tensor:
    """Say what shape the maps have again: from a Reshape to -1 nobody could tell."""
    maps = c.node.inputs[0]
    found = gradient(c, g)[0]
    assert found is not None
    return _lifted(c.op, _shaped(found, maps.shape), maps.shape)


# --- windows ----------------------------------------------------------------------------------------------
@_on("GlobalAveragePool")
def global_average_pool(c: Context, g: Tensor) -> Tensor:
    """Every pixel gets g / pixels."""
    maps, sizes = c.node.inputs[0], spatial(c, c.node.inputs[0])
    mean = _lifted(c.op, g, c.node.outputs[0].shape, 1 / prod(sizes))
    return _repeated(c.op, mean, sizes, maps.shape)


@_on("AveragePool")
def average_pool(c: Context, g: Tensor) -> Tensor | None:
    """Windows that lie side by side: every pixel gets g / pixels of its window."""
    windows = Windows.of(c)
    if not _tiles(c, windows):
        return None
    mean = _lifted(c.op, g, c.node.outputs[0].shape, 1 / prod(windows.kernel))
    return _repeated(c.op, mean, windows.kernel, c.node.inputs[0].shape)


@_on("MaxPool")
def max_pool(c: Context, g: Tensor) -> Tensor:
    """Send g to the first maximum of each window; where windows do not overlap, nothing is to be added up."""
    op, maps = c.op, c.node.inputs[0]
    if _is_pooled(c, maps):
        g = op.Mul(g, _step(c, c.y[0]))
    indices = _first_maxima(c)
    if indices is None:
        indices = first_maxima(c)
    shape = op.Shape(c.x[0])
    if _lie_apart(c, Windows.of(c)):
        windows = {k: c.attr(k) for k in ("kernel_shape", "strides")}
        routed = op.MaxUnpool(g, indices, shape, **windows)
    else:
        zeros = op.Expand(op.constant(0, g.dtype), shape)
        flat, to, what = (op.Reshape(t, [-1]) for t in (zeros, indices, g))
        flat = op.ScatterElements(flat, to, what, axis=0, reduction="add")
        routed = op.Reshape(flat, shape)
    return _lifted(c.op, _shaped(routed, maps.shape), maps.shape)


def _first_maxima(c: Context) -> Tensor | None:
    """Return where each window has its first maximum, as `first_maxima` does; None where that is simpler.

    Tap after tap a Conv fetches one pixel per window, and a step tells whether nothing is missing to y. The
    tap found first takes y out of reach of the others, the further the later it is: so far tells which.
    """
    op, windows, maps, pooled = c.op, Windows.of(c), c.node.inputs[0], c.node.outputs[0]
    channels, (h, w), outputs = int(maps.shape[1]), spatial(c, maps), spatial(c, pooled)
    dense = prod(windows.strides) == 1  # as many windows as pixels: as slow tap by tap
    if channels % _BLOCK or dense or prod(windows.kernel) > _MOST_TAPS or not prod(outputs):
        return None
    ends = [s[-1] + r for s, r in zip(windows.starts(outputs), windows.reach, strict=True)]
    pads = [*windows.before, *(max(0, end - n) for end, n in zip(ends, (h, w), strict=True))]
    rows, columns = windows.starts(outputs)
    taps = [np.multiply(tap, windows.dilations) for tap in np.ndindex(*windows.kernel)]
    offsets = [int(y) * w + int(x) for y, x in taps]
    inside = [_within(rows + y, h)[:, None] & _within(columns + x, w) for y, x in taps]
    # Where y = 0 zeros of padding are found, too, which is harmless where nothing is sent from there.
    sound = not any(pads) or _is_pooled(c, maps)
    far_outside = None if sound else _everywhere(c, np.where(inside, 0, -_FAR), c.x[0])

    def conv(x: Tensor, weights: Array, **attrs: Any) -> Tensor:
        weights = np.broadcast_to(np.float32(weights), (channels, 1, *weights.shape))
        return _shaped(op.Conv(x, weights, group=channels, **attrs), pooled.shape)

    def plus(a: Tensor, b: Tensor) -> Tensor:
        return _shaped(op.Add(a, b), pooled.shape)

    slides = {"strides": windows.strides, "dilations": windows.dilations, "pads": pads}
    one = np.ones((1, 1))
    missing = conv(c.y[0], -one)
    hots = np.eye(len(taps), dtype=np.float32)
    for offset, hot, within in zip(offsets, hots, inside, strict=True):
        if far_outside is not None and not within.all():
            own = np.broadcast_to(hot[None, :, None, None], (channels, len(taps), 1, 1))
            reach = plus(op.Conv(far_outside, own), missing)
        else:
            reach = missing
        found = plus(conv(c.x[0], hot.reshape(windows.kernel), **slides), reach)
        found = _shaped(op.HardSigmoid(found, alpha=_STEEP, beta=1.0), pooled.shape)
        missing = plus(conv(found, -_FAR * (offset + 1) * one), missing)
    tap = op.Cast(op.Mul(missing, -1 / _FAR), to=int(TensorProto.INT64), dtype=np.dtype(np.int64))
    tap = op.Clip(tap, 1, offsets[-1] + 1)  # what NaN became is no position
    planes = np.arange(channels)[:, None, None] * h * w
    firsts = op.constant((planes + rows[:, None] * w + columns - 1)[None], np.int64)
    images = op.Range(0, op.Squeeze(op.Shape(c.x[0], end=1)), 1)
    images = op.Mul(op.Reshape(images, [-1, 1, 1, 1]), channels * h * w)
    return op.Add(tap, op.Add(firsts, images))


def _within(positions: Array, size: int) -> Array:
    return (positions >= 0) & (positions < size)


def _everywhere(c: Context, planes: Array, like: Tensor) -> Tensor:
    """Return planes [k, h, w] as [N, k, h, w], for as many images as `like` has."""
    count = c.op.Concat(c.op.Shape(like, end=1), planes.shape, axis=0)
    grid = c.op.Expand(c.op.constant(planes[None], np.float32), count)
    return _shaped(grid, ["N", *planes.shape])


def _lie_apart(c: Context, windows: Windows) -> bool:
    """Whether windows share no pixel and end inside their input, as onnxruntime's MaxUnpool wants it."""
    inputs, outputs = spatial(c, c.node.inputs[0]), spatial(c, c.node.outputs[0])
    sizes = zip(inputs, outputs, windows.reach, windows.strides, strict=True)
    return not any(windows.before) and all(r <= s and (m - 1) * s + r <= n for n, m, r, s in sizes)


def _tiles(c: Context, windows: Windows) -> bool:
    """Whether windows cover their input side by side, each pixel once."""
    outputs = spatial(c, c.node.outputs[0])
    covered = tuple(m * k for m, k in zip(outputs, windows.kernel, strict=True))
    return (
        windows.kernel == windows.strides
        and not any(windows.before + windows.after)
        and windows.reach == windows.kernel
        and covered == spatial(c, c.node.inputs[0])
    )


@_on("Conv")
def conv(c: Context, g: Tensor) -> Tensor | None:
    """Strided: depthwise as a Conv of g between zeros, else back into blocks after the ConvTranspose."""
    windows, maps = Windows.of(c), c.node.inputs[0]
    if prod(windows.strides) == 1:
        return None
    weights, group = c.const(1), int(c.attr("group", 1))
    depthwise = group == maps.shape[1] == len(weights) and not group % _BLOCK
    if depthwise and (spread := _between_zeros(c, g, weights, windows)) is not None:
        return spread
    return _lifted(c.op, adjoint(c, g, weights, windows, group), maps.shape)


def _between_zeros(c: Context, g: Tensor, weights: Array, windows: Windows) -> Tensor | None:
    """Put zeros between the pixels of g, then convolve: repeated, all but the first of each are taken out."""
    maps = c.node.inputs[0]
    outputs, inputs = spatial(c, c.node.outputs[0]), spatial(c, maps)
    sizes = tuple(m * s for m, s in zip(outputs, windows.strides, strict=True))
    axes = list(zip(inputs, sizes, windows.reach, windows.before, strict=True))
    pads = [r - 1 - b for _, _, r, b in axes] + [n - m + b for n, m, _, b in axes]
    if min(pads) < 0:
        return None
    firsts = np.zeros((1, *sizes))
    firsts[:, :: windows.strides[0], :: windows.strides[1]] = 1
    # in blocks, and for every channel
    grid = c.op.Conv(_everywhere(c, firsts, g), np.ones((len(weights), 1, 1, 1)))
    whole: list[int | str] = ["N", len(weights), *sizes]
    spread = c.op.Mul(_repeated(c.op, g, windows.strides, whole), grid)
    return c.op.Conv(
        spread,
        turned(weights, len(weights)),
        pads=pads,
        dilations=windows.dilations,
        group=len(weights),
    )
