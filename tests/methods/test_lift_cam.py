"""LIFT-CAM (Jung & Oh, 2021) on small nets: completeness, closed forms, exact Shapley values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from tests import nets
from tests.methods.heads import (
    CLASSES,
    HEADS,
    LINEAR,
    ONE_HIDDEN,
    STEM,
    Array,
    K,
    closeness_net,
    exact_shap,
    pictures,
    protos,
    score,
)
from tests.oracle import Oracle


def lift(proto: onnx.ModelProto, x: Array, target: Any) -> ox.Cam:
    return ox.cam(nets.load(proto), x, target, kind="lift_cam", layer="a")


def activation(proto: onnx.ModelProto, x: Array) -> Array:
    return nets.load(proto).values({"x": x}, ["a"])["a"]


# --- completeness and closed forms ----------------------------------------------------------------------
@pytest.mark.parametrize("name", HEADS | ONE_HIDDEN)
def test_coefficients_sum_to_the_rise_of_the_score(name: str) -> None:
    whole, alone = protos((HEADS | ONE_HIDDEN)[name])
    x, oracle = pictures(), Oracle(alone)
    a = activation(whole, x)
    for target in range(CLASSES):
        rise = score(oracle, a, target) - score(oracle, 0 * a, target)
        found = lift(whole, x, target)
        np.testing.assert_allclose(found.weights.sum(1), rise, rtol=1e-4, atol=1e-6)
        maps = (found.weights[:, :, None, None] * a).sum(1)
        np.testing.assert_allclose(found.values, maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_heads_give_exact_shapley_values(name: str) -> None:
    whole, alone = protos(LINEAR[name])
    x = pictures()
    shap = [exact_shap(Oracle(alone), a, 1) for a in activation(whole, x)]
    np.testing.assert_allclose(lift(whole, x, 1).weights, shap, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ONE_HIDDEN)
def test_one_hidden_relu_gives_integrated_gradients(name: str) -> None:
    """Zero baseline; the integral of the head's gradient in torch by 4000 midpoints."""
    whole, alone = protos(ONE_HIDDEN[name])
    x, w = pictures(), nets.weights_of(alone)
    for a, found in zip(activation(whole, x), lift(whole, x, 2).weights, strict=True):
        t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
        path = (t[:, None, None, None] * torch.tensor(a, dtype=torch.float64)).requires_grad_()
        (g,) = torch.autograd.grad(torch_heads(name, w, path)[:, 2].sum(), path)
        expected = (g.mean(0).numpy() * a).sum((1, 2))
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def torch_heads(name: str, w: dict[str, torch.Tensor], a: torch.Tensor) -> torch.Tensor:
    if name == "conv, relu, gap":
        hidden = F.relu(F.conv2d(a, w["wc"], w["bc"], padding=1)).mean((2, 3))
    else:
        hidden = F.relu(F.linear(F.max_pool2d(a, 2).flatten(1), w["w1"], w["b1"]))
    return F.linear(hidden, w["w"], w["b"])


# --- symmetries -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", HEADS)
def test_a_map_of_zeros_gets_nothing(name: str) -> None:
    weight, bias = stem_weights()
    weight[2], bias[2] = 0, -1
    whole, _ = protos(HEADS[name], ws=weight, bs=bias)
    found = lift(whole, pictures(), 0).weights
    assert (found[:, 2] == 0).all() and (np.abs(found).max(1) > 0).all()


def stem_weights() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return nets.drawn(rng, (K, 3, 3, 3)), nets.drawn(rng, (K,))


