"""Print how long nets of growing length take: `python tools/scaling.py > docs/scaling.md`.

Chains of Conv, Relu and a residual Add with two channels, and a chain of element-wise nodes: all that
costs is the number of nodes. Every row is a process of its own, timed in CPU seconds of one thread.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxplain as ox
from onnxplain.model import Model
from onnxplain.program import MANY_NODES, MANY_RESIDUALS

SIZES = {"residual": (100, 300, 1000, 3000), "elementwise": (1000, 3000, 10_000)}
TEXT = """# Time against length

{words}. CPU seconds of one thread, on two CPU cores; Python {python}, onnx {onnx}, onnxruntime \
{onnxruntime}, onnx-graphsurgeon {graphsurgeon}. Printed by `python tools/scaling.py`.

* *load*: read, check, lift, canonicalise, find layers and cuts
* *linearise*: write the backward pass and split it from the forward
* *sessions*: onnxruntime's, and the first input gradient
* *gradient*: the second

| net | nodes | load | linearise | sessions | gradient | load and linearise per node |
|---|---:|---:|---:|---:|---:|---:|
{rows}

Loading and linearising grow about in proportion to the nodes; the last column shows how much more than
that. onnxruntime's sessions grow faster. Up to {nodes} nodes forward and backward are one graph; above,
where that takes long to make, two: the forward hands its residuals on, above {many} of them without
onnxruntime's optimiser, which looks every node up among all outputs.
"""
WORDS = (
    "A layer of *residual* is Conv, Relu and Add (two channels, 4 x 4); of *elementwise*, one Tanh"
)


def residual(layers: int) -> ModelProto:
    """Return a chain of Conv, Relu and Add."""
    rng = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for i in range(layers):
        weight = (rng.normal(size=(2, 2, 1, 1)) / layers).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [at, f"w{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        nodes.append(helper.make_node("Add", [f"r{i}", at], [f"a{i}"]))
        at = f"a{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["y"]))
    return _model(nodes, ["N", 2, 4, 4], 2, weights)


def elementwise(layers: int) -> ModelProto:
    """Return a chain of Tanh."""
    names = ["x", *(f"t{i}" for i in range(layers - 1)), "y"]
    nodes = [helper.make_node("Tanh", [a], [b]) for a, b in pairwise(names)]
    return _model(nodes, ["N", 3], 3, [])


def _model(
    nodes: list[onnx.NodeProto], shape: list[str | int], classes: int, weights: list[TensorProto]
) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def measure(kind: str, layers: int) -> str:
    """Return a row of the table."""
    proto = {"residual": residual, "elementwise": elementwise}[kind](layers)
    _explain(residual(3))  # imports are not what is measured
    model, seconds = _explain(proto)
    nodes = len(model.graph.nodes.nodes)
    per_node = (seconds[0] + seconds[1]) / nodes * 1e6
    cells = " | ".join(f"{s:.2f} s" for s in seconds)
    return f"| {layers:,} {kind} | {nodes:,} | {cells} | {per_node:.0f} µs |"


def _explain(proto: ModelProto) -> tuple[Model, list[float]]:
    laps = [time.process_time()]
    model = ox.load(proto, device="cpu", threads=1)
    laps.append(time.process_time())
    model.program((model.graph.logit.tensor,), (model.graph.source.name,))
    laps.append(time.process_time())
    x = np.ones((1, *(int(s) for s in model.graph.source.shape[1:])), np.float32)
    ox.gradient(model, x, 0)  # makes the sessions
    laps.append(time.process_time())
    ox.gradient(model, x, 0)
    laps.append(time.process_time())
    return model, [b - a for a, b in pairwise(laps)]


def main() -> None:
    """Print the page, or the row asked for."""
    if len(sys.argv) == 3:
        print(measure(sys.argv[1], int(sys.argv[2])))
        return
    rows = [
        subprocess.run(
            [sys.executable, __file__, kind, str(n)], check=True, capture_output=True, text=True
        ).stdout.strip()
        for kind, sizes in SIZES.items()
        for n in sizes
    ]
    print(
        TEXT.format(
            words=WORDS,
            python=platform.python_version(),
            onnx=onnx.__version__,
            onnxruntime=onnxruntime.__version__,
            graphsurgeon=version("onnx-graphsurgeon"),
            rows="\n".join(rows),
            many=f"{MANY_RESIDUALS:,}",
            nodes=f"{MANY_NODES:,}",
        ),
        end="",
    )


if __name__ == "__main__":
    main()
