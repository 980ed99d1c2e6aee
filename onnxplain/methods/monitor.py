"""Several checkpoints of one training run, side by side over the same images (METHODS.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Moments, Partial, Run
from onnxplain.errors import ConfigError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.agreement import layer_agreement
from onnxplain.methods.common import cut_layer
from onnxplain.methods.correlation import PAPER, pearson
from onnxplain.methods.features import classifying, feature_layers, pooled, values_of
from onnxplain.methods.importance import filter_importance
from onnxplain.methods.readouts import fit_readouts
from onnxplain.model import Model
from onnxplain.results.filters import cka_of, spearman
from onnxplain.results.monitoring import Monitoring


def monitor(
    models: Sequence[Model],
    data: Data,
    layers: Sequence[Layer | str] | None = None,
    references: Data | None = None,
    names: Sequence[str] | None = None,
    run: Run | None = None,
) -> Monitoring:
    """Follow features, filters and decisions over the checkpoints of a training run.

    models: two or more, in order, of one architecture with the same names of layers. data: the images that
    all are measured on. layers: None takes those that hold features at each depth. references: images to fit
    the readouts to that tell the decision depth; None takes `data`, whose agreement is then flattered.
    names: of the checkpoints; None takes those of the files. Memory grows with the squares of checkpoints and
    channels.

    Raises ConfigError (fewer than two models, names), LayerError (a layer that a checkpoint has not),
    InputError, TargetError (no classes), UnsupportedOpError. Source: the paper's idea, formulas ours.
    """
    if len(models) < 2:
        raise ConfigError("a training run is followed over two checkpoints or more")
    names = [m.name for m in models] if names is None else list(names)
    if len(names) != len(models):
        raise ConfigError(f"{len(names)} names for {len(models)} checkpoints")
    chosen = _common_layers(models, layers)
    run = run or Run()
    of = tuple(layer.name for layer in chosen)
    found = run.over(data, models, SideBySide(of))
    count = len(models)
    redundancy, dead = np.zeros((count, len(of))), np.zeros((count, len(of)))
    cka = np.zeros((len(of), count, count))
    for i, layer in enumerate(chosen):
        channels = int(layer.channels or 0)
        moments = _moments(found.partial, i)
        r, deviation = pearson(moments)
        blocks = [slice(m * channels, (m + 1) * channels) for m in range(count)]
        for m, block in enumerate(blocks):
            own = np.abs(r[block, block]) - np.eye(channels)
            redundancy[m, i], dead[m, i] = own.max(1).mean(), (deviation[block] == 0).mean()
        covariance = r * np.outer(deviation, deviation)
        shared = [[np.square(covariance[a, b]).sum() for b in blocks] for a in blocks]
        cka[i] = cka_of(np.array(shared))
    worth = [filter_importance(m, data, of, "first_order", run=run) for m in models]
    effects = [np.stack([w[layer].effect for w in worth]) for layer in of]
    agreements = []
    for model in models:
        readouts = fit_readouts(model, data if references is None else references, of, run=run)
        agreements.append(layer_agreement(model, data, readouts, run))
    accuracy = [w.right for w in worth]
    return Monitoring(
        names=tuple(names),
        layers=of,
        accuracy=None if None in accuracy else np.array(accuracy, np.float64),
        redundancy=redundancy,
        dead=dead,
        cka=cka,
        effects=tuple(effects),
        ranks=np.stack([[[spearman(a, b) or 0.0 for b in e] for a in e] for e in effects]),
        agreement=np.stack([a.agreement for a in agreements]),
        depth=np.stack([a.depth for a in agreements]),
        images=found.used,
        meta=models[-1].meta(
            "monitor",
            checkpoints=[m.sha256 for m in models],
            references="the same images" if references is None else "others",
            paper=PAPER,
            **found.meta,
        ),
    )


@dataclass(frozen=True)
class SideBySide(Job):
    """Moments, layer by layer, of the features of all checkpoints together."""

    layers: tuple[str, ...]
    name: ClassVar[str] = "checkpoints"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the moments of [phi of every checkpoint] for each layer."""
        rows: list[list[Array]] = [[] for _ in self.layers]
        for model, x in zip(models, batch.inputs, strict=True):
            layers = [model.layer(name) for name in self.layers]
            values, _, _ = values_of(model, x, layers)
            for phis, layer in zip(rows, layers, strict=True):
                phis.append(pooled(values[layer.name], layer))
        found = [Moments.of(np.concatenate(phis, 1)) for phis in rows]
        return {f"{i}.{k}": a for i, moments in enumerate(found) for k, a in vars(moments).items()}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the moments of both."""
        pairs = ((i, _moments(a, i).merge(_moments(b, i))) for i in range(len(self.layers)))
        return {f"{i}.{k}": array for i, both in pairs for k, array in vars(both).items()}

    def key(self) -> Any:
        """Return the layers."""
        return self.layers


def _moments(partial: Partial, layer: int) -> Moments:
    return Moments(*(partial[f"{layer}.{name}"] for name in ("count", "mean", "comoment")))


def _common_layers(
    models: Sequence[Model], layers: Sequence[Layer | str] | None
) -> tuple[Layer, ...]:
    """Return the layers in the last checkpoint; raises LayerError where another has not the same."""
    chosen = feature_layers(models[-1], layers)
    for model in models:
        classifying(model)
        for layer in chosen:
            other = model.layer(layer.name)
            cut_layer(model, other, "monitoring")
            if other.channels != layer.channels:
                raise LayerError(
                    f"layer {layer.name!r} has {other.channels} channels in {model.name} and "
                    f"{layer.channels} in {models[-1].name}: these are no checkpoints of one network"
                )
    return chosen
