"""Feature maps as methods see them: channels first, whatever the layer's own order of axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Job
from onnxplain.program import Linearized
from onnxplain.target import Seeds


@dataclass(frozen=True, eq=False)
class Found:
    """What a CAM weighs: A and its signal G, [n, K, h, w] both; G is empty without a backward pass."""

    A: Array
    G: Array
    seeds: Seeds
    job: Job
    layer: Layer
    linearized: Linearized
    options: dict[str, Any] = field(default_factory=dict)


def channels_first(a: Array, layer: Layer) -> Array:
    """Return [n, *layer.shape] as [n, K, h, w]."""
    return np.ascontiguousarray(np.transpose(a, [_axes(layer).index(r) for r in "NCHW"]))


def from_channels_first(a: Array, layer: Layer) -> Array:
    """Return [n, K, h, w] in the layer's own order of axes."""
    return np.ascontiguousarray(np.transpose(a, ["NCHW".index(r) for r in _axes(layer)]))


def _axes(layer: Layer) -> str:
    assert layer.axes is not None, f"{layer.name} is not a feature map"
    return layer.axes
