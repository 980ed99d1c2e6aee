"""What becomes of an answer when its pixels are altered: exact on linear models, true on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.errors import OnnxplainError
from onnxplain.metrics.occlude import occlude
from onnxplain.results.occlusion import Occlusion
from tests import nets

RNG = np.random.default_rng(3)
G = RNG.normal(size=(5, 3, 6, 6))
X = RNG.normal(size=(1, 3, 6, 6)).astype(np.float32)
PRE = {"scale": 1 / 255, "mean": 0.5, "std": 0.25}


def linear() -> ox.Model:
    return nets.load(nets.linear_net(G), preprocess=PRE, labels=list("abcde"))


def test_of_a_linear_model_everything_is_foretold() -> None:
    found = ox.occlude(linear(), X, method="positive", share=0.25, fills=["black", "white", "blur"])
    np.testing.assert_allclose(found.foretold, found.observed, rtol=1e-3, atol=1e-4)
    z = np.einsum("cijk,ijk->c", G, X[0])
    order = [z.argmax(), *(c for c in np.argsort(-z) if c != z.argmax())]
    assert found.classes.tolist() == order and found.labels == tuple("abcde"[c] for c in order)
    np.testing.assert_allclose(found.logits, z[order], rtol=1e-4)
    np.testing.assert_allclose(found.margins, z[order[0]] - z[order[1:]], rtol=1e-4)
    assert found.mask.sum() == 9
    top = np.sort(found.map.ravel())[::-1]
    assert found.map[found.mask].min() == top[8]
    black = np.where(found.mask, -2, X[0])
    np.testing.assert_allclose(found.images[0], black)
    after = np.einsum("cijk,ijk->c", G, black)
    np.testing.assert_allclose(found.observed[0], (after - z)[order], rtol=1e-3, atol=1e-4)
    e = np.exp(after - after.max())
    np.testing.assert_allclose(found.confidence[1], (e / e.sum())[order[0]], rtol=1e-3)
    assert found.answers.tolist()[:2] == [z.argmax(), after.argmax()]
    assert found.answer_labels[1] == "abcde"[after.argmax()]


def test_the_first_order_is_the_derivative_and_no_more() -> None:
    """On a net with ReLUs the foretold change is what a small step does, enlarged."""
    model, x = nets.load(nets.conv_net()), nets.images(1)
    found = ox.occlude(model, x, method="absolute", share=0.3, fills=["zero"])
    step = 1e-3 * (found.images[0] - x[0])
    small = [model.predict(x + s * step[None]).logits[0].astype(float) for s in (1, -1)]
    slope = (small[0] - small[1])[found.classes] / 2e-3
    np.testing.assert_allclose(found.foretold[0], slope, rtol=2e-2, atol=2e-3)
    assert not np.allclose(found.foretold, found.observed, rtol=0.05)
    own = model.predict(found.images.astype(np.float32)).logits[0][found.classes]
    np.testing.assert_allclose(found.logits + found.observed[0], own, rtol=1e-4)


def test_classes_are_those_of_the_highest_logits_behind_the_explained_one() -> None:
    found = occlude(linear(), X, target=2, classes=3)
    z = np.einsum("cijk,ijk->c", G, X[0])
    assert found.classes.tolist() == [2, *(c for c in np.argsort(-z) if c != 2)][:3]
    assert found.answers[0] == z.argmax()


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    found = occlude(linear(), X)
    found.save(tmp_path)
    assert Occlusion.load(tmp_path) == found
    said = found.to_dict()
    assert said["fills"][0]["score"]["observed_change"] == found.observed[0, 0]
    margin = said["fills"][1]["margins"][2]
    assert margin["before"] == found.margins[2] and margin["label"] == found.labels[3]
    assert margin["observed_change"] == found.observed[1, 0] - found.observed[1, 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"share": 0}, "share = 0 must be above 0"),
        ({"share": 1}, "share = 1 must be above 0 and below 1"),
        ({"fills": []}, "one fill or more"),
        ({"classes": 0}, "one class or more"),
        ({"fills": ["pink"]}, "fill 'pink' is unknown"),
        ({"method": "magic"}, "method 'magic' is unknown"),
        ({"target": 9}, "class 9 does not exist"),
    ],
)
def test_bad_settings_are_refused_in_a_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OnnxplainError, match=message):
        occlude(linear(), X, **wrong)


def test_one_image_and_a_map_that_marks_something() -> None:
    with pytest.raises(OnnxplainError, match="takes one image, got 2"):
        occlude(linear(), np.repeat(X, 2, 0))
    flat = nets.load(nets.linear_net(np.zeros((2, 3, 6, 6)), np.array([1.0, 0])))
    with pytest.raises(OnnxplainError, match="marks no pixel"):
        occlude(flat, X, method="positive")
