"""Hierarchies in files: node-link JSON that networkx reads, and the maps beside it in a .npz.

The JSON is networkx's node-link data with `meta` and `image`; where a node has an array, it says
{"$array": name}, the array's name in the .npz. The round trip is lossless.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.hierarchy.hierarchy import NODE_FIELDS, Array, HEdge, Hierarchy, HNode
from onnxplain.hierarchy.sound import check
from onnxplain.results.pair import Arrays, Document, Format

FORMAT = Format("onnxplain_hierarchy", 1, "hierarchy")
_TUPLES = ("peak", "box")
_EDGE_FIELDS = ("contribution", "share", "signed")


def save(hierarchy: Hierarchy, folder: str | Path, stem: str = "hierarchy") -> Path:
    """Write `<stem>.json` and `<stem>.npz` into `folder`, made if missing; return the former's path.

    Raises OutputError (a file could not be written), InputError (the hierarchy is not sound: NaN, a layer
    that its meta does not list ...), ConfigError (`stem` is not a plain file name).
    """
    check(hierarchy)
    arrays: Arrays = {}

    def reference(name: str, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        arrays[name] = value
        return {"$array": name}

    nodes = [
        {name: reference(f"{name}.{i}", value) for name, value in attributes.items()}
        for i, attributes in enumerate(dict(hierarchy.graph.nodes(data=True)).values())
    ]
    edges = [
        {**data, "source": parent, "target": child}
        for parent, child, data in hierarchy.graph.edges(data=True)
    ]
    document = {
        "directed": True,
        "multigraph": False,
        "graph": {},
        "nodes": nodes,
        "edges": edges,
        "meta": hierarchy.meta,
        "image": reference("image", hierarchy.image),
    }
    return FORMAT.save(folder, stem, document, arrays)


def load(path: str | Path, stem: str | None = None) -> Hierarchy:
    """Read what `save` wrote: `path` is the .json, or its folder ("hierarchy" is the default stem).

    Raises InputError: missing, damaged, altered into nonsense, or from another schema version.
    """
    path = Path(path)
    if stem is None and path.suffix == ".json" and not path.is_dir():
        path, stem = path.parent, path.stem
    hierarchy, _ = FORMAT.load(path, stem or "hierarchy", _unpacked)
    return hierarchy


def _unpacked(document: Document, arrays: Arrays) -> Hierarchy:
    nodes = [_node(entry, arrays) for entry in document["nodes"]]
    edges = [_edge(entry) for entry in document["edges"]]
    if len({node.id for node in nodes}) < len(nodes):
        raise InputError("two nodes have the same id")
    if len({(edge.parent, edge.child) for edge in edges}) < len(edges):
        raise InputError("two edges join the same nodes")
    if not {name for edge in edges for name in (edge.parent, edge.child)} <= {n.id for n in nodes}:
        raise InputError("an edge joins nodes that are not there")
    image = _array(document["image"], arrays)
    try:
        hierarchy = Hierarchy.of(nodes, edges, document["meta"], image)
    except ConfigError as error:
        raise InputError(str(error)) from error
    check(hierarchy)
    return hierarchy


def _node(entry: dict[str, Any], arrays: Arrays) -> HNode:
    _expect_fields(entry, set(NODE_FIELDS), "node")
    tuples = {name: tuple(entry[name]) for name in _TUPLES if entry[name] is not None}
    maps = {name: _array(entry[name], arrays) for name in ("map", "pixels")}
    return HNode(**(entry | tuples | maps))


def _edge(entry: dict[str, Any]) -> HEdge:
    _expect_fields(entry, {*_EDGE_FIELDS, "source", "target"}, "edge")
    numbers = {name: entry[name] for name in _EDGE_FIELDS}
    return HEdge(parent=entry["source"], child=entry["target"], **numbers)


def _expect_fields(entry: dict[str, Any], expected: set[str], what: str) -> None:
    if odd := sorted(expected ^ entry.keys()):
        raise InputError(f"a {what} lacks or has too much of: {', '.join(odd)[:100]}")


def _array(reference: Any, arrays: Arrays) -> Array | None:
    return None if reference is None else arrays[reference["$array"]]
