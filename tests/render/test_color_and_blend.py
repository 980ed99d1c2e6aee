"""Colour maps and overlays: lightness, direction and the photo underneath."""

from __future__ import annotations

import numpy as np
import pytest

from onnxplain.errors import ConfigError, InputError
from onnxplain.render import COLORMAPS, colormap, overlay, signed, symmetric_limit


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB (IEC 61966-2-1, CIE 15)."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


@pytest.fixture
def photo(rng) -> np.ndarray:
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [name for name in COLORMAPS if name != "diverging"])
def test_sequential_maps_rise_evenly_in_lightness(name) -> None:
    steps = np.diff(lightness(colormap(name)))
    assert colormap(name).shape == (256, 3)
    assert steps.mean() > 0.25 and np.abs(steps - steps.mean()).max() < 0.5


def test_diverging_map_is_symmetric_about_a_neutral_middle() -> None:
    table = colormap("diverging")
    light = lightness(table)
    assert np.abs(light - light[::-1]).max() < 2
    assert (np.diff(light[:128]) > -0.3).all() and light[127:129].min() > 96
    assert np.ptp(table[127:129].astype(int), 1).max() <= 2  # grey
    assert table[0, 2] > table[0, 0] + 100 and table[-1, 0] > table[-1, 2] + 100


def test_unknown_and_shared_maps() -> None:
    with pytest.raises(ConfigError, match="'jet' is not one of inferno, magma"):
        colormap("jet")
    with pytest.raises(ValueError, match="read-only"):
        colormap("magma")[0] = 0


def test_cold_regions_show_the_photo_hot_ones_the_colour(photo) -> None:
    before = photo.copy()
    cold = overlay(photo, np.zeros((20, 30)))
    grey = photo @ np.array([0.299, 0.587, 0.114])
    want = 0.9 * (0.45 * photo + 0.55 * grey[..., None])
    assert np.abs(cold - want).max() <= 0.51
    hot = overlay(photo, np.ones((20, 30)), alpha=1.0, cmap="viridis")
    np.testing.assert_array_equal(hot, np.broadcast_to(colormap("viridis")[255], hot.shape))
    np.testing.assert_array_equal(photo, before)


def test_opacity_grows_with_heat() -> None:
    """Over two photos that differ, what still differs is what shines through."""
    heat = np.linspace(0, 1, 50)[None]
    black, white = (np.full((1, 50, 3), v, np.uint8) for v in (0, 255))
    shining = (overlay(white, heat).astype(int) - overlay(black, heat)).mean((0, 2))
    assert (np.diff(shining) <= 0.7).all()  # rounding
    assert shining[0] == pytest.approx(0.9 * 255, abs=1)
    assert shining[-1] == pytest.approx(0.15 * 0.9 * 255, abs=1)


def test_a_small_map_is_enlarged_smoothly() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    drawn = overlay(grey, np.array([[0, 1], [0, 0]])).astype(int)
    steps = np.abs(np.diff(drawn, axis=1)).max()
    assert drawn[0, -1, 0] > drawn[0, 0, 0] + 80 and steps < 30
    np.testing.assert_array_equal(drawn[-1, 0], overlay(grey, np.zeros((1, 1)))[0, 0])


def test_signed_is_red_above_and_blue_below(photo) -> None:
    values = np.linspace(-1, 1, 30)[None].repeat(20, 0)
    grey = np.full_like(photo, 128)
    drawn = signed(grey, values).astype(int)
    redness = drawn[..., 0] - drawn[..., 2]
    assert (redness[:, :12] < 0).all() and (redness[:, 18:] > 0).all()
    assert (np.diff(redness[0]) >= 0).all()
    mirrored = signed(grey, -values).astype(int)
    np.testing.assert_array_equal(np.sign(mirrored[..., 0] - mirrored[..., 2]), -np.sign(redness))
    nothing = signed(photo, np.zeros((20, 30)))
    muted = 0.1 * photo + 0.9 * (photo @ np.array([0.299, 0.587, 0.114]))[..., None]
    assert np.abs(nothing - (0.55 * muted + 0.45 * 255)).max() <= 0.51


def test_limits_are_symmetric_and_robust(rng) -> None:
    values = rng.uniform(-1, 1, (100, 100))
    values[0, 0] = 1e6
    assert symmetric_limit(values) == pytest.approx(0.995, abs=0.01)
    assert symmetric_limit(-values) == symmetric_limit(values)
    assert symmetric_limit(np.zeros((3, 3))) == 1
    lonely = np.zeros((100, 100))
    lonely[3, 3] = -4
    assert symmetric_limit(lonely) == 4


@pytest.mark.parametrize("draw", [overlay, signed])
@pytest.mark.parametrize(
    ("image", "values", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4)), r"uint8 \[H, W, 3\], got uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), "got float64"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4)), "image must be"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4)), r"\[h, w\], got \[1, 4, 4\]"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4)), r"\[h, w\], got"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), np.nan), "NaN"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), -np.inf), "infinite"),
    ],
)
def test_what_cannot_be_drawn(draw, image, values, message) -> None:
    with pytest.raises(InputError, match=message):
        draw(image, values)


def test_heat_outside_its_range_is_not_clipped_in_silence() -> None:
    for values in ([[0, 1.5]], [[-0.5, 1]]):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
            overlay(np.zeros((4, 4, 3), np.uint8), np.array(values))
