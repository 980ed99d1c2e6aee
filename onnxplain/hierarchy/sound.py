"""What holds of every hierarchy that is written to a file or read from one that nobody vouches for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxplain.errors import InputError
from onnxplain.hierarchy.hierarchy import ROOT, Array, HEdge, Hierarchy, HNode

_LONGEST = 60  # characters of a name or value in a message


def check(hierarchy: Hierarchy) -> None:
    """Check types and numbers, and that levels, layers and edges fit together; raises InputError.

    `Hierarchy` itself checks the graph: one root, no cycle, nothing beside it.
    """
    layers = _layers(hierarchy)
    for node in hierarchy:
        _check_fields(f"node {_short(node.id)}", node, _NODE)
        if node.level > len(layers) or (node.level == 0) != (node.id == ROOT):
            raise InputError(f"node {_short(node.id)} cannot be at level {_short(node.level)}")
        if node.level and node.layer != layers[node.level - 1]:
            raise InputError(
                f"node {_short(node.id)}: layer {_short(node.layer)} is not that of level {node.level}"
            )
    for edge in hierarchy.edges:
        where = f"edge {_short(edge.parent)} -> {_short(edge.child)}"
        _check_fields(where, edge, _EDGE)
        if hierarchy[edge.child].level != hierarchy[edge.parent].level + 1:
            raise InputError(f"{where} does not lead to the next level")
    if hierarchy.image is not None and not _is_picture(hierarchy.image):
        raise InputError("the hierarchy's image must be uint8 [H, W, 3]")


def _layers(hierarchy: Hierarchy) -> list[str]:
    layers = hierarchy.meta.get("layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise InputError("the hierarchy's meta does not list its layers")
    return layers


def _check_fields(
    where: str, held: HNode | HEdge, fields: Mapping[str, tuple[str, Callable[[Any], bool]]]
) -> None:
    for name, (expected, holds) in fields.items():
        value = getattr(held, name)
        if not holds(value):
            raise InputError(f"{where}: {name} must be {expected}, got {_short(value)}")


def _short(value: object) -> str:
    text = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_finite(value: Array) -> bool:
    plain = isinstance(value, np.ndarray) and value.dtype == np.float32
    return plain and value.size > 0 and bool(np.isfinite(value).all())


def _is_map(value: Array) -> bool:
    return _is_finite(value) and value.ndim == 2


def _is_picture(value: Array) -> bool:
    plain = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3
    return plain and value.shape[2] == 3 and value.size > 0


def _optional(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _counts(length: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, tuple) and len(v) == length and all(map(_is_count, v))


_NUMBER = ("a finite float", _is_number)
_NODE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "id": ("text", _is_text),
    "level": ("a whole number, 0 or more", _is_count),
    "layer": ("text", _is_text),
    "channel": ("a whole number", _is_whole),
    **dict.fromkeys(("decision", "contribution", "share", "signed", "root_share"), _NUMBER),
    **dict.fromkeys(("residual", "coverage"), ("a finite float or null", _optional(_is_number))),
    "peak": ("two whole numbers or null", _optional(_counts(2))),
    "box": ("four whole numbers or null", _optional(_counts(4))),
    "map": ("finite float32 [h, w] or null", _optional(_is_map)),
    "pixels": (
        "finite float32 or null",
        _optional(_is_finite),
    ),  # [H, W] where the input is a picture
}
_EDGE = dict.fromkeys(("contribution", "share", "signed"), _NUMBER)
