"""The importance of filters: the definition in torch (float64), closed forms, and brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onnxplain as ox
from onnxplain.dataset import Run
from onnxplain.errors import ConfigError, LayerError
from onnxplain.methods.importance import Ablate
from onnxplain.results.filters import FilterImportance, LayerImportance, RemovalCurves
from tests import nets

X = nets.images(23)
LABELS = (np.arange(23) % nets.CLASSES).tolist()
PROTO = nets.conv_net()


@pytest.fixture(scope="module")
def model() -> ox.Model:
    return nets.load(PROTO)


@pytest.fixture(scope="module")
def exact(model: ox.Model) -> FilterImportance:
    return ox.filter_importance(model, (X, LABELS))


def heads(base: np.ndarray, gradient: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [N, C] and, with each channel of `features` replaced, [K, N, C]."""
    w = nets.weights_of(PROTO)
    a = nets.torch_features(w, nets.double(X))
    parts = []
    for k in range(nets.CHANNELS):
        without = a.clone()
        without[:, k] = float(base[k])
        parts.append(nets.torch_head(w, without))
    return nets.torch_head(w, a).detach(), torch.stack(parts).detach()


def mean_base() -> np.ndarray:
    a = nets.torch_features(nets.weights_of(PROTO), nets.double(X))
    return a.mean((0, 2, 3)).detach().numpy()


@pytest.mark.parametrize("base", ["zero", "mean"])
def test_exact_as_its_definition(model: ox.Model, base: Any) -> None:
    found = ox.filter_importance(model, (X, LABELS), base=base)
    replaced = np.zeros(nets.CHANNELS) if base == "zero" else mean_base()
    assert [layer.layer for layer in found.layers] == ["a1", "features"]
    layer = found["features"]
    np.testing.assert_allclose(layer.base, replaced, atol=1e-6)
    z, without = (t.numpy() for t in heads(replaced))
    p, q = (np.exp(t) / np.exp(t).sum(-1, keepdims=True) for t in (z, without))
    c, rows = z.argmax(1), np.arange(len(z))
    drop = z[rows, c] - without[:, rows, c]  # [K, N]
    np.testing.assert_allclose(layer.effect, drop.mean(1), atol=1e-6)
    np.testing.assert_allclose(layer.probability, (p[rows, c] - q[:, rows, c]).mean(1), atol=1e-6)
    np.testing.assert_allclose(layer.flips, (without.argmax(2) != c).mean(1), atol=1e-12)
    right, right_without = c == LABELS, without.argmax(2) == LABELS
    np.testing.assert_allclose(layer.accuracy, right.mean() - right_without.mean(1), atol=1e-12)
    for k in range(nets.CLASSES):
        of = c == k
        expected = drop[:, of].mean(1) if of.any() else 0
        np.testing.assert_allclose(layer.per_class[:, k], expected, atol=1e-6)
    np.testing.assert_array_equal(layer.counts, np.bincount(c, minlength=nets.CLASSES))
    weighted = (layer.per_class * layer.counts).sum(1) / found.images
    np.testing.assert_allclose(weighted, layer.effect, atol=1e-12)
    assert (found.images, found.labelled, found.right) == (23, 23, right.mean())


@pytest.mark.parametrize("base", ["zero", "mean"])
def test_first_order_as_its_definition(model: ox.Model, base: Any) -> None:
    found = ox.filter_importance(model, X, ["a1", "features"], "first_order", base)
    w = nets.weights_of(PROTO)
    a = nets.torch_features(w, nets.double(X))
    a.retain_grad()
    z = nets.torch_head(w, a)
    z.max(1).values.sum().backward()
    replaced = np.zeros(nets.CHANNELS) if base == "zero" else mean_base()
    step = a - torch.tensor(replaced)[:, None, None]
    expected = (a.grad * step).sum((2, 3)).mean(0).detach().numpy()
    layer = found["features"]
    np.testing.assert_allclose(layer.effect, expected, atol=1e-5)
    assert layer.flips is None and layer.probability is None and found.mode == "first_order"


