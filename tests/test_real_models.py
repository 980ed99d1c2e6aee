"""The 29 real models: forward, accuracy, gradient, saliency and LIFT-CAM on real images.

The forward is compared with plain onnxruntime on the original file, the gradient with float64 finite
differences of the original file (tests/oracle.py), the closed forms with weights read from the file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxplain as ox
from onnxplain.backward.variants import RESCALE
from tests.oracle import Oracle, gradient_error, judge, run_original
from tests.real_models import REAL_MODELS, samples

FILES = sorted(REAL_MODELS)
QUANTISED = [f for f in FILES if any(mark in f for mark in ("int8", "ortq", "ptq_qdq"))]
HALF = "imagenet/squeezenet1_1_torchvision_fp16.onnx"
CLIPPED = "imagenet/mobilenet_v2_torchvision_int8_qdq.onnx"
FLOAT = [f for f in FILES if f not in QUANTISED]
DETECTOR = "other/ultraface_slim_320.onnx"
CLASSIFIERS = [f for f in FILES if f != DETECTOR]
LINEAR_HEADS = [
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "imagenet/tf2_mobilenet_v2_1.0_224_ptq_float.onnx",
    "imagenet/mobilenet_v1_025_224_keras_nhwc.onnx",
    "imagenet/mobilenet_v1_025_128_tf1_frozen.onnx",
    "cifar10/resnet20.onnx",
    "cifar10/resnet32_bn_unfused.onnx",
    "cifar10/resnet56_dynamo.onnx",
    "cifar10/resnet8_mlperftiny.onnx",
    "other/mobilenet_v1_025_96_vww.onnx",
]
TWINS = {  # quantised file -> the same network in float
    "imagenet/squeezenet1_1_ortq_qdq.onnx": "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/squeezenet1_1_ortq_qoperator.onnx": "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/tf2_mobilenet_v2_1.0_224_ptq_qdq.onnx": LINEAR_HEADS[1],
    "cifar10/resnet8_mlperftiny_int8_qdq.onnx": "cifar10/resnet8_mlperftiny.onnx",
    "other/mobilenet_v1_025_96_vww_int8_qdq.onnx": "other/mobilenet_v1_025_96_vww.onnx",
    HALF: "imagenet/squeezenet1_1_torchvision.onnx",
}


@cache
def load(path: Path) -> ox.Model:
    file = "/".join(path.parts[-2:])
    row = REAL_MODELS[file]
    return ox.load(path, device="cpu", preprocess=row.pre, labels=row.labels)


def open_model(file: str, shared: Path) -> ox.Model:
    return load(REAL_MODELS[file].path(shared))


def pictures(file: str, shared: Path, count: int) -> list:
    data = REAL_MODELS[file].data
    return samples("person" if data == "none" else data, shared, count)[0]


# --- forward ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES)
def test_a_batch_gives_what_the_file_gives_one_by_one(file: str, shared: Path) -> None:
    """Quantised files bit for bit; floats to rounding, float16 to one unit in the last place."""
    model = open_model(file, shared)
    assert model.graph.pinned is None
    x = model.read(pictures(file, shared, 3))
    expected = run_original(REAL_MODELS[file].path(shared), x)
    found = model.values({model.graph.source.name: x}, list(expected))
    for name, value in expected.items():
        if file in QUANTISED:
            np.testing.assert_array_equal(found[name], value)
        else:
            close = 2**-10 if file == HALF else 1e-5
            scale = np.abs(value).max().astype(np.float64)
            worst = np.abs(found[name].astype(np.float64) - value).max() / scale
            assert worst <= close, f"{name}: {worst:.1e} of its largest value"


@pytest.mark.parametrize("file", FILES)
def test_one_image_alone_gives_its_row_of_the_batch(file: str, shared: Path) -> None:
    model = open_model(file, shared)
    x, logit = model.read(pictures(file, shared, 3)), model.graph.logit.tensor
    name = model.graph.source.name
    batch = model.values({name: x}, [logit])[logit]
    for i in range(len(x)):
        alone = model.values({name: x[i : i + 1]}, [logit])[logit]
        np.testing.assert_allclose(alone[0], batch[i], rtol=1e-5, atol=1e-5 * np.abs(batch).max())


@pytest.mark.parametrize("file", FLOAT)
def test_the_oracle_is_the_same_network(file: str, shared: Path) -> None:
    """In float64, within 1e-4 of plain onnxruntime; float16 rounds more."""
    path = REAL_MODELS[file].path(shared)
    x = open_model(file, shared).read(pictures(file, shared, 1))
    found = Oracle(path).run(x, list(expected := run_original(path, x)))
    for value, (name, wanted) in zip(found, expected.items(), strict=True):
        scale = np.abs(value).max()
        worst = np.abs(wanted - value).max() / scale
        assert worst <= (1e-3 if file == HALF else 1e-4), f"{name}: {worst:.1e}"


# --- accuracy -----------------------------------------------------------------------------------------
MEASURED = [f for f in FILES if REAL_MODELS[f].accuracy and REAL_MODELS[f].data != "tinyvgg"]


@pytest.mark.parametrize("file", MEASURED)
def test_accuracy_of_the_index_through_read_and_predict(file: str, shared: Path) -> None:
    """On n of its images the figure lies within three standard errors of a sample of n."""
    row, model = REAL_MODELS[file], open_model(file, shared)
    limit = 40 if row.data == "imagenet" else 120
    images, labels = samples(row.data, shared, limit)
    prediction = model.predict(model.read(images))
    ranked = np.argsort(-prediction.logits, 1, kind="stable") - row.offset
    for figure, want in row.accuracy.items():
        top = 5 if figure == "top5" else 1
        found = 100 * np.mean((ranked[:, :top] == labels[:, None]).any(1))
        error = np.sqrt(max(want * (100 - want), 100) / len(labels))
        assert abs(found - want) <= 3 * error, f"{figure}: {found:.1f} % of {len(labels)}"
    if file == CLIPPED:
        assert "share the highest logit" in prediction.warning
    elif file not in QUANTISED:
        assert prediction.warning is None


def test_a_clipped_output_is_warned_of_and_explained_before_its_quantiser(shared: Path) -> None:
    """The class is the one predicted, the lowest of those that tie; what is explained does not clip."""
    row, model = REAL_MODELS[CLIPPED], open_model(CLIPPED, shared)
    x = model.read(samples(row.data, shared, 12)[0])
    prediction, found = model.predict(x), ox.gradient(model, x)
    tied = prediction.ties > 1
    assert tied.sum() >= 6
    np.testing.assert_array_equal(found.classes, prediction.classes)
    assert (found.scores[tied] > prediction.logits.max()).any()  # above where the output clips
    assert (np.abs(found.values).max((1, 2, 3)) > 0).all()


# --- gradient -----------------------------------------------------------------------------------------
def jittered(x: np.ndarray) -> np.ndarray:
    """Move every number a little: flat areas tie in MaxPool, and at a tie there is no derivative."""
    noise = np.random.default_rng(5).uniform(-1, 1, x.shape)
    return (x + 0.01 * np.ptp(x.astype(np.float64)) * noise).astype(x.dtype)


@pytest.mark.parametrize("file", FLOAT)
def test_gradient_equals_finite_differences(file: str, shared: Path) -> None:
    """Judged over up to four images; 1e-7 is usual."""
    model, oracle = open_model(file, shared), Oracle(REAL_MODELS[file].path(shared))
    images = jittered(model.read(pictures(file, shared, 4)))
    judge((error_of_gradient(model, oracle, one) for one in images), best=1e-3, worst=3e-2)


def error_of_gradient(model: ox.Model, oracle: Oracle, one: np.ndarray) -> float:
    found = ox.gradient(model, one[None])
    z = oracle.logits(one[None])[0]
    index = np.unravel_index(int(z.argmax()), z.shape)
    assert found.scores[0] == pytest.approx(z[index], rel=5e-3)
    return gradient_error(lambda v: float(oracle.logits(v[None])[0][index]), one, found.values[0])


@pytest.mark.parametrize("file", sorted(TWINS))
def test_quantised_files_are_explained_as_their_float_twins(file: str, shared: Path) -> None:
    """The straight-through gradient and the maps of a quantised file are those of the float network.

    Only nearly: rounding moves activations over kinks. A gradient lost in a quantiser would be zero.
    """
    images = pictures(file, shared, 4)
    mine, twin = open_model(file, shared), open_model(TWINS[file], shared)
    x, y = mine.read(images), twin.read(images)
    target = ox.gradient(twin, y).classes
    assert_alike(ox.gradient(mine, x, target).values, ox.gradient(twin, y, target).values, 0.5)
    kinds = (ox.cam(m, i, target, "lift_cam").values for m, i in ((mine, x), (twin, y)))
    assert_alike(*kinds, 0.97)


def assert_alike(found: np.ndarray, expected: np.ndarray, least: float) -> None:
    """Assert that the mean cosine over the images is at least `least`; clipped logits have no gradient."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (found, expected))
    alive = np.linalg.norm(a, axis=1) > 0
    assert alive.sum() >= 2
    a, b = a[alive], b[alive]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.mean() >= least, cosines


