"""Hierarchies for other programs: GraphML and GEXF (Gephi, yEd, Cytoscape), DOT (Graphviz).

These hold names and numbers; the maps are in what `store.save` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import networkx as nx

from onnxplain.errors import ConfigError, InputError
from onnxplain.files import atomic_write, write_text
from onnxplain.hierarchy.hierarchy import Hierarchy, HNode
from onnxplain.hierarchy.names import for_xml, short, visible
from onnxplain.hierarchy.sound import check
from onnxplain.hierarchy.store import save

Writer = Callable[[Hierarchy, Path], Any]
_CORNERS = ("top", "left", "bottom", "right")
_DRAWN = 40  # characters of a name that a drawing shows; the attribute has them all


def write(hierarchy: Hierarchy, path: str | Path, more: Mapping[str, Writer] | None = None) -> Path:
    """Write the hierarchy in the format that the path's suffix names; return the path.

    more: writers for further suffixes, of the layers above.

    Raises ConfigError (the suffix is unknown), OutputError (not writable), InputError (the hierarchy is not
    sound: NaN, a layer that its meta does not list ...).
    """
    path, known = Path(path), SUFFIXES | dict(more or {})
    writer = known.get(path.suffix)
    if writer is None:
        raise ConfigError(f"{path.name}: unknown suffix {path.suffix!r}: choose {', '.join(known)}")
    check(hierarchy)
    writer(hierarchy, path)
    return path


def flat(hierarchy: Hierarchy) -> nx.DiGraph:
    """Return the graph with names and plain numbers only: no arrays, no tuples, no None.

    A node has label, inhibits, peak_row, peak_column, box_top, box_left, box_bottom, box_right beside the
    numbers of `HNode`; what is None is left out. Node ids are those of the hierarchy.
    """
    graph = nx.DiGraph()
    for node in hierarchy:
        graph.add_node(node.id, **_attributes(hierarchy, node))
    graph.add_edges_from(hierarchy.graph.edges(data=True))
    return graph


def write_graphml(hierarchy: Hierarchy, path: Path) -> None:
    """Write GraphML, which `networkx.read_graphml` reads; raises InputError, OutputError."""
    file = BytesIO()
    nx.write_graphml_xml(_for_xml(hierarchy), file)  # the lxml one, where installed, differs
    atomic_write(path, lambda to: to.write(file.getvalue()))


def write_gexf(hierarchy: Hierarchy, path: Path) -> None:
    """Write GEXF 1.2, which `networkx.read_gexf` reads; raises InputError, OutputError."""
    text = "\n".join(nx.generate_gexf(_for_xml(hierarchy)))
    undated = re.sub(r' lastmodifieddate="[^"]*"', "", text, count=1)  # equal graphs, equal files
    write_text(path, undated + "\n")


def write_dot(hierarchy: Hierarchy, path: Path) -> None:
    """Write DOT: boxes from the decision down, width by share, inhibitors dashed and red.

    Nodes are n0, n1, ... in the hierarchy's order; `id` and the numbers are attributes. What is not printable
    is written as an escape. Raises OutputError.
    """
    names = {name: f"n{i}" for i, name in enumerate(hierarchy.graph)}
    lines = ["digraph hierarchy {", "  node [shape=box];"]
    for node in hierarchy:
        layer = short(visible(node.layer), _DRAWN)
        title = (
            f"{layer} ch {node.channel}"
            if node.level
            else short(visible(_label(hierarchy)), _DRAWN)
        )
        drawn = {"label": f"{title}\n{node.contribution:+.4g} ({node.share:.0%})", "id": node.id}
        drawn |= {"color": "red", "style": "dashed"} if node.inhibits else {}
        attributes = _attributes(hierarchy, node)
        del attributes["label"]
        lines.append(f"  {names[node.id]} [{_listed(drawn | attributes)}];")
    for e in hierarchy.edges:
        drawn = {"penwidth": f"{1 + 6 * max(e.share, 0):.3g}"}
        drawn |= {"color": "red", "style": "dashed"} if e.contribution < 0 else {}
        data = {"contribution": e.contribution, "share": e.share, "signed": e.signed}
        lines.append(f"  {names[e.parent]} -> {names[e.child]} [{_listed(drawn | data)}];")
    write_text(path, "\n".join([*lines, "}"]) + "\n")


SUFFIXES: dict[str, Writer] = {
    ".json": lambda hierarchy, path: save(hierarchy, path.parent, path.stem),
    ".graphml": write_graphml,
    ".gexf": write_gexf,
    ".dot": write_dot,
}
"""What writes which file; the static page, a layer above, comes by `write`'s `more`."""


def _attributes(hierarchy: Hierarchy, node: HNode) -> dict[str, Any]:
    label = f"{node.layer} ch {node.channel}" if node.level else _label(hierarchy)
    given: dict[str, Any] = {"label": label, "inhibits": node.inhibits}
    for name in ("level", "layer", "channel", "decision", "contribution", "share", "signed",
                 "root_share", "residual", "coverage"):  # fmt: skip
        given[name] = getattr(node, name)
    if node.peak is not None:
        given |= {"peak_row": node.peak[0], "peak_column": node.peak[1]}
    if node.box is not None:
        given |= {f"box_{side}": at for side, at in zip(_CORNERS, node.box, strict=True)}
    return {name: value for name, value in given.items() if value is not None}


def _label(hierarchy: Hierarchy) -> str:
    return str(hierarchy.meta.get("label"))


def _for_xml(hierarchy: Hierarchy) -> nx.DiGraph:
    """Return `flat` with names that XML can hold; raises InputError where two ids become one."""
    graph = flat(hierarchy)
    for _, attributes in graph.nodes(data=True):
        attributes |= {k: for_xml(v) for k, v in attributes.items() if isinstance(v, str)}
    fit: nx.DiGraph = nx.relabel_nodes(graph, {name: for_xml(name) for name in graph})
    if len(fit) < len(graph):
        raise InputError("two nodes' ids differ in nothing that XML can hold")
    return fit


def _listed(attributes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in attributes.items())


def _quoted(value: object) -> str:
    """Return a value as a DOT string; Graphviz reads its backslashes and entities in turn."""
    text = "\n".join(visible(line) for line in str(value).split("\n"))
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("&", "&amp;"), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return f'"{text}"'
