"""Many hierarchies as one statement: which channels, edges and paths does a class use? Ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from onnxplain.errors import ConfigError, InputError
from onnxplain.hierarchy.compare import Comparable
from onnxplain.hierarchy.hierarchy import Hierarchy
from onnxplain.hierarchy.queries import paths, supporting_edges

_Key = tuple[int, tuple[int, ...]]  # level, channels


@dataclass(frozen=True, eq=False, kw_only=True)
class Use(Comparable):
    """How often something supports the decisions.

    Attributes:
        channels: the channels from the top down: one for a channel, two for an edge (parent, child; the root
            is -1), all of a path below the root.
        level: of the last channel.
        count: the number of images in which it is used.
        mean_share: the part of the decision that runs through it, in [0, 1] (a product of shares from the
            root on, summed over a tree's nodes of the same channel), mean over these images.
    """

    channels: tuple[int, ...]
    level: int
    count: int
    mean_share: float


@dataclass(frozen=True, eq=False, kw_only=True)
class HierarchyUse(Comparable):
    """What `aggregate` returns; every list has the most frequent first, then the largest mean share.

    Attributes:
        images: the number of hierarchies.
        labels: {label: count} of what they explain.
        layers: from top to bottom, level 1 first.
        channels, edges, paths: how often each is used.
    """

    images: int
    labels: dict[str, int]
    layers: tuple[str, ...]
    channels: tuple[Use, ...]
    edges: tuple[Use, ...]
    paths: tuple[Use, ...]


def aggregate(hierarchies: Iterable[Hierarchy], most_paths: int = 1000) -> HierarchyUse:
    """Count what supports the decisions of several images, e.g. of one class; inhibitors are left out.

    most_paths: of each image, the strongest ones; a DAG has more than can be listed.

    Raises InputError (there is none), ConfigError (their layers differ; `most_paths` below 1).
    """
    images, layers, labels = 0, None, dict[str, int]()
    channels, edges, routes = _Counts(), _Counts(), _Counts()
    for hierarchy in hierarchies:
        if layers not in (None, hierarchy.layers):
            raise ConfigError(
                f"hierarchies over different layers do not add up: {layers} and {hierarchy.layers}"
            )
        images, layers = images + 1, hierarchy.layers
        label = str(hierarchy.meta.get("label"))
        labels[label] = labels.get(label, 0) + 1
        channels.add(_channels(hierarchy))
        edges.add(_edges(hierarchy))
        routes.add(_paths(hierarchy, most_paths))
    if layers is None:
        raise InputError("there are no hierarchies to add up")
    return HierarchyUse(
        images=images,
        labels=labels,
        layers=layers,
        channels=channels.uses(),
        edges=edges.uses(),
        paths=routes.uses(),
    )


class _Counts:
    """In how many images something is used, and the sum of its shares."""

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[int, float]] = {}

    def add(self, found: Iterator[tuple[_Key, float]]) -> None:
        """Add one image's."""
        shares: dict[_Key, float] = {}
        for key, share in found:
            shares[key] = shares.get(key, 0.0) + share
        for key, share in shares.items():
            count, total = self._found.get(key, (0, 0.0))
            self._found[key] = (count + 1, total + share)

    def uses(self) -> tuple[Use, ...]:
        """Return what was counted, the most frequent first, equal ones in the order of their numbers."""
        uses = [
            Use(level=level, channels=channels, count=count, mean_share=total / count)
            for (level, channels), (count, total) in self._found.items()
        ]
        return tuple(sorted(uses, key=lambda u: (-u.count, -u.mean_share, u.level, u.channels)))


def _channels(hierarchy: Hierarchy) -> Iterator[tuple[_Key, float]]:
    for node in hierarchy:
        if node.level and not node.inhibits:
            yield (node.level, (node.channel,)), node.root_share


def _edges(hierarchy: Hierarchy) -> Iterator[tuple[_Key, float]]:
    for name, edges in supporting_edges(hierarchy).items():
        parent = hierarchy[name]
        above = parent.channel if parent.level else -1
        for edge in edges:
            child = hierarchy[edge.child]
            yield (child.level, (above, child.channel)), parent.root_share * edge.share


def _paths(hierarchy: Hierarchy, most: int) -> Iterator[tuple[_Key, float]]:
    for path in paths(hierarchy, most):
        channels = tuple(hierarchy[name].channel for name in path.nodes[1:])
        if channels:
            yield (len(channels), channels), path.share
