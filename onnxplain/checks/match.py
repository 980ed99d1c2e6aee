"""Which layer of one file is which of another: by name, else by shape and activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from onnxplain.checks.seen import MODEL, REFERENCE, Asked
from onnxplain.dataset import Batch, Source, take
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.cam import CAMS
from onnxplain.methods.maps import channels_first
from onnxplain.model import Model

SAMPLE = 4
"""Images on which layers of two files are matched."""
LEAST = 0.5
"""Correlation of activations below which two layers of different names are not taken for the same."""

MOST_VALUES = 1 << 16
"""Values of a layer that are compared, spread over it."""


@dataclass(frozen=True)
class Pair:
    """A layer of A, the layer of B that holds the same, and the correlation of their activations."""

    a: str
    b: str
    similarity: float


class _Values(NamedTuple):
    """A layer's shape [K, h, w] or [K], and its values on all images, centred, of length 1."""

    shape: tuple[int, ...]
    unit: Array


def match_layers(a: Model, b: Model, x_a: Array, x_b: Array) -> tuple[Pair, ...]:
    """Return the layers of A that have a counterpart in B, in A's order, each layer used once.

    Layers are the cuts with channels; channels are compared in their order, positions in theirs, whatever
    the layout. Layers of one name and shape belong together; of the others first those whose
    activations on the images x_a, x_b (the same images, read for each) correlate most (Pearson, over up to
    MOST_VALUES values an image) [ours]. A layer that lost channels has no counterpart.
    """
    mine, theirs = _activations(a, x_a), _activations(b, x_b)
    named = {layer.name: layer for layer in theirs}
    pairs: dict[Layer, tuple[Layer, float]] = {}
    for layer, values in mine.items():
        other = named.get(layer.name)
        if other is not None and theirs[other].shape == values.shape:
            pairs[layer] = (other, float(values.unit @ theirs[other].unit))
    taken = {other for other, _ in pairs.values()}
    found = [
        (float(values.unit @ others.unit), i, layer, other)
        for i, (layer, values) in enumerate(mine.items())
        for other, others in theirs.items()
        if layer not in pairs and other not in taken and others.shape == values.shape
    ]
    for similarity, _, layer, other in sorted(found, key=lambda f: (-round(f[0], 6), f[1])):
        if similarity >= LEAST and layer not in pairs and other not in taken:
            pairs[layer] = (other, similarity)
            taken.add(other)
    return tuple(
        Pair(layer.name, pairs[layer][0].name, pairs[layer][1]) for layer in mine if layer in pairs
    )


def matched(a: Model, b: Model, source: Source) -> tuple[Pair, ...]:
    """Return which layer of A is which of B, judged on the first images that can be read."""
    found: list[Batch] = []
    for number in range(len(source)):
        batch = take(source, (a, b), number)
        found += [] if batch is None else [batch]
        if len(found) == SAMPLE:
            break
    if not found:
        return ()
    return match_layers(a, b, *(np.concatenate([f.inputs[i] for f in found]) for i in (0, 1)))


def at_layers(asked: Asked, reference: Model, pairs: tuple[Pair, ...], model: Model) -> Asked:
    """Return settings whose maps are made at layers that hold the same in both models, where there are such.

    A layer that was named is one of the model under check (or else of the reference); by default it is the
    reference's own default layer, with its counterpart.
    """
    if asked.method not in CAMS:
        return asked
    named, default = asked.layers.get(MODEL), reference.default_layer
    mine: str | None
    other: str | None
    if named is not None and model.graph.layer(named) is not None:
        mine, other = named, next((p.a for p in pairs if p.b == named), None)
    elif named is not None or default is not None:
        other = named or (default.name if default else None)
        mine = next((p.b for p in pairs if p.a == other), named)
    else:
        return asked
    if named is None and mine is None:
        return asked  # each file's own default layer
    return replace(asked, layers={MODEL: mine, REFERENCE: other})


def _activations(model: Model, x: Array) -> dict[Layer, _Values]:
    """Return values of the cuts with channels; image by image, as all layers together are large."""
    at_size, feeds = model.fit(x)
    layers = [layer for layer in at_size.layers if layer.cut and layer.channels is not None]
    names = [layer.name for layer in layers]
    parts: dict[Layer, list[Array]] = {layer: [] for layer in layers}
    shapes: dict[Layer, tuple[int, ...]] = {}
    for rows in at_size.batches(feeds, 1):
        values = at_size.values(rows, names)
        for layer in layers:
            a = values[layer.name]
            a = channels_first(a, layer) if layer.axes is not None else a
            shapes[layer] = a.shape[1:]
            parts[layer].append(a.ravel()[:: a.size // MOST_VALUES | 1].astype(np.float64))
    return {layer: _Values(shapes[layer], _unit(np.concatenate(parts[layer]))) for layer in layers}


def _unit(values: Array) -> Array:
    values = values - values.mean()
    length = np.linalg.norm(values)
    return values / length if length > 0 else values
