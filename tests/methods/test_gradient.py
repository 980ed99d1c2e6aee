"""The gradient and its wrappers against torch in float64, closed forms and their axioms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError
from tests import nets

Array = np.ndarray[Any, Any]
EACH = [2, 0, 3]


def torch_gradient(x: Array, classes: Any, start: str = "x") -> tuple[Array, Array]:
    """Return d z_c / d x (or d features) and z_c of `conv_net`."""
    w = nets.weights_of(nets.conv_net())
    at = nets.double(x)
    logits = (nets.torch_logits if start == "x" else nets.torch_head)(w, at)
    z = logits[range(len(x)), list(classes)]
    return torch.autograd.grad(z.sum(), at)[0].numpy(), z.detach().numpy()


def linear(x_shape: tuple[int, ...] = (3, 4, 4)) -> tuple[ox.Model, Array]:
    """Return a linear model of two classes, and its weights."""
    weights = np.random.default_rng(8).normal(size=(2, *x_shape)).astype(np.float32)
    return nets.load(nets.linear_net(weights, bias=np.array([0.3, -0.7]))), weights


# --- gradient ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", [None, 1, -1, EACH], ids=["predicted", "one", "last", "each"])
def test_gradient_equals_torch(target: Any) -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    found = ox.gradient(model, x, target)
    explained = model.predict(x).classes if target is None else np.resize(target, 3) % nets.CLASSES
    expected, scores = torch_gradient(x, explained)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    assert found.classes.tolist() == explained.tolist() and found.channel_axis == 1


def test_gradient_at_a_layer() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    features = nets.torch_features(nets.weights_of(nets.conv_net()), torch.tensor(x).double())
    expected, _ = torch_gradient(features.numpy(), EACH, start="features")
    named = ox.gradient(model, x, EACH, wrt="features")
    np.testing.assert_allclose(named.values, expected, atol=1e-6)
    assert named == ox.gradient(model, x, EACH, wrt=model.layer("features"))
    assert named.meta["layer"] == "features"


def test_channel_axis_follows_the_layout() -> None:
    model = nets.load(nets.nhwc_net())
    found = ox.gradient(model, nets.images().transpose(0, 2, 3, 1), EACH)
    expected, _ = torch_gradient(nets.images(), EACH)
    np.testing.assert_allclose(found.values, expected.transpose(0, 2, 3, 1), atol=1e-6)
    assert found.channel_axis == 3
    drawn = ox.gradient(nets.load(nets.conv_net()), nets.images(), EACH).heatmap()
    np.testing.assert_allclose(found.heatmap(), drawn, atol=1e-5)


def test_gradient_of_pixels_that_are_integers() -> None:
    body = "f = Cast<to = 1>(x) t = Mul(f, scale)" + nets.BODY.replace("(x,", "(t,")
    head, scale = "(uint8[N, 3, 8, 8] x) => (float[N, 4] y)", np.array(1 / 64, np.float32)
    model = nets.load(nets.conv_net(head, body, scale=scale))
    pixels = np.random.default_rng(0).integers(0, 255, (3, 3, 8, 8)).astype(np.uint8)
    expected, _ = torch_gradient(pixels / 64, EACH)
    np.testing.assert_allclose(ox.gradient(model, pixels, EACH).values, expected / 64, atol=1e-6)
    for method in (ox.smooth_grad, ox.integrated_gradients):
        with pytest.raises(InputError, match=r"holds uint8, .* use gradient or saliency"):
            method(model, pixels)


# --- integrated gradients ------------------------------------------------------------------------------
def test_integrated_gradients_is_the_midpoint_rule() -> None:
    model, x, steps = nets.load(nets.conv_net()), nets.images(), 7
    begin = np.full((3, 1, 1), 0.5, np.float32)
    found = ox.integrated_gradients(model, x, EACH, baseline=begin, steps=steps)
    path = [begin + (x - begin) * (k + 0.5) / steps for k in range(steps)]
    mean = np.mean([torch_gradient(at, EACH)[0] for at in path], axis=0)
    np.testing.assert_allclose(found.values, (x - begin) * mean, atol=1e-5)
    ends = (torch_gradient(at, EACH)[1] for at in (x, np.broadcast_to(begin, x.shape)))
    rest = np.subtract(*ends) - ((x - begin) * mean).sum((1, 2, 3))
    np.testing.assert_allclose(found.meta["residual"], rest, atol=1e-5)
    assert (found.meta["baseline"], found.meta["steps"]) == ("given", steps)


def test_integrated_gradients_become_complete() -> None:
    model, x = nets.load(nets.conv_net()), nets.images(8)
    residuals = [
        np.abs(ox.integrated_gradients(model, x, steps=steps).meta["residual"]).mean()
        for steps in (4, 32, 256)
    ]
    assert residuals[0] > 3 * residuals[1] > 9 * residuals[2]


def test_integrated_gradients_of_a_linear_model_are_exact_in_one_step() -> None:
    model, weights = linear()
    x = nets.images(2, (3, 4, 4))
    for baseline in (None, 0.25, x[::-1]):
        found = ox.integrated_gradients(model, x, 1, baseline=baseline, steps=1)
        begin = 0 if baseline is None else baseline
        np.testing.assert_allclose(found.values, (x - begin) * weights[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.meta["residual"], 0, atol=1e-5)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (np.zeros((3, 9, 9)), r"the baseline's shape does not fit the input's, \(1, 3, 4, 4\)"),
        (np.zeros((2, 3, 4, 4)), "the baseline's shape does not fit"),
        (np.full((3, 4, 4), np.nan), "the baseline holds NaN"),
        (np.inf, "the baseline holds NaN or infinite"),
        ("black", "the baseline"),
    ],
)
def test_baselines_are_checked(baseline: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ox.integrated_gradients(linear()[0], nets.images(1, (3, 4, 4)), baseline=baseline)


@pytest.mark.parametrize("steps", [0, -3, 2.5])
def test_steps_are_checked(steps: Any) -> None:
    with pytest.raises(ConfigError, match=f"needs steps .* got {steps}"):
        ox.integrated_gradients(linear()[0], nets.images(1, (3, 4, 4)), steps=steps)


# --- smooth grad ---------------------------------------------------------------------------------------
def test_smooth_grad_without_noise_is_the_gradient() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    found = ox.smooth_grad(model, x, noise=0, samples=3)
    np.testing.assert_array_equal(found.values, ox.gradient(model, x).values)


@pytest.mark.parametrize("noise", [0.1, 5.0])
def test_smooth_grad_of_a_linear_model_is_its_weights(noise: float) -> None:
    model, weights = linear()
    found = ox.smooth_grad(model, nets.images(2, (3, 4, 4)), 1, samples=4, noise=noise)
    np.testing.assert_allclose(found.values, np.stack([weights[1]] * 2), rtol=1e-6)


def test_smooth_grad_has_the_noise_it_says() -> None:
    """E[d (w x^3) / dx] = 3 w (x^2 + sigma^2) for normal noise, whose sigma is a share of the range."""
    body = "three = Pow(x, p) y = Gemm(three, w)"
    proto = nets.build(
        "(float[N, 4] x) => (float[N, 2] y)", body, p=np.array(3, np.float32), w=(4, 2)
    )
    x = np.float32([[0, 1, 2, 3], [1, 1, -1, 0]])
    found = ox.smooth_grad(nets.load(proto), x, 0, samples=2000, noise=0.2)
    sigma, w = 0.2 * np.array([[3.0], [2.0]]), nets.weights_of(proto)["w"].numpy()[:, 0]
    expected = 3 * w * (x**2 + sigma**2)
    np.testing.assert_allclose(found.values, expected, rtol=0.1, atol=0.02)
    np.testing.assert_allclose(found.scores, x**3 @ w, rtol=1e-5)  # of the clean input


def test_smooth_grad_is_seeded_and_averages() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    one, same, other = (ox.smooth_grad(model, x, 0, samples=2, seed=s) for s in (1, 1, 2))
    assert one == same and not np.array_equal(one.values, other.values)
    halves = [ox.smooth_grad(model, x, 0, samples=s, seed=1).values for s in (1, 2)]
    second = 2 * halves[1] - halves[0]
    assert not np.allclose(second, halves[0]), "each sample has its own noise"


@pytest.mark.parametrize(
    "options",
    [{"samples": 0}, {"samples": 2.5}, {"noise": -0.1}, {"noise": np.nan}, {"seed": -1}],
)
def test_smooth_grad_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"smooth_grad needs .*{next(iter(options))}"):
        ox.smooth_grad(linear()[0], nets.images(1, (3, 4, 4)), **options)


# --- guided backpropagation ----------------------------------------------------------------------------
def test_guided_backprop_equals_torch_with_hooks() -> None:
    """A hook on each rectifier's output drops what is negative before the rectifier's own mask."""
    w, x = nets.weights_of(nets.conv_net()), nets.images()

    def guided(t: torch.Tensor) -> torch.Tensor:
        y = F.relu(t)
        y.register_hook(lambda g: g.clamp(min=0))
        return y

    at = nets.double(x)
    a1 = guided(F.conv2d(at, w["w1"], w["b1"], padding=1))
    features = guided(F.conv2d(a1, w["w2"], w["b2"], padding=1, stride=2))
    hidden = guided(F.linear(F.max_pool2d(features, 2).flatten(1), w["w3"], w["b3"]))
    z = F.linear(hidden, w["w4"], w["b4"])[range(3), EACH]
    (expected,) = torch.autograd.grad(z.sum(), at)
    model = nets.load(nets.conv_net())
    found = ox.guided_backprop(model, x, EACH)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.meta["rules"] == "guided"
    assert not np.allclose(found.values, ox.gradient(model, x, EACH).values, atol=1e-3)
