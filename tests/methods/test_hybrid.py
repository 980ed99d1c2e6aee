"""Local evidence beside global importance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import onnxplain as ox
from onnxplain.errors import ConfigError
from onnxplain.results.filters import FilterImportance, spearman
from onnxplain.results.hybrid import HybridView
from tests import nets

X = nets.images(50)


@pytest.fixture(scope="module")
def model() -> ox.Model:
    return nets.load(nets.conv_net(w2=(20, 4, 3, 3), b2=(20,), w3=(6, 80)))


@pytest.fixture(scope="module")
def importance(model: ox.Model) -> FilterImportance:
    return ox.filter_importance(model, X, ["a1", "features"])


@pytest.fixture(scope="module")
def local(model: ox.Model) -> Any:
    return ox.layer_predictions(model, X[:3], nets.images(90, seed=4), layers=["features", "a3"])


def test_as_its_definition(local: Any, importance: FilterImportance) -> None:
    for image in range(3):
        found = ox.hybrid_view(local, importance, image)
        (layer,) = found.layers
        assert layer.layer == "features", "the only layer in both"
        evidence = local.evidence[local.layers.index("features")][image]
        np.testing.assert_allclose(layer.local, evidence)
        np.testing.assert_allclose(layer.effect, importance["features"].effect)
        rho = spearmanr(np.abs(evidence), layer.effect).statistic
        assert layer.agreement == pytest.approx(rho)
        high = set(np.argsort(-np.abs(evidence))[:2].tolist())  # a tenth of 20
        low = set(np.argsort(-layer.effect)[10:].tolist())
        assert set(layer.unusual) == {k for k in high & low if evidence[k] != 0}


def test_unusual_evidence_is_found(local: Any, importance: FilterImportance) -> None:
    """A filter that speaks loudest here and is worth least over the data is named."""
    from dataclasses import replace

    evidence = local.evidence[local.layers.index("features")][0]
    loudest = int(np.abs(evidence).argmax())
    effect = np.ones(20)
    effect[loudest] = -1
    altered = replace(importance, layers=(replace(importance["features"], effect=effect),))
    assert loudest in ox.hybrid_view(local, altered).layers[0].unusual
    effect[loudest] = 2
    altered = replace(importance, layers=(replace(importance["features"], effect=effect),))
    assert loudest not in ox.hybrid_view(local, altered).layers[0].unusual


def test_ranks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 30).astype(float), rng.normal(size=30)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.ones(30)) is None and spearman(np.ones(1), np.ones(1)) is None


def test_saved_and_loaded(local: Any, importance: FilterImportance, tmp_path: Path) -> None:
    found = ox.hybrid_view(local, importance)
    found.save(tmp_path)
    assert HybridView.load(tmp_path) == found


def test_refusals(model: ox.Model, local: Any, importance: FilterImportance) -> None:
    masked = ox.layer_predictions(model, X[:1])
    with pytest.raises(ConfigError, match="give references"):
        ox.hybrid_view(masked, importance)
    other = ox.filter_importance(nets.load(nets.conv_net()), X, ["features"])
    with pytest.raises(ConfigError, match="the importance is that of"):
        ox.hybrid_view(local, other)
    with pytest.raises(ConfigError, match="image 3 is not one of 3"):
        ox.hybrid_view(local, importance, 3)
    with pytest.raises(ConfigError, match="no layer in common"):
        ox.hybrid_view(local, ox.filter_importance(model, X, ["a1"]))
