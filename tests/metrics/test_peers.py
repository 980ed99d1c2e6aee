"""The same numbers as captum and Quantus, on a case stored with how it was made (peers.py)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain.metrics import Answers, Case
from onnxplain.metrics.curves import flipping_curve
from onnxplain.metrics.robust import infidelity, max_sensitivity
from tests import nets
from tests.metrics import peers

SAID: dict[str, Any] = json.loads(peers.STORED.read_text())


def answers() -> Answers:
    return Answers(nets.load(peers.NET), peers.X, peers.CLASSES)


def test_infidelity_is_captums() -> None:
    found, g = answers(), ox.gradient(nets.load(peers.NET), peers.X, peers.CLASSES).values
    np.testing.assert_allclose(infidelity(found, g, peers.CHANGES), SAID["infidelity"], rtol=1e-4)
    scaled = infidelity(found, g, peers.CHANGES, normalize=True)
    np.testing.assert_allclose(scaled, SAID["infidelity_normalized"], rtol=1e-4)


def test_max_sensitivity_is_captums() -> None:
    case = Case.of(answers(), lambda model, x, classes: ox.gradient(model, x, classes))
    found = max_sensitivity(case, changes=peers.SMALL)
    np.testing.assert_allclose(found, SAID["sensitivity_max"], rtol=1e-4)


def test_pixel_flipping_is_quantuss() -> None:
    found = flipping_curve(Case(answers(), peers.MAPS), steps=peers.STEPS)[:, 1:]
    np.testing.assert_allclose(found, SAID["pixel_flipping"], rtol=1e-5)
