"""Evidence pictures: the right part, warm in the right place, and a sheet that holds everything."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxplain.errors import ConfigError
from onnxplain.hierarchy import HEdge, Hierarchy, HNode
from onnxplain.render import overlay
from onnxplain.render.evidence import evidence, heat
from onnxplain.render.sheet import _laid_out, sheet

BLUE, ORANGE = (106, 159, 216), (227, 161, 90)
SIZE = 192  # of the picture: smooth enlarging


def node(name: str, level: int, contribution: float, **more: Any) -> HNode:
    values: dict[str, Any] = {
        "layer": f"layer{level}", "channel": 7, "decision": contribution, "share": 0.25, "signed": 0.2,
        "root_share": 0.1, "peak": (1, 1), "box": (0, 0, SIZE, SIZE), "map": hot(1, 1),
    }  # fmt: skip
    return HNode(id=name, level=level, contribution=contribution, **(values | more))


def hot(row: int, column: int, size: int = 4) -> np.ndarray:
    """Return a map that is 2 at one position and -1 elsewhere."""
    values = np.full((size, size), -1, np.float32)
    values[row, column] = 2
    return values


def tree(*nodes: HNode, image: bool = True, **meta: Any) -> Hierarchy:
    """Return the hierarchy whose node ids tell their parents."""
    root = node("root", 0, 5.0, map=None, peak=None, box=None, residual=0.5, coverage=0.75)
    edges = [
        HEdge(
            parent=n.id.rsplit("/", 1)[0],
            child=n.id,
            contribution=n.contribution,
            share=n.share,
            signed=n.signed,
        )
        for n in nodes
    ]
    depth = max(n.level for n in nodes)
    known: dict[str, Any] = {
        "label": "cat", "model": "net.onnx", "seed": "path", "weight": "signed",
        "layers": [f"layer{i + 1}" for i in range(depth)], "shapes": [[8, 4, 4]] * depth,
    }  # fmt: skip
    photo = np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    return Hierarchy.of([root, *nodes], edges, known | meta, photo if image else None)


def has_colour(page: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(page) == colour).all(2).any())


# --- one node --------------------------------------------------------------------------------------------
def test_heat_is_the_positive_part_over_the_whole_picture() -> None:
    h = tree(node("root/1", 1, 2.0, map=hot(0, 3)))
    warm = heat(h, "root/1")
    assert warm.shape == (SIZE, SIZE) and warm.max() == 1 and warm.min() == 0
    cell = SIZE // 4
    assert (
        warm[cell // 2 - 1, 3 * cell + cell // 2] > 0.95
    )  # half-pixel centres: the middle of the cell
    assert not warm[2 * cell :].any() and not warm[:, : 2 * cell].any()


def test_heat_of_an_inhibitor_is_where_it_is_negative() -> None:
    h = tree(node("root/1", 1, -2.0, map=-hot(3, 0)))
    warm = heat(h, h["root/1"])
    assert warm[-SIZE // 8, SIZE // 8] > 0.95 and not warm[: SIZE // 2].any()


def test_no_heat_where_the_place_is_unknown() -> None:
    h = tree(node("root/1", 1, 2.0, map=np.ones((1, 1), np.float32)))
    assert not heat(h, "root").any() and not heat(h, "root/1").any()
    np.testing.assert_array_equal(np.asarray(evidence(h, "root", SIZE)), h.image)


def test_evidence_is_the_crop_with_its_part_of_the_heat() -> None:
    h = tree(node("root/1", 1, 2.0, map=hot(1, 2), box=(40, 90, 100, 150)))
    found = np.asarray(evidence(h, "root/1", 60))
    crop, warm = h.image[40:100, 90:150], heat(h, "root/1")[40:100, 90:150]
    np.testing.assert_array_equal(found, overlay(crop, warm))


@pytest.mark.parametrize(
    ("box", "shape"), [((0, 0, 192, 192), (50, 50)), ((0, 0, 20, 80), (12, 50))]
)
def test_the_longer_side_is_as_asked(box: Any, shape: tuple[int, int]) -> None:
    h = tree(node("root/1", 1, 2.0, box=box))
    assert evidence(h, "root/1", 50).size[::-1] == shape
    with pytest.raises(ConfigError, match="size = 0"):
        evidence(h, "root/1", 0)


def test_support_is_warm_and_inhibition_blue() -> None:
    h = tree(node("root/1", 1, 2.0), node("root/2", 1, -2.0, map=-hot(1, 1)))
    at = (60, 60)
    red, _, blue = evidence(h, "root/1", SIZE).getpixel(at)
    assert red > blue + 80
    red, _, blue = evidence(h, "root/2", SIZE).getpixel(at)
    assert blue > red + 50


def test_without_a_picture_the_map_is_drawn() -> None:
    h = tree(node("root/1", 1, 2.0, map=hot(0, 0), box=(90, 90, 99, 99)), image=False)
    found = np.asarray(evidence(h, "root/1", 40)).astype(int)
    assert found.shape == (40, 40, 3)
    assert found[2, 2].sum() > 1.5 * found[-3, -3].sum()


# --- the sheet -------------------------------------------------------------------------------------------
def grown(fan: int, depth: int, **meta: Any) -> Hierarchy:
    nodes, above = [], ["root"]
    for level in range(1, depth + 1):
        made = [
            node(f"{p}/{k}", level, (1.0 - 0.2 * k) if k < fan - 1 else -0.3)
            for p in above
            for k in range(fan)
        ]
        nodes += made
        above = [n.id for n in made if not n.inhibits]
    return tree(*nodes, **meta)


@pytest.mark.parametrize(("fan", "depth"), [(1, 1), (2, 4), (4, 3), (30, 1)])
def test_tiles_of_a_column_do_not_overlap(fan: int, depth: int) -> None:
    h = grown(fan, depth)
    layout = _laid_out(h)
    for level in range(depth + 1):
        middles = sorted(layout.middles[n.id] for n in h.level(level))
        assert all(b - a > layout.sides[level] for a, b in itertools.pairwise(middles))
    for a, b in itertools.pairwise(range(depth + 1)):
        assert layout.lefts[a] + layout.sides[a] < layout.lefts[b]
    page = sheet(h)
    lowest = max(layout.middles[n.id] + layout.sides[n.level] / 2 for n in h)
    assert page.height > lowest and page.width >= layout.width


def test_parents_stand_beside_their_children() -> None:
    h = grown(3, 3)
    middles = _laid_out(h).middles
    for n in h:
        children = [middles[c.id] for c in h.children(n.id)]
        if children:
            assert min(children) - 1 <= middles[n.id] <= max(children) + 1


def test_blue_stands_for_inhibitors_alone() -> None:
    supporting = tree(node("root/1", 1, 2.0, map=hot(1, 1)))
    page = sheet(supporting)
    assert has_colour(page, ORANGE) and not has_colour(page, BLUE)
    assert has_colour(sheet(tree(node("root/1", 1, -2.0))), BLUE)


def test_lines_are_as_wide_as_what_they_carry() -> None:
    h = tree(node("root/1", 1, 2.0), node("root/2", 1, 0.5))
    layout, page = _laid_out(h), np.asarray(sheet(h))
    x = (layout.lefts[0] + layout.sides[0] + layout.lefts[1]) // 2
    column = (page[:, x] == ORANGE).all(1)
    runs = [len(list(run)) for hit, run in itertools.groupby(column.tolist()) if hit]
    assert len(runs) == 2 and 2.5 < runs[0] / runs[1] < 6


def test_a_dag_shows_every_node_once() -> None:
    h = tree(node("root/1", 1, 2.0), node("root/2", 1, 1.0), node("root/1/5", 2, 0.5))
    edge = HEdge(parent="root/2", child="root/1/5", contribution=0.4, share=0.3, signed=0.2)
    dag = Hierarchy.of(list(h), [*h.edges, edge], h.meta, h.image)
    middles = _laid_out(dag).middles
    assert len(middles) == 4
    assert middles["root/1"] != middles["root/2"]
    assert np.asarray(sheet(dag)).astype(int).sum() < np.asarray(sheet(h)).astype(int).sum()


@pytest.mark.parametrize("name", ["x" * 10_000, "<script>\n\"'&", "層/出力", ""])
def test_any_name_leaves_the_sheet_as_wide_as_it_was(name: str) -> None:
    plain = sheet(grown(2, 2))
    odd = sheet(grown(2, 2, label=name, model=name, layers=[name + "1", name + "2"]))
    assert odd.width == plain.width and abs(odd.height - plain.height) < 120
    margin = np.asarray(odd)[:, -20:]
    assert (margin == 255).all(), "words run over the margin"


def test_a_decision_without_evidence_has_a_sheet() -> None:
    h = tree(node("root/1", 1, 1.0))
    alone = Hierarchy.of([replace(h.root, coverage=0.0)], [], h.meta, h.image)
    assert has_colour(sheet(alone), ORANGE)
