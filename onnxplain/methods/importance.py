"""What filters are worth to a model over a data set: by running it without them, or to first order.

With z the logits, c an image's predicted class and A_k the activation of filter k of a layer (METHODS.md, 4):

    exact        I_k = mean( z_c - z_c with A_k <- base )
    first order  I_k = mean( sum_ij d z_c / d A_k (A_k - base) )
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Partial, Run
from onnxplain.errors import ConfigError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import cut_layer, whole
from onnxplain.methods.correlation import PAPER
from onnxplain.methods.features import classifying, feature_layers, pooled, values_of
from onnxplain.model import Model
from onnxplain.results import Prediction
from onnxplain.results.filters import FilterImportance, LayerImportance, RemovalCurves

Mode = Literal["exact", "first_order"]
Base = Literal["zero", "mean"]
STEPS = 16
"""Points of a removal curve, beside the first."""

Group = Sequence[int]


def filter_importance(
    model: Model,
    data: Data,
    layers: Sequence[Layer | str] | None = None,
    mode: Mode = "exact",
    base: Base = "zero",
    run: Run | None = None,
) -> FilterImportance:
    """Measure what every filter of some layers is worth, over the images of a data set.

    layers: cuts with channels; None takes the last of each resolution, as `decompose` does.
    mode: "exact" replaces each filter and runs the rest of the network, once per filter and image;
        "first_order" takes one backward pass per image for all layers, and gives effects alone.
    base: what replaces a filter at every position: 0, or its mean over data and positions.

    Raises LayerError (unknown, no cut, without channels), ConfigError, InputError, TargetError (no classes);
    UnsupportedOpError in first order.
    """
    _one_of("mode", mode, get_args(Mode))
    chosen = _cuts(model, layers)
    run = run or Run()
    bases = _bases(model, data, chosen, base, run)
    job: _Effects
    if mode == "exact":
        whole_ones = tuple(~np.eye(layer.channels or 0, dtype=bool) for layer in chosen)
        job = Ablate(_names(chosen), bases, whole_ones)
    else:
        job = FirstOrder(_names(chosen), bases)
    found = run.over(data, model, job)
    meta = model.meta("filter_importance", mode=mode, base=base, paper=PAPER, **found.meta)
    return _importance(found.partial, chosen, bases, mode, meta)


def group_importance(
    model: Model,
    data: Data,
    layer: Layer | str,
    groups: Sequence[Group],
    base: Base = "zero",
    run: Run | None = None,
) -> LayerImportance:
    """Measure what groups of filters of a layer are worth together, exactly; rows are the groups.

    groups: numbers of channels, those of `FeatureCorrelation.groups` for instance. Raises as
    `filter_importance`, and ConfigError for channels that the layer has not.
    """
    chosen = _cuts(model, [layer])
    channels = chosen[0].channels or 0
    keep = np.ones((len(groups), channels), bool)
    for row, group in zip(keep, groups, strict=True):
        if not group or not all(whole(k, 0) and k < channels for k in group):
            raise ConfigError(f"group {tuple(group)} is not some of {channels} channels")
        row[list(group)] = False
    if not len(groups):
        raise ConfigError("name one group or more")
    run = run or Run()
    bases = _bases(model, data, chosen, base, run)
    found = run.over(data, model, Ablate(_names(chosen), bases, (keep,)))
    meta = model.meta("group_importance", mode="exact", base=base, paper=PAPER, **found.meta)
    listed = tuple(tuple(map(int, group)) for group in groups)
    return _importance(found.partial, chosen, bases, "exact", meta, (listed,)).layers[0]


def removal_curves(
    model: Model,
    data: Data,
    importance: LayerImportance,
    orders: int = 3,
    seed: int = 0,
    run: Run | None = None,
) -> RemovalCurves:
    """Replace more and more filters of a layer: the most important first, the least, and in random order.

    importance: of single filters; its base replaces them here too. orders: how many random orders are
    averaged; seed: of them.

    Raises as `filter_importance`, and ConfigError (options, or an importance of groups).
    """
    if not whole(orders, 1) or not whole(seed, 0):
        raise ConfigError(
            f"orders = {orders!r}, seed = {seed!r} must be whole numbers from 1, from 0 on"
        )
    if importance.groups or len(importance.effect) != len(importance.base):
        raise ConfigError("removal curves need the importance of single filters")
    layer = model.layer(importance.layer)
    channels = len(importance.effect)
    removed = np.unique(np.linspace(0, channels, STEPS + 1).round().astype(np.int64))
    rng = np.random.default_rng(seed)
    best = importance.ranking()
    ways = [best, best[::-1], *(rng.permutation(channels) for _ in range(orders))]
    keep = np.ones((len(ways), len(removed), channels), bool)
    for i, order in enumerate(ways):
        for j, count in enumerate(removed):
            keep[i, j, order[:count]] = False
    job = Ablate((layer.name,), (np.asarray(importance.base),), (keep.reshape(-1, channels),))
    found = (run or Run()).over(data, model, job)
    totals = found.partial
    images, labelled = int(totals["images"]), int(totals["labelled"])

    def curves(sums: Array, count: int) -> Array:
        """Return means [3, S]: the two orders by importance, and the mean of the random ones."""
        each = sums.reshape(len(ways), len(removed)) / count
        return np.stack([each[0], each[1], each[2:].mean(0)])

    scores = totals["score"] - totals["0.effect"].sum(1)
    chances = totals["certainty"] - totals["0.probability"]
    right = totals["right"] - totals["0.accuracy"]
    return RemovalCurves(
        layer=layer.name,
        removed=removed,
        score=curves(scores, images),
        probability=curves(chances, images),
        agreement=curves(images - totals["0.flips"], images),
        accuracy=curves(right, labelled) if labelled else None,
        orders=int(orders),
        meta=model.meta("removal_curves", seed=int(seed), paper=PAPER, **found.meta),
    )


# --- jobs ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Effects(Job):
    """Sums over images of what goes with the filters of some layers; bases [K] per layer."""

    layers: tuple[str, ...]
    bases: tuple[Array, ...]

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the sums of both."""
        return {name: a[name] + b[name] for name in a}

    def key(self) -> Any:
        """Return the layers and what replaces their filters."""
        return [self.layers, [base.tolist() for base in self.bases]]

    def _of(self, model: Model) -> list[Layer]:
        return [model.layer(name) for name in self.layers]