def test_a_linear_head_has_a_closed_form() -> None:
    """Last conv, GAP, Linear, base 0: effect = w_ck mean(A_k), to first order too; the sum is z_c - bias."""
    body = """c1 = Conv<pads = [1, 1, 1, 1]>(x, w1) a1 = Relu(c1)
        g = GlobalAveragePool(a1) f = Flatten(g) z = Gemm<transB = 1>(f, w, b)"""
    proto = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 4] z)", body, w1=(6, 3, 3, 3), w=(4, 6), b=(4,)
    )
    model, w = nets.load(proto), nets.weights_of(proto)
    values = model.values({"x": X}, ("a1", "z"))
    z, phi = values["z"], values["a1"].mean((2, 3))
    c = z.argmax(1)
    expected = (w["w"].numpy()[c] * phi).mean(0)
    for mode in ("exact", "first_order"):
        found = ox.filter_importance(model, X, mode=mode)["a1"]  # type: ignore[arg-type]
        np.testing.assert_allclose(found.effect, expected, atol=1e-5)
        bias = w["b"].numpy()[c]
        assert found.effect.sum() == pytest.approx((z.max(1) - bias).mean(), abs=1e-5)


def test_dead_filters_and_own_activation_are_worth_nothing() -> None:
    w2 = nets.drawn(np.random.default_rng(0), nets.WEIGHTS["w2"])  # type: ignore[arg-type]
    w2[1], w2[3] = 0, 0
    b2 = np.array([0, 0, 0, 0.7, 0], np.float32)
    model = nets.load(nets.conv_net(w2=w2, b2=b2))
    zero = ox.filter_importance(model, X)["features"]
    assert zero.effect[1] == 0 and zero.flips is not None and zero.flips[1] == 0
    assert zero.effect[3] != 0, "a constant is worth something against 0"
    mean = ox.filter_importance(model, X, base="mean")["features"]
    assert mean.effect[1] == 0
    assert mean.effect[3] == pytest.approx(0, abs=1e-6), "but not against itself"


@pytest.mark.parametrize("run", [Run(workers=1, batch=1), Run(workers=3, batch=5)], ids=str)
def test_how_it_runs_does_not_matter(run: Run, model: ox.Model, exact: FilterImportance) -> None:
    order = np.random.default_rng(0).permutation(len(X))
    for data in ((X, LABELS), (X[order], np.array(LABELS)[order])):
        again = ox.filter_importance(model, data, run=run)  # type: ignore[arg-type]
        for name in ("effect", "probability", "flips", "accuracy", "per_class"):
            mine, theirs = (getattr(f["features"], name) for f in (again, exact))
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_groups_go_together(model: ox.Model, exact: FilterImportance) -> None:
    groups = [(0,), (1, 3), (0, 1, 2, 3, 4)]
    found = ox.group_importance(model, (X, LABELS), "features", groups)
    assert found.groups == tuple(groups)
    assert found.effect[0] == pytest.approx(exact["features"].effect[0], abs=1e-6)
    w = nets.weights_of(PROTO)
    a = nets.torch_features(w, nets.double(X))
    z = nets.torch_head(w, a)
    for row, group in enumerate(groups):
        without = a.clone()
        without[:, list(group)] = 0
        left = nets.torch_head(w, without)
        drop = z.max(1).values - left.gather(1, z.argmax(1, keepdim=True))[:, 0]
        assert found.effect[row] == pytest.approx(drop.mean().item(), abs=1e-6)


def test_removal_curves_as_brute_force(model: ox.Model, exact: FilterImportance) -> None:
    layer = exact["features"]
    found = ox.removal_curves(model, (X, LABELS), layer, orders=2, seed=7)
    assert found.removed.tolist() == [0, 1, 2, 3, 4, 5]
    w = nets.weights_of(PROTO)
    a = nets.torch_features(w, nets.double(X))
    z = nets.torch_head(w, a).detach().numpy()
    c, rows = z.argmax(1), np.arange(len(X))
    best = np.argsort(-layer.effect)
    rng = np.random.default_rng(7)
    ways = [[best], [best[::-1]], [rng.permutation(5), rng.permutation(5)]]
    for i, orders in enumerate(ways):
        scores, agree, right, chance = [], [], [], []
        for order in orders:
            for count in found.removed:
                without = a.clone()
                without[:, order[:count].copy()] = 0
                left = nets.torch_head(w, without).detach().numpy()
                scores.append(left[rows, c].mean())
                agree.append((left.argmax(1) == c).mean())
                right.append((left.argmax(1) == LABELS).mean())
                chance.append((np.exp(left) / np.exp(left).sum(1, keepdims=True))[rows, c].mean())
        for curve, values in (
            (found.score, scores), (found.agreement, agree), (found.accuracy, right),
            (found.probability, chance),
        ):  # fmt: skip
            expected = np.reshape(values, (len(orders), -1)).mean(0)
            np.testing.assert_allclose(curve[i], expected, atol=1e-6)  # type: ignore[index]
    share = found.removed / 5
    areas = [((y[1:] + y[:-1]) / 2 * np.diff(share)).sum() for y in found.agreement]
    np.testing.assert_allclose(found.areas(), areas, atol=1e-12)
    assert found.area_between == pytest.approx(areas[1] - areas[0])


