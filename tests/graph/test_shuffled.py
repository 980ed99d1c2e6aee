"""A network with shuffled weights: the same numbers in other places, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxplain.bundled import model_path
from onnxplain.graph.load import ModelFile, read_model
from onnxplain.graph.shuffled import shuffled
from tests.checks.made import bundled
from tests.nets import build, load

FILES = ("vgg_cifar10.onnx", "vgg_cifar10_int8.onnx")


def tensors(file: ModelFile) -> dict[str, np.ndarray]:
    small = {t.name: numpy_helper.to_array(t) for t in file.proto.graph.initializer}
    return {**small, **file.weights}


@pytest.mark.parametrize("name", FILES)
def test_weights_move_and_all_else_stays(name: str) -> None:
    file = read_model(model_path(name))
    before, after = tensors(file), tensors(shuffled(file, 1.0, 0))
    assert before.keys() == after.keys()
    moved = {k for k in before if not np.array_equal(before[k], after[k])}
    assert moved == {k for k, v in before.items() if v.ndim > 1}
    for key in moved:
        np.testing.assert_array_equal(np.sort(before[key].ravel()), np.sort(after[key].ravel()))
    assert tensors(file).keys() == tensors(read_model(model_path(name))).keys()
    for key, value in tensors(read_model(model_path(name))).items():
        np.testing.assert_array_equal(before[key], value)  # the file it is made of is as it was


def test_a_seed_is_a_shuffling() -> None:
    file = read_model(model_path())
    first, again, other = (tensors(shuffled(file, 1.0, s)) for s in (0, 0, 1))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert any(not np.array_equal(first[k], other[k]) for k in first)
    assert len({shuffled(file, 1.0, 0).sha256, shuffled(file, 1.0, 1).sha256, file.sha256}) == 3


def test_shapes_are_no_weights() -> None:
    proto = build(
        "(float[N,4] x) => (float[N,2] y)",
        "i = GatherND(w, at) y = MatMul(x, i)",
        w=np.arange(8, dtype=np.float32).reshape(4, 2),
        at=np.array([[0], [1], [2], [3]], np.int64),
    )
    assert load(proto).shuffled().predict(np.ones((1, 4), np.float32)).logits.shape == (1, 2)


def test_an_untrained_model_is_fed_alike_and_answers_otherwise() -> None:
    model = bundled()
    twin = model.shuffled()
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    assert (twin.preprocess, twin.labels) == (model.preprocess, model.labels)
    assert not np.allclose(twin.predict(x).logits, model.predict(x).logits)
    assert twin.default_layer == model.default_layer
