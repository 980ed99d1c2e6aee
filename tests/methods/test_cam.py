"""Every class activation map against its formula, with activations and gradients from torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.errors import ConfigError, LayerError, UnsupportedOpError
from onnxplain.methods.cam import CAMS
from tests import nets

Array = np.ndarray[Any, Any]
TARGETS = [2, 0, 3]


# --- the oracles ---------------------------------------------------------------------------------------
@cache
def truth() -> tuple[Array, Array, Array]:
    """Return A, G = d z / d A and z of `conv_net` at three images and TARGETS, float64."""
    w = nets.weights_of(nets.conv_net())
    features = nets.torch_features(w, torch.tensor(nets.images(), dtype=torch.float64))
    at = nets.double(features.numpy())
    z = nets.torch_head(w, at)[range(3), TARGETS]
    (g,) = torch.autograd.grad(z.sum(), at)
    return features.numpy(), g.numpy(), z.detach().numpy()


def per_channel(weights: Array) -> Array:
    return weights[:, :, None, None]


def plus_plus(a: Array, g: Array) -> Array:
    """Equation 19 of the paper, position by position, with 0 / 0 = 0."""
    weights = np.zeros(a.shape[:2])
    for n, k in np.ndindex(*weights.shape):
        for here in g[n, k].ravel():
            below = 2 * here**2 + a[n, k].sum() * here**3
            weights[n, k] += max(here, 0) * (here**2 / below if below else 0)
    return per_channel(weights)


FORMULAS: dict[str, Callable[[Array, Array], Array]] = {
    "grad_cam": lambda a, g: per_channel(g.mean((2, 3))),
    "grad_cam_plusplus": plus_plus,
    "xgrad_cam": lambda a, g: per_channel((g * a).sum((2, 3)) / (a.sum((2, 3)) + 1e-7)),
    "hires_cam": lambda a, g: g,
    "layer_cam": lambda a, g: np.clip(g, 0, None),
}


def run_plainly(model: onnx.ModelProto, feeds: dict[str, Array], output: str) -> Array:
    """Run a model as onnxruntime users do; `output` may be inside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if output not in {y.name for y in copy.graph.output}:
        copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feeds)[0], np.float64)


@cache
def head() -> onnx.ModelProto:
    """Return `conv_net` from its features on, cut by onnx's own tool."""
    model = onnx.shape_inference.infer_shapes(nets.conv_net())
    return onnx.utils.Extractor(model).extract_model(["features"], ["z"])


def score_without(n: int, removed: list[int]) -> float:
    """Return the score of image n with some maps set to zero."""
    features = truth()[0][n : n + 1].astype(np.float32)
    features[:, removed] = 0
    return float(run_plainly(head(), {"features": features}, "z")[0, TARGETS[n]])


def by_ablation() -> Array:
    """(z - z without k) / z, one run per map."""
    z = truth()[2]
    drops = [
        [(z[n] - score_without(n, [k])) / z[n] for k in range(nets.CHANNELS)] for n in range(3)
    ]
    return np.array(drops)


def by_masking() -> Array:
    """Score-CAM: softmax over k of z(image * up-sampled map k), one run per map."""
    raised = np.zeros((3, nets.CHANNELS))
    for n, x in enumerate(nets.images()):
        maps = torch.from_numpy(truth()[0][n : n + 1])
        large = F.interpolate(maps, (8, 8), mode="bilinear", align_corners=False)[0].numpy()
        for k, m in enumerate(large):
            mask = (m - m.min()) / ((m.max() - m.min()) or 1)  # a dead map masks everything
            masked = (x * mask)[None].astype(np.float32)
            raised[n, k] = run_plainly(nets.conv_net(), {"x": masked}, "z")[0, TARGETS[n]]
    return torch.softmax(torch.from_numpy(raised), 1).numpy()


def by_enumeration() -> Array:
    """Exact Shapley values: the sum over all coalitions of the other maps."""
    count, maps = nets.CHANNELS, range(nets.CHANNELS)
    values = np.zeros((3, count))
    for n, k in np.ndindex(3, count):
        others = [j for j in maps if j != k]
        for size in range(count):
            share = factorial(size) * factorial(count - size - 1) / factorial(count)
            for kept in combinations(others, size):
                without = [j for j in others if j not in kept]
                gain = score_without(n, without) - score_without(n, [*without, k])
                values[n, k] += share * gain
    return values


# --- every row -----------------------------------------------------------------------------------------
def explain(kind: str, **options: Any) -> ox.Cam:
    return ox.cam(nets.load(nets.conv_net()), nets.images(), TARGETS, kind=kind, **options)


