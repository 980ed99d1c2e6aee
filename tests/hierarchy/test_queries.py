"""Queries against hierarchies whose answers are known by heart, and invariants on a real one."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from onnxplain.errors import ConfigError
from onnxplain.hierarchy import (
    EvidencePath,
    HEdge,
    Hierarchy,
    HNode,
    merged,
    paths,
    strongest_path,
    subtree,
    text,
)
from onnxplain.hierarchy.sound import check
from tests.hierarchy.made import HOSTILE, assert_same, real, renamed, tree, without


def test_paths_of_the_tree() -> None:
    found = [(p.nodes[-1], p.share) for p in paths(tree())]
    assert found == [
        ("root/1/7", 0.125), ("root/1/4/0", 0.125), ("root/2/4/0", 0.015625), ("root/2/4/3", 0.015625),
    ]  # fmt: skip
    assert paths(tree())[1].nodes == ("root", "root/1", "root/1/4", "root/1/4/0")
    assert [n.id for n in strongest_path(tree())] == list(paths(tree())[0].nodes)


def test_the_path_of_a_bare_root() -> None:
    bare = without(tree(), *[n.id for n in tree() if n.level])
    assert paths(bare) == [EvidencePath(("root",), 1.0)]
    with pytest.raises(ConfigError, match="most = 0"):
        paths(bare, 0)


def dag(width: int, depth: int, seed: int) -> Hierarchy:
    """Return a hierarchy in which every node of a level leads to every node of the next."""
    rng = np.random.default_rng(seed)
    root = HNode(
        id="root", level=0, layer="z", channel=0, decision=1.0, contribution=1.0, share=1.0, signed=1.0,
        root_share=1.0,
    )  # fmt: skip
    levels = [[root]]
    edges = []
    for level in range(1, depth + 1):
        here = [
            HNode(
                id=f"{level}/{k}", level=level, layer=f"l{level}", channel=k, decision=1.0,
                contribution=1.0, share=1.0, signed=1.0, root_share=0.0,
            )
            for k in range(width)
        ]  # fmt: skip
        for above, below in itertools.product(levels[-1], here):
            share = float(rng.integers(1, 9)) / 8
            edges.append(
                HEdge(parent=above.id, child=below.id, contribution=1.0, share=share, signed=0.0)
            )
        levels.append(here)
    nodes = [n for level in levels for n in level]
    return Hierarchy.of(nodes, edges, {"label": "x", "layers": [f"l{i + 1}" for i in range(depth)]})


@pytest.mark.parametrize("seed", range(5))
def test_the_strongest_paths_of_a_dag_are_those_of_all(seed: int) -> None:
    h = dag(width=3, depth=4, seed=seed)
    share = {(e.parent, e.child): e.share for e in h.edges}
    every = [
        float(np.prod([share[pair] for pair in itertools.pairwise(("root", *p))]))
        for p in itertools.product(*[[n.id for n in h.level(i)] for i in range(1, 5)])
    ]
    found = paths(h, 7)
    assert [p.share for p in found] == sorted(every, reverse=True)[:7]
    assert len({p.nodes for p in found}) == 7
    for path in found:
        assert path.share == np.prod([share[pair] for pair in itertools.pairwise(path.nodes)])
    assert len(paths(h)) == 3**4


def test_a_wide_dag_is_no_trouble() -> None:
    h = dag(width=10, depth=12, seed=0)  # 10^12 paths
    best = np.ones(1)
    for level in range(1, 13):
        share = np.zeros((len(best), 10))
        for e in h.edges:
            if h[e.child].level == level:
                share[max(h[e.parent].channel, 0), h[e.child].channel] = e.share
        best = (best[:, None] * share).max(0)
    assert paths(h, 3)[0].share == best.max() > 0.5


# --- subtree ----------------------------------------------------------------------------------------------
def test_subtree() -> None:
    below = subtree(tree(), "root/1")
    check(below)
    assert [(n.id, n.level, n.root_share) for n in below] == [
        ("root", 0, 1.0), ("root/1/4", 1, 0.5), ("root/1/7", 1, 0.25), ("root/1/4/0", 2, 0.25),
    ]  # fmt: skip
    root = below.root
    assert (root.layer, root.channel, root.decision, root.contribution) == ("top", 1, 6.0, 6.0)
    np.testing.assert_array_equal(root.map, tree()["root/1"].map)
    assert [(e.parent, e.child) for e in below.edges] == [
        ("root", "root/1/4"), ("root", "root/1/7"), ("root/1/4", "root/1/4/0"),
    ]  # fmt: skip
    assert below.layers == ("mid", "low") and below.meta["label"] == "top channel 1"
    assert below.meta["shapes"] == [[9, 4, 3], [9, 6, 3]]
    assert below.meta["below"] == {"node": "root/1", "label": "cat"}


def test_subtree_of_the_root_and_of_a_leaf() -> None:
    assert_same(subtree(tree(), "root"), tree())
    leaf = subtree(tree(), "root/2/4/3")
    assert len(leaf) == 1 and leaf.layers == () and leaf.root.pixels is not None
    with pytest.raises(ConfigError, match="no node 'nowhere'"):
        subtree(tree(), "nowhere")


def test_subtree_of_a_dag_counts_only_what_it_holds() -> None:
    h = merged(tree())
    below = subtree(h, "1/1")
    shared = below["2/4"]
    assert shared.contribution == 3.0 and h["2/4"].contribution == 5.0
    assert shared.share == 0.5 and shared.root_share == 0.5
    check(below)


# --- merged -----------------------------------------------------------------------------------------------
def test_merged() -> None:
    h = merged(tree())
    check(h)
    assert [n.id for n in h] == ["root", "1/1", "1/2", "1/5", "2/4", "2/7", "3/0", "3/3"]
    both, cancelled = h["2/4"], h["2/7"]
    assert (both.decision, both.contribution, both.root_share) == (5.0, 5.0, 0.375)
    assert (cancelled.contribution, cancelled.root_share) == (1.0, 0.125)
    first, second = tree()["root/1/4"], tree()["root/2/4"]
    assert both.residual == 0.2 and both.coverage == pytest.approx(
        (0.25 * 0.5 + 0.125 * 0.25) / 0.375
    )
    assert first.map is not None and second.map is not None
    np.testing.assert_array_equal(both.map, first.map + second.map)
    edges = {(e.parent, e.child): e for e in h.edges}
    assert edges["1/1", "2/7"].contribution == 2.0 and edges["1/2", "2/7"].contribution == -1.0
    down = edges["2/4", "3/0"]
    assert down.contribution == 3.0
    assert down.share == pytest.approx((0.25 * 0.5 + 0.125 * 0.125) / 0.375)
    assert h["3/0"].root_share == pytest.approx(0.125 + 0.015625)


def test_merging_twice_is_merging_once() -> None:
    for h in (merged(tree()), merged(real())):
        assert_same(merged(h), h)
    dag_of_root_seeds = real(seed="root")
    again = merged(dag_of_root_seeds)
    assert {n.id for n in again} == {n.id for n in dag_of_root_seeds}
    for node in dag_of_root_seeds:
        assert again[node.id].contribution == pytest.approx(node.contribution)
        assert again[node.id].root_share == pytest.approx(node.root_share)


@pytest.mark.parametrize("photo", [0, 1])
def test_merging_keeps_the_sums_of_a_real_tree(photo: int) -> None:
    h = real(photo)
    dag = merged(h)
    check(dag)
    assert len(dag) == len({(n.level, n.channel) for n in h}) < len(h)
    for level in range(len(h.layers) + 1):
        for name in ("contribution", "decision", "root_share"):
            before, after = (sum(getattr(n, name) for n in x.level(level)) for x in (h, dag))
            assert after == pytest.approx(before, rel=1e-9), (level, name)
        maps = [[n.map for n in x.level(level) if n.map is not None] for x in (h, dag)]
        if level:
            np.testing.assert_allclose(np.sum(maps[0], 0), np.sum(maps[1], 0), atol=1e-5)
    for node in dag:
        if node.coverage is not None:
            shares = [e.share for e in dag.edges if e.parent == node.id]
            assert node.coverage == pytest.approx(sum(shares))


def test_real_paths_and_subtrees() -> None:
    h = real()
    found = paths(h)
    assert {p.nodes[-1] for p in found} == {n.id for n in h.leaves} and len(found) == len(h.leaves)
    for path in found:
        assert path.share == pytest.approx(h[path.nodes[-1]].root_share, rel=1e-12)
    assert found == sorted(found, key=lambda p: -p.share)
    for node in h.level(1):
        below = subtree(h, node.id)
        check(below)
        assert len(below) == 1 + len(nx.descendants(h.graph, node.id))
        for n in below:
            if n.level:
                whole = h[n.id]
                assert n.root_share * node.root_share == pytest.approx(whole.root_share, rel=1e-12)
                assert (n.contribution, n.share, n.signed) == (
                    whole.contribution, whole.share, whole.signed,
                )  # fmt: skip


# --- text -------------------------------------------------------------------------------------------------
def test_text() -> None:
    assert text(tree()) == [
        "cat  10  (logits)",
        "├─ top ch 1  +6  (50%)",
        "│  ├─ mid ch 4  +3  (50%)",
        "│  │  ├─ low ch 0  +2  (50%)",
        "│  │  └─ rest  +1",
        "│  ├─ mid ch 7  +2  (25%)",
        "│  └─ rest  +1",
        "├─ top ch 2  +3  (25%)",
        "│  ├─ mid ch 4  +2  (50%)",
        "│  │  ├─ low ch 0  +1  (12%)",
        "│  │  ├─ low ch 3  +0.5  (12%)",
        "│  │  └─ rest  +0.5",
        "│  ├─ mid ch 7  -1  (inhibits)",
        "│  └─ rest  +2",
        "├─ top ch 5  -2  (inhibits)",
        "└─ rest  +3",
    ]
    assert text(tree(), inhibitors=False, depth=1) == [
        "cat  10  (logits)",
        "├─ top ch 1  +6  (50%)",
        "├─ top ch 2  +3  (25%)",
        "└─ rest  +1",
    ]


def test_text_lists_the_children_of_a_shared_node_once() -> None:
    lines = text(merged(tree()))
    assert sum("low ch 0" in line for line in lines) == 1
    assert [line for line in lines if "see above" in line] == [
        "│  ├─ mid ch 4  +2  (50%)  (see above)"
    ]
    assert len(text(dag(10, 12, 0))) < 2000


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_text(name: str) -> None:
    lines = text(renamed(tree(), name, name))
    assert len(lines) == len(text(tree()))
    assert all(c.isprintable() for line in lines for c in line)
    assert max(map(len, lines)) < 100
