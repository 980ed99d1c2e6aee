"""A chain of cuts: the network as segments, each linearised at the same image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxplain.errors import LayerError
from onnxplain.executor import Array, Executor, Value
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Job, cut_layer
from onnxplain.methods.maps import channels_first, from_channels_first
from onnxplain.program import Linearized, Planted

Weigh = Callable[[Any, Any, Sequence[int]], Any]
"""(op, gradient, axes of the positions) -> what weighs the activations, by NUMPY or an Emitter."""


class Chain:
    """One forward of one image through the segments between `layers`, and their backward passes.

    Level 0 is the explained tensor, level i the i-th layer from the top, [K, h, w] whatever its own order of
    axes; the level after the last is the input.
    """

    def __init__(self, job: Job, layers: Sequence[Layer], pixels: bool) -> None:
        """Run the forward; `pixels`: also keep what the backward pass to the input needs.

        layers: cuts with channels, from top to bottom. Raises LayerError for others.
        """
        for layer in layers:
            cut_layer(job.model, layer, "a decomposition")
            as_maps(np.empty((1, *(s or 1 for s in layer.shape))), layer)
        self.job, self.layers = job, tuple(layers)
        self._names = [job.output, *(layer.name for layer in layers)]
        self._segments: list[Linearized] = []  # from bottom to top while the forward runs
        lowest = self._names[-1]
        if pixels:
            self._segments.append(self._linearize(lowest, job.source))
            value = self._segments[0][lowest]
        else:
            value = job.model.values(job.feeds, (lowest,))[lowest]
        for upper, lower in reversed(list(zip(self._names, self._names[1:], strict=False))):
            self._segments.append(self._linearize(upper, lower, value))
            value = self._segments[-1][upper]
        self._segments.reverse()
        self.output = value
        self.seeds = job.target.seeds(value)

    def _linearize(self, upper: str, lower: str, value: Array | None = None) -> Linearized:
        program = self.job.model.program((upper,), (lower,))
        return program.forward(
            self.job.feeds if value is None else {**self.job.feeds, lower: value}
        )

    @property
    def inexact(self) -> list[str]:
        """The rules on the way down that are not exact derivatives."""
        return sorted({note for s in self._segments for note in s.program.notes})

    @property
    def providers(self) -> tuple[str, ...]:
        """The onnxruntime providers really used."""
        return self._segments[0].program.providers

    def activation(self, level: int) -> Array:
        """Return the layer's activation, float32 [K, h, w]."""
        layer = self.layers[level - 1]
        value = self._segments[level - 1][layer.name].astype(np.float32, copy=False)
        maps: Array = as_maps(value, layer)[0]
        return maps

    def planted(self, level: int, planes: Sequence[Array], channels: Sequence[int]) -> Planted:
        """Return seeds at a level: each is zero but for one channel's plane [h, w]."""
        layer = self.layers[level - 1]
        rows = _as_layer(np.stack(planes)[:, None], layer)
        return Planted(rows, np.array(channels, np.int64), _channel_axis(layer))

    def pull(
        self, level: int, seeds: Array | Planted | Pulled, weight: Weigh | None = None
    ) -> Pulled:
        """Return the gradients at the next level down, of seeds at `level`.

        seeds: [B, ...] as the explained tensor at level 0, below what `planted` or another pull gave. weight:
        what `Pulled.contributions` sum, of the gradient and the activation; None where nobody asks for them.
        """
        formula = Contributions(weight, self.layers[level])
        parts, sums = [], list[Array]()
        for rows, count in _parts(seeds, self.job.model.at_once(len(seeds))):
            found = self._segments[level].reduced(rows, formula, keep=("signal",))
            parts.append((found["signal"], count))
            if weight is not None:
                sums.append(found["contributions"][:count].astype(np.float64))
        contributions = np.concatenate(sums) if sums else None
        return Pulled(parts, contributions, self.layers[level], self.job.model.executor)

    def pixels(self, seeds: Planted | Pulled) -> Array:
        """Return gradient x input, summed over colours, float32 [B, H, W], of seeds at the lowest level."""
        colours = None if self.job.axes is None else self.job.axes.index("C")
        # The first layers' signals are the largest of a network.
        size = self.job.model.seeds_at_once
        parts = [
            self._segments[-1].reduced(rows, Pixels(colours))["pixels"][:count]
            for rows, count in _parts(seeds, size)
        ]
        return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Pulled:
    """Gradients at a level, where they were computed: parts of so many rows, in the layer's order of axes.

    `contributions`: float64 [B, K], what each channel contributes to each seed's decision, if asked for.
    """

    parts: list[tuple[Value, int]]
    contributions: Array | None
    layer: Layer
    executor: Executor

    def __len__(self) -> int:
        """Return the number of seeds."""
        return sum(count for _, count in self.parts)

    def planes(self, rows: Sequence[int], channels: Sequence[int]) -> Array:
        """Return the gradient of each row at a channel, float32 [n, h, w]; n is 1 or more."""
        at, wanted, first = np.array(rows, np.int64), np.array(channels, np.int64), 0
        places, found = [], []
        for value, count in self.parts:
            inside = np.flatnonzero((first <= at) & (at < first + count))
            if len(inside):
                pairs = at[inside] - first, wanted[inside]
                places.append(inside)
                found.append(self.executor.planes(value, *pairs, _channel_axis(self.layer)))
            first += count
        planes = np.concatenate(found)[np.argsort(np.concatenate(places))]
        return planes.reshape(len(at), *(planes.shape[1:] or (1, 1))).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Contributions:
    """The gradients at a layer, and what each channel contributes: the sum of weight x activation."""

    weight: Weigh | None
    layer: Layer

    def __call__(self, op: Any, signal: Any, value: Any) -> dict[str, Any]:
        """Return {"signal": [B, ...], "contributions": [B, K]}, the latter where there is a weight."""
        if self.weight is None:
            return {"signal": signal}
        axes = self.layer.axes or ""
        positions = [axes.index(role) for role in "HW" if role in axes]
        terms = op.Mul(self.weight(op, signal, positions), value)
        total = op.ReduceSum(terms, positions, keepdims=0) if positions else terms
        return {"signal": signal, "contributions": total}


