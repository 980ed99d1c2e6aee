"""Print how much memory a model above 2 GB takes: `python -m tools.large > docs/large.md`.

Nets with more than 2 GB of random weights in an external file are written to a temporary folder, and each is
explained in a process of its own. Linux only: the peaks are read from /proc.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper

import onnxplain as ox
from onnxplain.doctor import inspect

CHUNK = 1 << 24  # numbers written at once
TEXT = """# Memory of large models

Peak resident memory as a multiple of the weights, in the order in which the steps ran in one process, and \
seconds of each (two CPU cores, threads as onnxruntime likes). Python {python}, onnx {onnx}, onnxruntime \
{onnxruntime}. Printed by `python -m tools.large`.

| net | weights |{heads}
|---|---:|{rules}
{rows}

Weights in external files are mapped, not read: what is resident of them are pages of the file, which the
system takes back when memory is short. Where a part of the network has more than 1 GB of constants, those
of Gemm, MatMul and Conv are fed to every session from that one place. onnxruntime then cannot rearrange
them for speed: products of one image take as long as before, those of 4 to 16 two to three times as long, and
the gradient of convolutions twice. The backward pass of a stride-1 convolution has its weights once more,
turned round.
"""


def vgg(opset: int) -> ModelProto:
    """One Gemm of 2.5 GB behind convolutions."""
    nodes = [
        helper.make_node("Conv", ["x", "c1"], ["a1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a1"], ["r1"]),
        helper.make_node("Conv", ["r1", "c2"], ["a2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["rh"]),
        helper.make_node("Gemm", ["rh", "w2"], ["y"], transB=1),
    ]
    shapes = {
        "c1": (64, 3, 3, 3),
        "c2": (512, 64, 3, 3),
        "w1": (25_000, 25_088),
        "w2": (10, 25_000),
    }
    return _model(nodes, shapes, 10, opset)


def products(opset: int) -> ModelProto:
    """40 MatMuls of 67 MB."""
    nodes = [helper.make_node("Conv", ["x", "c"], ["a"], strides=[16, 16])]
    nodes += [
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
    ]
    nodes += [helper.make_node("Flatten", ["p"], ["h0"])]
    shapes: dict[str, tuple[int, ...]] = {"c": (4096, 3, 16, 16)}
    for i in range(40):
        shapes[f"w{i}"] = (4096, 4096)
        nodes += [
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]),
            helper.make_node("Add", [f"m{i}", f"h{i}"], [f"s{i}"]),
            helper.make_node("Relu", [f"s{i}"], [f"h{i + 1}"]),
        ]
    shapes["last"] = (10, 4096)
    nodes.append(helper.make_node("Gemm", ["h40", "last"], ["y"], transB=1))
    return _model(nodes, shapes, 10, opset)


def convolutions(opset: int) -> ModelProto:
    """17 convolutions of 151 MB."""
    nodes = [helper.make_node("Conv", ["x", "c"], ["h0"], strides=[32, 32])]
    shapes: dict[str, tuple[int, ...]] = {"c": (2048, 3, 32, 32)}
    for i in range(17):
        shapes[f"w{i}"] = (2048, 2048, 3, 3)
        nodes += [
            helper.make_node("Conv", [f"h{i}", f"w{i}"], [f"m{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"m{i}"], [f"h{i + 1}"]),
        ]
    shapes["last"] = (10, 2048)
    nodes.append(helper.make_node("GlobalAveragePool", ["h17"], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"]))
    nodes.append(helper.make_node("Gemm", ["f", "last"], ["y"], transB=1))
    return _model(nodes, shapes, 10, opset)


def _model(
    nodes: list[NodeProto], shapes: dict[str, tuple[int, ...]], classes: int, opset: int
) -> ModelProto:
    """Return a model whose weights are to lie one behind the other in weights.bin."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
    weights, offset = [], 0
    for name, shape in shapes.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        size = prod(shape) * 4
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        offset += size
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


NETS: dict[str, tuple[Callable[[int], ModelProto], int, float]] = {
    "one Gemm, opset 13": (vgg, 13, 1.0),
    "one Gemm, opset 18": (vgg, 18, 1.0),
    "40 MatMul, opset 18": (products, 18, 0.25),
    "17 Conv, opset 18": (convolutions, 18, 1.0),
}
"""Name -> net, opset, and the size of its weights against He's, such that activations neither vanish nor
explode."""


def write(name: str, folder: Path) -> Path:
    """Write a net with random weights."""
    make, opset, gain = NETS[name]
    model = make(opset)
    rng = np.random.default_rng(0)
    with (folder / "weights.bin").open("wb") as file:
        for tensor in model.graph.initializer:
            rows, *rest = tensor.dims
            scale = np.float32((2 / prod(rest)) ** 0.5 * gain)
            for start in range(0, rows * prod(rest), CHUNK):
                count = min(CHUNK, rows * prod(rest) - start)
                (rng.standard_normal(count, np.float32) * scale).tofile(file)
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def measure(path: Path) -> Iterator[tuple[str, float, float]]:
    """Yield, for each step, its name, the peak of resident bytes and its seconds."""
    x = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    model: Any = None

    def load() -> None:
        nonlocal model
        model = ox.load(path, device="cpu")

    steps: dict[str, Callable[[], object]] = {
        "load": load,
        "inspect": lambda: inspect(model),
        "predict": lambda: model.predict(x),
        "gradient": lambda: ox.gradient(model, x),
        "lift_cam": lambda: ox.cam(model, x, kind="lift_cam"),
    }
    for name, step in steps.items():
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
        before = time.perf_counter()
        step()
        yield name, _peak(), time.perf_counter() - before


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def row(name: str) -> str:
    """Measure one net in this process; return its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(name, Path(folder))
        weights = (Path(folder) / "weights.bin").stat().st_size
        cells = [f"{peak / weights:.2f} ({s:.1f} s)" for _, peak, s in measure(path)]
    return f"| {name} | {weights / 1e9:.2f} GB | {' | '.join(cells)} |"


def main() -> None:
    """Print the page, or the row asked for."""
    if len(sys.argv) == 2:
        print(row(sys.argv[1]))
        return
    rows = [
        subprocess.run(
            [sys.executable, "-m", "tools.large", name], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in NETS
    ]
    names = ("load", "inspect", "predict", "gradient", "LIFT-CAM")
    print(
        TEXT.format(
            python=platform.python_version(),
            onnx=onnx.__version__,
            onnxruntime=onnxruntime.__version__,
            heads="".join(f" {name} |" for name in names),
            rules="---:|" * len(names),
            rows="\n".join(rows),
        ),
        end="",
    )


if __name__ == "__main__":
    main()