@pytest.mark.parametrize("kind", FORMULAS)
def test_formula(kind: str) -> None:
    a, g, z = truth()
    weights = FORMULAS[kind](a, g)
    found = explain(kind)
    np.testing.assert_allclose(found.values, (weights * a).sum(1), rtol=1e-4, atol=1e-6)
    coefficients = weights if weights.shape[2:] == (1, 1) else weights * a
    np.testing.assert_allclose(found.weights, coefficients.sum((2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores, z, rtol=1e-5)
    assert found.classes.tolist() == TARGETS and found.layer == "features"


@pytest.mark.parametrize(
    ("kind", "oracle"), [("score_cam", by_masking), ("ablation_cam", by_ablation)]
)
def test_perturbation_by_separate_runs(kind: str, oracle: Callable[[], Array]) -> None:
    found, weights = explain(kind), oracle()
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-6)
    expected = (per_channel(weights) * truth()[0]).sum(1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)


def test_sampled_shapley_values_approach_the_exact_ones() -> None:
    found, exact = explain("shap_cam", permutations=1000).weights, by_enumeration()
    assert np.linalg.norm(found - exact) < 0.03 * np.linalg.norm(exact)
    few = explain("shap_cam", permutations=2).weights
    assert np.linalg.norm(few - exact) > 2 * np.linalg.norm(found - exact)


@pytest.mark.parametrize("permutations", [1, 2, 5])
def test_every_sample_of_orders_is_efficient(permutations: int) -> None:
    found = explain("shap_cam", permutations=permutations)
    empty = [score_without(n, list(range(nets.CHANNELS))) for n in range(3)]
    np.testing.assert_allclose(found.weights.sum(1), found.scores - empty, rtol=1e-5)


def test_every_row_is_compared_with_an_oracle() -> None:
    elsewhere = {"lift_cam"}  # test_lift_cam.py
    here = {*FORMULAS, "score_cam", "ablation_cam", "shap_cam"}
    assert here | elsewhere == set(CAMS)


def test_global_average_pooling_in_closed_form() -> None:
    """With z = w mean(A) + b all rows but the element-wise ones are w_k times something known."""
    body = "r = Relu(x) g = GlobalAveragePool(r) f = Flatten(g) z = Gemm<transB = 1>(f, w, b)"
    proto = nets.build("(float[N, 3, 4, 6] x) => (float[N, 2] z)", body, w=(2, 3), b=(2,))
    model, x = nets.load(proto), nets.images(2, (3, 4, 6))
    w = nets.weights_of(proto)["w"].numpy()[1]
    means, z = np.clip(x, 0, None).mean((2, 3)), model.predict(x).logits[:, 1:]
    weights = {
        kind: ox.cam(model, x, 1, kind=kind, layer="r").weights
        for kind in ("grad_cam", "xgrad_cam", "hires_cam", "ablation_cam", "shap_cam")
    }
    for kind in ("grad_cam", "xgrad_cam"):
        np.testing.assert_allclose(weights[kind], np.tile(w / 24, (2, 1)), rtol=1e-5)
    for kind in ("hires_cam", "shap_cam"):
        np.testing.assert_allclose(weights[kind], w * means, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(weights["ablation_cam"], w * means / z, rtol=1e-4, atol=1e-6)


# --- pictures ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", CAMS)
def test_heatmap_is_the_positive_part_enlarged(kind: str) -> None:
    found = explain(kind)
    positive = torch.tensor(found.values).clamp(min=0)[None].double()
    large = F.interpolate(positive, (8, 8), mode="bilinear", align_corners=False)[0].numpy()
    low, high = large.min((1, 2), keepdims=True), large.max((1, 2), keepdims=True)
    expected = (large - low) / np.where(high > low, high - low, 1)
    np.testing.assert_allclose(found.heatmap(), expected, atol=1e-5)
    assert found.heatmap().min() >= 0 and found.heatmap().max() <= 1


@pytest.mark.parametrize("kind", CAMS)
def test_channels_last_equals_channels_first(kind: str) -> None:
    x = nets.images().transpose(0, 2, 3, 1)
    found = ox.cam(nets.load(nets.nhwc_net()), x, TARGETS, kind=kind)
    first = explain(kind)
    assert nets.load(nets.nhwc_net()).layer(found.layer).axes == "NHWC"
    np.testing.assert_allclose(found.values, first.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.weights, first.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.heatmap(), first.heatmap(), atol=1e-4)


# --- options and layers --------------------------------------------------------------------------------
def test_shapley_values_are_seeded() -> None:
    first, again, other = (explain("shap_cam", permutations=3, seed=s) for s in (5, 5, 6))
    assert first == again
    assert not np.array_equal(first.weights, other.weights)
    assert (first.meta["permutations"], first.meta["seed"]) == (3, 5)
    assert first == explain("shap_cam", permutations=np.int64(3), seed=np.int64(5))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("grad-cam", {}, "cam kind 'grad-cam' is unknown: choose lift_cam, grad_cam"),
        ("grad_cam", {"seed": 1}, "grad_cam has no option 'seed'; it takes none"),
        ("shap_cam", {"samples": 9}, "no option 'samples'; it takes permutations, seed"),
        ("shap_cam", {"permutations": 0}, "permutations must be"),
        ("shap_cam", {"permutations": 2.5}, "permutations must be"),
        ("shap_cam", {"permutations": True}, "permutations must be"),
        ("shap_cam", {"seed": -1}, "seed must be"),
    ],
)
def test_options_are_checked(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(kind, **options)


def branched_net() -> onnx.ModelProto:
    """Return `conv_net` with a shortcut around `features`."""
    around = "p1 = MaxPool<kernel_shape = [4, 4], strides = [4, 4]>(a1) r1 = Conv(p1, wr)"
    body = nets.BODY.replace(
        "flat = Flatten(pooled)", f"{around} s = Add(pooled, r1) flat = Flatten(s)"
    )
    return nets.conv_net(body=body, wr=(5, 4, 1, 1))


@pytest.mark.parametrize("kind", [kind for kind in CAMS if CAMS[kind].cut])
def test_a_layer_with_a_way_around_is_refused_with_the_way_out(kind: str) -> None:
    message = f"{kind} needs a layer .* 'features' is not one; choose one that `onnxplain inspect`"
    model, x = nets.load(branched_net()), nets.images()
    with pytest.raises(LayerError, match=message):
        ox.cam(model, x, kind=kind, layer="features")
    assert ox.cam(model, x, kind=kind).layer == "s"


def test_a_gradient_needs_no_cut() -> None:
    """The shortcut does not depend on `features`, so it is held while G is taken."""
    proto, x = branched_net(), nets.images()
    w = nets.weights_of(proto)
    a1 = F.relu(F.conv2d(torch.tensor(x, dtype=torch.float64), w["w1"], w["b1"], padding=1))
    around = F.conv2d(F.max_pool2d(a1, 4), w["wr"])
    at = nets.double(truth()[0])
    flat = (F.max_pool2d(at, 2) + around).flatten(1)
    hidden = F.relu(F.linear(flat, w["w3"], w["b3"]))
    z = F.linear(hidden, w["w4"], w["b4"])[:, 0]
    (g,) = torch.autograd.grad(z.sum(), at)
    found = ox.cam(nets.load(proto), x, 0, kind="grad_cam", layer="features")
    expected = (per_channel(g.numpy().mean((2, 3))) * truth()[0]).sum(1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores, z.detach(), rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in CAMS if CAMS[kind].runs is not None])