def test_many_filters_are_removed_in_steps() -> None:
    proto = nets.conv_net(w2=(70, 4, 3, 3), b2=(70,), w3=(6, 280))
    model = nets.load(proto)
    importance = ox.filter_importance(model, X, mode="first_order")["features"]
    found = ox.removal_curves(model, X, importance)
    assert len(found.removed) == 17 and found.removed[[0, -1]].tolist() == [0, 70]
    assert (found.agreement[:, 0] == 1).all() and found.accuracy is None
    np.testing.assert_allclose(found.score[:, -1], found.score[0, -1], atol=1e-6)


@pytest.mark.parametrize("kind", [FilterImportance, LayerImportance, RemovalCurves])
def test_saved_and_loaded(
    kind: Any, model: ox.Model, exact: FilterImportance, tmp_path: Path
) -> None:
    record = {
        FilterImportance: exact,
        LayerImportance: exact["features"],
        RemovalCurves: ox.removal_curves(model, X, exact["features"]),
    }[kind]
    record.save(tmp_path)
    assert kind.load(tmp_path) == record


def test_the_rest_alone_is_run(model: ox.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward of the batch, then the rest per image, all filters in one run."""
    ox.filter_importance(model, X[:3], ["features"])
    with nets.counted_runs(monkeypatch) as rows:
        ox.filter_importance(model, X[:3], ["features"], run=Run(workers=1))
    assert sorted(rows) == [3, 5, 5, 5]


def test_kept_results_depend_on_all_that_matters() -> None:
    keep = ~np.eye(5, dtype=bool)
    one = Ablate(("a",), (np.zeros(5),), (keep,))
    others = [
        Ablate(("b",), (np.zeros(5),), (keep,)),
        Ablate(("a",), (np.ones(5),), (keep,)),
        Ablate(("a",), (np.zeros(5),), (keep[:2],)),
        Ablate(("a",), (np.zeros(5),), (keep[::-1],)),
    ]
    assert all(str(one.key()) != str(other.key()) for other in others)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mode": "guess"}, ConfigError, "mode 'guess'"),
        ({"base": "one"}, ConfigError, "base 'one'"),
        ({"layers": ["nowhere"]}, LayerError, "nowhere"),
        ({"layers": []}, LayerError, "one layer or more"),
    ],
)
def test_refusals(model: ox.Model, options: dict[str, Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        ox.filter_importance(model, X, **options)


def test_refusals_of_groups_and_curves(model: ox.Model, exact: FilterImportance) -> None:
    for groups, says in (([], "one group"), ([()], "not some of 5"), ([(5,)], "not some of 5")):
        with pytest.raises(ConfigError, match=says):
            ox.group_importance(model, X, "features", groups)
    with pytest.raises(ConfigError, match="orders = 0"):
        ox.removal_curves(model, X, exact["features"], orders=0)
    grouped = ox.group_importance(model, X, "features", [(0, 1)])
    with pytest.raises(ConfigError, match="single filters"):
        ox.removal_curves(model, X, grouped)


def test_a_layer_that_is_no_cut() -> None:
    body = """a = Relu(x) c1 = Conv<pads = [1, 1, 1, 1]>(a, w1) r = Relu(c1) s = Add(a, r)
        f = Flatten(s) z = Gemm<transB = 1>(f, w)"""
    proto = nets.build("(float[N, 3, 4, 4] x) => (float[N, 2] z)", body, w1=(3, 3, 3, 3), w=(2, 48))
    with pytest.raises(LayerError, match="every path to the logit passes, and 'r' is not one"):
        ox.filter_importance(nets.load(proto), nets.images(2, (3, 4, 4)), ["r"])