@dataclass(frozen=True)
class Ablate(_Effects):
    """The exact effects: per layer, rows [M, K] say which filters are kept."""

    keep: tuple[Array, ...] = field(default=())
    name: ClassVar[str] = "ablation"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Run the rest of the network for every image and row."""
        model, layers = models[0], self._of(models[0])
        values, logits, feeds = values_of(model, batch.x, layers)
        at_size, _ = model.fit(batch.x)
        before = _judged(model, logits, batch.labels)
        sums: Partial = {
            "images": np.array(len(logits)),
            "counts": np.bincount(before.classes, minlength=logits.shape[1]),
            "score": np.array(before.score.sum()),
            "certainty": np.array(before.probability.sum()),
            "labelled": np.array(int((batch.labels >= 0).sum())),
            "right": np.array(int(before.right.sum())),
        }
        for i, (layer, base, keep) in enumerate(zip(layers, self.bases, self.keep, strict=True)):
            rest = at_size.ablation(layer)
            totals = _Totals(len(keep), logits.shape[1])
            for j in range(len(logits)):
                beside = at_size.rows(feeds, [j]) if rest.beside else None
                a = values[layer.name][j : j + 1]
                totals.add(before.image(j), rest.run(a, keep, base, beside), model)
            sums |= {f"{i}.{name}": total for name, total in vars(totals).items()}
        return sums

    def key(self) -> Any:
        """Return the layers, what replaces their filters, and which of them."""
        return [super().key(), [np.packbits(keep).tobytes().hex() for keep in self.keep]]


@dataclass(frozen=True)
class FirstOrder(_Effects):
    """The effects to first order: gradient x (activation - base), one backward pass for all layers."""

    name: ClassVar[str] = "first-order"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Run forward and backward."""
        at_size, feeds = models[0].fit(batch.x)
        layers, logit = self._of(at_size), classifying(models[0])
        program = at_size.program((logit,), self.layers)
        done, labelled, right = 0, 0, 0
        counts = np.zeros(models[0].classes or 0, np.int64)
        effects = [np.zeros((len(base), models[0].classes or 0)) for base in self.bases]
        for rows in at_size.batches(feeds):
            linearized = program.forward(rows)
            logits = linearized[logit]
            judged = _judged(models[0], logits, batch.labels[done : done + len(logits)])
            signal = linearized.backward({logit: np.eye(logits.shape[1])[judged.classes]})
            for layer, base, effect in zip(layers, self.bases, effects, strict=True):
                a, g = linearized[layer.name], signal[layer.name]
                shape = [1] * a.ndim
                shape[layer.channel_axis or 0] = -1
                product = g.astype(np.float64) * (a - base.reshape(shape))
                axes = tuple(i for i in range(1, a.ndim) if i != layer.channel_axis)
                np.add.at(effect.T, judged.classes, product.sum(axes))
            counts += np.bincount(judged.classes, minlength=len(counts))
            labelled += int((batch.labels[done : done + len(logits)] >= 0).sum())
            right += int(judged.right.sum())
            done += len(logits)
        named = {f"{i}.effect": effect for i, effect in enumerate(effects)}
        facts = {"images": done, "counts": counts, "labelled": labelled, "right": right}
        return {k: np.asarray(v) for k, v in facts.items()} | named


