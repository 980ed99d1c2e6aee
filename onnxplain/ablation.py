"""Running the rest of a network from a layer on, with channels of the layer kept or replaced."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxplain.executor import Array, Executor
from onnxplain.graph.ablated import BASE, KEEP, ablated
from onnxplain.graph.graph import Graph
from onnxplain.graph.layers import Layer

ROWS = 32
"""Rows run at once: more cost memory and gain nothing."""


class Ablation:
    """The rest of a network from one layer on; made by `Model.ablation`, which caches them."""

    def __init__(self, graph: Graph, layer: Layer, output: str, executor: Executor) -> None:
        """Write the graph; raises LayerError for a layer that is no cut, or without channels."""
        part, self.beside = ablated(graph.nodes, layer, output)
        self.layer, self._output = layer, output
        self._rows = ROWS if graph.pinned is None else 1
        self._per_image = {i.name for i in graph.inputs if i.per_image}
        self._session = executor.session(part)

    def run(
        self,
        a: Array,
        keep: Array,
        base: Array | None = None,
        feeds: Mapping[str, Array] | None = None,
    ) -> Array:
        """Return what the output becomes for each row of `keep`.

        a: the layer's activation of one image, [1, ...]. keep: [rows, K], 1 for channels that stay as they
        are and 0 for those replaced (shares in between mix). base: [K], what replaces a channel at every
        position; None is 0. feeds: the model's inputs for that image, where the rest reads some.
        """
        channels = keep.shape[1]
        base = np.zeros(channels) if base is None else base
        fixed = {self.layer.name: a, BASE: base.reshape(1, channels).astype(a.dtype)}
        given = {name: (feeds or {})[name] for name in self.beside}
        parts = []
        for begin in range(0, len(keep), self._rows):
            rows = keep[begin : begin + self._rows].astype(a.dtype)
            beside = {
                k: np.repeat(v, len(rows), axis=0) if k in self._per_image else v
                for k, v in given.items()
            }
            parts.append(self._session.run({**fixed, KEEP: rows, **beside})[self._output])
        found: Array = np.concatenate(parts)
        return found
