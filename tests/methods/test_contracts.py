"""What every method promises, one parametrised row each: a new method joins by being in METHODS."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxplain as ox
from onnxplain.backward import VJP
from onnxplain.backward.variants import GUIDED, RESCALE
from onnxplain.batching import BATCH
from onnxplain.errors import InputError
from onnxplain.methods.cam import CAMS
from onnxplain.methods.registry import METHODS, explain
from onnxplain.results import Explanation, Record
from tests import nets

Array = np.ndarray[Any, Any]
pytestmark = pytest.mark.parametrize("method", METHODS)


@cache
def model() -> ox.Model:
    return nets.load(nets.conv_net())


def arrays_of(record: Explanation) -> dict[str, Array]:
    """Return what a record holds for each image."""
    names = ("values", "weights", "classes", "scores")
    found = {name: getattr(record, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def assert_same_rows(found: Explanation, expected: Explanation, rows: Any = slice(None)) -> None:
    """Assert that `found` holds the rows of `expected`, to float error."""
    for name, value in arrays_of(expected).items():
        mine = arrays_of(found)[name]
        assert mine.shape == value[rows].shape
        np.testing.assert_allclose(mine, value[rows], rtol=1e-4, atol=1e-6, err_msg=name)


# --- batches -------------------------------------------------------------------------------------------
def test_a_row_of_a_batch_equals_a_batch_of_one(method: str) -> None:
    x = nets.images(BATCH + 2)  # more than run at once
    classes = np.arange(BATCH + 2) % 3  # of period 3, so that no two batches have the same
    together = explain(model(), x, method, classes)
    assert len(together.values) == len(x) and np.any(together.values)
    for i in (0, BATCH - 1, BATCH, BATCH + 1):
        one = slice(i, i + 1)
        assert_same_rows(explain(model(), x[one], method, classes[one]), together, one)


def test_permuting_the_images_permutes_the_result(method: str) -> None:
    x, order, classes = nets.images(5), [3, 0, 4, 2, 1], np.array([0, 1, 2, 3, 1])
    expected = explain(model(), x, method, classes)
    assert_same_rows(explain(model(), x[order], method, classes[order]), expected, order)


def test_an_image_alone_may_come_without_its_axis(method: str) -> None:
    x = nets.images(1)
    assert explain(model(), x[0], method) == explain(model(), x, method)


# --- the caller's arrays, and repetition ---------------------------------------------------------------
def test_inputs_stay_as_they_are_and_results_repeat(method: str) -> None:
    x, classes = nets.images(), np.array([1, 0, 2])
    kept = x.copy(), classes.copy()
    x.flags.writeable = classes.flags.writeable = False
    first, second = (explain(model(), x, method, classes) for _ in range(2))
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(classes, kept[1])
    assert first == second, "bit by bit, meta included"
    assert first == explain(nets.load(nets.conv_net()), x, method, classes), "loaded again, too"


@pytest.mark.parametrize("view", ["mirrored", "fortran", "strided", "double"])
def test_any_memory_layout_will_do(method: str, view: str) -> None:
    x = nets.images()
    same = {
        "mirrored": x[..., ::-1].copy()[..., ::-1],
        "fortran": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=3)[..., ::2],
        "double": x.astype(np.float64),
    }[view]
    assert not same.flags.c_contiguous or view == "double"
    assert explain(model(), same, method) == explain(model(), x, method)


def test_two_threads_at_once(method: str) -> None:
    """Both use a model whose programs are not made yet."""
    fresh, inputs = nets.load(nets.conv_net()), [nets.images(3, seed=s) for s in (1, 2, 3, 4)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda x: explain(fresh, x, method), inputs))
    for x, record in zip(inputs, found, strict=True):
        assert record == explain(model(), x, method)


# --- what comes back -----------------------------------------------------------------------------------
def test_values_are_float32_and_finite(method: str) -> None:
    found = arrays_of(explain(model(), nets.images(), method))
    for name in {"values", "weights", "scores"} & set(found):
        assert found[name].dtype == np.float32 and np.isfinite(found[name]).all()
    assert found["classes"].dtype == np.int64


def test_scores_are_the_logits_of_the_predicted_classes(method: str) -> None:
    x = nets.images()
    logits = nets.torch_logits(nets.weights_of(nets.conv_net()), nets.double(x)).detach().numpy()
    found = explain(model(), x, method)
    np.testing.assert_array_equal(found.classes, logits.argmax(1))
    np.testing.assert_allclose(found.scores, logits.max(1), rtol=1e-5)


def test_meta_tells_how_the_result_came_about(method: str) -> None:
    found = explain(model(), nets.images(), method, 2).meta
    rules = {"guided_backprop": GUIDED, "lift_cam": RESCALE}.get(method, VJP).name
    if method in CAMS and CAMS[method].runs is not None:
        rules = None
    assert found["method"].removeprefix("saliency:") == method
    assert found["sha256"] == model().sha256 and len(model().sha256) == 64
    assert (found["target"], found["explained"], found["rules"]) == ("2", "z", rules)
    assert found["logit"] == "'z', before Softmax of output 'y'"
    assert found["providers"] == ("CPUExecutionProvider",) and found["inexact"] == ()
    assert found["versions"]["onnxplain"] == ox.__version__
    assert found["versions"]["onnx"] == onnx.__version__
    assert found["versions"]["onnxruntime"] == onnxruntime.__version__
    assert found["preprocess"].startswith("guessed") and found["paper"]
    assert (method not in CAMS) or found["layer"] == "features"
    assert json.loads(json.dumps(found))["sha256"] == model().sha256


def test_saved_and_loaded_it_is_the_same(method: str, tmp_path: Any) -> None:
    found = explain(model(), nets.images(), method)
    found.save(tmp_path, "result")
    loaded = Record.load(tmp_path, "result")
    assert loaded == found
    np.testing.assert_array_equal(loaded.heatmap(), found.heatmap())


# --- files that fix the number of images ---------------------------------------------------------------
FLATTENED = nets.BODY.replace("Flatten(pooled)", "Reshape(pooled, shape)")
AVERAGED = FLATTENED.replace("(pooled, shape)", "(mean, shape)").replace(
    "flat =", "mean = ReduceMean<keepdims = 1>(pooled, first) flat ="
)


@pytest.mark.parametrize(
    ("body", "pinned"), [(FLATTENED, False), (AVERAGED, True)], ids=["freed", "pinned"]
)
def test_a_file_for_one_image_equals_its_twin_for_any_number(
    method: str, body: str, pinned: bool
) -> None:
    """Averaging over the images is nothing at one image, but cannot be freed: they run one by one."""
    more = {"first": np.array([0])} if pinned else {}
    head = "(float[1, 3, 8, 8] x) => (float[1, 4] y)"
    exported = nets.load(nets.conv_net(head, body, shape=np.array([1, 20]), **more))
    assert (exported.graph.pinned is not None) == pinned
    found, expected = (explain(m, nets.images(), method) for m in (exported, model()))
    assert_same_rows(found, expected)
    assert found.classes.tolist() == expected.classes.tolist()


# --- what does not fit ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (nets.images()[:0], r"has shape \[0, 3, 8, 8\], input 'x' wants \[N, 3, 8, 8\]"),
        (nets.images(3, (4, 8, 8)), r"has shape \[3, 4, 8, 8\]"),
        (nets.images(3, (8, 8, 3)), r"has shape \[3, 8, 8, 3\].* \(NCHW\)"),
        (nets.images(3, (3, 8, 9)), r"has shape \[3, 3, 8, 9\]"),
        (np.where(nets.images() > 2, np.nan, nets.images()), "numbers are NaN or infinite"),
        (np.full((1, 3, 8, 8), np.inf, np.float32), "192 of 192 numbers are NaN or infinite"),
        (np.full((1, 3, 8, 8), 1e300), "192 of 192 .* infinite in float32"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"holds uint8, .* wants float32: convert it first"),
        (np.zeros((1, 3, 8, 8), bool), "holds bool"),
        ("cat.jpg", r"has shape \[\]"),
        (None, r"has shape \[\]"),
    ],
    ids=["none", "channels", "layout", "size", "nan", "inf", "range", "bytes", "bool", "path", "None"],
)  # fmt: skip
def test_input_that_does_not_fit_is_refused(method: str, x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(model(), x, method)
