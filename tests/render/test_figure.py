"""Figures: everything in its place, for any size of picture and any text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxplain.errors import InputError, OutputError
from onnxplain.render import Panel, colormap, figure, overlay, save_png
from onnxplain.render.panels import BAR, CAPTION, GAP, MARGIN
from onnxplain.render.text import Line, wrap


def panel_of(page: Image.Image, column: int, width: int, height: int) -> np.ndarray:
    """Cut the picture in the first row's `column` out of a figure without header."""
    x = MARGIN + column * (width + GAP)
    return np.asarray(page)[MARGIN + CAPTION : MARGIN + CAPTION + height, x : x + width]


def ramp(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 1, height * width).reshape(height, width)


def test_tiny_photos_keep_sharp_pixels_and_heat_is_smooth(rng) -> None:
    photo = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    page = figure(photo, [("a", "b", ramp(32, 32))])
    large = photo.repeat(12, 0).repeat(12, 1)
    np.testing.assert_array_equal(panel_of(page, 0, 384, 384), large)
    np.testing.assert_array_equal(panel_of(page, 1, 384, 384), overlay(large, ramp(32, 32)))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *(((224, 224), (384, 384)), ((240, 320), (288, 384)), ((500, 400), (500, 400))),
        *(((1000, 3000), (213, 640)), ((1, 1), (384, 384)), ((3, 2000), (1, 640))),
    ],
)
def test_panel_sizes(size, shown) -> None:
    page = figure(np.full((*size, 3), 90, np.uint8), [("a", "b", ramp(7, 7))])
    assert page.width == 2 * MARGIN + 2 * shown[1] + GAP
    assert (panel_of(page, 0, shown[1], shown[0]) == 90).all()
    left_of_it = np.asarray(page)[MARGIN + CAPTION : MARGIN + CAPTION + shown[0], MARGIN - 1]
    assert (left_of_it == 255).all()


def test_colour_bars_run_from_low_to_high() -> None:
    photo = np.full((32, 32, 3), 90, np.uint8)
    page = figure(photo, [("heat", "", ramp(32, 32)), ("signed", "", ramp(32, 32) - 0.5)])
    y = MARGIN + CAPTION + 384 + 8 + BAR // 2
    for column, name in ((1, "inferno"), (2, "diverging")):
        x = MARGIN + column * (384 + GAP)
        bar = np.asarray(page)[y, x : x + 384].astype(int)
        assert np.abs(bar[[0, -1]] - colormap(name)[[0, -1]]).max() <= 3
        assert np.abs(bar[192] - colormap(name)[128]).max() <= 3
    below_the_photo = np.asarray(page)[y, MARGIN : MARGIN + 384]
    assert (below_the_photo == 255).all()


def test_heat_is_relative_to_its_maximum_unless_it_is_sparse() -> None:
    photo = np.full((384, 384, 3), 90, np.uint8)
    heat = ramp(384, 384)
    same = figure(photo, [("a", "", heat), ("b", "", 1000 * heat)])
    np.testing.assert_array_equal(panel_of(same, 1, 384, 384), panel_of(same, 2, 384, 384))
    sparse = 0.1 * heat
    sparse[0, 0] = 1  # one pixel must not make the rest invisible
    drawn = panel_of(figure(photo, [("a", "", sparse)]), 1, 384, 384)
    assert np.abs(drawn[-1, -1].astype(int) - overlay(photo, heat)[-1, -1]).max() <= 2


def test_finished_pictures_are_drawn_as_they_are(rng) -> None:
    photo = np.full((32, 32, 3), 90, np.uint8)
    other = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    page = figure(photo, [Panel("crop", "as it is", other)])
    np.testing.assert_array_equal(panel_of(page, 1, 384, 384), other.repeat(12, 0).repeat(12, 1))


@pytest.mark.parametrize(("panels", "columns"), [(0, 1), (3, 4), (4, 3), (5, 3), (8, 3), (9, 4)])
def test_rows_are_balanced(panels, columns) -> None:
    page = figure(np.zeros((384, 384, 3), np.uint8), [("t", "s", ramp(4, 4))] * panels)
    assert page.width == 2 * MARGIN + columns * 384 + (columns - 1) * GAP


def test_a_long_header_wraps_and_long_titles_end_in_an_ellipsis() -> None:
    photo = np.zeros((384, 384, 3), np.uint8)
    long = "a long label that does not fit " * 9
    short, tall = (figure(photo, [("t", "s", ramp(4, 4))], text) for text in ("header", long))
    assert tall.height > short.height and tall.width == short.width
    page = np.asarray(figure(photo, [(long, long, ramp(4, 4))]))
    captions = page[MARGIN : MARGIN + CAPTION]
    assert (captions[:, 1 - MARGIN :] == 255).all()  # nothing in the margin
    assert (captions < 128).any()
    line = Line(long, 18, 300)
    assert line.text.endswith("...") and 250 < line.width <= 300
    assert Line("short", 18, 300).text == "short"


def test_wrap_keeps_every_word() -> None:
    text = "one two three four five six seven eight nine ten"
    lines = wrap(text, 20, 150)
    assert " ".join(line.text for line in lines) == text
    assert len(lines) > 2 and all(line.width <= 150 for line in lines)
    assert wrap("", 20, 150) == [] and wrap("  \n ", 20, 150) == []
    assert wrap("x" * 99, 20, 150)[0].text.endswith("...")
    endless = wrap("word " * 100_000, 20, 150)
    assert len(endless) == 4 and endless[-1].text.endswith("...")


def test_accents_survive_or_lose_their_accent_only() -> None:
    assert Line("façade größer", 18, 999).text in ("façade größer", "facade gro?er")


@pytest.mark.parametrize(
    "text",
    [
        "猫 Кошка قطة बिल्ली 🐈",
        "\ud800",
        "tab\tnew\nline\0",
        "‮rtl",
        "",
        "e\u0301" * 300,
        "\U0010ffff",
    ],
)
def test_no_label_can_break_a_figure(text) -> None:
    page = figure(np.zeros((32, 32, 3), np.uint8), [(text, text, ramp(4, 4))], text)
    plain = figure(np.zeros((32, 32, 3), np.uint8), [("t", "s", ramp(4, 4))])
    assert page.width == plain.width


@given(st.text(), st.integers(1, 200))
@settings(max_examples=50)
def test_lines_never_exceed_their_width(text, width) -> None:
    assert Line(text, 14, width).width <= width
    assert all(line.width <= width for line in wrap(text, 14, width))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_that_are_no_numbers(bad) -> None:
    values = np.zeros((4, 4))
    values[1, 1] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        figure(np.zeros((32, 32, 3), np.uint8), [("t", "s", values)])


def test_constant_maps_are_cold_not_broken() -> None:
    photo = np.full((384, 384, 3), 90, np.uint8)
    page = figure(photo, [("zero", "", np.zeros((7, 7)))])
    np.testing.assert_array_equal(panel_of(page, 1, 384, 384), overlay(photo, np.zeros((7, 7))))


def test_save_png(tmp_path: Path, rng) -> None:
    pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    save_png(pixels, tmp_path / "out" / "a.png")
    save_png(Image.fromarray(pixels), tmp_path / "b.png")
    for path in (tmp_path / "out" / "a.png", tmp_path / "b.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), pixels)
    with pytest.raises(OutputError, match=r"b\.png"):
        save_png(pixels, tmp_path / "b.png" / "below.png")
