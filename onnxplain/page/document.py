"""A hierarchy as the JSON-able document that the page shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.hierarchy import HEdge, Hierarchy, HNode
from onnxplain.page.definitions import DEFINITIONS
from onnxplain.page.pictures import color_tables, heat, picture_url, signed_heat
from onnxplain.results import Ranked
from onnxplain.version import __version__

Array = np.ndarray[Any, Any]
Exemplars = Mapping[tuple[str, int], Sequence[tuple[Array, str]]]
SCHEMA = "onnxplain-page/1"
EXEMPLAR = 96  # pixels
_NUMBERS = ("decision", "contribution", "share", "signed", "root_share", "residual", "coverage")
_TELLING = ("model", "target", "seed", "weight", "top_k")  # what tells two views of one label apart


def page_document(
    hierarchy: Hierarchy,
    other: Hierarchy | None = None,
    *,
    top: Sequence[Ranked] = (),
    maps: Mapping[str, Array] | None = None,
    exemplars: Exemplars | None = None,
) -> dict[str, Any]:
    """Return all that the page shows, as JSON-able data.

    other: a second hierarchy of the same picture (of the true class, a contrast); the page switches
        between the two.
    top: what the model predicts, best first.
    maps: other methods' maps by name, [h, w] each, shown over the picture beside the hierarchy.
    exemplars: by layer and channel, pictures that activate it most, uint8 [H, W, 3], with captions.

    Raises ConfigError: `other` explains another picture.
    """
    views = [hierarchy] if other is None else [hierarchy, other]
    if other is not None and not _same(hierarchy.image, other.image):
        raise ConfigError("two hierarchies on one page must explain the same picture")
    image = hierarchy.image
    pictures = _pictures(views, exemplars or {})
    return {
        "schema": SCHEMA,
        "made_by": f"onnxplain {__version__}",
        "picture": None
        if image is None
        else {"src": picture_url(image), "height": image.shape[0], "width": image.shape[1]},
        "colors": color_tables(),
        "definitions": [list(entry) for entry in DEFINITIONS],
        "views": [
            {**_view(h, list(pictures)), "title": title}
            for h, title in zip(views, _titles(views), strict=True)
        ],
        "top": [
            {"index": r.class_index, "label": r.label, "probability": _number(r.probability)}
            for r in top
        ],
        "exemplars": list(pictures.values()),
        "maps": [
            {"name": name, "map": signed_heat(a) if a.min() < 0 else heat(a)}
            for name, a in (maps or {}).items()
        ],
    }


def _pictures(views: Sequence[Hierarchy], exemplars: Exemplars) -> dict[tuple[str, int], Any]:
    """Return the exemplars of the channels that occur, each channel's once however many nodes it has."""
    used = {(n.layer, n.channel) for h in views for n in h}
    return {
        channel: [{"src": picture_url(image, EXEMPLAR), "caption": text} for image, text in found]
        for channel, found in exemplars.items()
        if channel in used
    }


def _view(h: Hierarchy, illustrated: list[tuple[str, int]]) -> dict[str, Any]:
    meta, root = h.meta, h.root
    shapes = meta.get("shapes") or [None] * len(h.layers)
    names = [root.layer, *h.layers]
    return {
        "label": str(meta.get("label", root.channel)),
        "target": str(meta.get("target", "")),
        "score": _number(root.decision),
        "model": str(meta.get("model", "")),
        "columns": [
            {"level": i, "layer": name, "shape": shape}
            for i, (name, shape) in enumerate(zip(names, [None, *shapes], strict=True))
        ],
        "nodes": [_node(n, illustrated) for n in h],
        "edges": [_edge(e) for e in h.edges],
        # As JSON has it: tuples are lists, and NaN is a word.
        "meta": json.loads(json.dumps(meta, default=str), parse_constant=str),
    }


def _node(n: HNode, illustrated: list[tuple[str, int]]) -> dict[str, Any]:
    channel = (n.layer, n.channel)
    shown = None if n.map is None else heat(-n.map if n.inhibits else n.map)
    return {
        "id": n.id,
        "level": n.level,
        "channel": n.channel,
        **{name: _number(getattr(n, name)) for name in _NUMBERS},
        "inhibits": n.inhibits,
        "peak": n.peak,
        "box": n.box,
        "map": shown,
        "pixels": None if n.pixels is None else signed_heat(n.pixels),
        "exemplars": illustrated.index(channel) if channel in illustrated else None,
    }


def _edge(e: HEdge) -> dict[str, Any]:
    numbers = {name: _number(getattr(e, name)) for name in ("contribution", "share", "signed")}
    return {"parent": e.parent, "child": e.child, **numbers}


def _titles(views: Sequence[Hierarchy]) -> list[str]:
    """Return the question that each hierarchy answers; equal ones with what tells them apart."""
    titles = [_question(h) for h in views]
    if len(set(titles)) == len(titles):
        return titles
    differing = [k for k in _TELLING if len({str(h.meta.get(k)) for h in views}) > 1]
    return [
        f"{title} ({', '.join(f'{k} {h.meta.get(k)}' for k in differing) or f'tree {i}'})"
        for i, (title, h) in enumerate(zip(titles, views, strict=True), 1)
    ]


def _question(h: Hierarchy) -> str:
    label = str(h.meta.get("label", h.root.channel))
    named = label if h.root.channel >= 0 and label != str(h.root.channel) else f"class {label}"
    if h.root.channel < 0:  # a contrast or a sum, in the words of its target
        named = label.replace(" minus ", " rather than ")
    return f"Why {named}?"


def _same(a: Array | None, b: Array | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def _number(value: float | None) -> float | None:
    """Return a number that JSON has; infinities and NaN become None."""
    return None if value is None or not math.isfinite(value) else float(value)
