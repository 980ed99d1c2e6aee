"""A style: one small network, as one exporter writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Sample:
    """A file's inputs, its framework's (or plain onnxruntime's) answer, and who wrote it."""

    inputs: Arrays
    outputs: Arrays
    maker: str


@dataclass(frozen=True)
class Style:
    """One row of the zoo.

    `write` makes the file at a path. `float_twin` names the style with the same weights in float32, `peer`
    says that it is one of the 24 styles on which the alternatives were measured.
    """

    name: str
    what: str
    write: Callable[[Path], Sample]
    peer: bool = False
    float_twin: str | None = None


def picture(*shape: int, seed: int = 0) -> Array:
    """Return values in -1..1 that vary slowly, as pictures do, in few bits so that they pack well."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    for axis in (-1, -2) if len(shape) > 2 else ():
        x = (x + np.roll(x, 1, axis) + np.roll(x, 2, axis)) / np.sqrt(3)
    return (np.round(np.tanh(x) * 64) / 64).astype(np.float32)


def run_plainly(path: Path, inputs: Mapping[str, Array]) -> Arrays:
    """Return all outputs of a file as onnxruntime computes them without optimising anything."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def strip(path: Path) -> None:
    """Drop what exporters note about the machine and the source they ran from."""
    model = onnx.load(path, load_external_data=False)
    for graph in (model.graph, *model.functions):
        for entry in (graph, *graph.node, *graph.value_info):
            del entry.metadata_props[:]
            entry.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    model.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))
