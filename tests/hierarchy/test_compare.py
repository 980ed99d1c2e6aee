"""Two hierarchies against each other, and many added up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from onnxplain.errors import ConfigError, InputError
from onnxplain.hierarchy import (
    Hierarchy,
    HierarchyDifference,
    HierarchyUse,
    aggregate,
    compare,
    merged,
    paths,
)
from onnxplain.results import Record
from tests.hierarchy.made import HOSTILE, real, renamed, tree, without


def numbered(h: Hierarchy, **channels: int) -> Hierarchy:
    """Return the hierarchy with other channel numbers at some nodes, by the end of their ids."""
    by_id = {f"root/{name.strip('_').replace('_', '/')}": k for name, k in channels.items()}
    nodes = [replace(n, channel=by_id.get(n.id, n.channel)) for n in h]
    return Hierarchy.of(nodes, list(h.edges), h.meta, h.image)


def test_equal_hierarchies_do_not_differ() -> None:
    for h in (tree(), real(), without(tree(), *[n.id for n in tree() if n.level])):
        found = compare(h, h)
        assert found.first_difference is None and found.notes == ()
        assert [x.jaccard for x in found.levels] == [1.0] * 3
        assert all(not x.only_a and not x.only_b and x.same_layer for x in found.levels)


def test_what_differs() -> None:
    a = tree()
    b = numbered(without(tree(label="dog"), "root/2/4/3"), _1_7=8)
    found = compare(a, b)
    assert (found.label_a, found.label_b, found.decision_b) == ("cat", "dog", 10.0)
    assert found.first_difference == 2
    top, mid, low = found.levels
    assert (top.jaccard, list(top.common)) == (1.0, ["1", "2"])  # the inhibitor 5 does not count
    assert mid.common == {"4": (5.0, 5.0)} and mid.jaccard == pytest.approx(1 / 3)
    assert (mid.only_a, mid.only_b) == ({"7": 2.0}, {"8": 2.0})
    assert low.common == {"0": (3.0, 3.0)} and low.only_a == {"3": 0.5} and low.jaccard == 0.5
    back = compare(b, a)
    assert [x.only_b for x in back.levels] == [x.only_a for x in found.levels]
    assert [x.jaccard for x in back.levels] == [x.jaccard for x in found.levels]


def test_other_layers_and_options_are_said() -> None:
    found = compare(tree(seed="path"), renamed(tree(seed="max"), "stage4"))
    assert found.first_difference is None
    assert found.notes == (
        "level 1: 'top' against 'stage4': channels are compared by number",
        "seed: 'path' against 'max'",
    )
    assert [x.same_layer for x in found.levels] == [False, True, True]


def test_a_shallower_hierarchy() -> None:
    lowest = [n.id for n in tree() if n.level == 3]
    short = without(tree(), *lowest)
    short = Hierarchy.of(list(short), list(short.edges), short.meta | {"layers": ["top", "mid"]})
    found = compare(tree(), short)
    assert found.first_difference == 3 and found.notes == ()
    assert found.levels[2].layer_b is None and found.levels[2].jaccard == 0.0


def test_real_classes_differ(tmp_path) -> None:
    found = compare(real(0), real(1))
    assert found.label_a != found.label_b and found.first_difference is not None
    for level, (a, b) in enumerate([(real(0).level(i), real(1).level(i)) for i in (1, 2, 3)]):
        x = found.levels[level]
        for nodes, only, side in ((a, x.only_a, 0), (b, x.only_b, 1)):
            channels = {str(n.channel) for n in nodes if not n.inhibits}
            assert channels == only.keys() | x.common.keys()
            total = sum(only.values()) + sum(c[side] for c in x.common.values())
            assert total == pytest.approx(sum(n.contribution for n in nodes if not n.inhibits))
    found.save(tmp_path)
    assert HierarchyDifference.load(tmp_path) == found


# --- aggregate --------------------------------------------------------------------------------------------
def test_use() -> None:
    other = numbered(without(tree(), "root/2/4/3"), _1_7=8)
    found = aggregate([tree(), other, tree(label="dog")])
    assert (found.images, found.labels) == (3, {"cat": 2, "dog": 1})
    channels = {(u.level, u.channels): (u.count, u.mean_share) for u in found.channels}
    assert channels == {
        (1, (1,)): (3, 0.5), (1, (2,)): (3, 0.25), (2, (4,)): (3, 0.375), (2, (7,)): (2, 0.125),
        (2, (8,)): (1, 0.125), (3, (0,)): (3, 0.140625), (3, (3,)): (2, 0.015625),
    }  # fmt: skip
    edges = {(u.level, u.channels): (u.count, u.mean_share) for u in found.edges}
    assert edges[1, (-1, 1)] == (3, 0.5) and edges[2, (1, 7)] == (2, 0.125)
    assert edges[3, (4, 0)] == (3, 0.140625)  # of both nodes that are channel 4
    assert [(u.channels, u.count) for u in found.paths] == [
        ((1, 4, 0), 3), ((2, 4, 0), 3), ((1, 7), 2), ((2, 4, 3), 2), ((1, 8), 1),
    ]  # fmt: skip
    assert found.channels[0].channels == (1,)
    assert [u.channels for u in aggregate([tree()], most_paths=1).paths] == [(1, 7)]


def test_use_of_real_images(tmp_path) -> None:
    trees = [real(i) for i in range(3)]
    found = aggregate(iter(trees))
    for use in found.channels:
        nodes = [
            [n.root_share for n in h.level(use.level) if (n.channel,) == use.channels and not n.inhibits]
            for h in trees
        ]  # fmt: skip
        assert use.count == sum(map(bool, nodes))
        assert use.mean_share == pytest.approx(sum(map(sum, nodes)) / use.count)
    assert sum(u.count for u in found.paths) == sum(len(paths(h)) for h in trees)
    flipped = aggregate(trees[::-1])
    assert [u.channels for u in flipped.paths] == [u.channels for u in found.paths]
    found.save(tmp_path)
    assert HierarchyUse.load(tmp_path) == found


def test_a_tree_and_its_dag_use_the_same_channels() -> None:
    a, b = (aggregate([h]) for h in (tree(), merged(tree())))
    assert {u.channels: u.mean_share for u in a.channels} == pytest.approx(
        {u.channels: u.mean_share for u in b.channels}
    )


def test_what_cannot_be_added_up() -> None:
    with pytest.raises(InputError, match="no hierarchies"):
        aggregate([])
    with pytest.raises(ConfigError, match="over different layers"):
        aggregate([tree(), renamed(tree(), "stage4")])
    with pytest.raises(ConfigError, match="most = 0"):
        aggregate([tree()], most_paths=0)


@pytest.mark.parametrize("name", HOSTILE)
def test_results_are_plain_data(name: str, tmp_path) -> None:
    h = renamed(tree(), name, name)
    for result in (compare(h, tree()), aggregate([h])):
        data = result.to_dict()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        result.save(tmp_path, "r")
        assert Record.load(tmp_path, "r") == result
    assert compare(h, tree()).to_dict()["levels"][0]["layer_a"] == name
    assert aggregate([h]).to_dict()["labels"] == {name: 1}