def test_permuted_channels_permute_the_coefficients() -> None:
    order = np.array([3, 0, 5, 1, 4, 2])
    head, (weight, bias) = HEADS["residual"], stem_weights()
    rng = np.random.default_rng(9)
    wc, wd, bd = (nets.drawn(rng, s) for s in ((K, K, 3, 3), (K, K, 3, 3), (K,)))
    w = nets.drawn(rng, (CLASSES, K))
    plain, _ = protos(head, ws=weight, bs=bias, wc=wc, wd=wd, bd=bd, w=w)
    turned, _ = protos(
        head, ws=weight[order], bs=bias[order], wc=wc[:, order], wd=wd[order], bd=bd[order],
        w=w[:, order],
    )  # fmt: skip
    x = pictures()
    a, b = (lift(proto, x, 1) for proto in (plain, turned))
    np.testing.assert_allclose(b.weights, a.weights[:, order], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(b.values, a.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["max pool, mlp", "gelu", "layer norm"])
def test_logit_row_scales_and_logit_bias_does_nothing(name: str) -> None:
    shape = HEADS[name].weights["w"]
    w = nets.drawn(np.random.default_rng(2), shape)
    scaled = w * np.array([[1], [3], [1]], np.float32)
    b = np.array([0.0, 40.0, -7.0], np.float32)
    x = pictures()
    plain, tripled, moved = (
        lift(protos(HEADS[name], **changed)[0], x, 1).weights
        for changed in ({"w": w}, {"w": scaled}, {"w": w, "b": b})
    )
    np.testing.assert_allclose(tripled, 3 * plain, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved, plain, rtol=1e-4, atol=1e-6)


def test_softmax_at_the_end_changes_nothing() -> None:
    head, x = HEADS["max pool, mlp"], pictures()
    plain, ending = protos(head)[0], protos(head, tail="y = Softmax<axis = 1>(z)")[0]
    a, b = (lift(proto, x, 2) for proto in (plain, ending))
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.values, b.values)


def test_only_negative_coefficients_give_an_empty_picture() -> None:
    w = -np.abs(nets.drawn(np.random.default_rng(0), (CLASSES, K))) - 0.1
    found = lift(protos(LINEAR["gap, fc"], w=w)[0], pictures(), 0)
    assert (found.values <= 0).all() and (found.values < 0).any()
    np.testing.assert_array_equal(found.heatmap(), 0)


@pytest.mark.parametrize("name", ["max pool, mlp", "residual", "squeeze-and-excitation, silu"])
def test_channels_last_gives_the_same_map(name: str) -> None:
    """The twin takes x [N, 6, 6, 3] and has a [N, 6, 6, 6] with its channels last."""
    head, x = HEADS[name], pictures()
    whole, _ = protos(head)
    stem = STEM.replace("(x,", "(t0,").replace("a = Relu(s)", "")
    body = (
        f"t0 = Transpose<perm = [0, 3, 1, 2]>(x) {stem} t1 = Transpose<perm = [0, 2, 3, 1]>(s)"
        f"last_a = Relu(t1) a = Transpose<perm = [0, 3, 1, 2]>(last_a) {head.body}"
    )
    twin = nets.build(f"(float[N, 6, 6, 3] x) => (float[N, {CLASSES}] z)", body, head.opset)
    twin.graph.initializer.extend(whole.graph.initializer)
    expected = lift(whole, x, 0)
    found = ox.cam(nets.load(twin), x.transpose(0, 2, 3, 1), 0, layer="last_a")
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6)


# --- numbers by hand ------------------------------------------------------------------------------------
def planted(body: str, **weights: Array) -> onnx.ModelProto:
    """Return a net whose activation a [N, 2, 2, 2] is the first two colours of x."""
    stem = "s = Conv(x, ws) a = Relu(s)"
    eye = np.eye(2, 3, dtype=np.float32)[:, :, None, None]
    return nets.build("(float[N, 3, 2, 2] x) => (float[N, 1] z)", stem + body, ws=eye, **weights)


UNIT = "g = GlobalAveragePool(a) f = Flatten(g) h = Gemm<transB = 1>(f, w, b) z = Relu(h)"


@pytest.mark.parametrize(
    ("w", "b", "expected", "gradient_times_activation"),
    [([2, -1], 0, (2, -1), (2, -1)), ([2, 2], -1, (1.5, 1.5), (2, 2))],
    ids=["E1, Shapley (1.5, -0.5)", "E2, Shapley (1.5, 1.5)"],
)
def test_one_relu_at_one_and_one(w, b, expected, gradient_times_activation) -> None:
    """relu(w1 a1 + w2 a2 + b) at a = (1, 1): the secant from the bias, not the slope."""
    net = planted(UNIT, w=np.array([w], np.float32), b=np.array([b], np.float32))
    x = np.ones((1, 3, 2, 2), np.float32)
    found = lift(net, x, 0)
    np.testing.assert_allclose(found.weights[0], expected, rtol=1e-6)
    slope = ox.cam(nets.load(net), x, 0, kind="hires_cam", layer="a")
    np.testing.assert_allclose(slope.weights[0], gradient_times_activation, rtol=1e-6)


