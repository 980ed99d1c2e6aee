"""Real models: plain forward and methods, one image of each."""

from __future__ import annotations

from functools import partial

import numpy as np

import onnxplain as ox
from onnxplain.methods.registry import explain
from onnxplain.preprocess import read
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, input_spec, samples
from tools.bench.sessions import forward
from tools.bench.timing import Run, interleaved

METHODS = ("gradient", "positive", "grad_cam", "lift_cam")
ROUNDS, SECONDS = 15, 4


def measure(threads: int) -> dict[str, dict[str, float | str]]:
    """Return, per file of ../shared/data/models, the ms of each method, or why it refuses."""
    return {file: _one(file, threads) for file in sorted(REAL_MODELS)}


def picture(file: str) -> np.ndarray:
    """Return a picture [1, ...], read as the model of that file wants it."""
    row = REAL_MODELS[file]
    pictures, _ = samples("person" if row.data == "none" else row.data, SHARED, 1)
    return read(pictures, input_spec(row.path(SHARED)), row.pre)


def _one(file: str, threads: int) -> dict[str, float | str]:
    path, x = REAL_MODELS[file].path(SHARED), picture(file)
    model = ox.load(path, device="cpu", threads=threads)
    runs: dict[str, Run] = {"forward": forward(path, x, threads)}
    refused = {}
    for name in METHODS:
        run = partial(explain, model, x, name)
        try:
            run()
        except ox.OnnxplainError as error:
            refused[name] = str(error)
        else:
            runs[name] = run
    return {**interleaved(runs, ROUNDS, SECONDS), **refused}
