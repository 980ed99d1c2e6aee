"""Layer predictions: their formulas, the invariants of each mode, and every kind of wrong question."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, LayerError, TargetError
from onnxplain.methods import predictions as module
from onnxplain.results import LayerPredictions, Record, bilinear, minmax
from onnxplain.results.predictions import depths, entropies, shown_r2
from tests import nets, tokens
from tests.methods.readable import BODY, CLASSES, K, gap_net, nhwc_gap_net, values

Array = np.ndarray[Any, Any]
MODES = ["readout", "masked", "keep"]


@cache
def model() -> ox.Model:
    return nets.load(gap_net())


@cache
def readouts() -> ox.Readouts:
    return ox.fit_readouts(model(), nets.images(90, seed=7))


def asked(mode: str, net: ox.Model | None = None, x: Array | None = None, **more: Any) -> Any:
    """Return predictions of some images in a mode, with readouts where it wants some."""
    refs = {"references": readouts()} if mode == "readout" else {}
    images = nets.images(11) if x is None else x
    return ox.layer_predictions(net or model(), images, mode=mode, **{**refs, **more})


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- readouts -----------------------------------------------------------------------------------------
def test_before_a_linear_head_readout_is_the_model_and_its_heat_map_is_cam() -> None:
    """Layer = what is averaged before the last Linear, ridge 0, more references than channels."""
    x = nets.images(6)
    refs = ox.fit_readouts(model(), nets.images(90, seed=7), ["features"], 0.0)
    found = ox.layer_predictions(model(), x, refs)
    np.testing.assert_allclose(found.logits[0], found.final, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.final, model().predict(x).logits, rtol=1e-6)
    w = nets.weights_of(gap_net())["w"].numpy()
    cam = np.einsum("nk,nkhw->nhw", w[found.classes], values(model(), x, "features")[0])
    heat = found.maps[0]
    assert heat is not None and heat.shape == (6, 4, 4)
    np.testing.assert_allclose(heat, cam, rtol=1e-3, atol=1e-4)
    assert found.agrees.all() and not found.depth.any()


def test_the_mean_of_the_heat_map_plus_bias_is_the_logit_at_every_layer() -> None:
    found = asked("readout", target=2)
    assert found.layers == ("a1", "features") and found.biases is not None
    for i, heat in enumerate(found.maps):
        mean = heat.mean((1, 2), dtype=np.float64) + found.biases[i]
        np.testing.assert_allclose(mean, found.logits[i, :, 2], rtol=1e-5, atol=1e-6)
        whole = found.evidence[i].sum(1, dtype=np.float64) + found.biases[i]
        np.testing.assert_allclose(whole, found.logits[i, :, 2], rtol=1e-5, atol=1e-6)


def test_logits_heat_maps_and_evidence_by_their_formulas() -> None:
    x, classes = nets.images(5), np.array([3, 0, 2, 2, 1])
    found = asked("readout", x=x, target=classes)
    for i, a in enumerate(values(model(), x, "a1", "features")):
        (w, b), phi = readouts().of(found.layers[i]), a.mean((2, 3))
        np.testing.assert_allclose(found.logits[i], phi @ w + b, rtol=1e-9)
        for n, c in enumerate(classes):
            heat = sum(w[k, c] * a[n, k] for k in range(a.shape[1]))
            np.testing.assert_allclose(found.maps[i][n], heat, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found.evidence[i][n], w[:, c] * phi[n], rtol=1e-5, atol=1e-7)
            best = found.top_filters(i, n, 2)
            strongest = np.argsort(-np.abs(w[:, c] * phi[n]))[:2]
            assert [k for k, _ in best] == strongest.tolist()
    np.testing.assert_array_equal(found.classes, classes)


def test_images_as_references_are_fitted_to() -> None:
    refs = nets.images(90, seed=7)
    found = ox.layer_predictions(model(), nets.images(3), refs)
    assert found.mode == "readout" and found == asked("readout", x=nets.images(3))


def test_the_patches_of_tokens_are_mapped() -> None:
    net, x = nets.load(tokens.vit("mean", others=0)), nets.images(4, (3, 6, 8))
    layers = [layer.name for layer in net.layers if layer.grid is not None and layer.cut]
    refs = ox.fit_readouts(net, nets.images(40, (3, 6, 8), seed=5), layers)
    found = ox.layer_predictions(net, x, refs, target=1)
    assert found.biases is not None and "t0" in found.layers
    for i, heat in enumerate(found.maps):
        assert heat is not None and heat.shape == (4, 3, 4)
        mean = heat.mean((1, 2), dtype=np.float64) + found.biases[i]
        np.testing.assert_allclose(mean, found.logits[i, :, 1], rtol=1e-4, atol=1e-5)


def test_vectors_have_no_map() -> None:
    net = nets.load(nets.conv_net())
    refs = ox.fit_readouts(net, nets.images(60, seed=7), ridge=0.0)
    found = ox.layer_predictions(net, nets.images(3), refs)
    assert found.layers == ("a1", "features", "a3") and found.maps[2] is None
    np.testing.assert_allclose(found.logits[2], found.final, rtol=1e-4, atol=1e-5)


# --- masked -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_masked_is_the_model_on_the_masked_picture(baseline: str) -> None:
    """Pixels are mixed, then fed: written out for a model with its own scale and mean per colour."""
    settings_ = {"scale": 1 / 255, "mean": [0.2, 0.5, 0.4], "std": [0.5, 0.25, 0.3]}
    net = nets.load(gap_net(), preprocess=settings_)
    pixels = np.random.default_rng(2).random((4, 3, 8, 8))
    shift, spread = (np.array(settings_[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    x = ((pixels - shift) / spread).astype(np.float32)
    found = asked("masked", net, x, baseline=baseline)
    for i, a in enumerate(values(net, x, "a1", "features")):
        mask = minmax(bilinear(np.maximum(a, 0).mean(1), (8, 8)))
        np.testing.assert_allclose(found.maps[i], mask, atol=1e-6)
        other = {
            "mean": np.broadcast_to(pixels.mean((2, 3), keepdims=True), pixels.shape),
            "blur": np.stack(
                [[gaussian_filter(c, 0.8, mode="nearest") for c in image] for image in pixels]
            ),
        }[baseline]
        m = mask[:, None]
        fed = (pixels * m + other * (1 - m) - shift) / spread
        expected = net.predict(fed.astype(np.float32)).logits
        np.testing.assert_allclose(found.logits[i], expected, rtol=1e-4, atol=1e-5)
    assert found.meta["baseline"] == baseline


def test_masked_leaves_out_layers_without_positions() -> None:
    net = nets.load(nets.conv_net())
    assert ox.layer_predictions(net, nets.images(2)).layers == ("a1", "features")
    with pytest.raises(LayerError, match="'a3' has no positions to mask a picture by"):
        ox.layer_predictions(net, nets.images(2), layers=["features", "a3"])


def test_a_layer_that_responds_nowhere_leaves_the_baseline() -> None:
    dead = nets.load(gap_net(w1=np.zeros((4, 3, 3, 3), np.float32), b1=np.full(4, -1, np.float32)))
    x = nets.images(2)
    found = asked("masked", dead, x, layers=["a1"], baseline="mean")
    assert not found.maps[0].any()
    flat = np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape).astype(np.float32)
    np.testing.assert_allclose(found.logits[0], dead.predict(flat).logits, rtol=1e-5)


# --- keep ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("everything", [1.0, K, 99])
def test_all_filters_kept_is_the_model(everything: float) -> None:
    found = asked("keep", keep=everything)
    np.testing.assert_allclose(
        found.logits, np.broadcast_to(found.final, found.logits.shape), rtol=1e-5, atol=1e-6
    )
    assert all(kept.all() for kept in found.kept)


@pytest.mark.parametrize("layer", ["features", "c2"])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
@pytest.mark.parametrize(("keep", "count"), [(2, 2), (0.3, 2), (0.41, 3)])
def test_keep_keeps_the_strongest_filters(
    layer: str, baseline: str, keep: float, count: int
) -> None:
    """By mean |A|, also where A is negative (c2, before its Relu)."""
    refs = ox.fit_readouts(model(), nets.images(90, seed=7), [layer])
    x = nets.images(6)
    more = {"references": refs} if baseline == "mean" else {}
    found = asked("keep", x=x, layers=[layer], keep=keep, baseline=baseline, **more)
    a = values(model(), x, layer)[0]
    w, b = (nets.weights_of(gap_net())[name].numpy() for name in ("w", "b"))
    base = refs.mean_of(layer) if baseline == "mean" else np.zeros(K)
    for n in range(6):
        strongest = np.argsort(-np.abs(a[n]).mean((1, 2)))[:count]
        assert np.flatnonzero(found.kept[0][n]).tolist() == sorted(strongest.tolist())
        shown = np.where(found.kept[0][n][:, None, None], a[n], base[:, None, None])
        phi = np.maximum(shown, 0).mean((1, 2))
        np.testing.assert_allclose(found.logits[0, n], w @ phi + b, rtol=1e-5, atol=1e-6)
    assert found.maps == (None,) and not found.evidence


# --- contracts of all modes ---------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_a_row_of_a_batch_equals_a_batch_of_one(mode: str) -> None:
    x = nets.images(11)  # more than are asked about at once
    whole = asked(mode, x=x)
    for i in (0, 7, 8, 10):
        one = asked(mode, x=x[i : i + 1])
        np.testing.assert_allclose(one.logits[:, 0], whole.logits[:, i], rtol=1e-5, atol=1e-6)
        assert one.classes[0] == whole.classes[i] and one.depth[0] == whole.depth[i]
        for mine, theirs in zip(one.maps, whole.maps, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                np.testing.assert_allclose(mine[0], theirs[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_inputs_stay_as_they_are_and_results_repeat(mode: str) -> None:
    x = nets.images(3)
    kept = x.copy()
    x.flags.writeable = False
    assert asked(mode, x=x) == asked(mode, x=x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("mode", MODES)
def test_two_threads_at_once(mode: str) -> None:
    fresh, inputs = nets.load(gap_net()), [nets.images(3, seed=s) for s in (1, 2, 3, 4)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda x: asked(mode, fresh, x), inputs))
    for x, record in zip(inputs, found, strict=True):
        assert record == asked(mode, x=x)


@pytest.mark.parametrize("mode", MODES)
def test_saved_and_loaded_it_is_the_same(mode: str, tmp_path: Any) -> None:
    found = asked(mode)
    found.save(tmp_path, "it")
    assert Record.load(tmp_path, "it") == found


@pytest.mark.parametrize("mode", MODES)
def test_the_other_layout_gives_the_same(mode: str) -> None:
    twin, x = nets.load(nhwc_gap_net()), nets.images(4)
    refs = {}
    if mode == "readout":
        fields = {**readouts().__dict__, "meta": {**readouts().meta, "sha256": twin.sha256}}
        refs = {"references": ox.Readouts(**fields)}
    layers = ["a1", "features"]
    found = asked(mode, twin, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), layers=layers, **refs)
    expected = asked(mode, x=x, layers=layers)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(found.maps, expected.maps, strict=True):
        if theirs is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_single_class_is_there_or_not(mode: str) -> None:
    """One logit and a Sigmoid: a layer agrees where it is on the same side of 0."""
    body = BODY.replace("Softmax<axis = 1>", "Sigmoid")
    one = nets.load(gap_net("(float[N, 3, 8, 8] x) => (float[N, 1] y)", body, w=(1, K), b=(1,)))
    x, refs = nets.images(12), {}
    if mode == "readout":
        refs = {"references": ox.fit_readouts(one, nets.images(90, seed=7))}
    found = ox.layer_predictions(one, x, mode=mode, **refs)
    z = values(one, x, "z")[0][:, 0]
    np.testing.assert_allclose(found.final[:, 0], z, rtol=1e-6)
    np.testing.assert_array_equal(found.decision, z > 0)
    np.testing.assert_array_equal(found.agrees, (found.logits[..., 0] > 0) == (z > 0))
    np.testing.assert_allclose(found.p, 1 / (1 + np.exp(-found.logits[..., 0])), rtol=1e-9)
    np.testing.assert_array_equal(found.margins, found.logits[..., 0])
    assert not found.classes.any() and (found.ranks == 1).all()
    p = found.p
    np.testing.assert_allclose(found.entropies, -p * np.log(p) - (1 - p) * np.log(1 - p), rtol=1e-9)


def test_the_target_is_asked_about_and_the_decision_stays_the_models() -> None:
    x = nets.images(8)
    plain, other = asked("readout", x=x), asked("readout", x=x, target=3)
    np.testing.assert_array_equal(plain.classes, plain.final.argmax(1))
    np.testing.assert_array_equal(other.classes, np.full(8, 3))
    np.testing.assert_array_equal(other.agrees, plain.agrees)
    np.testing.assert_array_equal(other.p, other.probabilities[:, :, 3])


# --- what records say ---------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(2, 5), st.integers(0, 999))
def test_rank_margin_entropy_and_depth_by_loops(layers: int, n: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (layers, n, c)).astype(float)  # with ties
    final = rng.normal(size=(n, c))
    classes = rng.integers(0, c, n)
    found = LayerPredictions(
        layers=tuple(map(str, range(layers))), mode="keep", logits=logits, final=final,
        decision=final.argmax(1), classes=classes, maps=(None,) * layers,
    )  # fmt: skip
    for i in range(n):
        first = layers
        for layer in reversed(range(layers)):
            if logits[layer, i].argmax() != final[i].argmax():
                break
            first = layer
        assert found.depth[i] == first
        for layer in range(layers):
            z, k = logits[layer, i].tolist(), int(classes[i])
            assert found.ranks[layer, i] == 1 + sum(v > z[k] for v in z)
            assert found.margins[layer, i] == z[k] - max(v for j, v in enumerate(z) if j != k)
            p = softmax(np.array(z))
            assert found.p[layer, i] == pytest.approx(p[k])
            assert found.entropies[layer, i] == pytest.approx(-(p * np.log(p)).sum())
            top = found.top(layer, i, 2)
            assert [t.logit for t in top] == sorted(z, reverse=True)[:2]
    np.testing.assert_allclose(found.final_p, softmax(final)[np.arange(n), classes])


def test_depth_counts_from_the_last_disagreement() -> None:
    agrees = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0]], bool)
    assert depths(agrees).tolist() == [2, 1, 0, 3]


def test_entropy_of_certainty_is_zero() -> None:
    assert entropies(np.array([1.0, 0.0]), "softmax") == 0
    assert entropies(np.array([1.0, 0.0]), "sigmoid") == 0
    assert entropies(np.full(4, 0.25), "softmax") == pytest.approx(np.log(4))
    assert entropies(np.full(4, 0.5), "sigmoid") == pytest.approx(4 * np.log(2))


def test_r2_is_shown_with_a_word() -> None:
    assert [shown_r2((0.87, 0.12, None), i) for i in range(3)] == ["0.87", "0.12 poor", "unknown"]
    assert shown_r2((), 0) == ""


# --- wrong questions ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "magic"}, ConfigError, "mode 'magic' is unknown: choose readout, masked, keep"),
        ({"mode": "readout"}, ConfigError, "needs references"),
        ({"mode": "masked", "baseline": "zero"}, ConfigError, "choose blur or mean"),
        ({"mode": "readout", "baseline": "blur"}, ConfigError, "it needs none"),
        ({"mode": "keep", "baseline": "mean"}, ConfigError, "needs references"),
        ({"mode": "keep", "keep": 0}, ConfigError, "keep = 0 is neither"),
        ({"mode": "keep", "keep": 1.5}, ConfigError, "keep = 1.5 is neither"),
        ({"mode": "keep", "keep": True}, ConfigError, "keep = True is neither"),
        ({"target": 4}, TargetError, "class 4 does not exist: this model has 4"),
        ({"target": ox.Target.contrast(0, 1)}, TargetError, "layers predict classes: name one"),
        ({"layers": ["nope"]}, LayerError, "no layer 'nope'"),
        ({"layers": []}, LayerError, "name one layer or more"),
    ],
)
def test_wrong_questions_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ox.layer_predictions(model(), nets.images(2), **options)


def test_references_without_use_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"mode 'masked' .* no use for references"):
        ox.layer_predictions(model(), nets.images(2), readouts(), mode="masked")


def test_readouts_of_another_model_are_refused() -> None:
    other = nets.load(gap_net(seed=5))
    with pytest.raises(ConfigError, match="fitted to another model"):
        ox.layer_predictions(other, nets.images(2), readouts())


def test_layers_that_were_not_fitted_are_refused() -> None:
    net = nets.load(nets.conv_net())
    refs = ox.fit_readouts(net, nets.images(60, seed=7), ["features"])
    with pytest.raises(LayerError, match="no readout of layer 'a1' was fitted"):
        ox.layer_predictions(net, nets.images(2), refs, layers=["a1"])


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"wants \[N, 3, 8, 8\]"):
        ox.layer_predictions(model(), nets.images(2, (3, 9, 8)), readouts())


def test_what_is_no_picture_is_not_masked() -> None:
    vectors = nets.load(
        nets.build(
            "(float[N, 6] x) => (float[N, 4] z)",
            "h = Gemm<transB = 1>(x, w1, b1) a = Relu(h) z = Gemm<transB = 1>(a, w, b)",
            w1=(5, 6), b1=(5,), w=(CLASSES, 5), b=(CLASSES,),
        )
    )  # fmt: skip
    x = nets.images(3, (6,))
    with pytest.raises(LayerError, match="takes no picture that could be masked: give references"):
        ox.layer_predictions(vectors, x)
    refs = ox.fit_readouts(vectors, nets.images(60, (6,), seed=7), ridge=0.0)
    found = ox.layer_predictions(vectors, x, refs)
    np.testing.assert_allclose(found.logits[0], found.final, rtol=1e-4, atol=1e-5)


def test_every_mode_has_its_row() -> None:
    assert set(module._SAY) == set(module.BASELINES) == set(MODES)
