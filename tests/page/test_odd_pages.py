"""Pages out of the ordinary: hostile names, no picture, a small window, the dark, paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

import onnxplain as ox
from onnxplain.hierarchy import Hierarchy
from onnxplain.page import page_document, page_html, write_page
from tests.browser import Watched
from tests.page import trees

HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted\" 'twice' </script><!-- <script> \\ `${x}` &lt;&amp;",
    "x" * 10_000,
    "<img src=x onerror=alert(2)>\n\u2028\u2029\ud800\x00 日本語 \u202e",
)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Watched]:
    watched = Watched(browser)
    yield watched
    watched.context.close()


def opened(tab: Watched, h: Hierarchy, folder: Path, **more: Any) -> None:
    write_page(h, folder / "page.html", **more)
    tab.open(folder / "page.html")


@pytest.mark.parametrize("first", range(len(HOSTILE)))
def test_hostile_names_are_text(tab: Watched, tmp_path: Path, first: int) -> None:
    names = HOSTILE[first:] + HOSTILE[:first]
    h = trees.made_up(names=names[:3], label=names[3])
    example = np.full((8, 8, 3), 9, np.uint8)
    opened(tab, h, tmp_path, exemplars={(names[0], 0): [(example, names[3])]})
    page = tab.page
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.locator(".node").nth(1).click()
    expect(page.locator(".exemplars img")).to_have_count(1)
    page.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    page.locator(".node").nth(2).hover()
    assert tab.troubles == []
    assert len(tab.requests) == 1
    scripts = page_html(None).count("<script")
    assert page.locator("script").count() == scripts
    assert page.locator("img, b, iframe, object").count() == page.locator(".balance b").count()
    assert page.locator(".head").nth(1).get_attribute("title") is not None
    if names[0] == HOSTILE[0]:
        expect(page.locator(".head").nth(1)).to_contain_text("<script>alert(1)</script>")
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]  # no name pushes the page wide


def test_a_script_that_got_in_would_not_run(tab: Watched, tmp_path: Path) -> None:
    opened(tab, trees.made_up(), tmp_path)
    tab.page.evaluate(
        """{ const s = document.createElement("script"); s.textContent = "window.ran = 1";
        document.body.append(s); const i = document.createElement("img"); i.src = "https://127.0.0.1:9/a";
        document.body.append(i); }"""
    )
    assert tab.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in tab.troubles)
    answer = tab.page.evaluate("fetch('https://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert answer == "refused"
    assert any("connect-src" in text for text in tab.troubles)


@pytest.mark.parametrize("map_size", [(6, 7), (1, 1)], ids=["maps", "vectors"])
def test_page_without_a_picture(tab: Watched, tmp_path: Path, map_size: tuple[int, int]) -> None:
    h = trees.made_up(size=None, map_size=map_size)
    opened(tab, h, tmp_path)
    page = tab.page
    assert page.locator(".node:visible").count() == len(h)
    has_maps = map_size != (1, 1)
    assert page.locator(".node canvas").count() == (len(h) - 1) * has_maps
    page.locator(".node").nth(1).click()
    assert page.locator(".picture canvas").is_visible() == has_maps
    expect(page.locator(".facts")).to_contain_text("Contribution")
    assert "Sees pixels" not in page.locator(".facts").inner_text()
    assert tab.troubles == []


def test_a_tree_without_branches_says_why(tab: Watched, tmp_path: Path) -> None:
    model = trees.model()
    bare = ox.decompose(model, model.read([trees.CAT]), min_share=1.0)
    opened(tab, bare, tmp_path)
    said = "no channel of the first layer holds 100 % of the positive evidence"
    expect(tab.page.locator(".summary")).to_contain_text(said)
    opened(tab, trees.cat(), tmp_path)
    assert "positive evidence" not in tab.page.locator(".summary").inner_text()
    assert tab.troubles == []


def test_a_lone_decision_is_a_page(tab: Watched, tmp_path: Path) -> None:
    h = trees.made_up()
    alone = Hierarchy.of([h.root], [], h.meta, h.image)
    opened(tab, alone, tmp_path)
    assert tab.page.locator(".node:visible").count() == 1
    tab.page.locator("#threshold").fill("100")
    assert tab.page.locator(".node:visible").count() == 1
    assert tab.troubles == []


def test_a_page_that_cannot_be_drawn_says_so(tab: Watched, tmp_path: Path) -> None:
    document = page_document(trees.made_up())
    document["picture"]["src"] = "data:image/png;base64,AAAA"
    (tmp_path / "page.html").write_text(page_html(document))
    tab.page.goto((tmp_path / "page.html").as_uri())
    expect(tab.page.locator("body")).to_contain_text("This page could not be drawn")


def test_small_window_and_paper(browser: Browser, tmp_path: Path) -> None:
    small = Watched(browser, viewport={"width": 390, "height": 800})
    opened(small, trees.made_up(), tmp_path)
    page = small.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".node").nth(3).click()
    expect(page.locator(".panel h2")).to_contain_text("channel")
    page.emulate_media(media="print")
    assert not page.locator("#threshold").is_visible()
    below = page.locator(".graph").evaluate("e => e.scrollHeight - e.clientHeight")
    assert below <= 0  # all of it is on paper
    small.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_either_scheme(browser: Browser, tmp_path: Path, scheme: str) -> None:
    tab = Watched(browser, color_scheme=scheme)
    opened(tab, trees.made_up(), tmp_path)
    worst = tab.page.evaluate(
        """() => {
          const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
          const light = (c) => { const [r, g, b] = rgb(c).map((v) => v / 255)
            .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const below = (e) => {
            const c = getComputedStyle(e).backgroundColor;
            return rgb(c)[3] === 0 ? below(e.parentElement) : c; };
          const kinds = "h1, .summary span, .what, .amount, .share, .head strong, .shape, dt, dd, .count, "
            + ".kind, li b";
          return Math.min(...[...document.querySelectorAll(kinds)].map((e) => {
            const [a, b] = [light(getComputedStyle(e).color), light(below(e))].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05); })); }"""
    )
    assert worst >= 4.5  # WCAG AA
    tab.context.close()