def test_global_average_pooling_by_hand() -> None:
    """E3: w = (1, 2), b = .5: the coefficients are w_k mean(A_k), not the w_k of CAM."""
    body = "g = GlobalAveragePool(a) f = Flatten(g) z = Gemm<transB = 1>(f, w, b)"
    net = planted(body, w=np.array([[1, 2]], np.float32), b=np.array([0.5], np.float32))
    x = np.zeros((1, 3, 2, 2), np.float32)
    x[0, 0, 0, 0], x[0, 1, 0, 1] = 4, 3
    found = lift(net, x, 0)
    np.testing.assert_allclose(found.weights, [[1, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(found.values, [[[4, 4.5], [0, 0]]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [1 + 1.5 + 0.5], rtol=1e-6)


# --- closeness to exact Shapley values ------------------------------------------------------------------
@pytest.mark.parametrize("hidden", [1, 2])
def test_closer_to_shapley_values_than_gradients_on_average(hidden: int) -> None:
    """Mean cosine over 15 nets of 3 images each. Only the orders are asserted: single nets differ."""
    kinds = ("lift_cam", "hires_cam", "ablation_cam", "grad_cam", "xgrad_cam", "shap_cam")
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed in range(15):
        whole, alone = closeness_net(hidden, seed)
        model, x = nets.load(whole), nets.images(3, (3, 4, 4), 100 + seed)
        a, target = model.values({"x": x}, ["a"])["a"], seed % 5
        shap = np.array([exact_shap(Oracle(alone), one, target) for one in a])
        sign = np.sign(score(Oracle(alone), a, target))  # Ablation-CAM divides by the score
        for kind in kinds:
            options = {"permutations": 100} if kind == "shap_cam" else {}
            weights = ox.cam(model, x, target, kind=kind, layer="a", **options).weights
            weights = weights * sign[:, None] if kind == "ablation_cam" else weights
            found[kind] += list(cosines(weights, shap))
    mean = {kind: float(np.mean(values)) for kind, values in found.items()}
    assert mean["shap_cam"] > 0.99 > mean["lift_cam"] > 0.85
    assert mean["lift_cam"] > max(mean["hires_cam"], mean["ablation_cam"]) + 0.01, mean
    assert min(mean["hires_cam"], mean["ablation_cam"]) > mean["grad_cam"], mean
    assert mean["lift_cam"] > max(mean["grad_cam"], mean["xgrad_cam"]) + 0.1, mean


def cosines(a: Array, b: Array) -> Array:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("name", ["overlapping max pool, mlp", "layer norm"])
def test_every_sampled_order_shares_out_the_whole_rise(name: str) -> None:
    """One order, two, or five; and the seed decides which, the same every time."""
    whole, alone = protos(HEADS[name])
    model, x, oracle = nets.load(whole), pictures(), Oracle(alone)
    a = model.values({"x": x}, ["a"])["a"]
    rise = score(oracle, a, 1) - score(oracle, 0 * a, 1)

    def sampled(**options: int) -> Array:
        return ox.cam(model, x, 1, kind="shap_cam", layer="a", **options).weights

    for permutations in (1, 2, 5):
        found = sampled(permutations=permutations, seed=3)
        np.testing.assert_allclose(found.sum(1), rise, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found, sampled(permutations=permutations, seed=3))
        assert not np.allclose(found, sampled(permutations=permutations, seed=4))
    shap = np.array([exact_shap(oracle, one, 1) for one in a])
    errors = [np.abs(sampled(permutations=n) - shap).max() for n in (2, 400)]
    assert errors[1] < 0.3 * errors[0]


# --- normalisation at a zero reference ------------------------------------------------------------------
def test_contributions_through_a_layer_norm_keep_the_size_of_shapley_values() -> None:
    """At zero activations 1 / deviation is eps^(-1/2): halfway to it, weights were 50 times too large."""
    found: list[tuple[float, float]] = []
    for seed in range(6):
        whole, alone = protos(HEADS["layer norm"], seed)
        x, target = pictures(2, 50 + seed), seed % CLASSES
        shap = np.array([exact_shap(Oracle(alone), a, target) for a in activation(whole, x)])
        weights = lift(whole, x, target).weights
        sizes = np.linalg.norm(weights, axis=1) / np.linalg.norm(shap, axis=1)
        found += zip(cosines(weights, shap), sizes, strict=True)
    cosine, size = np.array(found).mean(0)
    assert cosine > 0.9 and 0.5 < size < 1.5, (cosine, size)