# --- maps ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES)
def test_positive_saliency_shows_something(file: str, shared: Path) -> None:
    model = open_model(file, shared)
    x = model.read(pictures(file, shared, 2))
    record = ox.saliency(model, x)
    assert_pictures(record, x, model)
    assert bool(record.meta["inexact"]) == (file in QUANTISED)


def assert_pictures(record, x: np.ndarray, model: ox.Model) -> None:
    heat = record.heatmap()
    axes = model.graph.source.axes
    assert heat.shape == (len(x), *(x.shape[axes.index(a)] for a in "HW"))
    assert np.isfinite(record.values).all()
    np.testing.assert_allclose(heat.min((1, 2)), 0)
    np.testing.assert_allclose(heat.max((1, 2)), 1, rtol=1e-6)  # not constant: that would be zeros


@pytest.mark.parametrize("file", FILES)
def test_lift_cam_is_complete(file: str, shared: Path) -> None:
    """The coefficients of the channels sum to F(A) - F(0), F the rest of the network from the layer on.

    Quantised heads round in between, so there only to 2 % of the range of the logits.
    """
    model = open_model(file, shared)
    x = model.read(pictures(file, shared, 2))
    record = ox.cam(model, x, kind="lift_cam")
    assert_pictures(record, x, model)
    at, empty = (rest(model, record.layer, x, factor) for factor in (1, 0))
    # On a detector the target is one element of a map of scores: the largest of each image.
    index = at.argmax(1) if (record.classes < 0).any() else record.classes
    rise = np.take_along_axis(at - empty, index[:, None], 1)[:, 0]
    gap = np.abs(record.weights.astype(np.float64).sum(1) - rise)
    scale = np.ptp(at, axis=1) if file in QUANTISED else np.abs(rise)
    allowed = 2e-2 if file in QUANTISED else 1e-4
    assert (gap / scale).max() <= allowed, f"off by {(gap / scale).max():.1e}"


