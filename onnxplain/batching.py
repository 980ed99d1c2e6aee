"""How much runs at once: images, and seeds of one image. A question of speed, and of the memory left."""

from __future__ import annotations

from onnxplain.executor import Executor
from onnxplain.graph.graph import Graph

BATCH, BATCH_ON_CPU = 16, 4
"""Images run at once where memory allows: larger batches are no faster. On a CPU the fewer where activations
leave its caches: gradients of MobileNetV2 and EfficientNet-B0 take a fifth less time with 4 than with 16,
those of VGG-16 6 % more; with pictures of 32 x 32, 16 are the faster."""

CACHED = 1 << 26
"""Bytes of activations that count as small enough for the larger batch on a CPU."""

SEEDS, SEEDS_ON_CPU = 32, 4
"""Seeds of one image pulled back at once. On a CPU the signals of more leave its caches: active maps took
up to 15 % less time with 4 than with 32."""

SMALL = 1 << 28
"""Bytes of activations for which nobody asks how much memory is left."""


def images(graph: Graph, executor: Executor) -> int:
    """Return how many images are run at once where memory allows."""
    small = BATCH * graph.bytes_per_image <= CACHED
    return BATCH if small or not executor.on_cpu else BATCH_ON_CPU


def seeds(graph: Graph, executor: Executor) -> int:
    """Return how many seeds of one image are pulled back at once where memory allows.

    On a CPU one where activations are multiplied with each other: onnxruntime multiplies a stack by one
    matrix twice as slowly as pair by pair.
    """
    if not executor.on_cpu:
        return SEEDS
    return 1 if graph.attends else SEEDS_ON_CPU


def fitting(most: int, graph: Graph, executor: Executor) -> int:
    """Return how many images, or seeds of one image, fit half of the memory left: from 1 to `most`.

    On a device at most `SEEDS`: more gain nothing.
    """
    most = most if executor.on_cpu else min(most, SEEDS)
    wanted = most * graph.bytes_per_image
    if most <= 1 or wanted <= SMALL:
        return max(1, most)
    return max(1, int(most * min(1.0, executor.available / 2 / wanted)))
