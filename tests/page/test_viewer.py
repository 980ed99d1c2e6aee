"""The page in a real browser: what is drawn, what pointing, choosing, filtering and keys do."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import onnxplain as ox
from onnxplain.hierarchy import Hierarchy
from onnxplain.page import write_page
from onnxplain.render import overlay
from onnxplain.results.maps import bilinear
from tests.browser import Watched
from tests.page import trees

Array = np.ndarray[Any, Any]
CONTRAST = "Why cat rather than dog?"


@pytest.fixture
def tab(browser: Browser) -> Iterator[Watched]:
    """Return a tab; afterwards nothing may have been asked of a network or gone wrong."""
    watched = Watched(browser)
    yield watched
    assert [url for url in watched.requests if not url.startswith("file:")] == []
    assert len(watched.requests) == 1
    assert watched.troubles == []
    watched.context.close()


@pytest.fixture
def opened(tab: Watched, tmp_path: Path) -> tuple[Page, Hierarchy]:
    """Return the page of the cat beside the contrast cat - dog, open, and the first hierarchy."""
    h = trees.cat()
    other = trees.cat(ox.Target.contrast(3, 5))
    top = trees.model().predict(trees.model().read([trees.CAT])).top(1)[0]
    maps = {"Grad-CAM": np.array([[0.0, 1.0], [0.5, 0.0]])}
    write_page(h, tmp_path / "tree.html", other, top=top, maps=maps)
    return tab.open(tmp_path / "tree.html"), h


def button(page: Page, name: str) -> Any:
    return page.locator(f".node[data-id={json.dumps(name)}]")


def ids(page: Page, which: str = ".node:visible") -> list[str]:
    return [e.get_attribute("data-id") or "" for e in page.locator(which).all()]


def dimmed(page: Page) -> set[str]:
    return set(ids(page, ".node.dim"))


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.dataset.id"))


def slide(page: Page, value: int) -> None:
    page.locator("#threshold").fill(str(value))


def canvas(page: Page) -> Array:
    """Return the large picture's pixels."""
    url = page.evaluate("document.querySelector('.picture canvas').toDataURL()")
    data = base64.b64decode(url.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


def paths(h: Hierarchy, name: str) -> set[str]:
    """Return the ids on all paths through a node."""
    found = {name}
    for start, step in ((name, h.parents), (name, h.children)):
        todo = [start]
        while todo:
            new = [n.id for n in step(todo.pop())]
            found.update(new)
            todo += new
    return found


def test_page_shows_the_whole_hierarchy(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    expect(page).to_have_title("Why cat? – onnxplain")
    expect(page.locator("h1")).to_have_text("Why cat?")
    expect(page.locator(".summary")).to_contain_text(f"score {h.root.decision:.3g}")
    expect(page.locator(".summary")).to_contain_text("predicted: cat")
    assert set(ids(page)) == {n.id for n in h}
    heads = page.locator(".head").all()
    assert [x.get_attribute("title") for x in heads[1:]] == list(h.layers)
    assert "128 × 8 × 8 · 4 nodes" in heads[1].inner_text()
    assert "Keys" in page.locator(".how").text_content()


def test_columns_are_the_levels_and_nothing_overlaps(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    boxes = {n.id: button(page, n.id).bounding_box() for n in h}
    lefts = [{boxes[n.id]["x"] for n in h.level(i)} for i in range(4)]
    assert [len(x) for x in lefts] == [1, 1, 1, 1]
    assert sorted(x.pop() for x in lefts) == [boxes[h.level(i)[0].id]["x"] for i in range(4)]
    for level in range(4):
        column = sorted((boxes[n.id]["y"], boxes[n.id]["height"]) for n in h.level(level))
        for (y, height), (below, _) in pairwise(column):
            assert y + height <= below
    strongest = [h.root.id]  # runs along the top
    while children := h.children(strongest[-1]):
        strongest.append(children[0].id)
    middles = {boxes[n]["y"] + boxes[n]["height"] / 2 for n in strongest}
    assert max(middles) - min(middles) <= 1


def test_edges_are_as_wide_as_contributions_and_inhibitors_are_dashed(
    opened: tuple[Page, Hierarchy],
) -> None:
    page, h = opened
    drawn = page.evaluate(
        """[...document.querySelectorAll(".edges .edge")].map(e => { const s = getComputedStyle(e);
        return [e.classList.contains("inhibit"), parseFloat(s.strokeWidth), s.strokeDasharray, s.stroke]})"""
    )
    edges = list(h.edges)
    assert len(drawn) == len(edges)
    for (inhibits, width, _, _), edge in zip(drawn, edges, strict=True):
        level = h[edge.child].level
        most = max(abs(e.contribution) for e in edges if h[e.child].level == level)
        assert inhibits == (edge.contribution < 0)
        assert width == pytest.approx(1 + 8 * abs(edge.contribution) / most, abs=0.01)
    dashes = {(i, dash) for i, _, dash, _ in drawn}
    assert dashes == {(False, "none"), (True, "5px, 4px")}
    colours = {inhibits: colour for inhibits, _, _, colour in drawn}
    assert colours[True] != colours[False]


def test_pointing_at_a_node_lays_its_heat_over_the_picture(
    opened: tuple[Page, Hierarchy],
) -> None:
    page, h = opened
    node = h.children("root")[0]
    assert node.map is not None and node.box is not None and h.image is not None
    before = canvas(page)
    np.testing.assert_array_equal(before, h.image.repeat(20, 0).repeat(20, 1))
    button(page, node.id).hover()
    heat = np.maximum(node.map, 0) / node.map.max()
    photo = h.image.repeat(20, 0).repeat(20, 1)
    wanted = overlay(photo, bilinear(heat, (640, 640))).astype(float)
    off = np.abs(canvas(page) - wanted).max(2)
    line = np.zeros((640, 640), bool)  # the frame of the receptive field
    top, left, bottom, right = (20 * x for x in node.box)
    line[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = True
    line[top + 4 : bottom - 4, left + 4 : right - 4] = False
    assert off[~line].max() <= 6  # maps have 8 bits, and the steepest colours 3 levels per step
    assert off[line].max() > 60
    page.mouse.move(5, 5)
    expect(page.locator(".panel h2")).to_contain_text(f"channel {node.channel}")  # it stays


def test_numbers_of_a_node_are_those_of_the_hierarchy(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    node = h.children("root")[0]
    button(page, node.id).focus()
    facts = dict(
        zip(
            page.locator(".facts dt").all_inner_texts(),
            page.locator(".facts dd").all_inner_texts(),
            strict=True,
        )
    )
    number = r"([+−]?[\d.]+(?:e[+-]\d+)?)"
    for name, value in (
        ("Decision", node.decision), ("Contribution", node.contribution),
        ("Share", 100 * node.share), ("Share of the decision", 100 * node.root_share),
        ("Residual", node.residual),
    ):  # fmt: skip
        found = re.match(number, facts[name])
        assert found
        assert float(found[1].replace("−", "-")) == pytest.approx(value, rel=0.06), name
    parts = page.locator(".balance li b").all_inner_texts()
    whole = sum(float(p.replace("−", "-")) for p in parts)
    assert whole == pytest.approx(node.decision, abs=0.02 * abs(node.decision))
    assert "residual: bias, curvature" in page.locator(".balance").inner_text()
    covered = page.locator(".coverage .bar i").evaluate("e => parseFloat(e.style.width)")
    assert covered == pytest.approx(100 * (node.coverage or 0), abs=0.01)


def test_choosing_a_node_dims_all_but_its_paths(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    name = h.level(2)[1].id
    everything = {n.id for n in h}
    button(page, name).click()
    assert dimmed(page) == everything - paths(h, name)
    assert button(page, name).get_attribute("aria-pressed") == "true"
    lit = page.locator(".edge.lit").count()
    assert lit == len(paths(h, name)) - 1  # a tree
    assert "Escape" in page.locator("[role=status]").inner_text()
    page.keyboard.press("Escape")
    assert dimmed(page) == set()
    page.keyboard.press("Enter")  # the button still has the focus
    assert dimmed(page) == everything - paths(h, name)
    page.locator(".all").click()
    assert dimmed(page) == set()


def test_a_chosen_leaf_shows_its_pixel_evidence(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    leaf = h.leaves[0]
    button(page, leaf.id).click()
    heat = canvas(page)
    page.locator("[data-overlay=pixels]").click()
    assert page.locator("[data-overlay=pixels]").get_attribute("aria-pressed") == "true"
    shown = canvas(page)
    assert leaf.pixels is not None
    red_over_blue = (shown[..., 0] - shown[..., 2]).reshape(32, 20, 32, 20).mean((1, 3))
    strong = np.abs(leaf.pixels) > 0.5 * np.abs(leaf.pixels).max()
    assert (np.sign(red_over_blue[strong]) == np.sign(leaf.pixels[strong])).all()
    assert np.abs(shown - heat).max() > 60
    page.locator("[data-overlay=other-0]").click()
    assert np.abs(canvas(page) - shown).max() > 60
    assert "Grad-CAM" in str(page.locator(".picture canvas").get_attribute("aria-label"))


@pytest.mark.parametrize("measure", ["root", "share"])
def test_threshold_hides_weak_nodes_and_what_hangs_below_them(
    opened: tuple[Page, Hierarchy], measure: str
) -> None:
    page, h = opened
    page.locator("#measure").select_option(measure)

    def strength(node: ox.HNode) -> float:
        if node.level == 0:
            return 1.0
        own = abs(node.signed) if node.inhibits else node.share
        if measure == "share":
            return own
        return own * h.parents(node.id)[0].root_share if node.inhibits else node.root_share

    most = max(strength(n) for n in h if n.level)
    for position in (0, 40, 70, 100):
        slide(page, position)
        threshold = most * (position / 100) ** 3
        wanted: set[str] = set()
        for n in h:
            above = n.level == 0 or h.parents(n.id)[0].id in wanted
            if above and strength(n) >= threshold:
                wanted.add(n.id)
        assert set(ids(page)) == wanted
        visible = page.locator(".edges .edge:not(.hidden)").count()
        assert visible == len(wanted) - 1
        assert f"{len(wanted)} of {len(h)} nodes" in page.locator("[role=status]").inner_text()


def test_inhibitors_can_be_hidden(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    against = {n.id for n in h if n.inhibits}
    assert against
    page.locator("#inhibitors").uncheck()
    assert set(ids(page)) == {n.id for n in h} - against
    assert page.locator(".edges .edge.inhibit:not(.hidden)").count() == 0
    page.locator("#inhibitors").check()
    assert set(ids(page)) == {n.id for n in h}


def test_hiding_the_chosen_node_shows_all_paths_again(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    button(page, h.leaves[-1].id).click()
    slide(page, 90)
    assert dimmed(page) == set()
    expect(page.locator(".panel h2")).to_contain_text("cat")


def test_arrow_keys_walk_between_parents_children_and_siblings(
    opened: tuple[Page, Hierarchy],
) -> None:
    page, h = opened
    first, second = h.children("root")[:2]
    button(page, "root").focus()
    for key, wanted in (
        ("ArrowUp", "root"), ("ArrowRight", first.id), ("ArrowDown", second.id),
        ("ArrowRight", h.children(second.id)[0].id), ("ArrowLeft", second.id),
        ("ArrowUp", first.id), ("Home", first.id), ("ArrowLeft", "root"), ("ArrowLeft", "root"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert focused(page) == wanted, key
    expect(page.locator(".panel h2")).to_contain_text("cat")


def test_tab_goes_column_by_column_from_top_to_bottom(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    page.locator("#inhibitors").uncheck()
    button(page, "root").focus()
    visited = ["root"]
    for _ in range(len(ids(page)) - 1):
        page.keyboard.press("Tab")
        visited.append(focused(page))
    places = [button(page, name).bounding_box() for name in visited]
    assert sorted(visited) == sorted(ids(page))
    levels = [h[name].level for name in visited]
    assert levels == sorted(levels)
    for (a, at), (b, then) in pairwise(zip(levels, places, strict=True)):
        assert a < b or at["y"] < then["y"]
    outline = page.locator(":focus").evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid"


def test_what_is_heard_says_what_is_seen(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    node = next(n for n in h if n.inhibits and n.level == 2)
    parent = h.parents(node.id)[0]
    said = page.get_by_role("button", name=f"Channel {node.channel} of {node.layer} inhibits")
    assert f"channel {parent.channel}: contribution −" in str(
        said.first.get_attribute("aria-label")
    )
    lists = page.get_by_role("list")
    assert lists.count() >= 4
    page.locator(".text summary").click()
    assert page.locator(".outline li").count() == len(h)
    depth = page.locator(".outline li").evaluate_all(
        "all => Math.max(...all.map(e => { let n = 0; while (e = e.parentElement.closest('.outline li')) n++;"
        " return n; }))"
    )
    assert depth == 3
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas:not([aria-hidden])")].filter(e =>
        !(e.ariaLabel || e.textContent || e.labels?.length)).length"""
    )
    assert unnamed == 0


def test_the_other_question_can_be_asked(opened: tuple[Page, Hierarchy]) -> None:
    page, h = opened
    other = trees.cat(ox.Target.contrast(3, 5))
    page.get_by_role("button", name=CONTRAST).click()
    expect(page.locator("h1")).to_have_text(CONTRAST)
    assert set(ids(page)) == {n.id for n in other}
    shared = {(n.layer, n.channel) for n in h if n.level} & {(n.layer, n.channel) for n in other}
    for node in list(other)[1:6]:
        button(page, node.id).focus()
        also = "Also in" in page.locator(".facts dl").inner_text()
        assert also == ((node.layer, node.channel) in shared)
    page.get_by_role("button", name="Why cat?").click()
    assert set(ids(page)) == {n.id for n in h}


def test_a_dag_has_an_edge_for_every_parent(tab: Watched, tmp_path: Path) -> None:
    h = trees.cat(seed="root")
    shared = next(n for n in h if len(h.parents(n.id)) > 1)
    write_page(h, tmp_path / "dag.html")
    page = tab.open(tmp_path / "dag.html")
    assert set(ids(page)) == {n.id for n in h}
    assert page.locator(".edges .edge:not(.hidden)").count() == h.graph.number_of_edges()
    button(page, shared.id).click()
    assert dimmed(page) == {n.id for n in h} - paths(h, shared.id)
    root = button(page, "root").bounding_box()
    assert root and 0 < root["y"] < 900  # the decision is in view
    page.locator(".text summary").click()
    assert "as told above" in page.locator(".outline").inner_text()