@dataclass(frozen=True)
class PhiSum(Job):
    """Sums of phi, to replace filters by their mean."""

    layers: tuple[str, ...]
    name: ClassVar[str] = "means"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the number of images and the sum [K] of each layer."""
        layers = [models[0].layer(name) for name in self.layers]
        values, _, _ = values_of(models[0], batch.x, layers)
        sums = {layer.name: pooled(values[layer.name], layer).sum(0) for layer in layers}
        return {"": np.array(len(batch.x)), **sums}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the sums of both."""
        return {name: a[name] + b[name] for name in a}

    def key(self) -> Any:
        """Return the layers."""
        return self.layers


# --- of one image -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Judged:
    """What the model says of images [n]: class, its logit and probability, whether that is right."""

    classes: Array
    score: Array
    probability: Array
    right: Array
    labels: Array

    def image(self, i: int) -> _Judged:
        return _Judged(*(a[i] for a in vars(self).values()))


def _judged(model: Model, logits: Array, labels: Array, classes: Array | None = None) -> _Judged:
    """Judge logits [n, C]; `classes`: whose logit and probability to look at, else the predicted ones."""
    prediction = Prediction(
        logits=logits.astype(np.float32), activation=model.graph.logit.activation
    )
    own = prediction.classes
    at = own if classes is None else classes
    rows = np.arange(len(logits))
    right = (own == labels) & (labels >= 0)
    score = logits[rows, at].astype(np.float64)
    return _Judged(own, score, prediction.probabilities[rows, at], right, labels)


class _Totals:
    """Sums over images, of M rows."""

    def __init__(self, rows: int, classes: int) -> None:
        self.effect = np.zeros((rows, classes))
        self.probability, self.flips, self.accuracy = (np.zeros(rows) for _ in range(3))

    def add(self, before: _Judged, logits: Array, model: Model) -> None:
        """Take in what becomes of one image, logits [M, C]."""
        count = len(logits)
        same = np.full(count, before.classes)
        after = _judged(model, logits, np.full(count, before.labels), same)
        self.effect[:, before.classes] += before.score - after.score
        self.probability += before.probability - after.probability
        self.flips += after.classes != before.classes
        self.accuracy += np.asarray(before.right, np.float64) - after.right


# --- put together -------------------------------------------------------------------------------------
def _importance(
    totals: Partial,
    layers: Sequence[Layer],
    bases: Sequence[Array],
    mode: str,
    meta: dict[str, Any],
    groups: Sequence[tuple[tuple[int, ...], ...]] | None = None,
) -> FilterImportance:
    images, labelled = int(totals["images"]), int(totals["labelled"])

    def found() -> Iterator[LayerImportance]:
        for i, (layer, base) in enumerate(zip(layers, bases, strict=True)):
            effect, counts = totals[f"{i}.effect"], totals["counts"]
            exact = mode == "exact"
            yield LayerImportance(
                layer=layer.name,
                effect=effect.sum(1) / images,
                per_class=effect / np.maximum(counts, 1),
                counts=counts,
                probability=totals[f"{i}.probability"] / images if exact else None,
                flips=totals[f"{i}.flips"] / images if exact else None,
                accuracy=totals[f"{i}.accuracy"] / labelled if exact and labelled else None,
                base=base,
                groups=groups[i] if groups is not None else (),
                meta=meta,
            )

    return FilterImportance(
        layers=tuple(found()),
        mode=mode,
        images=images,
        labelled=labelled,
        right=int(totals["right"]) / labelled if labelled else None,
        meta=meta,
    )


def _cuts(model: Model, layers: Sequence[Layer | str] | None) -> tuple[Layer, ...]:
    classifying(model)
    chosen = feature_layers(model, layers) if layers is not None else model.graph.levels[::-1]
    if not chosen:
        raise LayerError(f"{model.name}: {model.why_default_layer}; name layers to look at")
    for layer in chosen:
        cut_layer(model, layer, "the importance of filters")
    return tuple(chosen)


def _bases(
    model: Model, data: Data, layers: Sequence[Layer], base: Base, run: Run
) -> tuple[Array, ...]:
    _one_of("base", base, get_args(Base))
    if base == "zero":
        return tuple(np.zeros(layer.channels or 0) for layer in layers)
    sums = run.over(data, model, PhiSum(_names(layers))).partial
    return tuple(sums[layer.name] / sums[""] for layer in layers)


def _names(layers: Sequence[Layer]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers)


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} is unknown: choose {', '.join(known)}")
