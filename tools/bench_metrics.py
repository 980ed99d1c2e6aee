"""Pixel flipping beside Quantus: the same points of the same curves, side by side in one process.

    pip install torch==2.13.0 quantus && python -m tools.bench_metrics

A residual net of 80,000 parameters at 224 pixels, 224 steps of a row's worth of pixels each, filled with 0;
grey images, as Quantus counts the elements of each colour by themselves. Quantus runs it in PyTorch, we run
its export. Both are warmed up and take turns; per map the median seconds, their ratio, and the largest
difference of a point. Quantus is no dependency (GPL); where it is not installed nothing is measured.
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

SIDE, CLASSES = 224, 10


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inside, out, 3, stride, 1)
        self.b = nn.Conv2d(out, out, 3, 1, 1)
        self.short = nn.Conv2d(inside, out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.b(torch.relu(self.a(x))) + self.short(x))


def net() -> nn.Module:
    """Return the net, seeded."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, 16, 7, 4, 3), nn.ReLU())
    blocks = nn.Sequential(Block(16, 16, 2), Block(16, 32, 2), Block(32, 64, 2))
    end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))
    return nn.Sequential(stem, blocks, end).eval()


def exported(model: nn.Module) -> bytes:
    """Return the net as an ONNX file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own end
        torch.onnx.export(
            model, torch.zeros(1, 1, SIDE, SIDE), file, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["z"],
            dynamic_axes={"x": {0: "N"}, "z": {0: "N"}},
        )  # fmt: skip
    return file.getvalue()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    try:
        import quantus
    except ImportError:
        print("quantus is not installed: pip install torch==2.13.0 quantus")
        return
    theirs = net()
    ours = ox.load(exported(theirs), device="cpu")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(given.maps, 1, SIDE, SIDE)).astype(np.float32)
    maps = rng.random((given.maps, SIDE, SIDE)).astype(np.float32)
    answers = Answers(ours, x)
    metric = quantus.PixelFlipping(
        features_in_step=SIDE, perturb_baseline=0.0, abs=False, normalise=False,
        disable_warnings=True,
    )  # fmt: skip

    def quantus_curves() -> np.ndarray:
        found: Any = metric(
            model=theirs, x_batch=x, y_batch=answers.classes, a_batch=maps[:, None], device="cpu",
            softmax=True, channel_first=True,
        )  # fmt: skip
        return np.array(found)

    def our_curves() -> np.ndarray:
        return flipping_curve(Case(Answers(ours, x, answers.classes), maps), steps=SIDE)[:, 1:]

    seconds: dict[str, list[float]] = {"quantus": [], "onnxplain": []}
    curves = {"quantus": quantus_curves(), "onnxplain": our_curves()}  # warmed up
    for _ in range(given.turns):
        for name, call in (("quantus", quantus_curves), ("onnxplain", our_curves)):
            begun = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - begun) / given.maps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    parameters = sum(p.numel() for p in theirs.parameters())
    away = np.abs(curves["quantus"] - curves["onnxplain"]).max()
    print(
        f"net: {parameters} parameters, {SIDE} px, {SIDE} steps, {given.maps} maps, {given.turns} turns"
    )
    print(
        f"quantus {quantus.__version__}, torch {torch.__version__}: {medians['quantus']:.3f} s per map"
    )
    print(f"onnxplain {ox.__version__}: {medians['onnxplain']:.3f} s per map")
    print(
        f"ratio {medians['quantus'] / medians['onnxplain']:.1f}; largest difference of a point {away:.1e}"
    )


if __name__ == "__main__":
    main()
