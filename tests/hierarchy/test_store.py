"""Hierarchies in files: lossless, and one clear error on anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxplain.errors import ConfigError, InputError
from onnxplain.hierarchy import Hierarchy, merged
from onnxplain.methods.decompose import decompose
from onnxplain.results import Record
from tests import nets
from tests.hierarchy.made import HOSTILE, assert_same, real, renamed, tree

Json = dict[str, Any]


@pytest.mark.parametrize("make", [tree, real, lambda: merged(tree()), lambda: real(seed="root")])
def test_round_trip(make: Callable[[], Hierarchy], tmp_path: Path) -> None:
    h = make()
    path = h.save(tmp_path, "cat.v2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat.v2.json", "cat.v2.npz"]
    for loaded in (Hierarchy.load(path), Hierarchy.load(tmp_path, "cat.v2")):
        assert_same(loaded, h)
    again = Hierarchy.load(path).save(tmp_path / "again", "cat.v2")
    for suffix in (".json", ".npz"):
        assert again.with_suffix(suffix).read_bytes() == path.with_suffix(suffix).read_bytes()


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(), max_size=8)


@given(values=st.lists(numbers, min_size=5, max_size=5), layer=names, label=names, more=names)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
def test_any_name_and_number_survives(values, layer, label, more, tmp_path) -> None:
    h = renamed(tree(), layer, label, more)
    fields = ("decision", "contribution", "share", "signed", "residual")
    nodes = [replace(n, **dict(zip(fields, values, strict=True))) for n in h]
    h = Hierarchy.of(nodes, list(h.edges), h.meta, None)
    assert_same(Hierarchy.load(h.save(tmp_path)), h)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str, tmp_path: Path) -> None:
    h = renamed(tree(), name, name, more=name)
    assert_same(Hierarchy.load(h.save(tmp_path)), h)


def test_an_input_that_is_no_picture(tmp_path: Path) -> None:
    body = "a = MatMul(x, w) hidden = Relu(a) y = MatMul(hidden, v)"
    proto = nets.build("(float[N, 6] x) => (float[N, 3] y)", body, w=(6, 5), v=(5, 3))
    h = decompose(nets.load(proto), nets.images(1, (6,)), 1, ["hidden"])
    assert {n.pixels.shape for n in h.leaves if n.pixels is not None} == {(6,)} and h.image is None
    assert_same(Hierarchy.load(h.save(tmp_path)), h)


def test_the_json_is_networkx_node_link_data(tmp_path: Path) -> None:
    h = tree()
    document = json.loads(h.save(tmp_path).read_text(encoding="utf-8"))
    read = nx.node_link_graph(document, edges="edges")
    assert list(read) == list(h.graph)
    assert list(read.edges(data=True)) == list(h.graph.edges(data=True))
    assert all(read.nodes[n.id]["decision"] == n.decision for n in h)
    written = nx.node_link_data(h.graph, edges="edges")
    assert written.keys() <= document.keys() and document["edges"] == written["edges"]


def test_meta_takes_the_form_it_has_in_files(tmp_path: Path) -> None:
    h = tree(sizes=(1, (2.5, None)), count=np.int64(3), share=np.float32(0.5))
    assert h.meta["sizes"] == [1, [2.5, None]] and type(h.meta["count"]) is int
    assert Hierarchy.load(h.save(tmp_path)).meta == h.meta
    for odd in (object(), float("nan"), {1, 2}):
        with pytest.raises(ConfigError, match="not JSON-able"):
            tree(odd=odd)


def test_a_hierarchy_that_is_not_sound_is_not_saved(tmp_path: Path) -> None:
    h = tree()
    h.graph.nodes["root/1"]["share"] = float("nan")
    with pytest.raises(InputError, match="node 'root/1': share must be a finite float, got nan"):
        h.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- files that were altered ------------------------------------------------------------------------------
def set_node(**changes: Any) -> Callable[[Json], None]:
    return lambda document: document["nodes"][4].update(changes)


def set_edge(**changes: Any) -> Callable[[Json], None]:
    return lambda document: document["edges"][3].update(changes)


def add_edge(source: str, target: str) -> Callable[[Json], None]:
    numbers = {"contribution": 1.0, "share": 0.5, "signed": 0.5}
    return lambda document: document["edges"].append(
        {"source": source, "target": target, **numbers}
    )


def drop(part: str, key: str | int) -> Callable[[Json], None]:
    return lambda document: document[part].pop(key)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda d: d.update(onnxplain_hierarchy=2), "schema 2, this version reads 1"),
        (lambda d: d.pop("onnxplain_hierarchy"), "not a hierarchy that onnxplain saved"),
        (lambda d: d.update(arrays_sha256="0"), r"h\.npz is damaged or belongs to another"),
        (lambda d: d.pop("nodes"), "damaged or altered: KeyError"),
        (lambda d: d.update(nodes=[]), "a node 'root'|edge joins nodes"),
        (lambda d: d.update(nodes={"a": 1}), "damaged or altered"),
        (lambda d: d.update(nodes=[1]), "damaged or altered"),
        (lambda d: d.update(edges=None), "damaged or altered"),
        (lambda d: d.update(image={"$array": "none"}), "damaged or altered: KeyError"),
        (lambda d: d.update(image={"$array": "map.1"}), r"image must be uint8 \[H, W, 3\]"),
        (lambda d: d.update(meta=[]), "does not list its layers"),
        (lambda d: d["meta"].update(layers="top"), "does not list its layers"),
        (lambda d: d["meta"].update(layers=["top"]), "cannot be at level 2"),
        (lambda d: d["nodes"].append(d["nodes"][1]), "two nodes have the same id"),
        (lambda d: d["edges"].append(d["edges"][1]), "two edges join the same nodes"),
        (drop("nodes", 4), "an edge joins nodes that are not there"),
        (drop("edges", 4), "do not hang below 'root'"),
        (add_edge("root/1/4/0", "root/1"), "directed acyclic graph"),
        (add_edge("root/1", "root/1"), "directed acyclic graph"),
        (add_edge("root", "root/1/4"), "does not lead to the next level"),
        (add_edge("root", "nowhere"), "an edge joins nodes that are not there"),
        (set_node(id=4), "damaged or altered|edge joins nodes"),
        (set_node(id=["a"]), "damaged or altered: TypeError"),
        (set_node(extra=1), "a node lacks or has too much of: extra"),
        (lambda d: d["nodes"][4].pop("residual"), "a node lacks or has too much of: residual"),
        (set_node(decision="3"), "node 'root/1/4': decision must be a finite float, got '3'"),
        (set_node(decision=float("nan")), "decision must be a finite float, got nan"),
        (set_node(share=float("inf")), "share must be a finite float, got inf"),
        (set_node(coverage=True), "coverage must be a finite float or null, got True"),
        (set_node(level=-1), "level must be a whole number"),
        (set_node(level=10**30), "cannot be at level 1000"),
        (set_node(level=0), "cannot be at level 0"),
        (set_node(layer="low"), "layer 'low' is not that of level 2"),
        (set_node(layer=["x" * 9999]), r"layer must be text, got \['x+\.\.\.$"),
        (set_node(channel=1.0), "channel must be a whole number"),
        (set_node(peak=[1]), "peak must be two whole numbers or null"),
        (set_node(peak=3), "damaged or altered: TypeError"),
        (set_node(box=[0, 0, 1, -1]), "box must be four whole numbers"),
        (set_node(map={"$array": "image"}), r"map must be finite float32 \[h, w\] or null, got uint8"),
        (set_node(map=[[1.0]]), "damaged or altered"),
        (set_node(map={"$array": [1]}), "damaged or altered"),
        (set_edge(share=None), "edge 'root/1' -> 'root/1/4': share must be a finite float, got None"),
        (set_edge(weight=1), "an? edge lacks or has too much of: weight"),
        (set_edge(source=None), "edge joins nodes that are not there"),
    ],
)  # fmt: skip
def test_altered_files(alter: Callable[[Json], object], message: str, tmp_path: Path) -> None:
    path = tree().save(tmp_path, "h")
    document = json.loads(path.read_text())
    alter(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"h\.json: .*({message})") as caught:
        Hierarchy.load(path)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 600


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_map_of_another_kind_or_with_nan(dtype: type, tmp_path: Path) -> None:
    h = tree()
    h.graph.nodes["root/1"]["map"] = np.array([[np.nan, 1]], dtype)
    with pytest.raises(InputError, match="node 'root/1': map must be finite float32"):
        h.save(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"3", b"[1]", b"\xff\x00\x80", b"[" * 10**6, b'{"a":' * 10**6, b'{"a": NaN}'],
    ids=range(8),
)
def test_not_our_json(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "h.json").write_bytes(data)
    with pytest.raises(InputError, match=r"h\.json: not ") as caught:
        Hierarchy.load(tmp_path / "h.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("depth", [10, 400, *range(700, 1000, 20), 10**6])
def test_nested(depth: int, tmp_path: Path) -> None:
    """Wherever the interpreter's limit is met, parsing or checking: one error, no other."""
    path = tree().save(tmp_path)
    nested = '"label": ' + "[" * depth + "]" * depth
    path.write_text(path.read_text().replace('"label": "cat"', nested))
    try:
        assert isinstance(Hierarchy.load(path).meta["label"], list) and depth < 1000
    except InputError as error:
        assert "recursion" in str(error) and depth > 400


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), npz=st.booleans())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
def test_any_byte_may_be_wrong(at: int, byte: int, npz: bool, tmp_path: Path) -> None:
    path = tree().save(tmp_path, "h")
    harmed = path.with_suffix(".npz") if npz else path
    data = bytearray(harmed.read_bytes())
    data[at % len(data)] = byte
    harmed.write_bytes(data)
    try:
        loaded = Hierarchy.load(path)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:  # a digit or a letter of a name was changed: still a hierarchy
        assert len(loaded) == len(tree())


