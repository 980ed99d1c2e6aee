"""Readouts: the formula written out, what must hold exactly, and what they refuse."""

from __future__ import annotations

import json
import pickle
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxplain as ox
from onnxplain.dataset import Batch, Run
from onnxplain.errors import ConfigError, InputError, LayerError, TargetError
from onnxplain.methods.agreement import Agreeing
from onnxplain.methods.readouts import RIDGES, Fitting, Joint, solve
from onnxplain.results import Readouts
from tests import nets, tokens
from tests.methods.readable import (
    dual_regression,
    gap_net,
    nhwc_gap_net,
    ridge_regression,
    values,
)

Array = np.ndarray[Any, Any]


@cache
def model() -> ox.Model:
    return nets.load(gap_net())


@cache
def references() -> Array:
    return nets.images(90, seed=7)


def parts(x: Array) -> tuple[Array, Array]:
    """Return the images that are fitted to, and those held out."""
    held = np.array([zlib.crc32(image.tobytes()) % 5 == 0 for image in x])
    return x[~held], x[held]


def phi_of(a: Array, axes: tuple[int, ...] = (2, 3)) -> Array:
    return a.mean(axes) if a.ndim > 2 else a


# --- the formula --------------------------------------------------------------------------------------
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.3, 10.0])
@pytest.mark.parametrize("layer", ["a1", "features"])
def test_weights_are_the_ridge_regression_of_the_logits(layer: str, ridge: float) -> None:
    found = ox.fit_readouts(model(), references(), [layer], ridge)
    a, z = values(model(), parts(references())[0], layer, "z")
    w, b = ridge_regression(phi_of(a), z, ridge)
    np.testing.assert_allclose(found.weights[0], w, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.biases[0], b, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.means[0], phi_of(a).mean(0), rtol=1e-12)
    assert found.ridges == (ridge,)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_fewer_images_than_channels_is_the_dual_form(
    ridge: float, rng: np.random.Generator
) -> None:
    phi, z = rng.normal(size=(7, 30)), rng.normal(size=(7, 3))
    w, b, _ = solve(Joint.of(phi, z), ridge)
    expected = dual_regression(phi, z, ridge)
    np.testing.assert_allclose(w, expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(b, expected[1], rtol=1e-9)


def test_without_ridge_fewer_images_than_channels_get_the_shortest_solution(
    rng: np.random.Generator,
) -> None:
    phi, z = rng.normal(size=(7, 30)), rng.normal(size=(7, 3))
    w, b, _ = solve(Joint.of(phi, z), 0.0)
    shortest = np.linalg.lstsq(phi - phi.mean(0), z - z.mean(0), rcond=None)[0]
    np.testing.assert_allclose(w, shortest, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(phi @ w + b, z, rtol=1e-9)


@pytest.mark.parametrize(("images", "channels"), [(40, 6), (12, 30)])
def test_the_ridge_is_the_one_of_least_generalised_cross_validation(
    images: int, channels: int, rng: np.random.Generator
) -> None:
    """By the hat matrix: H = P (P'P + l I)^-1 P' + 11'/n, GCV = |Z - HZ|^2 / (1 - tr H / n)^2."""
    phi = rng.normal(size=(images, channels)) * np.linspace(0.1, 3, channels)
    z = phi[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(images, 3))
    p = phi - phi.mean(0)
    scores = []
    for ridge in RIDGES:
        damped = p.T @ p + ridge * np.trace(p.T @ p) / channels * np.eye(channels)
        hat = p @ np.linalg.solve(damped, p.T) + 1 / images
        scores.append(((z - hat @ z) ** 2).sum() / (1 - np.trace(hat) / images) ** 2)
    assert solve(Joint.of(phi, z), None)[2] == RIDGES[int(np.argmin(scores))]
    assert 0 < int(np.argmin(scores)) < len(RIDGES) - 1, "a case that decides something"


def test_r2_is_that_of_the_images_held_out() -> None:
    found = ox.fit_readouts(model(), references())
    fitted, held = parts(references())
    assert (found.images, found.held_out) == (len(fitted), len(held)) and len(held) > 5
    a1, features, z = values(model(), held, "a1", "features", "z")
    for i, a in enumerate((a1, features)):
        missed = z - phi_of(a) @ found.weights[i] - found.biases[i]
        direct = 1 - (missed**2).sum() / ((z - z.mean(0)) ** 2).sum()
        assert found.r2[i] == pytest.approx(direct, abs=1e-9)
    assert found.r2[0] is not None and found.r2[0] < 0.9, "the other layer is exact"


# --- what must hold exactly ---------------------------------------------------------------------------
def test_before_a_linear_head_the_readout_is_the_head() -> None:
    found = ox.fit_readouts(model(), references(), ["features"], 0.0)
    w, b = (nets.weights_of(gap_net())[name].numpy() for name in ("w", "b"))
    np.testing.assert_allclose(found.weights[0], w.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.biases[0], b, rtol=1e-4, atol=1e-5)
    assert found.r2[0] == pytest.approx(1, abs=1e-9)


def test_a_net_of_the_other_layout_gives_the_same_readouts() -> None:
    x = references()
    expected = ox.fit_readouts(model(), x, ["features"], 1e-3)
    twin = nets.load(nhwc_gap_net())
    held = parts(x)  # digests hash what the model is fed, so that other layouts split otherwise
    fitted = ox.fit_readouts(twin, x.transpose(0, 2, 3, 1), ["features"], 1e-3)
    assert fitted.weights[0].shape == expected.weights[0].shape and len(held[0]) == expected.images
    mine = parts(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))[0].transpose(0, 3, 1, 2)
    a, z = values(model(), np.ascontiguousarray(mine), "features", "z")
    w, _ = ridge_regression(phi_of(a), z, 1e-3)
    np.testing.assert_allclose(fitted.weights[0], w, rtol=1e-4, atol=1e-5)


def test_the_features_of_tokens_are_their_mean() -> None:
    net, x = nets.load(tokens.vit("mean")), nets.images(40, (3, 6, 8))
    found = ox.fit_readouts(net, x, ["t0"], 1e-3)
    a, z = values(net, parts(x)[0], "t0", "z")
    w, _ = ridge_regression(phi_of(a, (1,)), z, 1e-3)
    np.testing.assert_allclose(found.weights[0], w, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "run", [Run(workers=2, batch=3), Run(workers=1, batch=90), Run(workers=2, batch=1)]
)
def test_batches_and_workers_change_nothing(run: Run) -> None:
    found = ox.fit_readouts(model(), references(), run=run)
    expected = ox.fit_readouts(model(), references())
    assert (found.images, found.held_out) == (expected.images, expected.held_out)
    for mine, theirs in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.biases, expected.biases, rtol=1e-8)
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-10)  # type: ignore[arg-type]


