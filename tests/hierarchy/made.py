"""Hierarchies made by hand, with numbers that can be checked by heart, and what makes two of them equal."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain.bundled import model_path, photos
from onnxplain.hierarchy import HEdge, Hierarchy, HNode

LAYERS = ("top", "mid", "low")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted\" 'twice' \\ \\N \\\\",
    "two\nlines\r\nand\ttabs",
    "\x00\x01\x1b[31mred\x7f\x85",
    "&lt;&amp;&#10; ]]> --> <!-- <?xml",
    "x" * 10_000,
    "\ud800 lone, \U0001f600 whole, \ufffe\uffff",
    "},]; n9 [shape=none]",
    "日本語 ‮ reversed",
)


# (id, decision, contribution, share, coverage); levels and channels follow from the ids.
# Parents that stay whole numbers, and shares that are powers of two, so that sums are exact.
TREE: tuple[tuple[str, float, float, float, float | None], ...] = (
    ("root", 10.0, 10.0, 1.0, 0.75),
    ("root/1", 6.0, 6.0, 0.5, 0.75),
    ("root/2", 3.0, 3.0, 0.25, 0.5),
    ("root/5", -2.0, -2.0, 0.0, None),
    ("root/1/4", 3.0, 3.0, 0.5, 0.5),
    ("root/1/7", 2.0, 2.0, 0.25, None),
    ("root/2/4", 2.0, 2.0, 0.5, 0.25),
    ("root/2/7", -1.0, -1.0, 0.0, None),
    ("root/1/4/0", 2.0, 2.0, 0.5, None),
    ("root/2/4/0", 1.0, 1.0, 0.125, None),
    ("root/2/4/3", 0.5, 0.5, 0.125, None),
)


def tree(layers: tuple[str, ...] = LAYERS, label: str = "cat", **meta: Any) -> Hierarchy:
    """Return `TREE` with maps, boxes, an image and pixels at the lowest level."""
    rng = np.random.default_rng(0)
    nodes: dict[str, HNode] = {}
    edges = []
    for name, decision, contribution, share, coverage in TREE:
        above, _, channel = name.rpartition("/")
        level = name.count("/")
        node = HNode(
            id=name, level=level, layer=layers[level - 1] if level else "logits",
            channel=int(channel) if level else 3, decision=decision, contribution=contribution,
            share=share, signed=contribution / 16,
            root_share=share * nodes[above].root_share if level else 1.0,
            residual=None if coverage is None else 0.1, coverage=coverage,
        )  # fmt: skip
        if level:
            edges.append(
                HEdge(
                    parent=above,
                    child=name,
                    contribution=contribution,
                    share=share,
                    signed=node.signed,
                )
            )
            shown = rng.normal(size=(2 * level, 3)).astype(np.float32)
            node = replace(node, peak=(level - 1, 2), box=(0, level, 8, 9), map=shown)
        if level == 3:
            node = replace(node, pixels=rng.normal(size=(8, 9)).astype(np.float32))
        nodes[name] = node
    image = rng.integers(0, 256, (8, 9, 3)).astype(np.uint8)
    known = {"label": label, "layers": list(layers), "shapes": [[9, 2, 3], [9, 4, 3], [9, 6, 3]]}
    return Hierarchy.of(list(nodes.values()), edges, known | meta, image)


def renamed(hierarchy: Hierarchy, layer: str, label: str = "cat", more: str = "") -> Hierarchy:
    """Return the hierarchy with another top layer and label, and `more` behind each id but the root's."""

    def new(name: str) -> str:
        return name if name == "root" else name + more

    nodes = [replace(n, id=new(n.id), layer=layer if n.level == 1 else n.layer) for n in hierarchy]
    edges = [replace(e, parent=new(e.parent), child=new(e.child)) for e in hierarchy.edges]
    meta = hierarchy.meta | {"label": label, "layers": [layer, *hierarchy.layers[1:]]}
    return Hierarchy.of(nodes, edges, meta, hierarchy.image)


def without(hierarchy: Hierarchy, *names: str) -> Hierarchy:
    """Return the hierarchy without some nodes, which must be leaves."""
    nodes = [n for n in hierarchy if n.id not in names]
    edges = [e for e in hierarchy.edges if e.child not in names]
    return Hierarchy.of(nodes, edges, hierarchy.meta, hierarchy.image)


@cache
def real(photo: int = 0, seed: str = "path") -> Hierarchy:
    """Return the decomposition of a bundled photo by the bundled model."""
    model = ox.load(model_path(), device="cpu", threads=1)
    x = model.read([str(photos()[photo])])
    return ox.decompose(model, x, seed=seed)  # type: ignore[arg-type]


def assert_same(a: Hierarchy, b: Hierarchy) -> None:
    """Assert that two hierarchies agree in everything: values, types, and the order of nodes and edges."""
    assert list(a.graph) == list(b.graph)
    assert list(a.graph.edges(data=True)) == list(b.graph.edges(data=True))
    assert a.meta == b.meta
    assert_arrays_same(a.image, b.image)
    for x, y in zip(a, b, strict=True):
        assert [p.id for p in a.parents(x.id)] == [p.id for p in b.parents(y.id)]
        for f in fields(HNode):
            mine, other = getattr(x, f.name), getattr(y, f.name)
            if isinstance(mine, np.ndarray):
                assert_arrays_same(mine, other)
            else:
                assert type(mine) is type(other) and mine == other, f"{x.id}: {f.name}"


def assert_arrays_same(a: Any, b: Any) -> None:
    assert (a is None) == (b is None)
    if a is not None:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
