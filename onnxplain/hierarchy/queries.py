"""Questions to one hierarchy: its strongest paths, what lies below a node, the tree as a DAG. All ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.hierarchy.hierarchy import ROOT, Array, HEdge, Hierarchy, HNode


@dataclass(frozen=True)
class EvidencePath:
    """Supporting nodes from the root to a leaf, by id; `share` is the product of the shares between them."""

    nodes: tuple[str, ...]
    share: float


def paths(hierarchy: Hierarchy, most: int | None = None) -> list[EvidencePath]:
    """Return the paths from the root to the leaves along supporting edges, the largest share first.

    most: only so many. A DAG has more paths than can be listed: without a limit use this for trees. Equal
        shares keep the order of their leaves. A root that nothing supports is the only path, with share 1.

    Raises ConfigError (`most` is below 1).
    """
    if most is not None and most < 1:
        raise ConfigError(f"most = {most!r} must be a whole number, 1 or more")
    below = supporting_edges(hierarchy)
    arriving: dict[str, list[EvidencePath]] = {ROOT: [EvidencePath((ROOT,), 1.0)]}
    complete: list[EvidencePath] = []
    # The best paths through a node begin with the best paths to it, as no share is negative.
    for name in nx.lexicographical_topological_sort(hierarchy.graph, _order(hierarchy).get):
        here = sorted(arriving.pop(name, ()), key=_descending)[:most]
        if name not in below:
            complete += here
        for edge in below.get(name, ()):
            arriving.setdefault(edge.child, []).extend(
                EvidencePath((*path.nodes, edge.child), path.share * edge.share) for path in here
            )
    return sorted(complete, key=_descending)[:most]


def strongest_path(hierarchy: Hierarchy) -> list[HNode]:
    """Return the nodes of the path with the largest product of shares, from the root to a leaf."""
    return [hierarchy[name] for name in paths(hierarchy, 1)[0].nodes]


def subtree(hierarchy: Hierarchy, node: str) -> Hierarchy:
    """Return what lies below a node as a hierarchy of its own.

    The node becomes the root: its decision is what is explained, its level 0 and its shares 1; it keeps its
    map. Levels and `root_share` count from there; the other ids stay, so that they are found in both.

    Raises ConfigError (no such node).
    """
    if node not in hierarchy:
        raise ConfigError(f"the hierarchy has no node {node!r}")
    if node == ROOT:
        return hierarchy
    top = hierarchy[node]
    kept = nx.descendants(hierarchy.graph, node)
    root = replace(
        top, id=ROOT, level=0, contribution=top.decision, share=1.0, signed=1.0, root_share=1.0
    )
    nodes = [root] + [replace(n, level=n.level - top.level) for n in hierarchy if n.id in kept]
    edges = [
        replace(e, parent=ROOT if e.parent == node else e.parent)
        for e in hierarchy.edges
        if e.parent in kept or e.parent == node
    ]
    meta = hierarchy.meta | {
        "label": f"{top.layer} channel {top.channel}",
        "explained": top.layer,
        "layers": list(hierarchy.layers[top.level :]),
        "below": {"node": node, "label": hierarchy.meta.get("label")},
    }
    if "shapes" in meta:
        meta["shapes"] = meta["shapes"][top.level :]
    return Hierarchy.of(_recounted(nodes, edges), edges, meta, hierarchy.image)


def merged(hierarchy: Hierarchy) -> Hierarchy:
    """Return the hierarchy as a DAG with one node per layer and channel.

    Decisions, contributions, residuals, root shares, maps and pixels are summed (a channel that supports one
    node and inhibits another cancels in part); peak and box are those of the largest contribution. An edge's
    share, and a node's coverage, is the mean over the nodes that became its parent, weighted by their root
    shares and 0 where one lacks it: so the root shares of a level still add up to the same.
    """
    place = {n.id: ROOT if n.level == 0 else f"{n.level}/{n.channel}" for n in hierarchy}
    groups: dict[str, list[HNode]] = {}
    for node in hierarchy:
        groups.setdefault(place[node.id], []).append(node)
    joined: dict[tuple[str, str], list[HEdge]] = {}
    for edge in hierarchy.edges:
        joined.setdefault((place[edge.parent], place[edge.child]), []).append(edge)
    edges = []
    for (parent, child), group in joined.items():
        weights = _weights(groups[parent])
        edges.append(
            HEdge(
                parent=parent,
                child=child,
                contribution=sum(e.contribution for e in group),
                share=sum(weights[e.parent] * e.share for e in group),
                signed=sum(weights[e.parent] * e.signed for e in group),
            )
        )
    nodes = [_joined(name, group) for name, group in groups.items()]
    nodes.sort(key=lambda n: (n.level, -n.contribution))
    rank = {node.id: i for i, node in enumerate(nodes)}
    edges.sort(key=lambda e: (-e.contribution, rank[e.child]))
    meta = hierarchy.meta | {"merged": True}
    return Hierarchy.of(_recounted(nodes, edges), edges, meta, hierarchy.image)


def supporting_edges(hierarchy: Hierarchy) -> dict[str, list[HEdge]]:
    """Return the edges of positive contribution by their parent's id."""
    found: dict[str, list[HEdge]] = {}
    for edge in hierarchy.edges:
        if edge.contribution > 0:
            found.setdefault(edge.parent, []).append(edge)
    return found


def _order(hierarchy: Hierarchy) -> dict[str, int]:
    return {name: i for i, name in enumerate(hierarchy.graph)}


def _descending(path: EvidencePath) -> float:
    return -path.share


def _weights(nodes: Sequence[HNode]) -> dict[str, float]:
    """Return how much each of the nodes that become one counts: by root share, or alike where all are 0."""
    total = sum(n.root_share for n in nodes)
    return {n.id: n.root_share / total if total else 1 / len(nodes) for n in nodes}


def _joined(name: str, group: Sequence[HNode]) -> HNode:
    """Return the node that a group of one layer and channel becomes."""
    first = max(group, key=lambda n: abs(n.contribution))
    weights = _weights(group)
    residuals = [n.residual for n in group if n.residual is not None]
    coverages = [weights[n.id] * n.coverage for n in group if n.coverage is not None]
    return replace(
        first,
        id=name,
        decision=sum(n.decision for n in group),
        contribution=sum(n.contribution for n in group),
        residual=sum(residuals) if residuals else None,
        coverage=sum(coverages) if coverages else None,
        map=_sum(n.map for n in group),
        pixels=_sum(n.pixels for n in group),
    )


def _sum(maps: Iterable[Array | None]) -> Array | None:
    given = [a for a in maps if a is not None]
    return np.stack(given).sum(0) if given else None


def _recounted(nodes: Sequence[HNode], edges: Sequence[HEdge]) -> list[HNode]:
    """Return the nodes with what follows from the edges that lead to them."""
    arriving: dict[str, list[HEdge]] = {}
    for edge in edges:
        arriving.setdefault(edge.child, []).append(edge)
    found: dict[str, HNode] = {}
    for node in sorted(nodes, key=lambda n: n.level):
        if above := arriving.get(node.id):
            strongest = max(above, key=lambda e: abs(e.contribution))
            node = replace(
                node,
                contribution=sum(e.contribution for e in above),
                share=strongest.share,
                signed=strongest.signed,
                root_share=sum(e.share * found[e.parent].root_share for e in above),
            )
        found[node.id] = node
    return [found[node.id] for node in nodes]
