"""Hierarchies to put on a page: a real one of the bundled model, and made-up ones with any names."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain import bundled
from onnxplain.hierarchy import HEdge, Hierarchy, HNode

Array = np.ndarray[Any, Any]
CAT = next(photo for photo in bundled.photos() if photo.stem == "cat")


@functools.cache
def model() -> ox.Model:
    return ox.load(bundled.model_path(), device="cpu", threads=1)


@functools.cache
def cat(target: int | ox.Target | None = None, seed: Any = "path") -> Hierarchy:
    """Return what the bundled model sees in a cat: a tree of up to 53 nodes."""
    return ox.decompose(model(), model().read([CAT]), target, seed=seed)


def made_up(
    names: tuple[str, ...] = ("upper", "middle", "lower"),
    label: str = "cat",
    size: tuple[int, int] | None = (40, 60),
    map_size: tuple[int, int] = (6, 7),
    pixels: bool = False,
) -> Hierarchy:
    """Return a tree in which every decision has three supporters and one inhibitor; 1 + 4 + 12 + 36 nodes."""
    rng = np.random.default_rng(0)
    nodes = [node("root", 0, "scores", 3, 8.0, 1.0, residual=0.5, coverage=0.9)]
    edges = []
    for level, name in enumerate(names, 1):
        expands = level < len(names)
        for parent in [n for n in nodes if n.level == level - 1 and n.contribution > 0]:
            for channel, share in enumerate((0.5, 0.25, 0.15, 0.0)):
                c = share * 8 or -1.5
                child = node(
                    f"{parent.id}/{channel}", level, name, channel, c, share,
                    root_share=share * parent.root_share, peak=(1, 2),
                    residual=0.1 if expands and share else None,
                    coverage=0.9 if expands and share else None,
                    box=None if size is None else (2, 3, 20, 30),
                    map=rng.normal(size=map_size).astype(np.float32),
                    pixels=None
                    if size is None or expands or not pixels or not share
                    else rng.normal(size=size).astype(np.float32),
                )  # fmt: skip
                nodes.append(child)
                edges.append(
                    HEdge(
                        parent=parent.id, child=child.id, contribution=c, share=share, signed=c / 9
                    )
                )
    meta = {
        "layers": list(names), "shapes": [[4, *map_size]] * len(names), "label": label,
        "target": label, "model": f"{label}.onnx", "nested": {label: [label]},
    }  # fmt: skip
    image = None if size is None else rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return Hierarchy.of(nodes, edges, meta, image)


def node(
    name: str, level: int, layer: str, channel: int, c: float, share: float, **more: Any
) -> HNode:
    """Return a node whose decision is its contribution."""
    more = {"root_share": share} | more
    return HNode(
        id=name, level=level, layer=layer, channel=channel, decision=c, contribution=c, share=share,
        signed=c / 9, **more,
    )  # fmt: skip
