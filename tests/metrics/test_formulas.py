"""Each metric against its formula in NumPy, on models whose answers are known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, TargetError
from onnxplain.metrics import Answers, Case, fills
from onnxplain.metrics.channels import channel_effects
from onnxplain.metrics.coefficients import (
    efficiency_residual,
    shap_cosine,
    shap_distance,
    shap_spearman,
)
from onnxplain.metrics.curves import (
    SHARES,
    allegiance,
    allegiance_curve,
    area,
    deletion,
    flipping_curve,
    insertion,
    insertion_minus_deletion,
    ranks,
    top_pixels,
)
from onnxplain.metrics.localise import iou
from onnxplain.metrics.masking import (
    average_drop,
    average_drop_in_deletion,
    increase_in_confidence,
)
from onnxplain.metrics.robust import infidelity, max_sensitivity, relative_infidelity
from onnxplain.metrics.sanity import label_randomisation, randomisation_curve
from onnxplain.metrics.shape import complexity, sparseness
from tests import nets

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)
G = RNG.normal(size=(3, 3, 6, 6)) / 4
BIAS = np.array([0.3, -0.2, 0.1])
X = RNG.normal(size=(4, 3, 6, 6)).astype(np.float32)
MAPS = RNG.random((4, 6, 6))
PRE = {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
BLACK = -np.array(PRE["mean"]) / PRE["std"]
WHITE = (1 - np.array(PRE["mean"])) / PRE["std"]


def linear() -> ox.Model:
    return nets.load(nets.linear_net(G, BIAS), preprocess=PRE)


def logits(x: Array) -> Array:
    return np.einsum("cijk,nijk->nc", G, x) + BIAS


def softmax(x: Array) -> Array:
    e = np.exp(logits(x) - logits(x).max(1, keepdims=True))
    found: Array = e / e.sum(1, keepdims=True)
    return found


CLASSES = logits(X).argmax(1)


def p(x: Array) -> Array:
    return softmax(x)[np.arange(len(x)), CLASSES]


def case() -> Case:
    return Case(Answers(linear(), X), MAPS)


# --- average drop and relatives ------------------------------------------------------------------------
@pytest.mark.parametrize("fill", ["zero", "black", "white", 0.25, (0.1, 0.5, 0.9)])
def test_average_drop_and_its_relatives(fill: Any) -> None:
    named = {"zero": np.zeros(3), "black": BLACK, "white": WHITE}
    grey = isinstance(fill, str)
    colour = named[fill] if grey else (np.broadcast_to(fill, 3) - PRE["mean"]) / PRE["std"]
    base, m = np.reshape(colour, (3, 1, 1)), MAPS[:, None]
    y, o, d = p(X), p(X * m + base * (1 - m)), p(X * (1 - m) + base * m)
    near = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(average_drop(case(), fill), 100 * np.maximum(0, y - o) / y, **near)
    np.testing.assert_array_equal(increase_in_confidence(case(), fill), 100 * (o > y))
    np.testing.assert_allclose(average_drop_in_deletion(case(), fill), 100 * (y - d) / y, **near)


def test_a_map_of_ones_drops_nothing_and_a_class_of_no_probability_cannot_drop() -> None:
    ones = Case(Answers(linear(), X), np.ones_like(MAPS))
    np.testing.assert_allclose(average_drop(ones), 0, atol=1e-9)
    steep = nets.load(nets.linear_net(G * 1e4, BIAS))
    none = Case(Answers(steep, X, logits(X).argmin(1)), MAPS)
    assert not none.answers.confidence.any()
    for metric in (average_drop, average_drop_in_deletion, insertion_minus_deletion):
        np.testing.assert_array_equal(metric(none), 0)


# --- curves --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("insert", "fill"), [(False, "zero"), (True, "black"), (False, "mean")])
def test_flipping_curves_step_by_step(insert: bool, fill: str) -> None:
    steps, n = 5, 36
    base = {"zero": np.zeros((4, 3)), "black": np.tile(BLACK, (4, 1)), "mean": X.mean((2, 3))}[fill]
    expected = np.empty((4, steps + 1))
    for i in range(4):
        order = np.argsort(-MAPS[i].ravel())
        for s in range(steps + 1):
            taken = np.zeros(n, bool)
            taken[order[: round(s * n / steps)]] = True
            whole = taken.reshape(6, 6) if insert else ~taken.reshape(6, 6)
            version = np.where(whole, X[i], base[i][:, None, None])
            expected[i, s] = softmax(version[None])[0, CLASSES[i]]
    found = flipping_curve(case(), steps, fill, insert)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_areas_are_those_of_trapezoids() -> None:
    curve = RNG.random((3, 6))
    np.testing.assert_allclose(area(curve), np.trapezoid(curve, dx=0.2, axis=1))
    at = np.array(SHARES)
    found = allegiance_curve(case(), "black").astype(float)
    np.testing.assert_allclose(allegiance(case()), np.trapezoid(found, at, axis=1))
    one = case()
    difference = insertion(one) - deletion(one)
    np.testing.assert_allclose(insertion_minus_deletion(one), difference / p(X), rtol=1e-4)


def test_equal_pixels_go_in_one_random_order_for_all_images() -> None:
    places = ranks(np.zeros((3, 6, 6)))
    assert (places[0] == places[1]).all() and sorted(places[0].ravel()) == list(range(36))
    assert (places[0].ravel() != np.arange(36)).mean() > 0.8


def test_the_better_map_wins() -> None:
    """On a linear model contributions are exact; their opposite is the worst map there is."""
    contributions = (G[CLASSES] * X).sum(1)
    good = (contributions - contributions.min()) / np.ptp(contributions)
    right, wrong = (Case(Answers(linear(), X), m) for m in (good, 1 - good))
    assert (insertion(right, fill="zero") > insertion(wrong, fill="zero")).all()
    assert (deletion(right) < deletion(wrong)).all()
    assert (average_drop_in_deletion(right) > average_drop_in_deletion(wrong)).all()
    assert (relative_infidelity(right) <= 1).all()


def test_curves_want_steps() -> None:
    with pytest.raises(ConfigError, match="steps >= 1"):
        flipping_curve(case(), 0)


@pytest.mark.parametrize(("fill", "colour"), [("black", BLACK), ("white", WHITE)])
def test_allegiance_as_the_paper_takes_pixels_away(fill: str, colour: Array) -> None:
    expected = np.empty((4, len(SHARES)), bool)
    for i, m in enumerate(MAPS):
        for s, share in enumerate(SHARES):
            limit = sorted(m.ravel(), reverse=True)[round(share * m.size)]
            taken = (m > limit) & (m != 0)
            version = np.where(taken, colour[:, None, None], X[i])
            expected[i, s] = logits(version[None]).argmax() == CLASSES[i]
    np.testing.assert_array_equal(allegiance_curve(case(), fill), expected)
    assert expected[:, 0].all(), "allegiance(0) is 1"
    assert 0 < expected.mean() < 1


def test_top_pixels_are_those_above_the_limit_that_are_marked() -> None:
    m = np.array([[0.9, 0.5], [0.5, 0]])
    found = top_pixels(m, (0, 0.25, 0.5, 0.75, 1))
    assert found.sum((1, 2)).tolist() == [0, 1, 1, 3, 3]
    assert not top_pixels(np.full((4, 4), 0.5), SHARES).any()


# --- what pixels become --------------------------------------------------------------------------------
def test_imputed_pixels_are_the_means_of_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fills, "NOISE", 0)
    keep = RNG.random((6, 6)) < 0.4
    (found,) = fills.kept(Answers(linear(), X), 0, keep[None], "impute")
    np.testing.assert_array_equal(found[:, keep], X[0][:, keep])
    for y, x in zip(*np.nonzero(~keep), strict=True):
        above, below = np.zeros(3), 0.0
        for dy, dx in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]:
            if 0 <= y + dy < 6 and 0 <= x + dx < 6:
                weight = 1 / 12 if dy and dx else 1 / 6
                above, below = above + weight * found[:, y + dy, x + dx], below + weight
        np.testing.assert_allclose(found[:, y, x], above / below, atol=1e-5)


def test_imputation_without_noise_continues_what_is_smooth_and_with_it_is_near() -> None:
    answers = Answers(linear(), np.tile(np.linspace(0, 1, 6, dtype=np.float32), (1, 3, 6, 1)))
    keep = np.ones((1, 6, 6), bool)
    keep[0, 1:5, 2:4] = False
    (found,) = fills.kept(answers, 0, keep, "impute")
    away = np.abs(found - answers.x[0])
    assert 0 < away.max() < 0.1
    nothing = fills.kept(answers, 0, np.zeros((1, 6, 6), bool), "impute")
    np.testing.assert_allclose(nothing, 0.5, atol=1e-6)
    with pytest.raises(ConfigError, match="no use for shares"):
        fills.kept(answers, 0, keep * 0.5, "impute")


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    noise = RNG.normal(size=(1, 3, 64, 64)).astype(np.float32)
    big = nets.load(nets.linear_net(np.ones((2, 3, 64, 64))))
    blurred = fills.base_of(Answers(big, noise), noise, "blur")
    assert blurred.std() < 0.4 * noise.std() and abs(blurred.mean() - noise.mean()) < 0.01


def test_integers_stay_integers_and_colours_know_their_order() -> None:
    body = "c = Cast<to = 1>(x) f = Flatten(c) z = Gemm<transB = 1>(f, w)"
    proto = nets.build("(uint8[N, 3, 4, 4] x) => (float[N, 2] z)", body, w=(2, 48))
    bgr = nets.load(proto, preprocess={"channels": "BGR"})
    answers = Answers(bgr, RNG.integers(0, 255, (1, 3, 4, 4)).astype(np.uint8))
    red = fills.base_of(answers, answers.x, (1.0, 0.0, 0.0))
    assert red.dtype == np.uint8 and red[0, :, 0, 0].tolist() == [0, 0, 255]
    half = fills.kept(answers, 0, np.full((1, 4, 4), 0.5), "white")
    np.testing.assert_array_equal(half[0], np.rint(answers.x[0] * 0.5 + 127.5).astype(np.uint8))


@pytest.mark.parametrize("fill", ["red", 1.5, (0.1, 0.2), -0.1, "1,2"])
def test_fills_that_are_none_are_refused(fill: Any) -> None:
    with pytest.raises(ConfigError, match="is unknown: choose zero, black"):
        fills.read_fill(fill) if fill == "1,2" else fills.base_of(Answers(linear(), X), X, fill)


def test_fills_are_read_as_typed() -> None:
    assert fills.read_fill("impute") == "impute" and fills.read_fill("0.5") == 0.5
    assert fills.read_fill("0,0.5,1") == (0.0, 0.5, 1.0)


# --- infidelity and sensitivity ------------------------------------------------------------------------
def test_a_linear_models_gradient_foretells_every_change() -> None:
    answers, changes = Answers(linear(), X), RNG.normal(size=(9, 3, 6, 6))
    np.testing.assert_allclose(infidelity(answers, G[CLASSES], changes), 0, atol=1e-9)
    drops = np.einsum("nijk,sijk->ns", G[CLASSES], changes)
    zero = infidelity(answers, np.zeros_like(X), changes)
    np.testing.assert_allclose(zero, (drops**2).mean(1), rtol=1e-4)
    twice = infidelity(answers, 2 * G[CLASSES], changes)
    np.testing.assert_allclose(twice, (drops**2).mean(1), rtol=1e-4)
    np.testing.assert_allclose(infidelity(answers, 2 * G[CLASSES], changes, True), 0, atol=1e-9)
    for wrong in (np.full_like(X, np.nan), X[:, :2]):
        with pytest.raises(InputError):
            infidelity(answers, wrong, changes)


def test_contributions_of_a_linear_model_leave_nothing_unexplained() -> None:
    x, g = np.abs(X[:, :1]), np.abs(G[:, :1])
    model = nets.load(nets.linear_net(g))
    answers = Answers(model, x, 1)
    contributions = (g[1] * x)[:, 0]
    maps = contributions / contributions.max((1, 2), keepdims=True)
    np.testing.assert_allclose(relative_infidelity(Case(answers, maps)), 0, atol=1e-6)
    assert (relative_infidelity(Case(answers, 1 - maps)) > 0.05).all()


def test_sensitivity_is_zero_where_the_explanation_does_not_move() -> None:
    answers = Answers(linear(), X)
    still = Case.of(answers, lambda m, x, c: ox.gradient(m, x, c))
    np.testing.assert_allclose(max_sensitivity(still), 0, atol=1e-6)
    moving = Case.of(answers, lambda m, x, c: ox.integrated_gradients(m, x, c, steps=1))
    change = np.full((1, 3, 6, 6), 0.1, np.float32)
    expected = np.linalg.norm((0.1 * G[CLASSES]).reshape(4, -1), axis=1)
    expected /= np.linalg.norm((X * G[CLASSES]).reshape(4, -1), axis=1)
    np.testing.assert_allclose(max_sensitivity(moving, changes=change), expected, rtol=1e-3)


# --- shape, place, coefficients ------------------------------------------------------------------------
def test_sparseness_is_ginis_mean_difference() -> None:
    v = MAPS.reshape(4, -1)
    apart = np.abs(v[:, :, None] - v[:, None]).mean((1, 2)) / (2 * v.mean(1))
    np.testing.assert_allclose(sparseness(MAPS), apart, rtol=1e-9)


def test_complexity_is_entropy() -> None:
    np.testing.assert_allclose(complexity(MAPS), scipy.stats.entropy(MAPS.reshape(4, -1), axis=1))


def test_iou_of_the_high_part() -> None:
    maps, masks = np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool)
    maps[0, :2, :2], maps[0, 3, 3] = 1, 0.4
    masks[0, 1:3, 1:3] = True
    assert iou(maps, masks).tolist() == [1 / 7]
    assert iou(maps, masks, 0.4).tolist() == [1 / 8]
    assert iou(maps, np.array([[1.0, 1, 3, 3]])).tolist() == [1 / 7]
    for bad in (0, 1.1):
        with pytest.raises(ConfigError, match="threshold"):
            iou(maps, masks, bad)


def test_coefficients_beside_shapley_values() -> None:
    w, s = RNG.normal(size=(2, 5, 9))
    cosines = [1 - scipy.spatial.distance.cosine(a, b) for a, b in zip(w, s, strict=True)]
    np.testing.assert_allclose(shap_cosine(w, s), cosines)
    ranked = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(w, s, strict=True)]
    np.testing.assert_allclose(shap_spearman(w, s), ranked)
    np.testing.assert_allclose(shap_distance(3 * s, s), 2)
    np.testing.assert_allclose(efficiency_residual(s, s.sum(1)), 0)
    np.testing.assert_allclose(efficiency_residual(2 * s, s.sum(1)), 1)
    assert np.isinf(shap_distance(w, 0 * s)).all() and not shap_distance(0 * w, 0 * s).any()
    assert np.isinf(efficiency_residual(w, np.zeros(5))).all()
    for bad in (w[:, :3], np.full_like(w, np.inf)):
        with pytest.raises(InputError):
            shap_cosine(bad, s)


# --- channels, weights, labels -------------------------------------------------------------------------
def test_channels_taken_away_and_kept_alone() -> None:
    proto = nets.conv_net()
    model, x, w = nets.load(proto), nets.images(2), nets.weights_of(proto)
    answers = Answers(model, x)
    sets = [[[0, 3], [1], []], [[2], [0, 1, 2, 3, 4], [4, 0]]]
    features = nets.torch_features(w, torch.tensor(x, dtype=torch.float64)).detach()
    found = channel_effects(answers, "features", sets)
    for i, row in enumerate(sets):
        c = answers.classes[i]

        def score(keep: Any, i: int = i, c: int = c) -> float:
            mask = torch.zeros(nets.CHANNELS, dtype=torch.float64)
            mask[list(keep)] = 1
            return float(nets.torch_head(w, features[i : i + 1] * mask[:, None, None])[0, c])

        all_, rise = set(range(nets.CHANNELS)), score(range(nets.CHANNELS)) - score([])
        for j, chosen in enumerate(row):
            drop = (score(all_) - score(all_ - set(chosen))) / rise
            keep = (score(chosen) - score([])) / rise
            effects = (found.drop[i, j], found.keep[i, j])
            np.testing.assert_allclose(effects, (drop, keep), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match=r"not all within 0\.\.4"):
        channel_effects(answers, "features", [[[5]], [[0]]])
    with pytest.raises(InputError, match="same number of sets"):
        channel_effects(answers, "features", [[[1], [2]], [[0]]])


def test_shuffled_weights_are_the_same_ones_elsewhere_from_the_output_down() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    before = ox.gradient(model, x).values
    names = ("features", "hidden", "z")

    def values(one: ox.Model) -> dict[str, Array]:
        return one.values({"x": x}, names)

    own = values(model)
    for share, changed in ((0, ()), (0.25, ("z",)), (0.5, ("hidden", "z")), (1, names)):
        other = values(model.shuffled(share))
        same = {n for n in names if np.allclose(own[n], other[n])}
        assert same == set(names) - set(changed), share
    assert model.shuffled(0.5) is model.shuffled(0.5)
    np.testing.assert_array_equal(ox.gradient(model, x).values, before)
    mine, theirs = (m.file.proto.graph.initializer for m in (model, model.shuffled(1)))
    for a, b in zip(mine, theirs, strict=True):
        v, u = (np.frombuffer(t.raw_data, np.float32) for t in (a, b))
        np.testing.assert_array_equal(np.sort(v), np.sort(u))
        assert (v == u).all() == (len(a.dims) < 2)
    with pytest.raises(ConfigError, match=r"within 0\.\.1"):
        model.shuffled(1.5)


def test_randomisation_falls_and_no_shuffling_changes_nothing() -> None:
    model = nets.load(nets.conv_net())
    judged = Case.of(Answers(model, nets.images()), lambda m, x, c: ox.saliency(m, x, c))
    curve = randomisation_curve(judged, (0, 1))
    np.testing.assert_allclose(curve[:, 0], 1)
    assert (curve[:, 1] < 0.9).all()


def test_another_classs_map_of_a_linear_model() -> None:
    model = linear()
    judged = Case.of(Answers(model, X), lambda m, x, c: ox.saliency(m, x, c, kind="absolute"))
    other = (CLASSES + np.random.default_rng(0).integers(1, 3)) % 3
    a, b = (np.abs(G[c] / np.reshape(PRE["std"], (3, 1, 1))).max(1) for c in (CLASSES, other))
    pairs = zip(a, b, strict=True)
    expected = [scipy.stats.spearmanr(u.ravel(), v.ravel()).statistic for u, v in pairs]
    np.testing.assert_allclose(label_randomisation(judged), expected, rtol=1e-4)
    alone = nets.load(nets.linear_net(G[:1]))
    with pytest.raises(TargetError, match="has one class"):
        label_randomisation(Case.of(Answers(alone, X), lambda m, x, c: ox.saliency(m, x, c)))


# --- answers -------------------------------------------------------------------------------------------
def test_answers_are_softmaxes_and_classes_those_asked_for() -> None:
    answers = Answers(linear(), X, 2)
    np.testing.assert_allclose(answers.logits, logits(X), rtol=1e-4)
    np.testing.assert_allclose(answers.confidence, softmax(X)[:, 2], rtol=1e-4)
    with pytest.raises(TargetError, match="class 3 does not exist"):
        Answers(linear(), X, 3)
    with pytest.raises(TargetError, match="judge maps of classes"):
        Answers(linear(), X, ox.Target.contrast(0, 1))
