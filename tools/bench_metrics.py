"""Pixel flipping beside Quantus: the same points of the same curves, side by side in one process.

    pip install torch==2.13.0 quantus && python -m tools.bench_metrics

A residual net of 80,000 parameters at 224 pixels, 224 steps of a row's worth of pixels each, filled with 0.
Quantus runs it in PyTorch, we run its export. Both are warmed up and take turns; per map the median seconds,
their ratio, how long onnxruntime alone takes to run as many images, and the largest difference of a point.
Grey images: both make the same 224 points. In colour Quantus counts the elements of each colour by
themselves: it makes 672 points to give the 224 at whole pixels.
Quantus is no dependency (GPL); where it is not installed nothing is measured.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

import onnxplain as ox
from onnxplain.metrics import Answers, Case
from onnxplain.metrics.curves import flipping_curve
from tools.bench.sessions import forward

SIDE, CLASSES = 224, 10


def _normal(inside: int, out: int, size: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inside, out, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class Block(nn.Module):
    """Two convolutions with batch normalisation beside a shortcut."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.a = _normal(inside, out, 3, stride)
        self.b = _normal(out, out, 3, 1)
        self.short = _normal(inside, out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.b(torch.relu(self.a(x))) + self.short(x))


def net(colours: int) -> nn.Module:
    """Return the net, seeded."""
    torch.manual_seed(0)
    stem = nn.Sequential(_normal(colours, 16, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
    end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))
    return nn.Sequential(stem, blocks, end).eval()


def exported(model: nn.Module, colours: int) -> bytes:
    """Return the net as an ONNX file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own end
        torch.onnx.export(
            model, torch.zeros(1, colours, SIDE, SIDE), file, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["z"],
            dynamic_axes={"x": {0: "N"}, "z": {0: "N"}},
        )  # fmt: skip
    return file.getvalue()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of either side")
    given = parser.parse_args()
    turns, threads = given.turns, given.threads
    torch.set_num_threads(threads)
    try:
        import quantus
    except ImportError:
        print("quantus is not installed: pip install torch==2.13.0 quantus")
        return
    print(f"{SIDE} px, {SIDE} steps, {threads} threads, {turns} turns")
    print(f"quantus {quantus.__version__}, torch {torch.__version__}, onnxplain {ox.__version__}")
    for colours, maps in ((1, 1), (1, 4), (3, 1)):
        seconds, away = measured(quantus, colours, maps, turns, threads)
        theirs, ours, floor = (statistics.median(taken) for taken in seconds.values())
        print(
            f"{colours} colour(s), {maps} map(s) per call: quantus {theirs:.3f}, onnxplain {ours:.3f} s per "
            f"map, ratio {theirs / ours:.1f}; {SIDE} plain runs of the file take {floor:.3f} s; "
            f"largest difference of a point {away:.1e}"
        )


def measured(
    quantus: Any, colours: int, count: int, turns: int, threads: int
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds per map of each turn of both, and how far their curves are apart."""
    theirs = net(colours)
    file = exported(theirs, colours)
    ours = ox.load(file, device="cpu", threads=threads)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, colours, SIDE, SIDE)).astype(np.float32)
    order = [rng.permutation(SIDE * SIDE) for _ in range(count)]  # no two pixels are equal
    maps = np.reshape(order, (count, SIDE, SIDE)).astype(np.float32) / SIDE**2
    classes = Answers(ours, x).classes
    metric = quantus.PixelFlipping(
        features_in_step=SIDE, perturb_baseline=0.0, abs=False, normalise=False,
        disable_warnings=True,
    )  # fmt: skip

    def quantus_curves() -> np.ndarray[Any, Any]:
        found = metric(
            model=theirs, x_batch=x, y_batch=classes, a_batch=maps[:, None], device="cpu",
            softmax=True, channel_first=True,
        )  # fmt: skip
        return np.array(found)[:, colours - 1 :: colours]

    def our_curves() -> np.ndarray[Any, Any]:
        return flipping_curve(Case(Answers(ours, x, classes), maps), steps=SIDE)[:, 1:]

    four = forward(file, np.repeat(x[:1], 4, axis=0), threads)

    def plain_runs() -> None:
        for _ in range(count * SIDE // 4):
            four()

    calls = {"quantus": quantus_curves, "onnxplain": our_curves, "plain": plain_runs}
    curves = {name: call() for name, call in calls.items()}  # warmed up
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - begun) / count)
    return seconds, float(np.abs(curves["quantus"] - curves["onnxplain"]).max())


if __name__ == "__main__":
    main()