def test_the_order_of_references_changes_nothing(rng: np.random.Generator) -> None:
    found = ox.fit_readouts(model(), references()[rng.permutation(90)])
    expected = ox.fit_readouts(model(), references())
    np.testing.assert_allclose(found.weights[0], expected.weights[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-10)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 12), st.integers(0, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99)
)
def test_merged_sums_are_those_of_all(n: int, m: int, k: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    phi, z = rng.normal(3, 2, (n + m, k)), rng.normal(-1, 5, (n + m, c))
    merged = Joint.of(phi[:n], z[:n]).merge(Joint.of(phi[n:], z[n:]))
    whole = Joint.of(phi, z)
    for name in ("count", "mean", "mean_z", "pp", "pz", "zz"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_saved_and_loaded_they_are_the_same(tmp_path: Any) -> None:
    found = ox.fit_readouts(model(), references())
    found.save(tmp_path)
    loaded = Readouts.load(tmp_path)
    assert loaded == found and loaded.digest() == found.digest()


def test_both_jobs_travel_to_other_processes() -> None:
    """As a cluster sends them: pickled, they do the same work."""
    found = ox.fit_readouts(model(), references())
    x = nets.images(5)
    batch = Batch(np.arange(5), ("",) * 5, np.arange(5) % 4, np.arange(5, dtype=np.uint32), (x,))
    for job in (Fitting(found.layers), Agreeing(found)):
        twin = pickle.loads(pickle.dumps(job))
        assert json.dumps(twin.key()) == json.dumps(job.key())
        mine, theirs = (
            twin.map([pickle.loads(pickle.dumps(model()))], batch),
            job.map([model()], batch),
        )
        assert mine.keys() == theirs.keys()
        for name in mine:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [{"r2": ("0.9", None)}, {"r2": (None,)}, {"weights": (np.ones((4, 4)), np.ones((6, 4)))}],
)
def test_altered_ones_are_refused(change: dict[str, Any]) -> None:
    fields = ox.fit_readouts(model(), references()).__dict__
    with pytest.raises(InputError, match="Readouts: "):
        Readouts(**{**fields, **change})


def test_ones_of_other_sizes_are_refused() -> None:
    fields = ox.fit_readouts(model(), references(), ["features"]).__dict__
    odd = Readouts(**{**fields, "layers": ("a1",)})
    with pytest.raises(ConfigError, match="fitted to another model"):
        ox.layer_predictions(model(), nets.images(1), odd)


# --- degenerate ---------------------------------------------------------------------------------------
def test_features_that_never_change_predict_the_mean_logits() -> None:
    dead = nets.load(gap_net(w1=np.zeros((4, 3, 3, 3), np.float32)))
    found = ox.fit_readouts(dead, references())
    assert not any(w.any() for w in found.weights)
    z = values(dead, references()[:1], "z")[0]
    np.testing.assert_allclose(found.biases, np.repeat(z, 2, 0), rtol=1e-6)
    assert found.r2 == (None, None), "logits that never change say nothing"


def test_where_too_few_are_held_out_r2_is_unknown() -> None:
    fitted, held = parts(references())
    few = np.concatenate([fitted[:6], held[:1]])
    found = ox.fit_readouts(model(), few)
    assert (found.images, found.held_out, found.r2) == (6, 1, (None, None))


@pytest.mark.parametrize("ridge", [-1.0, np.nan, np.inf])
def test_a_ridge_out_of_range_is_refused(ridge: float) -> None:
    with pytest.raises(ConfigError, match=r"ridge = .* must be a number, 0 or more"):
        ox.fit_readouts(model(), references(), ridge=ridge)


def test_too_few_references_are_refused() -> None:
    with pytest.raises(InputError, match="1 are to be fitted to and 0 held out: give more"):
        ox.fit_readouts(model(), parts(references())[0][:1])


@pytest.mark.parametrize(("layer", "message"), [("z", "no layer 'z'"), ("nope", "no layer 'nope'")])
def test_layers_that_cannot_be_read_are_refused(layer: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        ox.fit_readouts(model(), references(), [layer])


def test_a_layer_without_channels_is_refused() -> None:
    """Windows of an image, [N, 2, 3, 64], are neither maps nor tokens nor a vector."""
    body = "r = Reshape(x, shape) n = Mul(r, r) f = Flatten(n) z = Gemm<transB = 1>(f, w, b)"
    odd = nets.load(
        nets.build(
            "(float[N, 3, 8, 8] x) => (float[N, 4] z)",
            body,
            shape=np.array([0, 2, 3, 32], np.int64),
            w=(4, 192),
            b=(4,),
        )
    )
    assert odd.layer("n").channels is None
    with pytest.raises(LayerError, match=r"'n' of shape .* has no channels"):
        ox.fit_readouts(odd, references(), ["n"])


def test_models_without_classes_are_refused() -> None:
    body = "y = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)"
    maps = nets.load(
        nets.build("(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)", body, w1=(4, 3, 3, 3), b1=(4,))
    )
    with pytest.raises(TargetError, match="no logits"):
        ox.fit_readouts(maps, references())