def rest(model: ox.Model, layer: str, x: np.ndarray, factor: int) -> np.ndarray:
    """Run the rest of the network on factor * A; return the logits of each image in a row."""
    logit = model.graph.logit.tensor
    a = model.values({model.graph.source.name: x}, [layer])[layer]
    found = model.program((logit,), (layer,), RESCALE).tail({layer: a * factor})[logit]
    return found.reshape(len(a), -1).astype(np.float64)


@pytest.mark.parametrize("file", LINEAR_HEADS)
def test_lift_cam_of_a_linear_head_has_a_closed_form(file: str, shared: Path) -> None:
    """alpha_k = w_ck mean(A_k), with w read from the file."""
    model = open_model(file, shared)
    x = model.read(pictures(file, shared, 2))
    record = ox.cam(model, x, kind="lift_cam")
    name = record.layer
    a = model.values({model.graph.source.name: x}, [name])[name].astype(np.float64)
    w = classifier_weights(REAL_MODELS[file].path(shared), a.shape[1], model.classes)
    expected = w[record.classes] * a.mean((2, 3))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(record.weights, expected, rtol=1e-4, atol=1e-6 * scale)
    maps = (expected[:, :, None, None] * a).sum(1)
    np.testing.assert_allclose(record.values, maps, rtol=1e-4, atol=1e-5 * np.abs(maps).max())


def classifier_weights(path: Path, channels: int, classes: int) -> np.ndarray:
    """Return the last weight of the file that has one row per class, as float64 [C, K]."""
    graph = onnx.load(path).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    read = [name for node in graph.node for name in node.input if name in found]
    for name in reversed(read):
        w = found[name].astype(np.float64).squeeze()
        if w.shape in ((classes, channels), (channels, classes)):
            return w if w.shape == (classes, channels) else w.T
    raise AssertionError(f"{path.name} has no weight of {classes} classes and {channels} channels")
