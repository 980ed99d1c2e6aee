"""Exports: other programs read back the same numbers, and no name does harm."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import onnx
import pytest

from onnxplain.bundled import model_path
from onnxplain.errors import ConfigError, InputError, ModelError, OutputError
from onnxplain.graph.load import read_model
from onnxplain.hierarchy import Hierarchy, overlay, write, write_overlay
from onnxplain.hierarchy.exports import SUFFIXES, flat
from onnxplain.hierarchy.names import for_xml, short, visible
from tests.hierarchy.made import HOSTILE, real, renamed, tree

READERS: dict[str, Callable[[Path], nx.DiGraph]] = {
    ".graphml": nx.read_graphml,
    ".gexf": nx.read_gexf,
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("make", [tree, real, lambda: real(seed="root")])
def test_networkx_reads_the_same_numbers(make, suffix: str, tmp_path: Path) -> None:
    h = make()
    read = READERS[suffix](write(h, tmp_path / f"h{suffix}"))
    assert read.is_directed() and list(read) == list(h.graph)
    for node in h:
        found = read.nodes[node.id]
        for name in ("decision", "contribution", "share", "signed", "root_share", "residual"):
            assert found.get(name) == getattr(node, name), name
        assert (found["level"], found["channel"]) == (node.level, node.channel)
        assert found["inhibits"] is node.inhibits and found["layer"] == node.layer
        if node.box is not None:
            corners = tuple(found[f"box_{side}"] for side in ("top", "left", "bottom", "right"))
            assert corners == node.box
            assert (found["peak_row"], found["peak_column"]) == node.peak
    assert read.nodes["root"]["label"] == "cat" and "box_top" not in read.nodes["root"]
    for edge in h.edges:
        found = read.edges[edge.parent, edge.child]
        assert [found[k] for k in ("contribution", "share", "signed")] == [
            edge.contribution, edge.share, edge.signed,
        ]  # fmt: skip


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_xml(name: str, suffix: str, tmp_path: Path) -> None:
    h = renamed(tree(), name, name, more=name)
    path = write(h, tmp_path / f"h{suffix}")
    ElementTree.parse(path)
    read = READERS[suffix](path)
    assert list(read) == [for_xml(n.id) for n in h] and read.size() == len(list(h.edges))
    assert read.nodes["root"]["label"] == for_xml(name)
    assert {d["layer"] for _, d in read.nodes(data=True) if d["level"] == 1} == {for_xml(name)}


def test_what_xml_holds_stays_as_it_is() -> None:
    kept = [n for n in HOSTILE if for_xml(n) == n]
    assert len(kept) == len(HOSTILE) - 3  # but for control characters, carriage returns, surrogates
    assert for_xml("a\x00\r\n\ud800\U0001f600") == "a\\x00\\r\n\\ud800\U0001f600"


def test_ids_that_xml_cannot_tell_apart(tmp_path: Path) -> None:
    h = tree()
    graph = nx.relabel_nodes(h.graph, {"root/1": "a\x01", "root/2": "a\\x01"})
    for name, attributes in graph.nodes(data=True):
        attributes["id"] = name
    with pytest.raises(InputError, match="differ in nothing that XML can hold"):
        write(Hierarchy(graph, h.meta), tmp_path / "h.gexf")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_hierarchies_give_equal_files(suffix: str, tmp_path: Path) -> None:
    first, again = (write(tree(), tmp_path / n / f"h{suffix}") for n in "ab")
    assert first.read_bytes() == again.read_bytes()
    assert first == tmp_path / "a" / f"h{suffix}"


def test_the_suffix_decides(tmp_path: Path) -> None:
    h = tree()
    assert len(Hierarchy.load(h.write(tmp_path / "h.json"))) == len(h)
    with pytest.raises(
        ConfigError, match=r"h\.png: unknown suffix '\.png': choose \.json, \.graphml, "
    ):
        h.write(tmp_path / "h.png")
    seen: list[Any] = []
    path = write(h, tmp_path / "h.html", {".html": lambda *given: seen.append(given)})
    assert seen == [(h, path)]
    (tmp_path / "file").touch()
    for suffix in SUFFIXES:
        with pytest.raises(OutputError):
            h.write(tmp_path / "file" / f"h{suffix}")


def test_numbers_that_no_format_agrees_on_are_refused(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        h = tree()
        h.graph.edges["root", "root/1"]["share"] = float("inf")
        with pytest.raises(
            InputError, match="edge 'root' -> 'root/1': share must be a finite float"
        ):
            h.write(tmp_path / f"h{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_flat_has_plain_values_only() -> None:
    values = [v for _, d in flat(real()).nodes(data=True) for v in d.values()]
    assert {type(v) for v in values} == {str, bool, int, float}


# --- DOT --------------------------------------------------------------------------------------------------
def dot_strings(text: str) -> list[str]:
    """Return the quoted strings of a DOT file as Graphviz' lexer finds them, still escaped."""
    found, inside, i = [""], False, 0
    while i < len(text):
        if inside and text[i] == "\\":
            found[-1] += text[i : i + 2]
            i += 1
        elif text[i] == '"':
            inside = not inside
            found += [""] if inside else []
        elif inside:
            found[-1] += text[i]
        i += 1
    assert not inside
    return found[1:]


