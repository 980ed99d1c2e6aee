"""A chain of cuts: the network as segments, each linearised at the same image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxplain.errors import LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Job, concat, cut_layer
from onnxplain.methods.maps import channels_first, from_channels_first
from onnxplain.program import Linearized


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

    def pull(self, level: int, seeds: Array) -> Array:
        """Return the gradients at the next level down: float32 [B, K, h, w], of seeds at `level`.

        seeds: [B, K, h, w]; at level 0 [B, ...] like the explained tensor.
        """
        upper, lower = self._names[level], self.layers[level]
        if level > 0:
            seeds = _as_layer(seeds, self.layers[level - 1])
        size = self.job.model.at_once(len(seeds))
        found = concat(list(self._gradients(level, upper, lower.name, seeds, size)))
        return as_maps(found.astype(np.float32, copy=False), lower)

    def pixels(self, seeds: Array) -> Array:
        """Return gradient x input, summed over colours, float32 [B, H, W], of seeds at the lowest level."""
        job, layer = self.job, self.layers[-1]
        x = job.feeds[job.source].astype(np.float32)
        channel = None if job.axes is None else job.axes.index("C")
        rows = _as_layer(seeds, layer)
        parts = []
        # The first layers' signals are the largest of a network.
        size = job.model.seeds_at_once
        for gradient in self._gradients(-1, layer.name, job.source, rows, size):
            product = gradient * x
            parts.append(product if channel is None else product.sum(channel))
        return np.concatenate(parts).astype(np.float32)

    def _gradients(
        self, segment: int, upper: str, lower: str, seeds: Array, size: int
    ) -> Iterator[Array]:
        """Yield the gradients at `lower` of seeds at `upper`, `size` at once."""
        for i in range(0, len(seeds), size):
            yield self._segments[segment].backward({upper: seeds[i : i + size]})[lower]


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