def test_what_only_runs_forward_needs_no_rule(kind: str) -> None:
    """Det has none; of matrices of one number it is that number."""
    around = "d1 = Unsqueeze(hidden, last) d2 = Det(d1) a3 = Relu(d2)"
    body = nets.BODY.replace("a3 = Relu(hidden)", around)
    refused = nets.load(nets.conv_net(body=body, last=np.array([2, 3])))
    found = ox.cam(refused, nets.images(), TARGETS, kind=kind)
    known = explain(kind)
    np.testing.assert_allclose(found.values, known.values, rtol=1e-5, atol=1e-6)
    assert (found.meta["rules"], found.meta["inexact"]) == (None, ())
    with pytest.raises(
        UnsupportedOpError, match=r"Det .* or take score-cam, which only runs forward"
    ):
        ox.cam(refused, nets.images(), TARGETS, kind="grad_cam")


@pytest.mark.parametrize("kind", ["score_cam", "grad_cam"])
def test_a_layer_beside_the_way_to_the_output_is_refused(kind: str) -> None:
    head = "(float[N, 3, 8, 8] x) => (float[N, 2] z, float[N, 2] u)"
    ways = (
        f"c{k} = Conv(r, w{k}) {k} = Relu(c{k}) p{k} = GlobalAveragePool({k}) f{k} = Flatten(p{k})"
        for k in "ab"
    )
    body = f"r = Relu(x) {' '.join(ways)} z = Gemm(fa, v) u = Gemm(fb, v)"
    model = nets.load(nets.build(head, body, wa=(4, 3, 3, 3), wb=(4, 3, 3, 3), v=(4, 2)))
    x, target = nets.images(), ox.Target(1, output="u")
    assert ox.cam(model, x, target, kind=kind, layer="r").values.any()
    with pytest.raises(ox.OnnxplainError, match=r"u'? does not depend on (layer )?'?a"):
        ox.cam(model, x, target, kind=kind, layer="a")


def test_needing_a_cut_is_a_property_of_the_method() -> None:
    assert {kind for kind in CAMS if CAMS[kind].cut} == {"lift_cam", "ablation_cam", "shap_cam"}


@pytest.mark.parametrize("layer", ["flat", "hidden"])
def test_vectors_are_no_feature_maps(layer: str) -> None:
    with pytest.raises(LayerError, match=f"layer '{layer}' of shape .* is not a feature map"):
        explain("grad_cam", layer=layer)


def test_a_model_without_feature_maps_says_so() -> None:
    model = nets.load(nets.build("(float[N, 5] x) => (float[N, 3] y)", "y = Gemm(x, w)", w=(5, 3)))
    with pytest.raises(LayerError, match=r"no feature maps: .* gradients do"):
        ox.cam(model, np.ones((1, 5), np.float32))
