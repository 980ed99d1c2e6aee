"""What a layer says of a whole image: each channel's mean over the positions, phi (METHODS.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxplain.errors import LayerError, TargetError
from onnxplain.executor import Array
from onnxplain.feeds import Feeds
from onnxplain.graph.layers import Layer
from onnxplain.model import Model


def feature_layers(model: Model, layers: Sequence[Layer | str] | None) -> tuple[Layer, ...]:
    """Return the layers asked for, or those that hold features at each depth, from input to output.

    Raises LayerError: unknown, none, twice the same, or without channels.
    """
    if layers is None:
        chosen = model.graph.features
        if not chosen:
            raise LayerError(f"{model.name}: {model.why_default_layer}; name layers to look at")
        return chosen
    named = {model.layer(layer) for layer in layers}
    if not named or len(named) != len(layers):
        raise LayerError("name one layer or more to look at, each once")
    for layer in named:
        if layer.channels is None:
            raise LayerError(
                f"layer {layer.name!r} of shape {layer.shape} has no channels to look at"
            )
    return tuple(layer for layer in model.layers if layer in named)


def pooled(a: Array, layer: Layer) -> Array:
    """Return phi, float64 [n, K]: the mean over positions of [n, *layer.shape]; a vector is itself."""
    axes = tuple(i for i in range(1, a.ndim) if i != layer.channel_axis)
    phi: Array = a.astype(np.float64).mean(axes) if axes else a.astype(np.float64)
    return phi


def classifying(model: Model) -> str:
    """Return the tensor of the logits [N, C]; raises TargetError for a model without classes."""
    if model.classes is None:
        raise TargetError(f"{model.name} has no logits [N, C] to look at")
    return model.graph.logit.tensor


def values_of(
    model: Model, x: Array, layers: Sequence[Layer]
) -> tuple[dict[str, Array], Array, Feeds]:
    """Run a batch [n, ...]; return the layers' activations by name, the logits [n, C], and the feeds."""
    logit = classifying(model)
    at_size, feeds = model.fit(x)
    names = (*(layer.name for layer in layers), logit)
    parts = [at_size.values(rows, names) for rows in at_size.batches(feeds)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return found, found[logit].astype(np.float64), feeds
