"""The four records: numbers against independent formulas, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from onnxplain.errors import ConfigError, InputError
from onnxplain.results import Attribution, Cam, Prediction, Ranked, Saliency, bilinear, minmax

ONE = {"classes": [1], "scores": [2.5]}


# --- maps -----------------------------------------------------------------------------------------


@given(*[st.integers(1, 12)] * 4, st.integers(0, 3))
def test_bilinear_is_torchs(h, w, height, width, seed) -> None:
    maps = np.random.default_rng(seed).standard_normal((2, h, w))
    want = functional.interpolate(
        torch.from_numpy(maps)[:, None], (height, width), mode="bilinear", align_corners=False
    )[:, 0]
    np.testing.assert_allclose(bilinear(maps, (height, width)), want.numpy(), atol=1e-6)


def test_minmax(rng) -> None:
    maps = rng.standard_normal((5, 4, 3))
    got = minmax(maps)
    for scaled, original in zip(got, maps, strict=True):
        want = (original - original.min()) / np.ptp(original)
        np.testing.assert_allclose(scaled, want, atol=1e-6)
        assert scaled.min() == 0 and scaled.max() == 1
    for constant in (0.0, -3.0, 1e38):
        assert not minmax(np.full((2, 3, 3), constant)).any()
    wide = np.array([[[-3e38, 0, 3e38]]], np.float32)  # its span overflows float32
    np.testing.assert_allclose(minmax(wide), [[[0, 0.5, 1]]])
    tiny = np.array([[[0, 1e-45, 2.8e-45]]], np.float32)
    np.testing.assert_allclose(minmax(tiny), [[[0, 0.5, 1]]])
    assert minmax(np.zeros((0, 3, 3))).shape == (0, 3, 3)


# --- Prediction -----------------------------------------------------------------------------------


def test_probabilities_are_torchs(rng) -> None:
    logits = (20 * rng.standard_normal((4, 7))).astype(np.float32)
    exact = torch.from_numpy(logits.astype(np.float64))
    softmax = Prediction(logits=logits).probabilities
    np.testing.assert_allclose(softmax, exact.softmax(1).numpy(), rtol=1e-12)
    sigmoid = Prediction(logits=logits, activation="sigmoid").probabilities
    np.testing.assert_allclose(sigmoid, exact.sigmoid().numpy(), rtol=1e-12)


def test_probabilities_of_huge_logits() -> None:
    logits = np.array([[3e38, -3e38, 0], [-1e4, -1e4, -1e4]], np.float32)
    np.testing.assert_allclose(Prediction(logits=logits).probabilities, [[1, 0, 0], [1 / 3] * 3])
    sigmoid = Prediction(logits=logits, activation="sigmoid").probabilities
    np.testing.assert_array_equal(sigmoid, [[1, 0, 0.5], [0, 0, 0]])


def test_top() -> None:
    logits = np.array([[1, 3, 2], [5, 5, 0]], np.float32)
    prediction = Prediction(logits=logits, labels=["a", "b", "c"])
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    first, second = prediction.top(2)
    assert first == [Ranked(1, "b", pytest.approx(p[1]), 3), Ranked(2, "c", pytest.approx(p[2]), 2)]
    assert [r.class_index for r in second] == [0, 1]  # a tie: the lower index first
    assert [len(row) for row in prediction.top(99)] == [3, 3]
    np.testing.assert_array_equal(prediction.classes, [1, 0])
    assert Prediction(logits=logits).top(1)[0][0].label == "1"
    with pytest.raises(ConfigError, match="at least 1"):
        prediction.top(0)


def test_ties_are_counted_and_told() -> None:
    logits = np.array([[4.04, 4.04, 1, 4.04], [1, 2, 3, 4]], np.float32)
    prediction = Prediction(logits=logits)
    np.testing.assert_array_equal(prediction.ties, [3, 1])
    assert prediction.warning.startswith("1 of 2 images: up to 3 classes share the highest logit")
    assert Prediction(logits=logits[1:]).warning is None
    empty = Prediction(logits=np.zeros((0, 4)))
    assert empty.warning is None and empty.top() == [] and empty.probabilities.shape == (0, 4)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"logits": np.zeros(3)}, InputError),
        ({"logits": np.zeros((2, 0))}, InputError),
        ({"logits": [[1, np.nan]]}, InputError),
        ({"logits": np.zeros((2, 3)), "labels": ["a", "b"]}, InputError),
        ({"logits": np.zeros((2, 3)), "activation": "relu"}, ConfigError),
    ],
)
def test_predictions_that_make_no_sense(fields, error) -> None:
    with pytest.raises(error):
        Prediction(**fields)


# --- maps of explanations -------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 1, 3])
def test_attribution_heatmap(axis, rng) -> None:
    channels_first = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    values = {None: channels_first[:, 0], 1: channels_first, 3: np.moveaxis(channels_first, 1, 3)}
    record = Attribution(values=values[axis], channel_axis=axis, classes=[0, 1], scores=[1, 2])
    magnitude = np.abs(channels_first[:, :1] if axis is None else channels_first)
    want = [m.max(0) for m in magnitude]
    want = [(m - m.min()) / (m.max() - m.min()) for m in want]
    np.testing.assert_allclose(record.heatmap(), want, atol=1e-6)

    # two channels over two pixels, by hand
    example = np.array([[[0.5, -0.2]], [[-0.4, 0.1]]])[None]
    absolute = np.abs(example).max(1)
    np.testing.assert_allclose(absolute, [[[0.5, 0.2]]])
    shown = Attribution(values=example, channel_axis=1, **ONE).heatmap()
    np.testing.assert_array_equal(shown, [[[1, 0]]])


def test_attribution_without_a_picture() -> None:
    vector = Attribution(values=np.ones((1, 10)), **ONE)
    with pytest.raises(InputError, match="no height and width"):
        vector.heatmap()
    with pytest.raises(InputError, match="channel_axis 2"):
        Attribution(values=np.ones((1, 10)), channel_axis=2, **ONE)


def test_saliency() -> None:
    record = Saliency(values=[[[0, 2], [4, 8]]], kind="positive", **ONE)
    np.testing.assert_array_equal(record.heatmap(), [[[0, 0.25], [0.5, 1]]])
    assert not Saliency(values=np.full((1, 3, 3), 7.0), kind="active", **ONE).heatmap().any()
    with pytest.raises(InputError, match="must not be negative, got -1"):
        Saliency(values=[[[0, -1]]], kind="positive", **ONE)


def test_cam_heatmap_is_relu_upsample_minmax(rng) -> None:
    values = rng.standard_normal((3, 4, 5)).astype(np.float32)
    record = cam(values, size=(20, 15))
    up = functional.interpolate(
        torch.from_numpy(values).relu()[:, None], (20, 15), mode="bilinear", align_corners=False
    )[:, 0]
    low, high = up.amin((1, 2), keepdim=True), up.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(record.heatmap(), ((up - low) / (high - low)).numpy(), atol=1e-5)
    for i in range(3):
        alone = cam(values[i : i + 1], size=(20, 15)).heatmap()
        np.testing.assert_array_equal(alone[0], record.heatmap()[i])


def test_cam_without_positive_evidence_is_zero_not_nan() -> None:
    for values in (-np.ones((1, 2, 2)), np.zeros((1, 2, 2)), np.ones((1, 2, 2))):
        assert not cam(values, size=(6, 6)).heatmap().any()


def test_cam_weights_are_optional_and_must_agree() -> None:
    assert cam(np.ones((1, 2, 2)), weights=None).weights is None
    with pytest.raises(InputError, match=r"Cam\.weights must be \[N, K\], got \[2, 4\] \(N = 1"):
        cam(np.ones((1, 2, 2)), weights=np.ones((2, 4)))


def cam(values: np.ndarray, size=(4, 4), **more) -> Cam:
    n = len(values)
    fields = {"weights": np.ones((n, 4)), "kind": "lift_cam", "layer": "conv", **more}
    return Cam(values=values, size=size, classes=[0] * n, scores=[0.5] * n, **fields)


@pytest.mark.parametrize(
    "record",
    [
        Prediction(logits=[[1, 2]], labels=["猫", "dog"], meta={"versions": {"onnx": "1"}}),
        Attribution(values=np.ones((1, 3, 2, 2)), channel_axis=1, **ONE),
        Saliency(values=np.ones((1, 2, 2)), kind="active", **ONE),
        cam(np.ones((1, 2, 2)), meta={"providers": ["CPUExecutionProvider"]}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_round_trip(record, tmp_path) -> None:
    record.save(tmp_path)
    assert type(record).load(tmp_path) == record
