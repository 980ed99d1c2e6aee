"""images.py: what is cut out and how it is scaled, against Pillow's own steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from onnxplain.errors import ConfigError, InputError
from onnxplain.preprocess import InputSpec, Preprocess, displayed, read, seen_box

NCHW = InputSpec("x", (3, 24, 32), np.dtype("float32"), "NCHW")


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(300, 400), (401, 257), (64, 80), (225, 1999), (28, 36)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_short_is_resize_then_centre_crop(size, interpolation, rng) -> None:
    """Torchvision: Resize(short) floors the long side, CenterCrop rounds half to even."""
    image = Image.fromarray(noise(rng, *size))
    (h, w), short = size, 37  # round(32 * 256 / 224)
    new = (short, int(short * h / w)) if w < h else (int(short * w / h), short)
    filtered = image.resize(new, Image.Resampling[interpolation.upper()])
    left, top = round((new[0] - 32) / 2.0), round((new[1] - 24) / 2.0)
    want = np.asarray(filtered)[top : top + 24, left : left + 32]
    pre = Preprocess.preset("imagenet", interpolation=interpolation)
    np.testing.assert_array_equal(displayed(image, NCHW, pre), want)


def test_default_short_is_256_for_224() -> None:
    pre = Preprocess.preset("imagenet")
    for size, short in [(224, 256), (128, 146), (299, 342), (96, 110)]:
        left = round((short - size) / 2)
        box = seen_box(short, short, (size, size), pre)
        assert box == pytest.approx((left, left, left + size, left + size))


@pytest.mark.parametrize("size", [(300, 400), (401, 257), (10, 1000)])
def test_fit_and_squash_are_pillows(size, rng) -> None:
    image = Image.fromarray(noise(rng, *size))
    bilinear = Image.Resampling.BILINEAR
    fit = displayed(image, NCHW, Preprocess.preset("unit", resize="fit"))
    np.testing.assert_array_equal(fit, np.asarray(ImageOps.fit(image, (32, 24), bilinear)))
    squash = displayed(image, NCHW, Preprocess.preset("unit"))
    np.testing.assert_array_equal(squash, np.asarray(image.resize((32, 24), bilinear)))


@pytest.mark.parametrize("resize", ["short", "fit", "squash"])
@pytest.mark.parametrize("size", [(300, 400), (401, 257), (61, 61)])
def test_seen_box_is_where_the_pixels_come_from(resize, size) -> None:
    """A picture of its own coordinates: the model's input spells out the box."""
    pre = Preprocess.preset("raw", resize=resize)
    h, w = size
    spec = InputSpec("x", (50, 60), np.dtype("float32"))
    left, top, right, bottom = seen_box(w, h, (50, 60), pre)
    columns = np.broadcast_to(np.rint(np.linspace(0, 255, w)).astype(np.uint8), (h, w))
    rows = np.broadcast_to(np.rint(np.linspace(0, 255, h)).astype(np.uint8)[:, None], (h, w))
    x, y = read([columns, rows], spec, pre)
    got = np.array([x[25, 1], x[25, -2], y[1, 30], y[-2, 30]])  # one pixel in, off the border
    dx, dy = (right - left) / 60, (bottom - top) / 50
    want = np.array([left + 1.5 * dx, right - 1.5 * dx, top + 1.5 * dy, bottom - 1.5 * dy])
    sides = np.array([w, w, h, h])
    assert np.abs(got - 255 * (want - 0.5) / (sides - 1)).max() < 1.5  # grey levels


def test_none_wants_the_size() -> None:
    pre = Preprocess.preset("unit", resize="none")
    with pytest.raises(InputError, match=r"picture 0: is 32 x 24 .*not 24 x 32"):
        read(np.zeros((32, 24, 3), np.uint8), NCHW, pre)


def test_narrow_picture_is_refused_before_it_grows() -> None:
    line = np.zeros((1, 200_000), np.uint8)
    with pytest.raises(InputError, match="too narrow"):
        read(line, InputSpec("x", (3, 224, 224), np.dtype("f4")), Preprocess.preset("imagenet"))


def test_short_too_small_for_the_crop() -> None:
    with pytest.raises(ConfigError, match="short = 20 is too small to crop 24 x 32"):
        read(np.zeros((9, 9), np.uint8), NCHW, Preprocess.preset("imagenet", short=20))


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["short", "fit", "squash"]))
def test_any_picture_size_can_be_read(height, width, resize) -> None:
    pixels = np.full((height, width, 3), 77, np.uint8)
    x = read(pixels, NCHW, Preprocess.preset("raw", resize=resize))
    np.testing.assert_array_equal(x, np.full((1, 3, 24, 32), 77, np.float32))
