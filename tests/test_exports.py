"""53 small nets as eight exporters wrote them, and six files that exporters wrote wrongly.

Each file lies beside an input (.x.npy) and the framework's own answer to it (.y.npy).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxplain as ox
from onnxplain.backward.variants import RESCALE
from onnxplain.errors import InputError, ModelError
from tests.conftest import SHARED
from tests.oracle import Oracle, gradient_error, judge, run_original

FOLDER = SHARED / "data" / "exports"
FILES = sorted(FOLDER.glob("*.onnx"))
each_export = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)

DEFAULT_LAYERS = {  # net, and exporter where it differs -> op, channels, height and width
    "mbse": ("Mul", 16, (8, 8)),  # activation or squeeze-and-excitation as a product
    "mbse tf2onnx": ("Clip", 16, (8, 8)),  # ReLU6
    "flat": ("Tanh", 4, (8, 8)),
    "flat tf2onnx": ("Concat", 20, (4, 4)),
    "vgg": ("Concat", 14, (8, 8)),
    "vgg torch_ts": ("Concat", 14, (3, 3)),
    "vgg keras3-torch": ("Concat", 20, (8, 8)),
}


def load(path: Path) -> ox.Model:
    return ox.load(path, device="cpu", threads=1)


def beside(path: Path, kind: str) -> np.ndarray:
    return np.load(path.with_suffix(f".{kind}.npy"))


def run(model: ox.Model, x: np.ndarray) -> np.ndarray:
    """Return the output of the file (its probabilities, where it ends in Softmax)."""
    output = model.graph.logit.output
    return model.values({model.graph.source.name: x}, [output])[output]


def family(path: Path) -> tuple[str, str]:
    """Return net and exporter: torch_ts17_vgg_dyn -> vgg, torch_ts."""
    match = re.match(r"(.+?)\d*_(mbse|flat|vgg)_", path.stem + "_")
    assert match, path.stem
    return match[2], match[1]


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))


@each_export
def test_output_is_the_frameworks(path: Path) -> None:
    assert distance(run(load(path), beside(path, "x")), beside(path, "y")) <= 1e-5


@each_export
def test_any_number_of_images_even_where_the_export_pinned_it(path: Path) -> None:
    """Three images at once give what the file itself gives one by one."""
    model, x = load(path), beside(path, "x")[:1]
    images = np.concatenate([x, 0.5 * x, x.max() - x])
    (expected,) = run_original(path, images).values()
    assert model.graph.pinned is None
    assert distance(run(model, images), expected) <= 1e-5


@each_export
def test_logit_is_before_the_softmax_where_there_is_one(path: Path) -> None:
    model, x = load(path), beside(path, "x")
    last = onnx.load(path).graph.node[-1].op_type
    assert model.graph.logit.stripped == (("Softmax",) if last == "Softmax" else ())
    logits = model.predict(x).logits
    np.testing.assert_allclose(logits, Oracle(path).logits(x), rtol=1e-4, atol=1e-4)
    if last == "Softmax":
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert distance(probabilities, beside(path, "y")) <= 1e-5


@each_export
def test_default_layer_is_the_last_feature_map(path: Path) -> None:
    net, exporter = family(path)
    op, channels, size = DEFAULT_LAYERS.get(f"{net} {exporter}", DEFAULT_LAYERS[net])
    layer = load(path).default_layer
    assert (layer.op, layer.channels, layer.size, layer.cut) == (op, channels, size, True)


@each_export
def test_gradient_equals_finite_differences(path: Path) -> None:
    model, oracle, x = load(path), Oracle(path), beside(path, "x")[0]
    images = [x, 0.9 * x + 0.05, 0.8 * x + 0.1]
    judge((error_of_gradient(model, oracle, one) for one in images), best=1e-4, worst=3e-2)


def error_of_gradient(model: ox.Model, oracle: Oracle, one: np.ndarray) -> float:
    found = ox.gradient(model, one[None].astype(np.float32))
    c = int(found.classes[0])
    return gradient_error(lambda v: float(oracle.logits(v[None])[0, c]), one, found.values[0])


@each_export
def test_lift_cam_is_complete(path: Path) -> None:
    """The coefficients sum to F(A) - F(0), F the rest of the network from the default layer on."""
    model, x = load(path), beside(path, "x")
    record = ox.cam(model, x, kind="lift_cam")
    name, logit = record.layer, model.graph.logit.tensor
    a = model.values({model.graph.source.name: x}, [name])[name]
    program = model.program((logit,), (name,), RESCALE)
    rise = program.tail({name: a})[logit] - program.tail({name: np.zeros_like(a)})[logit]
    expected = np.take_along_axis(rise, record.classes[:, None], 1)[:, 0]
    np.testing.assert_allclose(record.weights.sum(1), expected, rtol=1e-4, atol=1e-5)


def test_every_export_is_found(shared: Path) -> None:
    assert len(FILES) == 53
    assert {family(path)[0] for path in FILES} == {"mbse", "flat", "vgg"}


# --- files that real exporters wrote without an error ---------------------------------------------------
def invalid(shared: Path, name: str) -> Path:
    return shared / "data" / "exports" / "invalid" / f"{name}.onnx"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keras3-tensorflow_vgg_default", ("is no ONNX operator", "Erfc")),
        ("keras3-jax_mbse_op17", ("not a valid ONNX model", "ReduceMean")),
    ],
)
def test_invalid_files_are_refused_by_name_of_the_op(name: str, words: tuple, shared: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(invalid(shared, name))
    for word in (f"{name}.onnx", *words):
        assert word in str(caught.value)


def test_a_kernel_that_the_runtime_lacks_is_named_when_run(shared: Path) -> None:
    """Keras on JAX pools over six axes: valid for the checker, unknown to onnxruntime."""
    path = invalid(shared, "keras3-jax_vgg_static")
    with pytest.raises((ModelError, InputError), match=r"MaxPool.*pooling size"):
        run(load(path), beside(path, "x"))


def test_wrong_shape_annotations_do_no_harm(shared: Path) -> None:
    """onnxruntime refuses this file for its value_info; ours are inferred anew, so it just works."""
    path = invalid(shared, "jax2onnx_linenvgg_static_op18")
    with pytest.raises(Exception, match="ShapeInferenceError"):
        run_original(path, beside(path, "x"))
    assert distance(run(load(path), beside(path, "x")), beside(path, "y")) <= 1e-5


@pytest.mark.parametrize("name", ["paddle_groupnorm", "paddle_leakyrelu"])
def test_numbers_an_exporter_got_wrong_are_explained_as_the_file_has_them(
    name: str, shared: Path
) -> None:
    """A wrong epsilon or slope is a valid number: nothing in the file shows that it is not the net's."""
    path = invalid(shared, name)
    model, x = load(path), beside(path, "x")
    (expected,) = run_original(path, x).values()
    assert distance(run(model, x), expected) <= 1e-5
    assert distance(expected, beside(path, "y")) > 1e-3
    judge([error_of_gradient(model, Oracle(path), one) for one in x], best=1e-4, worst=3e-2)
