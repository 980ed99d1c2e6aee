"""Exported explanations of real models and of every exporter's style: same bits, same map, or a reason."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxplain as ox
from onnxplain.errors import OnnxplainError
from onnxplain.methods.registry import explain
from tests.embed.plain import assert_same_bits, error, run_in_parts
from tests.real_models import REAL_MODELS, samples
from tests.zoo.measure import zoo

METHODS = ("lift_cam", "grad_cam", "positive")
SUBJECTS = {subject.path.stem: subject for subject in zoo()}
NO_MAPS, NO_PICTURE = "no feature maps", "is not a picture"
COMPUTED, TWO = "Where .* computed by the network", "reference pass .* depends on the images"
ONE_BY_ONE = "takes any number of images, but they can only be explained one by one"
REFUSED = {  # file, method -> why
    **{("float64", m): NO_MAPS for m in METHODS[:2]},
    **{(n, m): NO_MAPS for n in ("signal", "volumes") for m in METHODS[:2]},
    **{(n, "positive"): NO_PICTURE for n in ("signal", "volumes")},
    **{(n, "lift_cam"): COMPUTED for n in ("indexing", "indexing_dynamo")},
    **{(n, "lift_cam"): TWO for n in ("siamese", "queries", "vit_dynamo")},
    **{("int8_dynamic", m): ONE_BY_ONE for m in METHODS},
}
HALF = "imagenet/squeezenet1_1_torchvision_fp16.onnx"
TWICE = {"cifar10/resnet8_mlperftiny_int8_qdq.onnx", "float16"}
"""Files of which onnxruntime would run other kernels if an explanation read along at the layer."""
ROUNDED = {"float16_dynamo": 1e-3, "other/ultraface_slim_320.onnx": 5e-3}
"""Largest difference where the layer is rounded otherwise in the file than in the API.

The first runs in float16. The second lists its weights as inputs: onnxruntime then folds no normalisation,
and a ReLU of its deep head turns over here and there.
"""


def check(
    model: ox.Model, feeds: dict[str, Any], method: str, path: Path, limit: float
) -> ox.Exported:
    """Export, and compare outputs with the file's and the map with the API's."""
    assert model.path is not None
    written = ox.export(model, method, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = run_in_parts(path, feeds)
    assert_same_bits(found, run_in_parts(model.path, feeds))
    count = len(found["explanation"])
    first = model.rows(model.fit(feeds)[1], slice(0, count))
    expected = explain(model.as_stored(), first, method)
    assert error(found["explanation"], expected.values) <= limit
    np.testing.assert_allclose(found["heatmap"], expected.heatmap(), atol=limit)
    if "explained_class" in found:
        assert found["explained_class"].tolist() == expected.classes.tolist()
    return written


@cache
def load(file: str, shared: Path) -> ox.Model:
    row = REAL_MODELS[file]
    return ox.load(row.path(shared), device="cpu", preprocess=row.pre, labels=row.labels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("file", sorted(REAL_MODELS))
def test_real_models(file: str, method: str, shared: Path, tmp_path: Path) -> None:
    model, data = load(file, shared), REAL_MODELS[file].data
    if file == HALF:
        with pytest.raises(OnnxplainError, match=r"keep its bits: .* float16 .* in float32"):
            ox.export(model, method, tmp_path / "e.onnx")
        return
    x = model.read(samples("person" if data == "none" else data, shared, 2)[0])
    written = check(
        model, {model.graph.source.name: x}, method, tmp_path / "e.onnx", ROUNDED.get(file, 1e-5)
    )
    assert written.shares_forward == (method != "positive" and file not in TWICE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_style(name: str, method: str, tmp_path: Path) -> None:
    subject = SUBJECTS[name]
    model, feeds = subject.model, subject.inputs
    if (name, method) in REFUSED:
        with pytest.raises(OnnxplainError, match=REFUSED[name, method]):
            ox.export(model, method, tmp_path / "e.onnx")
        assert not list(tmp_path.iterdir())
        return
    if model.graph.source.open_size:
        axes, shape = model.graph.source.axes or "", feeds[model.graph.source.name].shape
        size = [shape[axes.index(a)] for a in "HW"]
        model = ox.load(subject.path, device="cpu", preprocess={"preset": "unit", "size": size})
    written = check(model, feeds, method, tmp_path / "e.onnx", ROUNDED.get(name, 1e-5))
    assert written.shares_forward == (method != "positive" and name not in TWICE)


def test_the_class_is_what_the_file_answers(shared: Path, tmp_path: Path) -> None:
    """Where two scores lie within a quantum, an explanation's own forward pass would choose the other."""
    file = "imagenet/tf2_mobilenet_v2_1.0_224_ptq_qdq.onnx"
    model = load(file, shared)
    ox.export(model, "positive", tmp_path / "e.onnx")
    x = model.read(samples("imagenet", shared, 12)[0])
    found = run_in_parts(tmp_path / "e.onnx", {model.graph.source.name: x})
    answers = run_in_parts(REAL_MODELS[file].path(shared), {model.graph.source.name: x})
    rows = np.arange(len(x)), found["explained_class"]
    (probabilities,) = answers.values()
    np.testing.assert_array_equal(probabilities[rows], probabilities.max(1))


def test_every_refusal_is_of_a_file_that_is_there() -> None:
    assert {name for name, _ in REFUSED} <= set(SUBJECTS)
    assert all(re.compile(why) for why in REFUSED.values())


def test_mobilenet_in_batches_and_with_every_map(shared: Path, tmp_path: Path) -> None:
    """The release's promise: the API's map to 1e-5 from a bare session, original outputs to the bit."""
    model = load("imagenet/mobilenet_v2_torchvision_float.onnx", shared)
    x = model.read(samples("imagenet", shared, 5)[0])
    for method in (
        "lift_cam",
        "grad_cam",
        "grad_cam_plusplus",
        "xgrad_cam",
        "hires_cam",
        "layer_cam",
    ):
        written = check(model, {"input": x}, method, tmp_path / "e.onnx", 1e-5)
        assert written.shares_forward


@pytest.mark.parametrize(
    ("layer", "shared_forward"), [("Conv", False), ("BatchNormalization", True), ("Relu", True)]
)
def test_a_layer_that_onnxruntime_fuses_away(
    layer: str, shared_forward: bool, shared: Path, tmp_path: Path
) -> None:
    """Conv and BatchNormalization are one kernel, unless someone reads between them: then run it twice."""
    model = load("cifar10/resnet32_bn_unfused.onnx", shared)
    chosen = next(x for x in model.layers if x.op == layer and x.cut)
    written = ox.export(model, "grad_cam", tmp_path / "e.onnx", layer=chosen)
    assert written.shares_forward == shared_forward
    x = model.read(samples("cifar10", shared, 3)[0])
    found = run_in_parts(tmp_path / "e.onnx", {"input": x})
    assert_same_bits(
        found,
        run_in_parts(REAL_MODELS["cifar10/resnet32_bn_unfused.onnx"].path(shared), {"input": x}),
    )
    expected = ox.cam(model, x, kind="grad_cam", layer=chosen).values
    assert np.linalg.norm(found["explanation"] - expected) < 1e-3 * np.linalg.norm(expected)
