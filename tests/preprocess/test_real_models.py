"""The whole way from a picture file to a right answer, on every kind of real model."""

from __future__ import annotations

import numpy as np
import pytest

from onnxplain.preprocess import read
from tests.real_models import REAL_MODELS, input_spec, samples


def top1(file: str, shared, limit: int | None) -> float:
    import onnxruntime as ort

    model = REAL_MODELS[file]
    spec = input_spec(model.path(shared))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    path = model.path(shared)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pictures, labels = samples(model.data, shared, limit)
    x = read(pictures, spec, model.pre)
    logits = [session.run(None, {spec.name: row[None]})[0].ravel() for row in x]
    return 100 * float(np.mean(np.argmax(logits, 1) - model.offset == labels))


SMALL = [file for file, model in REAL_MODELS.items() if model.data in ("cifar10", "mnist")]


@pytest.mark.parametrize("file", SMALL)
def test_small_models_reach_their_accuracy(file, shared) -> None:
    """All pictures: equal but for near-ties that another processor may decide otherwise."""
    (want,) = REAL_MODELS[file].accuracy.values()
    assert top1(file, shared, None) == pytest.approx(want, abs=0.5)


@pytest.mark.parametrize(
    "file",
    [
        "imagenet/squeezenet1_1_torchvision.onnx",
        "imagenet/squeezenet1_1_torchvision_fp16.onnx",
        "imagenet/mobilenet_v1_025_224_keras_nhwc.onnx",
        "imagenet/mobilenet_v1_025_128_tf1_frozen.onnx",
        "imagenet/tf2_mobilenet_v2_1.0_224_ptq_qdq.onnx",
    ],
)
def test_imagenet_models_reach_their_accuracy(file, shared) -> None:
    """60 pictures: the accuracy of index.md lies within two standard errors (one-sided 98 %)."""
    want = REAL_MODELS[file].accuracy["top1"]
    assert top1(file, shared, 60) > want - 2 * np.sqrt(want * (100 - want) / 60)


def test_table_names_every_real_model(shared) -> None:
    folder = shared / "data" / "models"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx")}
    assert found == set(REAL_MODELS)
    for model in REAL_MODELS.values():
        spec = input_spec(model.path(shared))
        a, _ = model.pre.affine(spec)
        assert model.pre.target_size(spec) == (spec.height, spec.width) and len(a) in (1, 3)
