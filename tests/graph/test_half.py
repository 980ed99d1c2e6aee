"""float16 files on the CPU: computed in float32 from the stored numbers, which float16 rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

import onnxplain as ox
from tests import nets
from tests.real_models import REAL_MODELS, samples

Array = np.ndarray[Any, Any]
HALF, FLOAT = (f"imagenet/squeezenet1_1_torchvision{kind}.onnx" for kind in ("_fp16", ""))


def stored_as(proto: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Return a copy of a float32 file in another type, its weights rounded to float16 in any case."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    dtype, code = (
        (np.float16, TensorProto.FLOAT16) if kind == "float16" else (np.float32, TensorProto.FLOAT)
    )
    for weight in made.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            rounded = numpy_helper.to_array(weight).astype(np.float16).astype(dtype)
            weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = code
    return made


def test_the_numbers_are_those_of_a_float32_file_with_the_same_weights() -> None:
    proto, x = nets.conv_net(), nets.images().astype(np.float16)
    half, single = (nets.load(stored_as(proto, kind)) for kind in ("float16", "float32"))
    assert half.spec.dtype == np.float16, "fed as the file wants it"
    for method in (ox.gradient, ox.saliency, ox.cam):
        a, b = (method(model, x.astype(model.spec.dtype)) for model in (half, single))
        np.testing.assert_allclose(a.values, b.values, rtol=1e-5, atol=1e-7)
        assert np.any(b.values)


def test_answers_are_those_of_onnxruntime_but_for_the_last_rounding() -> None:
    proto, x = stored_as(nets.conv_net(), "float16"), nets.images().astype(np.float16)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(nets.load(proto).predict(x).probabilities, y, rtol=1e-3, atol=1e-6)


def test_as_stored() -> None:
    half = nets.load(stored_as(nets.conv_net(), "float16"))
    assert half.dtype_of("features") == np.float32
    assert half.as_stored().dtype_of("features") == np.float16
    single = nets.load(nets.conv_net())
    assert single.as_stored() is single


def test_casts_branches_and_made_constants() -> None:
    """What names a type in an attribute, in a branch that is taken too."""
    head = "(float16[N, 3, 8, 8] x) => (float16[N, 3] z)"
    body = """
        yes = Constant<value = bool {1}>()
        a = If(yes) <
            then_branch = t () => (float16[N, 3, 8, 8] u) {
                k = Constant<value = float16 {16384}>()
                u = Mul(x, k)
            },
            else_branch = e () => (float16[N, 3, 8, 8] v) { v = Identity(x) }
        >
        f = Cast<to = 1>(a)
        h = Cast<to = 10>(f)
        shape = Constant<value = int64[1] {3}>()
        ones = ConstantOfShape<value = float16[1] {1}>(shape)
        g = ReduceMean<keepdims = 0>(h, axes)
        z = Add(g, ones)
    """
    # 16384 are the bits of 2.0 in float16.
    proto = nets.build(head, body, axes=np.array([2, 3]))
    model, x = nets.load(proto), nets.images().astype(np.float16)
    found = ox.gradient(model, x, target=1).values
    expected = np.zeros(x.shape, np.float32)
    expected[:, 1] = 2 / 64
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_input_that_is_an_output_too() -> None:
    head = "(float16[N, 3] x) => (float16[N, 3] x, float16[N, 3] z)"
    model = nets.load(nets.build(head, "z = Mul(x, x)"))
    x = np.array([[1, 2, 3]], np.float16)
    np.testing.assert_array_equal(
        ox.gradient(model, x, ox.Target(index=2, output="z")).values, [[0, 0, 6]]
    )


@pytest.mark.parametrize("method", ["gradient", "lift_cam"])
def test_a_real_file_and_its_float32_twin(method: str, shared: Path) -> None:
    pictures, _ = samples("imagenet", shared, 4)
    maps = []
    for name in (HALF, FLOAT):
        row = REAL_MODELS[name]
        model = ox.load(row.path(shared), device="cpu", preprocess=row.pre)
        run = ox.gradient if method == "gradient" else ox.cam
        maps.append(run(model, model.read(pictures), target=281).values.reshape(len(pictures), -1))
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(*maps, strict=True)]
    assert min(alike) > 0.995, "ReLUs turn over where weights are rounded"
