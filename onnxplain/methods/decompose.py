"""Decompose a decision into a hierarchy of supporting features, by gAP; `growing` holds the formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.graph.layers import Layer
from onnxplain.hierarchy import Hierarchy
from onnxplain.methods.chain import Chain
from onnxplain.methods.common import Images, start, whole
from onnxplain.methods.growing import Growing, Rules, Seed, Weight
from onnxplain.model import Model
from onnxplain.target import Classes, as_target


def decompose(
    model: Model,
    x: Images,
    target: object = None,
    layers: Sequence[Layer | str] | None = None,
    top_k: int = 3,
    seed: Seed = "path",
    *,
    weight: Weight = "signed",
    depth: int | None = None,
    min_share: float = 0.02,
    min_root_share: float = 0.001,
    max_nodes: int = 200,
    inhibitors: int = 1,
    pixels: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Hierarchy:
    """Decompose the decision for one image, x [1, ...], into the channels that support it, layer by layer.

    target: as for `gradient`; the root's decision is its score.
    layers: cuts of the network with channels, in any order; None takes the last cut of each resolution.
    depth: only so many of them, from the top.
    seed: what a node explains. "path": its contribution to its parent (a tree). "root": its contribution to
        the root; nodes of equal layer and channel are one (a DAG). "max": its activation where it contributes
        most. "sum": the sum of its activation map.
    weight: "signed" G * A, complete; "positive" relu(G) * A, as LayerCAM; "mean" mean(G) * A, as Grad-CAM.
    top_k, min_share: a node's children are its channels of positive contribution, the largest first (equal
        ones by index), at most `top_k`, each with at least this share of all positive contributions.
    min_root_share: nodes with a smaller product of shares from the root on are not expanded.
    max_nodes: of a level that would exceed it only the largest contributions stay.
    inhibitors: so many of the most negative channels are reported at every expanded node, beside `max_nodes`.
    pixels: also attribute every leaf to the input (gradient x input, summed over colours).
    progress: is told before the first level and after each how many are done, of how many; what it raises
        ends the work.

    One forward, then one batched backward per level whatever the number of nodes.

    Raises InputError (not one image), ConfigError (an option), LayerError (an unknown layer, no cut, or
    without channels), TargetError, UnsupportedOpError.
    """
    rules = Rules(seed, weight, top_k, min_share, min_root_share, max_nodes, inhibitors)
    job = start(model, x, target)
    if len(job.feeds[job.source]) != 1:
        raise InputError(
            f"decompose takes one image, got {len(job.feeds[job.source])}: use decompose_many"
        )
    chosen = choose_layers(job.model, layers, depth)
    told = progress or (lambda done, of: None)
    told(0, len(chosen))
    growing = Growing(Chain(job, chosen, pixels), rules)
    for level in range(1, len(chosen) + 1):
        growing.descend(level)
        told(level, len(chosen))
    if pixels:
        growing.attribute_leaves()
    return growing.hierarchy()


def decompose_many(
    model: Model, x: Images, target: object = None, **options: Any
) -> Iterator[Hierarchy]:
    """Yield the hierarchy of each image of a batch [N, ...], in order; arguments as for `decompose`."""
    at_size, feeds = model.fit(x)
    count = len(feeds[at_size.graph.source.name])
    chosen = as_target(target, count)
    for i in range(count):
        one = chosen.rows(slice(i, i + 1)) if isinstance(chosen, Classes) else target
        yield decompose(model, at_size.rows(feeds, slice(i, i + 1)), one, **options)


def choose_layers(
    model: Model, layers: Sequence[Layer | str] | None, depth: int | None
) -> tuple[Layer, ...]:
    """Return the layers to decompose over, from top to bottom.

    Raises LayerError (unknown, none, or twice the same), ConfigError (depth).
    """
    if depth is not None and not whole(depth, 1):
        raise ConfigError(f"depth = {depth!r} must be a whole number, 1 or more")
    if layers is None:
        found = model.graph.levels
        if not found:
            raise LayerError(
                f"{model.name}: {model.why_default_layer}; name layers to decompose over"
            )
        return found[:depth]
    named = {model.layer(layer) for layer in layers}
    if not named or len(named) != len(layers):
        raise LayerError("name one layer or more to decompose over, each once")
    return tuple(layer for layer in reversed(model.layers) if layer in named)[:depth]
