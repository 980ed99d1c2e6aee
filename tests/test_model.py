"""Loading, predictions of every shape of output, labels and pre-processing: a model as users meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnxplain as ox
from onnxplain.errors import ConfigError, LayerError, ModelError, TargetError
from tests import nets

Array = np.ndarray[Any, Any]
POOLED = "g = GlobalAveragePool(x) f = Flatten(g)"


def run_plainly(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """Run the file as it is with onnxruntime."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]


# --- loading -------------------------------------------------------------------------------------------
def test_path_bytes_and_proto_are_the_same_model(tmp_path: Path) -> None:
    proto, x = nets.conv_net(), nets.images()
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    loaded = [nets.load(source) for source in (path, str(path), path.read_bytes(), proto)]
    assert len({m.sha256 for m in loaded}) == 1
    for model in loaded:
        np.testing.assert_array_equal(
            ox.gradient(model, x).values, ox.gradient(loaded[0], x).values
        )
    assert ox.gradient(loaded[0], x).meta["model"] == "net.onnx", "no path of this machine"


def test_the_proto_stays_as_it_was() -> None:
    proto = nets.conv_net(opset=11)
    before = proto.SerializeToString()
    ox.gradient(nets.load(proto), nets.images())
    assert proto.SerializeToString() == before


def test_layers_and_logit_of_the_net() -> None:
    model = nets.load(nets.conv_net())
    spatial = [layer.name for layer in model.layers if layer.spatial]
    assert spatial == ["c1", "a1", "c2", "features", "pooled"]
    assert [layer.name for layer in model.layers if layer.cut] == [*spatial, "flat", "hidden", "a3"]
    assert model.default_layer is not None and model.default_layer.name == "features"
    assert "'pooled' only pools" in model.why_default_layer
    assert str(model.graph.logit) == "'z', before Softmax of output 'y'"
    assert model.classes == 4 and model.providers == ("CPUExecutionProvider",)


def test_a_typo_in_a_layer_is_told_the_nearest() -> None:
    model = nets.load(nets.conv_net())
    for method in (lambda: ox.gradient(model, nets.images(), wrt="featurs"),
                   lambda: ox.cam(model, nets.images(), layer="featurs")):  # fmt: skip
        with pytest.raises(LayerError, match=r"no layer 'featurs' \(did you mean 'features'\?\)"):
            method()
    with pytest.raises(
        LayerError, match="no layer 'nothing like it'; `onnxplain inspect` lists them"
    ):
        model.layer("nothing like it")


# --- predictions ---------------------------------------------------------------------------------------
def test_predict_equals_the_file_run_plainly() -> None:
    proto, x = nets.conv_net(), nets.images(20)
    found = nets.load(proto, labels=["a", "b", "c", "d"]).predict(x)
    (y,) = run_plainly(proto, {"x": x})
    np.testing.assert_allclose(found.probabilities, y, atol=1e-6)
    logits = nets.torch_logits(nets.weights_of(proto), nets.double(x)).detach()
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    best = found.top(2)[7]
    assert [b.class_index for b in best] == np.argsort(-y[7])[:2].tolist()
    assert best[0].label == "abcd"[best[0].class_index]


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21])
def test_every_opset_predicts_the_same(opset: int) -> None:
    x = nets.images()
    found = nets.load(nets.conv_net(opset=opset))
    (y,) = run_plainly(nets.conv_net(opset=opset), {"x": x})
    np.testing.assert_allclose(found.predict(x).probabilities, y, atol=1e-6)
    assert found.graph.logit.tensor == "z"


def test_softmax_before_opset_13_runs_over_all_axes_from_its_own() -> None:
    """[N, 2, 3] has six probabilities that sum to one, so six classes."""
    body = POOLED + " h = Gemm(f, w) z = Reshape(h, shape) y = Softmax<axis = 1>(z)"
    proto = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 2, 3] y)",
        body,
        11,
        w=(3, 6),
        shape=np.array([-1, 2, 3]),
    )
    model, x = nets.load(proto), nets.images()
    (y,) = run_plainly(proto, {"x": x})
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(model.predict(x).probabilities, y.reshape(3, 6), atol=1e-6)
    w = nets.weights_of(proto)["w"].numpy()
    expected = np.broadcast_to(w[:, 4].reshape(3, 1, 1) / 64, (3, 3, 8, 8))
    np.testing.assert_allclose(ox.gradient(model, x, 4).values, expected, rtol=1e-5)


