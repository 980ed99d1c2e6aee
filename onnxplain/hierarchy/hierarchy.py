"""The hierarchy of evidence behind one decision: a networkx graph with typed attributes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from onnxplain.errors import ConfigError

Array = np.ndarray[Any, Any]
ROOT = "root"
"""The id of the node that stands for the network's decision."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HNode:
    """One feature that supports (or inhibits) a decision: channel `channel` of `layer`.

    Attributes:
        id: unique; in a tree the channels from the root on ("root/417/33"), in a DAG level and channel.
        level: 0 for the root, the network's decision; 1 for the layer listed last, and so on down.
        layer, channel: of the root the explained tensor and class (-1: not a class).
        decision: D = <S, A>, what the node explains of its layer; of the root the explained score.
        contribution: C, to its parent's decision; negative for an inhibitor. Of a node with several parents
            the sum over them. Of the root its decision.
        share: C+ / sum of its siblings' C+, in [0, 1], siblings that were not kept included; 0 for an
            inhibitor. Signed: C / sum of |C|, in [-1, 1]. With several parents: of the strongest.
        root_share: product of the shares from the root on (summed over the paths of a DAG).
        residual: B = D - sum of C over all channels: biases and curvature; None where not expanded.
        coverage: sum of the shares of the children kept, in [0, 1]; None where not expanded.
        peak: row and column of the layer where the feature contributes most; None for the root.
        box: receptive field of the peak in input pixels (top, left, bottom, right), end exclusive, clipped;
            None for the root and where the input is no picture.
        map: M_k, float32 [h, w], signed: where in the layer the contribution lies. None for the root.
        pixels: float32 [H, W]: gradient of the node's decision x input, summed over colours. Leaves only.
    """

    id: str
    level: int
    layer: str
    channel: int
    decision: float
    contribution: float
    share: float
    signed: float
    root_share: float
    residual: float | None = None
    coverage: float | None = None
    peak: tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None
    map: Array | None = None
    pixels: Array | None = None

    @property
    def inhibits(self) -> bool:
        """Whether the feature speaks against its parent."""
        return self.contribution < 0 and self.level > 0


@dataclass(frozen=True, kw_only=True)
class HEdge:
    """One child's contribution to one parent; `share` and `signed` as in `HNode`, within that parent."""

    parent: str
    child: str
    contribution: float
    share: float
    signed: float


NODE_FIELDS = tuple(f.name for f in fields(HNode))


class Hierarchy:
    """What supports a decision, level by level, from the decision at the root to the lowest layer.

    `graph` is a networkx DiGraph from parents to children; its node attributes are those of `HNode`, its
    edge attributes contribution, share and signed. `meta` says how it came about (JSON-able): model, sha256,
    layers from top to bottom and their shapes, seed, weight, target, label, versions. `image` is the picture
    as the model sees it, uint8 [H, W, 3], or None.
    """

    def __init__(
        self, graph: nx.DiGraph, meta: Mapping[str, Any], image: Array | None = None
    ) -> None:
        """Check that `graph` is a DAG below one root whose nodes carry every attribute of `HNode`.

        Raises ConfigError, also for a `meta` that JSON cannot hold; its tuples become lists.
        """
        if ROOT not in graph or not nx.is_directed_acyclic_graph(graph):
            raise ConfigError(f"a hierarchy is a directed acyclic graph with a node {ROOT!r}")
        for name, attributes in graph.nodes(data=True):
            if set(attributes) != set(NODE_FIELDS) or attributes["id"] != name:
                raise ConfigError(
                    f"node {name!r} does not have the attributes of a hierarchy's node"
                )
        if len(nx.descendants(graph, ROOT)) + 1 != len(graph):
            raise ConfigError(f"some nodes of the hierarchy do not hang below {ROOT!r}")
        self.graph, self.meta, self.image = graph, _plain(meta), image

    @classmethod
    def of(
        cls,
        nodes: list[HNode],
        edges: list[HEdge],
        meta: Mapping[str, Any],
        image: Array | None = None,
    ) -> Hierarchy:
        """Build a hierarchy from its nodes, in order, and its edges, in the order of their parents."""
        graph = nx.DiGraph()
        for node in nodes:
            graph.add_node(node.id, **{name: getattr(node, name) for name in NODE_FIELDS})
        order = {node.id: i for i, node in enumerate(nodes)}
        for e in sorted(edges, key=lambda e: order.get(e.parent, len(nodes))):
            graph.add_edge(
                e.parent, e.child, contribution=e.contribution, share=e.share, signed=e.signed
            )
        return cls(graph, meta, image)

    def __getitem__(self, node: str) -> HNode:
        """Return a node by its id; raises KeyError."""
        return HNode(**self.graph.nodes[node])

    def __contains__(self, node: object) -> bool:
        return node in self.graph

    def __len__(self) -> int:
        return len(self.graph)

    def __iter__(self) -> Iterator[HNode]:
        """Yield the nodes level by level, the strongest first."""
        return (self[name] for name in self.graph)

    @property
    def root(self) -> HNode:
        """The network's decision."""
        return self[ROOT]

    @property
    def edges(self) -> Iterator[HEdge]:
        """The contributions, in the order of the nodes."""
        return (HEdge(parent=a, child=b, **data) for a, b, data in self.graph.edges(data=True))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers from top to bottom; level 1 is the first."""
        return tuple(self.meta["layers"])

    def level(self, level: int) -> list[HNode]:
        """Return the nodes of a level; 0 is the root."""
        return [node for node in self if node.level == level]

    def children(self, node: str) -> list[HNode]:
        """Return what supports a node, strongest first, then what inhibits it."""
        return [self[name] for name in self.graph.successors(node)]

    def parents(self, node: str) -> list[HNode]:
        """Return what a node supports or inhibits."""
        return [self[name] for name in self.graph.predecessors(node)]

    @property
    def leaves(self) -> list[HNode]:
        """The nodes that support a decision and that nothing below supports."""
        inner = {e.parent for e in self.edges if e.contribution > 0}
        return [n for n in self if not n.inhibits and n.id not in inner]

    def save(self, folder: str | Path, stem: str = "hierarchy") -> Path:
        """Write `<stem>.json` and `<stem>.npz`; see `onnxplain.hierarchy.store`."""
        from onnxplain.hierarchy.store import save

        return save(self, folder, stem)

    @staticmethod
    def load(path: str | Path, stem: str | None = None) -> Hierarchy:
        """Read what `save` wrote, by the .json's path or folder and stem; raises InputError."""
        from onnxplain.hierarchy.store import load

        return load(path, stem)

    def write(self, path: str | Path) -> Path:
        """Write .json, .graphml, .gexf or .dot by the path's suffix; see `onnxplain.hierarchy.exports`."""
        from onnxplain.hierarchy.exports import write

        return write(self, path)

    def __repr__(self) -> str:
        counts = ", ".join(str(len(self.level(i))) for i in range(len(self.layers) + 1))
        return f"<Hierarchy of {self.meta.get('label')!r}: {len(self)} nodes by level {counts}>"


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return `meta` as JSON gives it back, so that it survives files unchanged."""
    try:
        text = json.dumps(dict(meta), allow_nan=False, default=lambda v: v.item())
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"the hierarchy's meta is not JSON-able: {error}") from error
    plain: dict[str, Any] = json.loads(text)
    return plain
