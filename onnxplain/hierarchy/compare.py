"""The difference of two hierarchies: predicted against true class, one model against another. Ours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from onnxplain.hierarchy.hierarchy import Hierarchy
from onnxplain.results.record import Record

_OPTIONS = ("seed", "weight", "top_k", "min_share")


class Comparable(Record):
    """A record that is plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able: records as dicts, tuples as lists, without an empty `meta`."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return {name: value for name, value in values.items() if name != "meta" or value}


@dataclass(frozen=True, eq=False, kw_only=True)
class LevelDifference(Comparable):
    """Two hierarchies at one level.

    Attributes:
        level: 1 for the layer listed last.
        layer_a, layer_b: the layers compared; None where a hierarchy ends above.
        jaccard: channels in both / channels in either, in [0, 1]; 1 where neither has any.
        only_a, only_b: {channel: contribution}, summed over a tree's nodes; supporting channels only.
        common: {channel: (contribution in a, in b)}, the largest in a first. Keys are text, as in JSON.
    """

    level: int
    layer_a: str | None
    layer_b: str | None
    jaccard: float
    only_a: dict[str, float]
    only_b: dict[str, float]
    common: dict[str, tuple[float, float]]

    @property
    def same_layer(self) -> bool:
        """Whether the layers have the same name; otherwise equal channel numbers may mean nothing."""
        return self.layer_a == self.layer_b


@dataclass(frozen=True, eq=False, kw_only=True)
class HierarchyDifference(Comparable):
    """What `compare` returns.

    Attributes:
        label_a, label_b: what the hierarchies explain; decision_a, decision_b: its score.
        levels: one entry per level below the root of the deeper hierarchy.
        first_difference: the first level whose channels are not the same; None where none differs.
        notes: what to bear in mind: levels whose layers differ in name, options that differ.
    """

    label_a: str
    label_b: str
    decision_a: float
    decision_b: float
    levels: tuple[LevelDifference, ...]
    first_difference: int | None
    notes: tuple[str, ...]


def compare(a: Hierarchy, b: Hierarchy) -> HierarchyDifference:
    """Compare the supporting channels of two hierarchies level by level, whatever their layers' names.

    Contributions are those to the parents, summed over the nodes of a channel: in the unit of the two scores.
    """
    depth = max(len(a.layers), len(b.layers))
    levels = tuple(_level(a, b, level) for level in range(1, depth + 1))
    notes = [
        f"level {x.level}: {x.layer_a!r} against {x.layer_b!r}: channels are compared by number"
        for x in levels
        if not x.same_layer and x.layer_a is not None and x.layer_b is not None
    ]
    for option in _OPTIONS:
        if a.meta.get(option) != b.meta.get(option):
            notes.append(f"{option}: {a.meta.get(option)!r} against {b.meta.get(option)!r}")
    return HierarchyDifference(
        label_a=str(a.meta.get("label")),
        label_b=str(b.meta.get("label")),
        decision_a=a.root.decision,
        decision_b=b.root.decision,
        levels=levels,
        first_difference=next((x.level for x in levels if x.only_a or x.only_b), None),
        notes=tuple(notes),
    )


def supporting(hierarchy: Hierarchy, level: int) -> dict[int, float]:
    """Return {channel: contribution summed over its supporting nodes} of a level, the largest first."""
    totals: dict[int, float] = {}
    for node in hierarchy.level(level):
        if not node.inhibits:
            totals[node.channel] = totals.get(node.channel, 0.0) + node.contribution
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _level(a: Hierarchy, b: Hierarchy, level: int) -> LevelDifference:
    in_a, in_b = supporting(a, level), supporting(b, level)
    common = {str(k): (c, in_b[k]) for k, c in in_a.items() if k in in_b}
    either = len(in_a.keys() | in_b.keys())
    return LevelDifference(
        level=level,
        layer_a=a.layers[level - 1] if level <= len(a.layers) else None,
        layer_b=b.layers[level - 1] if level <= len(b.layers) else None,
        jaccard=len(common) / either if either else 1.0,
        only_a={str(k): c for k, c in in_a.items() if k not in in_b},
        only_b={str(k): c for k, c in in_b.items() if k not in in_a},
        common=common,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Comparable):
        return value.to_dict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