def test_outputs_of_one_by_one_positions_are_classes() -> None:
    body = "g = GlobalAveragePool(x) y = Conv(g, w, b)"
    proto = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 4, 1, 1] y)", body, w=(4, 3, 1, 1), b=(4,)
    )
    model, x = nets.load(proto), nets.images()
    (y,) = run_plainly(proto, {"x": x})
    assert model.classes == 4
    np.testing.assert_allclose(model.predict(x).logits, y.reshape(3, 4), rtol=1e-5)
    w = nets.weights_of(proto)["w"].numpy()[2]
    expected = np.broadcast_to(w / 64, (3, 3, 8, 8))
    np.testing.assert_allclose(ox.gradient(model, x, 2).values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "tail", "logit"),
    [
        ("float[N, 1] y", "y = Sigmoid(h)", "h"),
        ("float[N, 1] y", "y = Identity(h)", "y"),
        ("float[N] y", "y = Squeeze(h, one)", "y.rows"),
        ("float[N] y", "s = Squeeze(h, one) y = Sigmoid(s)", "s.rows"),
    ],
    ids=["sigmoid", "none", "squeezed", "squeezed sigmoid"],
)
def test_a_single_logit_is_one_class_with_a_sigmoid(head: str, tail: str, logit: str) -> None:
    proto = nets.build(
        f"(float[N, 3, 8, 8] x) => ({head})",
        f"{POOLED} h = Gemm(f, w) {tail}",
        w=(3, 1),
        one=np.array([1]),
    )
    model, x = nets.load(proto), nets.images()
    w = nets.weights_of(proto)["w"].numpy()
    z = x.mean((2, 3)) @ w
    found = model.predict(x)
    np.testing.assert_allclose(found.logits, z, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-z)), atol=1e-6)
    assert found.activation == "sigmoid" and found.classes.tolist() == [0, 0, 0]
    expected = np.broadcast_to(w.reshape(3, 1, 1) / 64, (3, 3, 8, 8))
    np.testing.assert_allclose(ox.gradient(model, x).values, expected, rtol=1e-5)
    assert model.graph.logit.tensor == logit
    with pytest.raises(TargetError, match=r"class 1 does not exist: this model has 1"):
        ox.gradient(model, x, 1)


def test_a_model_that_does_not_classify_says_what_to_do() -> None:
    proto = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 2, 8, 8] y)", "y = Conv(x, w)", w=(2, 3, 1, 1)
    )
    with pytest.raises(TargetError, match=r"does not classify: its output 'y' has shape .*Target"):
        nets.load(proto).predict(nets.images())


# --- labels and pre-processing -------------------------------------------------------------------------
def with_metadata(proto: onnx.ModelProto, **entries: Any) -> onnx.ModelProto:
    for key, value in entries.items():
        proto.metadata_props.add(key=key.replace("__", "."), value=json.dumps(value))
    return proto


def test_labels_must_be_as_many_as_classes() -> None:
    with pytest.raises(ConfigError, match=r"3 labels were given, but .* has 4 classes"):
        nets.load(nets.conv_net(), labels=["a", "b", "c"])
    model = nets.load(nets.conv_net(), labels=["a", "b", "c", "d"])
    assert [model.label(i) for i in (0, 3, 4, -1)] == ["a", "d", "4", "-1"]
    assert nets.load(nets.conv_net()).label(2) == "2"


def test_what_lies_beside_the_file_is_found(tmp_path: Path) -> None:
    path, labels = tmp_path / "net.onnx", ["ant", "bee", "cat", "dog"]
    metadata = {"onnxplain__preprocess": {"preset": "raw"}, "onnxplain__labels": labels[::-1]}
    path.write_bytes(with_metadata(nets.conv_net(), **metadata).SerializeToString())
    inside = nets.load(path)
    assert inside.preprocess.source == "metadata_props['onnxplain.preprocess']"
    assert inside.labels == tuple(labels[::-1])
    (tmp_path / "net.onnxplain.toml").write_text(f'preset = "caffe"\nlabels = {labels}\n')
    beside = nets.load(path)
    assert beside.preprocess.source == "file net.onnxplain.toml"
    assert beside.preprocess.channels == "BGR" and beside.labels == tuple(labels)
    given = nets.load(path, preprocess="unit", labels=["w", "x", "y", "z"])
    assert given.preprocess.source == "preset unit" and given.labels == ("w", "x", "y", "z")


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("imagenet", "preset imagenet"),
        ({"preset": "unit"}, "given"),
        (ox.Preprocess.preset("raw"), "preset raw"),
        (None, "guessed: preset unit for a float32 NCHW input 3 x 8 x 8"),
    ],
    ids=["name", "mapping", "object", "none"],
)
def test_preprocess_may_be_given_in_several_ways(given: Any, source: str) -> None:
    model = nets.load(nets.conv_net(), preprocess=given)
    assert model.preprocess.source == source
    x = model.read(np.full((8, 8, 3), 51, np.uint8))
    a, b = {"imagenet": (1 / 255, 0), "raw": (1, 0)}.get(source.split()[-1], (1 / 255, 0))
    pixel = np.full((1, 3, 8, 8), 51 * a + b)
    if source == "preset imagenet":
        mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
        pixel = (pixel - mean) / std
    np.testing.assert_allclose(x, pixel, rtol=1e-6)


def test_preprocess_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"scale": 2, "mean": 1}')
    for given in (str(path), path):
        x = nets.load(nets.conv_net(), preprocess=given).read(np.full((8, 8, 3), 5, np.uint8))
        np.testing.assert_array_equal(x, np.full((1, 3, 8, 8), 9, np.float32))


@pytest.mark.parametrize("given", ["imagnet", 3, {"preset": "imagenet", "menu": 1}])
def test_preprocess_that_is_unknown(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"preset|unknown key 'menu'"):
        nets.load(nets.conv_net(), preprocess=given)


# --- files that cannot be used -------------------------------------------------------------------------
def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    proto = nets.build("(float[N, 4] x) => (float[N, 4] y)", "i = ArgMax(x) y = Cast<to = 1>(i)")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"odd\.onnx: ArgMax .*: its result has no gradient"):
        ox.gradient(ox.load(path, device="cpu"), np.ones((1, 4), np.float32))
