"""What layers of real models predict: the exact cases, and every mode on every classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.dataset import Data
from onnxplain.dataset.items import read_item
from onnxplain.dataset.kinds import open_data
from tests.real_models import REAL_MODELS, samples
from tests.test_real_models import CLASSIFIERS, HALF, open_model, pictures

EXACT = [  # a linear head on the mean of the default layer, with fewer channels than there are images
    "cifar10/resnet20.onnx",
    "cifar10/resnet32_bn_unfused.onnx",
    "cifar10/resnet56_dynamo.onnx",
    "cifar10/resnet8_mlperftiny.onnx",
    "imagenet/mobilenet_v1_025_224_keras_nhwc.onnx",
    "imagenet/mobilenet_v1_025_128_tf1_frozen.onnx",
]
STEPS = {  # of the largest logit: float16 rounds; an int8 convolution behind a float Mul rounds otherwise
    HALF: 2e-3,
    "cifar10/resnet8_mlperftiny_int8_qdq.onnx": 3e-2,
}


def all_images(file: str, shared: Path) -> Data:
    images = shared / "data" / "images"
    if REAL_MODELS[file].data == "cifar10":
        return images / "cifar10_test_lossless.npz"
    return images / "imagenet_sample"


def few_images(file: str, shared: Path) -> Data:
    """Return images to fit to, of the right size where the model's pre-processing does not see to that."""
    if REAL_MODELS[file].data == "cifar10":
        return np.stack([np.asarray(image) for image in samples("cifar10", shared, 30)[0]])
    return [str(path) for path in samples("person", shared, 30)[0]]


@pytest.mark.parametrize("file", EXACT)
def test_the_readout_before_a_linear_head_is_the_head(file: str, shared: Path) -> None:
    """To rounding, also on images that it was not fitted to."""
    model, data = open_model(file, shared), all_images(file, shared)
    layer = model.layer(None)
    readouts = ox.fit_readouts(model, data, [layer], ridge=0.0)
    assert readouts.images > (layer.channels or 0)
    assert readouts.r2[0] == pytest.approx(1, abs=1e-6)
    source = open_data(data)
    x = np.concatenate([read_item(source.item(i), model) for i in range(0, len(source), 40)])
    found = ox.layer_predictions(model, x, readouts)
    spread = np.abs(found.final - found.final.mean(1, keepdims=True)).max()
    np.testing.assert_allclose(found.logits[0], found.final, atol=1e-4 * spread)
    np.testing.assert_allclose(found.final, model.predict(x).logits, rtol=1e-6)
    heat = found.maps[0]
    assert heat is not None and found.biases is not None and found.agrees.all()
    by_map = heat.mean((1, 2), dtype=np.float64) + found.biases[0]
    own = found.final[np.arange(len(x)), found.classes]
    np.testing.assert_allclose(by_map, own, atol=1e-4 * spread)


@pytest.mark.parametrize("file", CLASSIFIERS)
def test_every_mode_on_every_classifier(file: str, shared: Path) -> None:
    """All filters kept are the model; heat maps add up to logits at every layer; masks lie in 0..1."""
    model = open_model(file, shared)
    x = model.read(pictures(file, shared, 2))
    features = model.graph.features
    layers = list(dict.fromkeys([features[0], features[len(features) // 2], features[-1]]))
    kept = ox.layer_predictions(model, x, mode="keep", keep=1.0, layers=layers)
    spread = np.abs(kept.final).max()
    step = STEPS.get(file, 1e-5)
    for logits in kept.logits:
        np.testing.assert_allclose(logits, kept.final, atol=step * spread)
    np.testing.assert_array_equal(kept.decision, model.predict(x).classes)
    masked = ox.layer_predictions(model, x, layers=[la for la in layers if la.has_map])
    for mask in masked.maps:
        assert mask is not None and (mask.min(), mask.max()) == (0, 1)
    assert np.isfinite(masked.logits).all() and not np.array_equal(masked.logits[0], masked.final)
    fitted = ox.fit_readouts(model, few_images(file, shared), layers)
    read = ox.layer_predictions(model, x, fitted)
    assert read.biases is not None
    own = np.take_along_axis(read.logits, read.classes[None, :, None], 2)[..., 0]
    for i, heat in enumerate(read.maps):
        if heat is not None:
            mean = heat.mean((1, 2), dtype=np.float64) + read.biases[i]
            np.testing.assert_allclose(mean, own[i], rtol=1e-4, atol=1e-4 * spread)
