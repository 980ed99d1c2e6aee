"""Feature maps as methods see them: channels first, whatever the layer's own order of axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxplain.executor import Array
from onnxplain.feeds import Feeds
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Job
from onnxplain.target import Seeds


@dataclass(frozen=True, eq=False)
class Found:
    """What a CAM without a signal weighs: the layer's activation A [n, K, h, w] of the images in `feeds`.

    Of tokens, those that are patches; all of them, as [n, K, T, 1], where the CAM needs whole channels.
    """

    A: Array
    feeds: Feeds
    seeds: Seeds
    job: Job
    layer: Layer
    options: dict[str, Any] = field(default_factory=dict)


def channels_first(a: Array, layer: Layer) -> Array:
    """Return [n, *layer.shape] as [n, K, h, w]; tokens as [n, K, T, 1], those that are no patches too."""
    first = np.ascontiguousarray(np.transpose(a, order_of(layer)))
    return first if layer.grid is None else first[..., None]


def from_channels_first(a: Array, layer: Layer) -> Array:
    """Undo `channels_first`: return [n, K, h, w] in the layer's own order of axes."""
    rows = a if layer.grid is None else a[..., 0]
    return np.ascontiguousarray(np.transpose(rows, np.argsort(order_of(layer))))


def in_picture(a: Array, layer: Layer) -> Array:
    """Return what `channels_first` gave as [n, K, h, w] where the layer holds tokens: the patches only."""
    if layer.grid is None:
        return a
    patches = a[:, :, layer.grid.patches, 0]
    return patches.reshape(*a.shape[:2], layer.grid.height, layer.grid.width)


def order_of(layer: Layer) -> list[int]:
    """Return the layer's axes in the order [n, K, h, w], of tokens [n, K, T]."""
    assert layer.axes is not None, f"{layer.name} is not a feature map"
    return [layer.axes.index(role) for role in ("NCHW" if layer.grid is None else "NCT")]