def undone(text: str) -> str:
    """Return what Graphviz makes of an escaped string."""
    plain = {"n": "\n", "\\": "\\", '"': '"'}
    parts = text.split("\\")
    out, i = parts[0], 1
    while i < len(parts):
        if parts[i]:
            out, i = out + plain[parts[i][0]] + parts[i][1:], i + 1
        else:
            out, i = out + "\\" + parts[i + 1], i + 2
    return out.replace("&amp;", "&")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_dot(name: str, tmp_path: Path) -> None:
    path = write(renamed(tree(), name, name, more=name), tmp_path / "h.dot")
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) == 2 + 11 + 10 + 1  # a name adds no statement
    expected = "\n".join(visible(line) for line in name.split("\n"))
    assert [undone(s) for s in dot_strings(text)].count(expected) == 3  # the layer of three nodes
    assert all(c.isprintable() for line in lines for c in line)


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
@pytest.mark.parametrize("name", ["plain", *HOSTILE])
def test_graphviz_reads_dot(name: str, tmp_path: Path) -> None:
    h = renamed(tree(), name, name, more=name)
    path = write(h, tmp_path / "h.dot")
    done = subprocess.run(["dot", "-Tjson", path], capture_output=True, check=True)
    assert done.stderr == b""
    read = json.loads(done.stdout)
    assert len(read["objects"]) == len(h) and len(read["edges"]) == len(list(h.edges))
    for node, found in zip(h, read["objects"], strict=True):
        assert float(found["contribution"]) == node.contribution
        assert undone(found["layer"]).split("\n") == [visible(s) for s in node.layer.split("\n")]
    drawn = subprocess.run(["dot", "-Tsvg", path], capture_output=True, check=True)
    words = [t.text for t in ElementTree.fromstring(drawn.stdout).iter() if t.tag.endswith("}text")]
    assert short(visible(name), 40) in [w and w.replace("\xa0", " ") for w in words]


# --- Model Explorer ---------------------------------------------------------------------------------------
def test_overlay_names_the_nodes_of_the_file() -> None:
    h, proto = real(), onnx.load(model_path())
    data = overlay(h, model_path())
    assert list(data) == [proto.graph.name]
    results = data[proto.graph.name]["results"]
    producers = {n.name: n.output[0] for n in proto.graph.node}
    assert {producers[key] for key in results} == {"logits", *h.layers}
    for key, result in results.items():
        nodes = [n for n in h if n.layer == producers[key] and not n.inhibits]
        assert result["value"] == pytest.approx(sum(n.root_share for n in nodes), rel=1e-12)
    contributions = overlay(h, model_path(), "contribution")[proto.graph.name]["results"]
    key = next(k for k, tensor in producers.items() if tensor == h.layers[0])
    supporting = [n.contribution for n in h.level(1) if not n.inhibits]
    assert contributions[key]["value"] == pytest.approx(sum(supporting), rel=1e-12)
    stops = [s["stop"] for s in data[proto.graph.name]["gradient"]]
    assert stops[0] == 0 and stops[-1] == 1 and stops == sorted(stops)


def net(first: str, second: str) -> onnx.ModelProto:
    """Return a net of two nodes with these names, which make the tensors "top" and "mid"."""
    text = """<ir_version: 10, opset_import: ["": 18]>
        net (float[N] x) => (float[N] top) { mid = Relu(x) top = Neg(mid) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.node[0].name, proto.graph.node[1].name = first, second
    return proto


def test_overlay_of_nodes_without_names_and_layers_that_the_file_lacks() -> None:
    results = overlay(tree(), net("/relu", ""))["net"]["results"]
    assert {k: v["value"] for k, v in results.items()} == {
        "logits": 1.0, "top": 0.75, "/relu": 0.25 + 0.125 + 0.125, "low": 0.125 + 2 * 0.015625,
    }  # fmt: skip


def test_overlay_without_a_model_is_for_the_graph_shown(tmp_path: Path) -> None:
    path = write_overlay(tree(), tmp_path / "o.json")
    data = json.loads(path.read_text())
    assert list(data) == ["results", "gradient"] and data["results"]["top"] == {"value": 0.75}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_the_overlay(name: str, tmp_path: Path) -> None:
    path = write_overlay(renamed(tree(), name), tmp_path / "o.json", net("a", "b"))
    assert json.loads(path.read_text())["net"]["results"][name] == {"value": 0.75}


def test_overlay_errors(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="measure 'sum' is unknown: choose root_share, contribution"
    ):
        overlay(tree(), measure="sum")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no such file"):
        overlay(tree(), tmp_path / "none.onnx")
    right = tree(sha256=read_model(net("a", "b")).sha256)
    assert overlay(right, net("a", "b"))
    with pytest.raises(ConfigError, match="is not the model that the hierarchy explains"):
        overlay(right, net("a", "c"))
    assert np.isfinite(json.loads(json.dumps(overlay(right)))["results"]["low"]["value"])
