"""The quantised real models: their gradients by differences, and what of LIFT-CAM's residual is rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxplain as ox
from tests.oracle import gradient_error
from tests.quantised import held_oracle, without_rounding
from tests.real_models import REAL_MODELS
from tests.test_real_models import QUANTISED, open_model, pictures
from tests.zoo.measure import lift_residual

DYNAMIC = "mnist/mnist_cntk_int8_convinteger.onnx"
STATIC = [f for f in QUANTISED if f != DYNAMIC]  # their scales are constants


@pytest.mark.parametrize("file", QUANTISED)
def test_gradient_equals_finite_differences(file: str, shared: Path) -> None:
    """Of the net in which quantisers are clipped identities, at the levels that onnxruntime has."""
    model = open_model(file, shared)
    x = model.read(pictures(file, shared, 1))
    found = ox.gradient(model, x)
    oracle, k = held_oracle(model, {model.graph.source.name: x}), int(found.classes[0])
    assert oracle.logits(x)[0, k] == pytest.approx(found.scores[0], rel=1e-5)
    error = gradient_error(lambda v: float(oracle.logits(v[None])[0, k]), x[0], found.values[0])
    assert error <= 1e-5


@pytest.mark.parametrize("file", STATIC)
def test_without_rounding_lift_cam_is_complete(file: str, shared: Path) -> None:
    """The same files leave up to 6e-2: rounding has no slope, and the rest of the network rounds."""
    model, row = open_model(file, shared), REAL_MODELS[file]
    x = model.read(pictures(file, shared, 2))
    smooth = ox.load(without_rounding(model), device="cpu", preprocess=row.pre, labels=row.labels)
    assert lift_residual(smooth, {smooth.graph.source.name: x}) <= 1e-5