def test_arrays_of_another_hierarchy(tmp_path: Path) -> None:
    path = tree().save(tmp_path, "h")
    real().save(tmp_path, "other").with_suffix(".npz").replace(tmp_path / "h.npz")
    with pytest.raises(InputError, match=r"h\.npz is damaged or belongs to another hierarchy"):
        Hierarchy.load(path)


def test_missing_files_and_odd_stems(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hierarchy\.json: cannot be read: No such file"):
        Hierarchy.load(tmp_path)
    tree().save(tmp_path).with_suffix(".npz").unlink()
    with pytest.raises(InputError, match=r"hierarchy\.npz: cannot be read: No such file"):
        Hierarchy.load(tmp_path / "hierarchy.json")
    for stem in ("../x", "a/b", ".."):
        with pytest.raises(ConfigError, match="not a plain file name"):
            tree().save(tmp_path, stem)


def test_records_and_hierarchies_are_told_apart(tmp_path: Path) -> None:
    tree().save(tmp_path, "h")
    with pytest.raises(InputError, match="not a result that onnxplain saved"):
        Record.load(tmp_path, "h")
    Record().save(tmp_path, "r")
    with pytest.raises(InputError, match="not a hierarchy that onnxplain saved"):
        Hierarchy.load(tmp_path, "r")
