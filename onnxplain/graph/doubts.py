"""What a valid file says that its author can hardly have meant: numbers that an exporter got wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

_SMALLEST = float(np.finfo(np.float32).smallest_normal)
_LARGEST_EPSILON = 0.1  # frameworks have 1e-3 to 1e-12


def doubts(graph: gs.Graph) -> tuple[str, ...]:
    """Return a sentence for each attribute whose value looks like memory that was never written.

    Known of paddle2onnx 2.1.0: slopes of LeakyRelu such as 2.5e-43, epsilons of 0 or 1e15. Such a file is
    valid and runs, but computes something else than the network it was exported from.
    """
    return tuple(
        f"{node.op} (node {node.name!r}) has {name} {value:.3g}, {why}: compare the file's outputs with the "
        "network it came from, and export it again"
        for node in graph.nodes
        for name, value in node.attrs.items()
        if isinstance(value, float)
        for why in _why(str(node.op), name, value)
    )


def _why(op: str, name: str, value: float) -> Iterator[str]:
    if not math.isfinite(value) or 0 < abs(value) < _SMALLEST:
        yield "which looks like memory that was never written"
    elif name == "epsilon" and value <= 0:
        yield "which divides by zero where nothing varies"
    elif name == "epsilon" and value > _LARGEST_EPSILON:
        yield "which is larger than what it is added to"
    elif op == "LeakyRelu" and name == "alpha" and value == 0:
        yield "which makes it a Relu"
