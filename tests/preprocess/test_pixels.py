"""pixels.py: the numbers, forth and back, against the published formulas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnxplain.errors import ConfigError
from onnxplain.preprocess import (
    PRESETS,
    InputSpec,
    Preprocess,
    decode,
    displayed,
    encode,
    fed,
    guess,
    picture,
    pixel_scale,
    read,
)

NCHW = InputSpec("x", (3, 24, 32), np.dtype("float32"), "NCHW")
NHWC = InputSpec("x", (24, 32, 3), np.dtype("float32"), "NHWC")
GREY = InputSpec("x", (1, 24, 32), np.dtype("float32"), "NCHW")
FLAT = InputSpec("x", (24, 32), np.dtype("float32"), "NCHW")


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_presets_are_the_published_formulas(rng) -> None:
    pixels = noise(rng, 24, 32)
    v = pixels.astype(np.float64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = {
        "imagenet": (v / 255 - mean) / std,
        "inception": v / 127.5 - 1,
        "caffe": v[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        "raw": v,
        "unit": v / 255,
    }
    assert set(expected) == set(PRESETS)
    for name, want in expected.items():
        pre = Preprocess.preset(name, resize="none")
        np.testing.assert_allclose(read(pixels, NHWC, pre)[0], want, atol=1e-5, err_msg=name)
        got = read(pixels, NCHW, pre)[0]
        np.testing.assert_allclose(got, want.transpose(2, 0, 1), atol=1e-5, err_msg=name)


def test_batch_rows_are_single_reads_and_inputs_stay(rng) -> None:
    pictures = rng.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    before = pictures.copy()
    pre = Preprocess.preset("imagenet")
    batch = read(pictures, NCHW, pre)
    assert batch.dtype == np.float32 and batch.shape == (3, 3, 24, 32)
    for i in range(3):
        np.testing.assert_array_equal(batch[i], read(Image.fromarray(pictures[i]), NCHW, pre)[0])
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize(
    ("dtype", "settings", "offset"), [("uint8", {}, 0), ("int8", {"mean": 128}, 128)]
)
def test_integer_inputs_hold_every_grey_level(dtype, settings, offset) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    spec = InputSpec("x", (16, 16, 1), np.dtype(dtype), "NHWC")
    x = read(pixels, spec, Preprocess.from_dict(settings, "test"))
    assert x.dtype == dtype
    np.testing.assert_array_equal(x[0, :, :, 0].astype(int), pixels.astype(int) - offset)


def test_integers_are_rounded_and_clipped() -> None:
    spec = InputSpec("x", (1, 1, 4), np.dtype("uint8"), "NCHW")
    pixel01 = np.array([-0.5, 0.501, 100.6 / 255, 1.2]).reshape(1, 1, 1, 4)
    x = encode(pixel01, spec, Preprocess.preset("raw"))
    np.testing.assert_array_equal(x.ravel(), [0, 128, 101, 255])


def test_settings_that_crush_or_clip_an_integer_input_are_refused() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    for dtype, name in [("uint8", "unit"), ("uint8", "imagenet"), ("int8", "raw")]:
        spec = InputSpec("x", (3, 4, 4), np.dtype(dtype))
        with pytest.raises(ConfigError, match=f"{dtype}.*use preset raw"):
            read(pixels, spec, Preprocess.preset(name))


def test_float16() -> None:
    spec = InputSpec("x", (3, 24, 32), np.dtype("float16"))
    x = read(np.full((24, 32, 3), 255, np.uint8), spec, Preprocess.preset("imagenet"))
    assert x.dtype == np.float16
    want = ((1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]).astype(np.float16)
    np.testing.assert_array_equal(x[0, :, 3, 5], want)


@pytest.mark.parametrize(
    ("name", "spec"),
    [(name, spec) for name in PRESETS for spec in (NCHW, NHWC)]
    + [(name, spec) for name in ("unit", "inception") for spec in (FLAT, GREY)],
)
def test_decode_inverts_encode_and_pixel_scale_is_its_slope(name, spec, rng) -> None:
    pre = Preprocess.preset(name)
    a, b = rng.random((2, 2, *spec.shape))
    np.testing.assert_allclose(decode(encode(a, spec, pre), spec, pre), a, atol=1e-6)
    slope = encode(b, spec, pre).astype(np.float64) - encode(a, spec, pre)
    want = np.broadcast_to(pixel_scale(spec, pre), a.shape) * (b - a)
    np.testing.assert_allclose(slope, want, atol=3e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_displayed_is_the_picture_in_rgb(name, dtype, rng) -> None:
    pixels = noise(rng, 24, 32)
    spec = InputSpec("x", NCHW.shape, np.dtype(dtype))
    pre = Preprocess.preset(name, resize="none")
    shown = displayed(pixels, spec, pre)
    tolerance = 1 if dtype == "float16" else 0  # 11 bits of precision around +-124
    assert np.abs(shown.astype(int) - pixels).max() <= tolerance
    wild = encode(np.where(rng.random((1, *spec.shape)) > 0.5, 3.0, -3.0), spec, pre)
    assert set(np.unique(picture(wild, spec, pre))) == {0, 255}


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("spec", [NCHW, NHWC, GREY, FLAT], ids=["NCHW", "NHWC", "grey", "flat"])
def test_fed_undoes_picture(spec, channels, rng) -> None:
    pre = Preprocess.preset("imagenet", resize="none", channels=channels)
    if spec in (GREY, FLAT):
        pre = Preprocess.preset("unit", resize="none")
    x = read(np.stack([noise(rng, 24, 32) for _ in range(2)]), spec, pre)
    np.testing.assert_allclose(fed(picture(x, spec, pre), spec, pre), x, atol=1e-5)


def test_grey_models_get_luma_and_show_grey(rng) -> None:
    pixels = noise(rng, 24, 32)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    for spec in (GREY, FLAT):
        x = read(pixels, spec, Preprocess.preset("raw"))
        assert x.shape == (1, *spec.shape)
        assert np.abs(x.reshape(24, 32) - luma).max() <= 0.51
        shown = displayed(pixels, spec, Preprocess.preset("raw"))
        np.testing.assert_array_equal(shown, np.repeat(x.reshape(24, 32, 1), 3, 2))


def test_size_from_settings_where_the_graph_leaves_it_open() -> None:
    spec = InputSpec("x", (3, -1, -1), np.dtype("float32"))
    pixels = np.zeros((50, 60, 3), np.uint8)
    assert read(pixels, spec, Preprocess.preset("unit", size=[10, 12])).shape == (1, 3, 10, 12)
    with pytest.raises(ConfigError, match="leaves its input size open"):
        read(pixels, spec, Preprocess.preset("unit"))
    with pytest.raises(ConfigError, match="is not the model's"):
        read(pixels, NCHW, Preprocess.preset("unit", size=32))


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (NCHW, {"channels": "L"}, "'L'.*has 3"),
        (GREY, {"preset": "imagenet"}, "mean has 3 values.*1 channel"),
        (InputSpec("x", (4, 8, 8), np.dtype("f4")), {}, "takes no picture"),
        (InputSpec("x", (10,), np.dtype("f4")), {}, "not a picture|takes no picture"),
    ],
)
def test_settings_that_do_not_fit_the_model(spec, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read(np.zeros((24, 32, 3), np.uint8), spec, Preprocess.from_dict(settings, "test"))


def test_guess_says_so_and_can_be_used(rng) -> None:
    rows = {
        ("float32", (3, 224, 224), "NCHW"): Preprocess.preset("imagenet"),
        ("float32", (224, 224, 3), "NHWC"): Preprocess.preset("inception"),
        ("float32", (3, 32, 32), "NCHW"): Preprocess.preset("unit"),
        ("float32", (1, 128, 128), "NCHW"): Preprocess.preset("unit"),
        ("uint8", (224, 224, 3), "NHWC"): Preprocess.preset("raw"),
        ("int8", (96, 96, 3), "NHWC"): Preprocess.preset("raw", mean=128),
    }
    for (dtype, shape, layout), want in rows.items():
        spec = InputSpec("x", shape, np.dtype(dtype), layout)
        got = guess(spec)
        assert got.to_dict() == want.to_dict()
        assert got.source.startswith("guessed")
        assert read(noise(rng, 40, 50), spec, got).shape == (1, *shape)