@dataclass(frozen=True)
class Pixels:
    """Gradient x input, summed over colours."""

    colours: int | None

    def __call__(self, op: Any, signal: Any, value: Any) -> dict[str, Any]:
        """Return {"pixels": [B, H, W]}."""
        product = op.Mul(signal, value)
        if self.colours is None:
            return {"pixels": product}
        return {"pixels": op.ReduceSum(product, [self.colours], keepdims=0)}


def _parts(seeds: Array | Planted | Pulled, size: int) -> Iterator[tuple[Value | Planted, int]]:
    """Yield seeds, at most `size` at once, and how many; what is on a device stays as it lies there."""
    if isinstance(seeds, Pulled):
        for value, count in seeds.parts:
            if isinstance(value, np.ndarray):
                yield from _parts(value, size)
            else:
                yield value, count
        return
    for i in range(0, len(seeds), size):
        rows = seeds[i : i + size]
        yield rows, len(rows)


def _channel_axis(layer: Layer) -> int:
    return layer.axes.index("C") if layer.axes is not None else 1


def as_maps(a: Array, layer: Layer) -> Array:
    """Return [n, *layer.shape] as [n, K, h, w]; a vector's elements are channels of one position.

    Raises LayerError for a layer without channels.
    """
    if layer.axes is not None and len(layer.axes) == 4:
        return channels_first(a, layer)
    if len(layer.shape) == 1:
        return a[:, :, None, None]
    raise LayerError(
        f"layer {layer.name!r} of shape {layer.shape} is neither a feature map nor a vector: "
        "it has no channels to decompose into"
    )


def _as_layer(a: Array, layer: Layer) -> Array:
    """Undo `as_maps`."""
    if layer.axes is not None and len(layer.axes) == 4:
        return from_channels_first(a, layer)
    return np.ascontiguousarray(a[:, :, 0, 0])
