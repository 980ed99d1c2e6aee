"""onnxplain itself, as the others are measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import onnxplain as ox
from onnxplain.methods.registry import explain
from tools.bench.sessions import forward
from tools.bench.timing import Run

NAME = f"onnxplain {ox.__version__}"


def fast(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return the forward, the default map and gradients."""
    model = ox.load(path, device="cpu", threads=threads)
    methods = {name: partial(explain, model, x, name) for name in ("lift_cam", "gradient")}
    return {"forward": forward(path, x, threads), **methods}


def slow(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return what runs the network many times, as black boxes do."""
    model = ox.load(path, device="cpu", threads=threads)
    return {name: partial(explain, model, x, name) for name in ("ablation_cam", "score_cam")}
