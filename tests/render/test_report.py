"""Reports and tables: what they hold, and that nothing in them is taken for markup."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.errors import ConfigError, OutputError
from onnxplain.render import plots
from onnxplain.render.report import Picture, Section, Table, write_report

HOSTILE = "<script>alert(1)</script>&\"'$x$"


class Tags(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_all_is_shown_and_escaped(tmp_path: Path) -> None:
    table = Table(("a", HOSTILE), ((HOSTILE, 1.23456), ("y", None), ("z", True)), HOSTILE)
    picture = Picture(b"png", HOSTILE)
    section = Section(HOSTILE, (HOSTILE,), (table,), (picture,), verdict=False)
    path = write_report(tmp_path / "r.html", HOSTILE, [section, Section("good", verdict=True)])
    page = path.read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags and tags.tags.count("td") == 6
    assert tags.text.count(HOSTILE) == 8, "title twice, heading, text, two cells, two captions"
    assert "1.235" in tags.text and "–" in tags.text
    assert '<h2 class="bad">' in page and '<h2 class="good">' in page
    assert "http" not in page.replace("data:image", ""), "nothing is fetched from anywhere"


def test_tables_as_text_and_csv() -> None:
    table = Table(("name", "value"), (("one", 1 / 3), ("a, b", None), ('"q"', 12)))
    assert table.lines() == ["name   value", "one   0.3333", "a, b       –", '"q"       12']
    rows = list(csv.reader(StringIO(table.csv())))
    assert rows == [["name", "value"], ["one", str(1 / 3)], ["a, b", ""], ['"q"', "12"]]


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        write_report(tmp_path / "taken" / "r.html", "x", [])


def decoded(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def test_matrices_have_the_colours_of_their_values() -> None:
    values = np.array([[1.0, -1.0], [0.0, 1.0]])
    names = [HOSTILE, "a layer whose name is far too long to stand beside a matrix"]
    pixels = decoded(plots.matrix(values, HOSTILE, names))
    red, blue = pixels[..., 0] - pixels[..., 2], pixels[..., 2] - pixels[..., 0]
    assert (red > 50).sum() > 5000 and (blue > 40).sum() > 2500
    many = plots.matrix(np.eye(60), "t", [str(i) for i in range(60)], (0, 1), bounds=[3])
    assert decoded(many).std() > 1


def test_curves_points_and_bars_draw_what_they_are_given() -> None:
    at = np.arange(4)
    lines = {"up": (at, at / 3), HOSTILE: (at, 1 - at / 3)}
    one = decoded(plots.curves(lines, "t", "x", "y", list("abcd"), limits=(0, 1)))
    other = decoded(plots.curves({"up": lines["up"]}, "t", "x", "y", list("abcd"), limits=(0, 1)))
    assert one.shape == other.shape and (one != other).any()
    marked = np.array([False, True, False, False])
    dots = decoded(plots.points(at / 1.0, at / 2.0, "t", "x", "y", marked))
    assert ((dots[..., 0] > 180) & (dots[..., 1] < 80)).sum() > 5, "the marked one is red"
    assert decoded(plots.bars(np.array([1.0, 5.0]), "t", "x", "y", ["a", "b"])).std() > 1


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    with pytest.raises(ConfigError, match=r"onnxplain\[plot\]"):
        plots.bars(np.ones(2), "t", "x", "y", ["a", "b"])
