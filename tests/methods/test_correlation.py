"""Correlation of features: NumPy over all of them at once, its invariants, and planted copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import onnxplain as ox
from onnxplain.dataset import Moments, Run
from onnxplain.errors import ConfigError, LayerError, TargetError
from onnxplain.methods.correlation import pearson
from onnxplain.results.filters import FeatureCorrelation, cka_of
from tests import nets

X = nets.images(40)


@pytest.fixture(scope="module")
def model() -> ox.Model:
    return nets.load(nets.conv_net())


@pytest.fixture(scope="module")
def found(model: ox.Model) -> FeatureCorrelation:
    return ox.feature_correlation(model, X)


def features(model: ox.Model, layers: Any = None) -> list[np.ndarray]:
    """Return phi of the layers, and the logits, [N, K] each, float64."""
    names = layers or [layer.name for layer in model.graph.features]
    values = model.values({"x": X}, (*names, "z"))
    means = [values[n].astype(np.float64) for n in names]
    means = [a.mean((2, 3)) if a.ndim == 4 else a for a in means]
    return [*means, values["z"].astype(np.float64)]


def test_pearson_as_numpy_has_it(model: ox.Model, found: FeatureCorrelation) -> None:
    rows = np.concatenate(features(model), 1)
    varies = rows.std(0) > 1e-6
    with np.errstate(all="ignore"):
        expected = np.corrcoef(rows.T)
    expected[~varies], expected[:, ~varies] = 0, 0
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(found.correlation, expected, atol=1e-10)
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.deviation, np.where(varies, rows.std(0), 0), atol=1e-10)
    assert (found.layers, found.images) == (("a1", "features", "a3"), 40)
    assert found.meta["data"] == "array" and found.meta["skipped"] == 0


def test_blocks(model: ox.Model, found: FeatureCorrelation) -> None:
    a1, a2, _, z = features(model)
    both = np.corrcoef(a1.T, a2.T)[4:, :4]
    np.testing.assert_allclose(found.between("features", "a1"), both, atol=1e-10)
    np.testing.assert_allclose(found.between("a1", "features"), both.T, atol=1e-10)
    np.testing.assert_allclose(found.with_logits("a1"), np.corrcoef(a1.T, z.T)[:4, 4:], atol=1e-10)
    within = np.abs(np.corrcoef(a1.T)) - np.eye(4)
    np.testing.assert_allclose(found.redundancy("a1"), within.max(1), atol=1e-10)
    with pytest.raises(LayerError, match="'c1' was not looked at; there are a1, features, a3"):
        found.within("c1")


def test_cka_as_its_definition(model: ox.Model, found: FeatureCorrelation) -> None:
    """Kornblith et al. 2019, by N x N Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    centre = np.eye(len(X)) - 1 / len(X)
    grams = [centre @ f @ f.T @ centre for f in features(model)[:-1]]
    expected = [
        [(k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()) for m in grams] for k in grams
    ]
    np.testing.assert_allclose(found.cka, expected, atol=1e-8)


@given(arrays(np.float64, (12, 4), elements=st.floats(-3, 3)), st.integers(0, 99))
def test_invariants(rows: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.round(rows, 3)  # differences far above rounding
    r, deviation = pearson(Moments.of(rows))
    assert np.array_equal(r, r.T) and np.abs(r).max() <= 1 and (np.diagonal(r) == 1).all()
    scale, shift = rng.uniform(0.5, 2, 4), rng.normal(size=4)
    np.testing.assert_allclose(pearson(Moments.of(rows * scale + shift))[0], r, atol=1e-6)
    order = rng.permutation(len(rows))
    np.testing.assert_allclose(pearson(Moments.of(rows[order]))[0], r, atol=1e-9)
    dead = np.ptp(rows, axis=0) == 0
    assert (deviation[dead] == 0).all()
    # CKA: 1 with itself, the same after a rotation; 0 where nothing varies
    turned = rows @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    r, deviation = pearson(Moments.of(np.concatenate([rows, turned], 1)))
    both = r * np.outer(deviation, deviation)
    shared = np.array(
        [
            [(both[a, b] ** 2).sum() for b in (slice(4), slice(4, 8))]
            for a in (slice(4), slice(4, 8))
        ]
    )
    cka = cka_of(shared)
    np.testing.assert_allclose(cka, 0 if dead.all() else 1, atol=1e-6)


def test_planted_copies_and_dead_filters() -> None:
    w1 = nets.drawn(np.random.default_rng(0), (4, 3, 3, 3))
    w1[2], w1[3] = 2 * w1[0], 0
    b1 = np.array([0, 0, 0, 0.5], np.float32)
    model = nets.load(nets.conv_net(w1=w1, b1=b1))
    found = ox.feature_correlation(model, X, ["a1"])
    assert found.within("a1")[0, 2] == pytest.approx(1, abs=1e-9)
    assert found.dead("a1").tolist() == [False, False, False, True]
    assert found.within("a1")[3].tolist() == [0, 0, 0, 1] and found.redundancy("a1")[3] == 0
    assert found.groups("a1") == ((0, 2),)
    order = found.order("a1").tolist()
    assert abs(order.index(0) - order.index(2)) == 1 and sorted(order) == [0, 1, 2, 3]


def test_groups_by_threshold(found: FeatureCorrelation) -> None:
    assert found.groups("features", 1.0) == ()
    everything = found.groups("features", 1e-9)
    assert [len(g) for g in everything] == [nets.CHANNELS]
    for threshold in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="threshold"):
            found.groups("features", threshold)


@pytest.mark.parametrize(
    "run", [Run(workers=1, batch=1), Run(workers=3, batch=7), Run(batch=100)], ids=str
)
def test_how_it_runs_does_not_matter(run: Run, model: ox.Model, found: FeatureCorrelation) -> None:
    again = ox.feature_correlation(model, X, run=run)
    np.testing.assert_allclose(again.correlation, found.correlation, atol=1e-6)
    turned = ox.feature_correlation(model, X[::-1].copy(), run=run)
    np.testing.assert_allclose(turned.correlation, found.correlation, atol=1e-6)


def test_channels_last_is_the_same(found: FeatureCorrelation) -> None:
    twin = nets.load(nets.nhwc_net())
    again = ox.feature_correlation(twin, np.ascontiguousarray(X.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(again.correlation, found.correlation, atol=1e-5)


def test_saved_and_loaded(found: FeatureCorrelation, tmp_path: Path) -> None:
    found.save(tmp_path)
    assert FeatureCorrelation.load(tmp_path) == found


def test_refusals(model: ox.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxplain.methods import correlation

    for layers, says in (
        ([], "one layer or more"),
        (["a1", "a1"], "each once"),
        (["no"], "no layer"),
    ):
        with pytest.raises(LayerError, match=says):
            ox.feature_correlation(model, X, layers)
    detector = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)", "y = Conv(x, w)", w=(2, 3, 3, 3)
    )
    with pytest.raises(TargetError, match="no logits"):
        ox.feature_correlation(nets.load(detector), X)
    monkeypatch.setattr(correlation, "MOST", 12)
    assert ox.feature_correlation(model, X).layers == ("a1", "features"), "the last of each size"
    monkeypatch.setattr(correlation, "MOST", 8)
    with pytest.raises(LayerError, match="9 channels together, and up to 8"):
        ox.feature_correlation(model, X)
