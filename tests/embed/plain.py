"""Exported files as their users run them: onnxruntime with all defaults, nothing of onnxplain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

Array = np.ndarray[Any, Any]


def run(file: Path | onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return all outputs by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    source = str(file) if isinstance(file, Path) else file.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def run_in_parts(file: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return all outputs of a file that may take a fixed number of images, for as many as fit."""
    first = onnx.load(file, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0]
    whole = len(next(iter(feeds.values())))
    step = first.dim_value or whole
    parts = [
        run(file, {k: v[i : i + step] for k, v in feeds.items()})
        for i in range(0, whole - step + 1, step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same_bits(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Assert that every expected output is among those found, bit by bit."""
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes(), name


def error(found: Array, expected: Array) -> float:
    """Return the largest difference, as a share of the largest value."""
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.float32
    assert np.any(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())
