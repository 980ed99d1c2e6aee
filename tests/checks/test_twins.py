"""One network in several files: optimised, of another opset, in half precision, pruned, of two exporters."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, version_converter
from onnxruntime.transformers.float16 import convert_float_to_float16

import onnxplain as ox
from onnxplain.bundled import folder, model_path
from tests.checks.made import bundled
from tests.nets import load
from tests.real_models import REAL_MODELS

SAMPLES = folder() / "samples"


@cache
def vgg() -> ox.Model:
    return bundled()


def as_vgg(proto: onnx.ModelProto) -> ox.Model:
    return load(proto, preprocess=vgg().preprocess, labels=vgg().labels)


def optimised(tmp_path: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model_path(), options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "optimised.onnx")


def other_opset(_: Path) -> onnx.ModelProto:
    return version_converter.convert_version(onnx.load(model_path()), 21)


def half(_: Path) -> onnx.ModelProto:
    return convert_float_to_float16(onnx.load(model_path()))


@pytest.mark.parametrize(
    ("make", "least"), [(optimised, 0.9999), (other_opset, 0.9999), (half, 0.99)]
)
def test_the_same_network_in_another_file(make, least: float, tmp_path: Path) -> None:
    found = ox.compare(vgg(), as_vgg(make(tmp_path)), SAMPLES)
    assert found.agreement == 1
    assert min(found.rank_correlation.min(), found.ssim.min()) > least
    assert len(found.layers) >= 6  # an optimiser fuses Conv and Relu: fewer, and in their places
    assert min(p["similarity"] for p in found.layers) > least
    assert found.meta["layer"]["reference"] == "relu3_2"


def pruned(channels: np.ndarray) -> onnx.ModelProto:
    """Return the bundled network without some channels of its last convolution."""
    model = onnx.load(model_path())
    weights = {i.name: i for i in model.graph.initializer}
    kept = np.setdiff1d(np.arange(128), channels)
    for name in ("conv3_2.weight", "conv3_2.bias"):
        array = numpy_helper.to_array(weights[name])[kept]
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    fc = numpy_helper.to_array(weights["fc1.weight"]).reshape(256, 128, 16)[:, kept]
    cut = np.ascontiguousarray(fc.reshape(256, -1))
    weights["fc1.weight"].CopyFrom(numpy_helper.from_array(cut, "fc1.weight"))
    del model.graph.value_info[:]
    return model


def test_a_pruned_network_is_compared_at_its_own_layer() -> None:
    weights = {i.name: i for i in onnx.load(model_path()).graph.initializer}
    used = np.abs(numpy_helper.to_array(weights["fc1.weight"])).reshape(256, 128, 16).sum((0, 2))
    found = ox.compare(vgg(), as_vgg(pruned(np.argsort(used)[:8])), SAMPLES)
    assert "relu3_2" not in {p["a"] for p in found.layers}  # 120 channels are not 128
    assert {"relu3_1", "relu_fc1"} <= {p["a"] for p in found.layers}
    assert 0.9 < found.rank_correlation.min() < 0.99999


def test_two_exporters_of_one_network(shared: Path) -> None:
    """PyTorch's two exporters name no layer alike."""
    names = ("squeezenet1_1_torchvision.onnx", "squeezenet1_1_torchvision_dynamo.onnx")
    twins = [REAL_MODELS[f"imagenet/{name}"] for name in names]
    a, b = (ox.load(m.path(shared), device="cpu", preprocess=m.pre) for m in twins)
    data = sorted((shared / "data/images/imagenet_sample").iterdir())[:3]
    found = ox.compare(a, b, data)
    assert found.agreement == 1
    assert found.ssim.min() > 0.9999 and found.rank_correlation.min() > 0.999
    assert len(found.layers) >= 20
    assert all(p["a"] != p["b"] and p["similarity"] > 0.9999 for p in found.layers)
