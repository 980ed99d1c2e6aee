"""How features vary together over a data set: correlation, redundancy, dead filters, CKA (METHODS.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Moments, Partial, Run
from onnxplain.errors import LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.features import classifying, feature_layers, pooled, values_of
from onnxplain.model import Model
from onnxplain.results.filters import CONSTANT, FeatureCorrelation

MOST = 4096
"""Channels of all layers together: their matrix takes 8 bytes a pair, and some are in memory at once."""
PAPER = "Yang et al., 2023, arXiv 2211.00185 (formulas ours)"


def feature_correlation(
    model: Model,
    data: Data,
    layers: Sequence[Layer | str] | None = None,
    run: Run | None = None,
) -> FeatureCorrelation:
    """Correlate the features of layers, and of the logits, over the images of a data set.

    A feature is the mean of a channel over its positions. data: see `onnxplain.dataset.open_data`. layers:
    None takes those that hold features at each depth, or the last of each resolution where the former have
    more than 4096 channels together. One pass; memory depends on the channels, not on the images.

    Raises LayerError, InputError, TargetError (no classes), ConfigError.
    """
    classifying(model)
    chosen = correlated_layers(model, layers)
    found = (run or Run()).over(data, model, Correlation(tuple(layer.name for layer in chosen)))
    moments = Moments(**found.partial)
    correlation, deviation = pearson(moments)
    return FeatureCorrelation(
        layers=tuple(layer.name for layer in chosen),
        channels=tuple(int(layer.channels or 0) for layer in chosen),
        correlation=correlation,
        mean=moments.mean,
        deviation=deviation,
        images=int(moments.count),
        meta=model.meta("feature_correlation", paper=PAPER, **found.meta),
    )


def correlated_layers(model: Model, layers: Sequence[Layer | str] | None) -> tuple[Layer, ...]:
    """Return the layers to correlate; raises LayerError where they have too many channels together."""
    chosen = feature_layers(model, layers)
    total = sum(layer.channels or 0 for layer in chosen)
    if layers is None and total > MOST:
        chosen = tuple(reversed(model.graph.levels))
        total = sum(layer.channels or 0 for layer in chosen)
    if total > MOST or not chosen:
        raise LayerError(
            f"the layers have {total} channels together, and up to {MOST} can be correlated: name fewer"
        )
    return chosen


@dataclass(frozen=True)
class Correlation(Job):
    """Moments of all features and logits of one model together."""

    layers: tuple[str, ...]
    name: ClassVar[str] = "correlation"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the moments of [phi of every layer, logits]."""
        layers = [models[0].layer(name) for name in self.layers]
        values, logits, _ = values_of(models[0], batch.x, layers)
        rows = [pooled(values[layer.name], layer) for layer in layers]
        return vars(Moments.of(np.concatenate([*rows, logits], 1)))

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the moments of both."""
        return vars(Moments(**a).merge(Moments(**b)))

    def key(self) -> Any:
        """Return the layers."""
        return self.layers


def pearson(moments: Moments) -> tuple[Array, Array]:
    """Return r [D, D] and standard deviations [D]; r of a constant feature is 0, on the diagonal 1."""
    deviation = np.sqrt(np.clip(np.diagonal(moments.comoment), 0, None) / moments.count)
    varies = deviation > CONSTANT * np.abs(moments.mean)
    below = np.outer(deviation, deviation) * moments.count
    r = np.divide(moments.comoment, below, out=np.zeros_like(below), where=np.outer(varies, varies))
    r = np.clip((r + r.T) / 2, -1, 1)
    np.fill_diagonal(r, 1)
    return r, np.where(varies, deviation, 0)
