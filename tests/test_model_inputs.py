"""What a model may be fed: several inputs, tables, any channels and sizes; layers without a row per image."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, LayerError, TargetError
from tests import nets


# --- several inputs ------------------------------------------------------------------------------------
def pair_net() -> onnx.ModelProto:
    """Return features of a picture x beside five numbers t."""
    body = """
        c = Conv<pads = [1, 1, 1, 1]>(x, w1) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g)
        both = Concat<axis = 1>(f, t) y = Gemm<transB = 1>(both, w)
    """
    head = "(float[N, 3, 8, 8] x, float[N, 5] t) => (float[N, 4] y)"
    return nets.build(head, body, w1=(2, 3, 3, 3), w=(4, 7))


@pytest.mark.parametrize("count", [1, 3, 18])
def test_two_inputs_as_a_mapping(count: int) -> None:
    """The picture is explained, the numbers count; more than 16 run in two batches."""
    proto = pair_net()
    model, x, t = nets.load(proto), nets.images(count), nets.images(count, (5,), seed=2)
    w, at = nets.weights_of(proto), nets.double(x)
    means = F.relu(F.conv2d(at, w["w1"], padding=1)).mean((2, 3))
    z = torch.cat([means, torch.tensor(t).double()], 1) @ w["w"].T
    (expected,) = torch.autograd.grad(z[:, 2].sum(), at)
    np.testing.assert_allclose(model.predict({"x": x, "t": t}).logits, z.detach(), atol=1e-5)
    found = ox.gradient(model, {"t": t, "x": x}, 2)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    np.testing.assert_allclose(found.scores, z.detach()[:, 2], atol=1e-5)
    with_others = ox.saliency(model, {"x": x, "t": t}, kind="active")
    assert with_others.values.shape == (count, 8, 8) and with_others.meta["classes_compared"] == 4


def test_the_second_input_can_be_explained() -> None:
    """The gradient with respect to t is the row of weights that reads it."""
    proto, x, t = pair_net(), nets.images(), nets.images(3, (5,), seed=2)
    found = ox.gradient(nets.load(proto), {"x": x, "t": t}, 2, wrt="t")
    expected = nets.weights_of(proto)["w"].numpy()[2, 2:]
    np.testing.assert_allclose(found.values, np.broadcast_to(expected, (3, 5)), rtol=1e-5)
    assert found.channel_axis is None


@pytest.mark.parametrize("kind", ["lift_cam", "shap_cam", "ablation_cam"])
def test_the_rest_of_the_network_gets_the_second_input(kind: str) -> None:
    """With z = w mean(A) + v t, map k contributes w_k mean(A_k); ablation divides by z, t included."""
    proto, x, t = pair_net(), nets.images(), nets.images(3, (5,), seed=2)
    w = {k: v.numpy() for k, v in nets.weights_of(proto).items()}
    conv = F.conv2d(torch.tensor(x).double(), torch.tensor(w["w1"]), padding=1)
    means = F.relu(conv).mean((2, 3)).numpy()
    z = np.concatenate([means, t], 1) @ w["w"][1]
    found = ox.cam(nets.load(proto), {"x": x, "t": t}, 1, kind=kind, layer="r")
    expected = means * w["w"][1, :2] / (z[:, None] if kind == "ablation_cam" else 1)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-3, atol=1e-5)


def test_score_cam_feeds_each_image_its_own_second_input() -> None:
    model, x, t = nets.load(pair_net()), nets.images(), 20 * nets.images(3, (5,), seed=2)
    together = ox.cam(model, {"x": x, "t": t}, kind="score_cam", layer="r")
    for i in range(3):
        alone = ox.cam(model, {"x": x[i], "t": t[i]}, kind="score_cam", layer="r")
        np.testing.assert_allclose(together.weights[i], alone.weights[0], atol=1e-6)
        np.testing.assert_allclose(together.scores[i], alone.scores[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            {"x": nets.images()},
            r"has 2 inputs \(x, t\): give a mapping name -> array; t is missing",
        ),
        (nets.images(), "t is missing"),
        ({"x": nets.images(), "u": nets.images()}, "has no input 'u'; it has x, t"),
        (
            {"x": nets.images(3), "t": nets.images(2, (5,))},
            r"different numbers of images: \[2, 3\]",
        ),
        ({"x": nets.images(3), "t": nets.images(3, (4,))}, r"input 't': has shape \[3, 4\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(feeds: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ox.gradient(nets.load(pair_net()), feeds)


@pytest.mark.parametrize("setting", ["float s", "float[1] s"], ids=["scalar", "of one"])
@pytest.mark.parametrize("method", [ox.gradient, ox.integrated_gradients])
def test_a_setting_is_the_same_for_all_images(setting: str, method: Any) -> None:
    """As a temperature or threshold that is an input of the file; 18 images run in two batches."""
    head = f"(float[N, 4] x, {setting}) => (float[N, 3] y)"
    proto = nets.build(head, "h = Mul(x, s) y = Gemm(h, w)", w=(4, 3))
    s = np.array(2, np.float32).reshape([] if setting == "float s" else [1])
    found = method(nets.load(proto), {"x": nets.images(18, (4,)), "s": s}, 1)
    w = nets.weights_of(proto)["w"].numpy()[:, 1]
    factor = 1 if method is ox.gradient else nets.images(18, (4,))
    np.testing.assert_allclose(found.values, np.broadcast_to(2 * w * factor, (18, 4)), rtol=1e-5)


@pytest.mark.parametrize("target", [None, 1, ox.Target.contrast(1, 0)], ids=str)
def test_a_setting_may_have_more_rows_than_there_are_images(target: Any) -> None:
    proto = nets.build(
        "(float[N, 4] x, float[4] s) => (float[N, 3] y)", "h = Mul(x, s) y = Gemm(h, w)", w=(4, 3)
    )
    x, s = nets.images(1, (4,)), np.arange(4, dtype=np.float32)
    found = ox.gradient(nets.load(proto), {"x": x, "s": s}, target)
    w = nets.weights_of(proto)["w"].numpy()
    best = int((x * s @ w).argmax())
    column = w[:, best if target is None else 1] - (w[:, 0] if found.classes[0] < 0 else 0)
    np.testing.assert_allclose(found.values, [s * column], rtol=1e-5)
    with pytest.raises(InputError, match="'s' is a setting, the same for all images"):
        ox.gradient(nets.load(proto), {"x": x, "s": s}, target, wrt="s")


# --- inputs that are no pictures -----------------------------------------------------------------------
def test_tabular_model() -> None:
    body = "h = Gemm(x, a) t = Tanh(h) z = Gemm(t, b) y = Softmax<axis = 1>(z)"
    proto = nets.build("(float[N, 6] x) => (float[N, 3] y)", body, a=(6, 5), b=(5, 3))
    model, x = nets.load(proto), nets.images(4, (6,))
    w, at = nets.weights_of(proto), nets.double(x)
    (expected,) = torch.autograd.grad((torch.tanh(at @ w["a"]) @ w["b"])[:, 1].sum(), at)
    found = ox.gradient(model, x, 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.channel_axis is None and found.meta["preprocess"] == "none"
    with pytest.raises(InputError, match=r"have no height and width to draw: use \.values"):
        found.heatmap()
    with pytest.raises((ConfigError, InputError), match=r"input 'x' .*is not a picture"):
        model.read(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("channels", [2, 5, 12])
def test_pictures_of_any_number_of_channels(channels: int) -> None:
    """Multispectral input is a picture: the convolution that reads it says where its channels are."""
    proto = nets.conv_net(nets.HEAD.replace("3, 8, 8", f"{channels}, 8, 8"), w1=(4, channels, 3, 3))
    model, x = nets.load(proto), nets.images(2, (channels, 8, 8))
    g = nets.jacobian(proto, x)[1]
    np.testing.assert_allclose(ox.saliency(model, x, 1).values, g.clip(0).max(1), atol=1e-6)
    assert ox.cam(model, x, 1, kind="grad_cam").heatmap().shape == (2, 8, 8)


# --- sizes ---------------------------------------------------------------------------------------------
OPEN = nets.build(
    "(float[N, 3, H, W] x) => (float[N, 4] y)",
    "c = Conv<pads = [1, 1, 1, 1]>(x, w1) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) "
    "y = Gemm<transB = 1>(f, w)",
    w1=(5, 3, 3, 3),
    w=(4, 5),
)


def test_a_model_of_any_size_at_two_sizes() -> None:
    model, w = nets.load(OPEN), nets.weights_of(OPEN)
    for h, width in ((8, 10), (12, 6), (8, 10)):
        x = nets.images(2, (3, h, width))
        at = nets.double(x)
        z = F.relu(F.conv2d(at, w["w1"], padding=1)).mean((2, 3)) @ w["w"].T
        (expected,) = torch.autograd.grad(z[:, 3].sum(), at)
        np.testing.assert_allclose(ox.gradient(model, x, 3).values, expected, atol=1e-6)
        np.testing.assert_allclose(model.predict(x).logits, z.detach(), atol=1e-5)
        found = ox.cam(model, x, 3, layer="r")
        assert found.values.shape == found.heatmap().shape == (2, h, width)
        scores = found.weights.sum(1)  # no bias: the score at zero activations is zero
        np.testing.assert_allclose(scores, z.detach()[:, 3], atol=1e-5)


def test_the_size_to_read_at() -> None:
    picture = np.zeros((30, 20, 3), np.uint8)
    assert nets.load(OPEN).read(picture).shape == (1, 3, 224, 224)
    sized = nets.load(OPEN, preprocess={"preset": "unit", "size": [16, 12]})
    assert sized.read(picture).shape == (1, 3, 16, 12)
    assert sized.default_layer is not None and sized.default_layer.size == (16, 12)


# --- layers that do not lead with the images -----------------------------------------------------------
@pytest.mark.parametrize("count", [3, 4])
def test_layers_without_a_row_per_image_are_refused(count: int) -> None:
    """[4, N, 6] would pass for four images at N = 4."""
    body = "t = Transpose<perm = [1, 0, 2]>(x) h = MatMul(t, w1) "
    body += "s = ReduceSum<keepdims = 0>(h, a) y = Gemm(s, w)"
    head = "(float[N, 4, 6] x) => (float[N, 3] y)"
    model = nets.load(nets.build(head, body, w1=(6, 6), w=(6, 3), a=np.array([0])))
    x = nets.images(count, (4, 6))
    assert ox.gradient(model, x, 0, wrt="s").values.shape == (count, 6)
    with pytest.raises(LayerError, match="'h'"):
        ox.gradient(model, x, 0, wrt="h")
    with pytest.raises(TargetError, match="'h'"):
        ox.gradient(model, x, ox.Target(index=(0, 0), output="h"))
