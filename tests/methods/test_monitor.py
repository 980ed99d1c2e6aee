"""Checkpoints side by side: each number against what the same function says of one checkpoint alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.stats import spearmanr

import onnxplain as ox
from onnxplain.dataset import Run
from onnxplain.errors import ConfigError, LayerError
from onnxplain.results.monitoring import Monitoring
from tests import nets

X = nets.images(60)
LABELS = (np.arange(60) % nets.CLASSES).tolist()
LAYERS = ["a1", "features", "a3"]


def checkpoint(share: float) -> onnx.ModelProto:
    """Return weights on the way from one random net to another."""
    first, last = (nets.build(nets.HEAD, nets.BODY, seed=s, **nets.WEIGHTS) for s in (0, 1))
    for a, b in zip(first.graph.initializer, last.graph.initializer, strict=True):
        va, vb = map(onnx.numpy_helper.to_array, (a, b))
        mixed = ((1 - share) * va + share * vb).astype(va.dtype)
        a.CopyFrom(onnx.numpy_helper.from_array(mixed, a.name))
    return first


@pytest.fixture(scope="module")
def models() -> list[ox.Model]:
    return [nets.load(checkpoint(share)) for share in (0, 0.5, 0.9, 1)]


@pytest.fixture(scope="module")
def found(models: list[ox.Model]) -> Monitoring:
    return ox.monitor(models, (X, LABELS), LAYERS, references=nets.images(80, seed=5))


def test_each_checkpoint_as_if_alone(models: list[ox.Model], found: Monitoring) -> None:
    assert found.accuracy is not None
    for m, model in enumerate(models):
        alone = ox.feature_correlation(model, X, LAYERS)
        worth = ox.filter_importance(model, X, LAYERS, "first_order")
        readouts = ox.fit_readouts(model, nets.images(80, seed=5), LAYERS)
        agreement = ox.layer_agreement(model, X, readouts)
        right = (model.predict(X).classes == LABELS).mean()
        assert found.accuracy[m] == pytest.approx(right)
        for i, layer in enumerate(LAYERS):
            assert found.dead[m, i] == alone.dead(layer).mean()
            assert found.redundancy[m, i] == pytest.approx(alone.redundancy(layer).mean(), abs=1e-9)
            np.testing.assert_allclose(found.effects[i][m], worth[layer].effect, atol=1e-9)
        np.testing.assert_allclose(found.agreement[m], agreement.agreement)
        np.testing.assert_array_equal(found.depth[m], agreement.depth)
        depths = np.repeat(np.arange(len(LAYERS) + 1), found.depth[m])
        assert found.mean_depth[m] == pytest.approx(depths.mean())


def test_between_checkpoints(models: list[ox.Model], found: Monitoring) -> None:
    centred = []
    for model in models:
        values = model.values({"x": X}, LAYERS)
        phis = [values[n].astype(np.float64) for n in LAYERS]
        phis = [p.mean((2, 3)) if p.ndim == 4 else p for p in phis]
        centred.append([p - p.mean(0) for p in phis])
    for i in range(len(LAYERS)):
        for a in range(4):
            for b in range(4):
                x, y = centred[a][i], centred[b][i]
                both = np.square(x.T @ y).sum()
                own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
                assert found.cka[i, a, b] == pytest.approx(both / own, abs=1e-8)
                rho = spearmanr(found.effects[i][a], found.effects[i][b]).statistic
                assert found.ranks[i, a, b] == pytest.approx(rho, abs=1e-9)
    near = found.cka[:, 2, 3] > found.cka[:, 0, 3]
    assert near.all(), "what is nearer in weights is nearer in features here"


def test_how_it_runs_does_not_matter(models: list[ox.Model], found: Monitoring) -> None:
    again = ox.monitor(
        models, (X[::-1].copy(), LABELS[::-1]), LAYERS, nets.images(80, seed=5),
        run=Run(workers=3, batch=7),
    )  # fmt: skip
    for name in ("cka", "ranks", "redundancy", "agreement", "accuracy", "depth"):
        mine, theirs = getattr(again, name), getattr(found, name)
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_one_network_twice(models: list[ox.Model]) -> None:
    found = ox.monitor([models[0], models[0]], X, LAYERS)
    np.testing.assert_allclose(found.cka, 1, atol=1e-9)
    np.testing.assert_allclose(found.ranks, 1, atol=1e-9)
    assert found.accuracy is None and found.meta["references"] == "the same images"


def test_saved_and_loaded(found: Monitoring, tmp_path: Path) -> None:
    found.save(tmp_path)
    assert Monitoring.load(tmp_path) == found


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"models": [0]}, ConfigError, "two checkpoints or more"),
        ({"names": ["one"]}, ConfigError, "1 names for 2 checkpoints"),
        ({"layers": ["nowhere"]}, LayerError, "nowhere"),
    ],
)
def test_refusals(models: list[ox.Model], change: dict[str, Any], error: Any, says: str) -> None:
    given = [models[i] for i in change.pop("models", [0, 1])]
    with pytest.raises(error, match=says):
        ox.monitor(given, X, **change)


def test_other_networks_are_no_checkpoints(models: list[ox.Model]) -> None:
    wider = nets.load(nets.conv_net(w2=(7, 4, 3, 3), b2=(7,), w3=(6, 28)))
    with pytest.raises(
        LayerError, match=r"has 5 channels in .* and 7 in .* no checkpoints of one network"
    ):
        ox.monitor([models[0], wider], X, ["features"])
