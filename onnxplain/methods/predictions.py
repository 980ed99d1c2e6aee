"""What the layers of a network already predict for an image: local interpretability (METHODS.md, 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from onnxplain.dataset import Data, Run
from onnxplain.errors import ConfigError, LayerError, TargetError
from onnxplain.executor import Array
from onnxplain.feeds import Feeds, input_spec
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Images, Job, start, whole
from onnxplain.methods.features import classifying, feature_layers, pooled
from onnxplain.methods.maps import channels_first, in_picture
from onnxplain.methods.readouts import FEW, PAPER, check_readouts, fit_readouts
from onnxplain.model import Model
from onnxplain.preprocess import decode, encode
from onnxplain.results import LayerPredictions, Readouts, bilinear, minmax
from onnxplain.results.predictions import Mode, decided
from onnxplain.target import Classes

BLUR = 0.1
"""Standard deviation of the blur, of the picture's longer side."""
KEEP = 0.1
BASELINES: dict[str, tuple[str, ...]] = {
    "readout": (),
    "masked": ("blur", "mean"),
    "keep": ("zero", "mean"),
}
"""What stands in the place of what is taken away, by mode; the first is the default."""


def layer_predictions(
    model: Model,
    x: Images,
    references: Readouts | Data | None = None,
    mode: Mode | None = None,
    layers: Sequence[Layer | str] | None = None,
    target: object = None,
    keep: float | int = KEEP,
    baseline: str | None = None,
    ridge: float | None = None,
    run: Run | None = None,
) -> LayerPredictions:
    """Return what each layer already predicts for a batch [N, ...], and from where on the decision stays.

    mode: "readout" (default with references): a linear readout of the layer's mean features, fitted to
    the model's own logits, zhat = phi W + b; "masked" (default without): the model, shown the picture
    where the layer responds (m, the min-max of the up-sampled channel mean of relu(A)), x m + x0 (1 - m);
    "keep": the rest of the model, with the filters of the layer whose mean |A| is largest as they are
    and all others at a baseline.
    references: `Readouts` (`fit_readouts`), or images to fit them to with `ridge`, as `run` says.
    layers: None takes those that were fitted, or that hold features at each depth (with a map, for
    "masked"). target: None for the predicted class, a class, or one class per image: what p, rank,
    margin, heat maps and evidence are of; the decision depth is that of the predicted class.
    keep: the number of filters (a whole number), or their share (0 < share <= 1), rounded up.
    baseline: "masked": x0, "blur" (default; a tenth of the longer side) or "mean" (its mean colour);
    "keep": "zero" (default), or "mean" (of each filter over the references).

    Raises ConfigError (options; readouts of another model), LayerError (unknown, not fitted, no map to mask
    by, no cut to keep filters of), TargetError (not a class, or no logits [N, C]), InputError.
    Source: the idea is the paper's, all formulas are ours.
    """
    classifying(model)
    mode = mode or ("masked" if references is None else "readout")
    baseline = check_asked(mode, keep, baseline)
    job = start(model, x, target)
    readouts = None
    if uses_readouts(mode, baseline):
        readouts = _readouts(model, references, layers, ridge, run)
    elif references is not None:
        raise ConfigError(f"mode {mode!r} with baseline {baseline!r} has no use for references")
    chosen = _layers(job.model, layers, mode, readouts)
    return _collected(Asked(job, mode, readouts, keep, baseline), chosen)


@dataclass(frozen=True, eq=False)
class Asked:
    """What all layers share: the checked batch, the readouts, and the options."""

    job: Job
    mode: Mode
    readouts: Readouts | None
    keep: float | int
    baseline: str | None


@dataclass(frozen=True, eq=False)
class Said:
    """What one layer says of n images: logits [n, C], and what the mode has beside them."""

    logits: Array
    map: Array | None = None
    evidence: Array | None = None
    kept: Array | None = None


def _collected(asked: Asked, layers: Sequence[Layer]) -> LayerPredictions:
    """Run the model a few images at a time, ask every layer, and join the answers."""
    job, model = asked.job, asked.job.model
    logit = model.graph.logit
    names = tuple(dict.fromkeys((*(layer.name for layer in layers), logit.tensor, logit.predicted)))
    said: list[list[Said]] = [[] for _ in layers]
    final: list[Array] = []
    decision: list[Array] = []
    classes: list[Array] = []
    for rows in model.batches(job.feeds, FEW):
        values = model.values(rows, names)
        final.append(values[logit.tensor].astype(np.float64))
        decision.append(decided(values[logit.predicted]))
        classes.append(_classes(job, values[logit.tensor], sum(len(c) for c in classes)))
        for layer, parts in zip(layers, said, strict=True):
            parts.append(_SAY[asked.mode](asked, layer, values[layer.name], rows, classes[-1]))
    return LayerPredictions(
        layers=tuple(layer.name for layer in layers),
        mode=asked.mode,
        logits=np.stack([np.concatenate([s.logits for s in parts]) for parts in said]),
        final=np.concatenate(final),
        decision=np.concatenate(decision),
        classes=np.concatenate(classes),
        maps=tuple(_joined(parts, "map", np.float32) for parts in said),
        evidence=_all(said, "evidence", np.float32),
        kept=_all(said, "kept", np.bool_),
        activation=logit.activation,
        labels=model.labels,
        **_of_readouts(asked, layers, np.concatenate(classes)),
        meta=model.meta(
            "layer_predictions",
            paper=PAPER,
            target=str(job.target),
            label=job.words,
            baseline=asked.baseline,
            **({"keep": asked.keep} if asked.mode == "keep" else {}),
        ),
    )


def _joined(parts: Sequence[Said], name: str, dtype: type) -> Array | None:
    found = [getattr(said, name) for said in parts]
    return None if found[0] is None else np.concatenate(found).astype(dtype)


def _all(said: Sequence[Sequence[Said]], name: str, dtype: type) -> tuple[Array, ...]:
    return tuple(a for parts in said if (a := _joined(parts, name, dtype)) is not None)


def _of_readouts(asked: Asked, layers: Sequence[Layer], classes: Array) -> dict[str, Any]:
    """Return what a record says of the readouts, where the mode has some."""
    if asked.mode != "readout" or asked.readouts is None:
        return {}
    places = [asked.readouts.place(layer.name) for layer in layers]
    biases = asked.readouts.biases[places][:, classes]
    return {"biases": biases, "r2": tuple(asked.readouts.r2[i] for i in places)}


def _classes(job: Job, logits: Array, done: int) -> Array:
    """Return the explained class of the images after the first `done`; raises TargetError for no class."""
    target = job.target
    if isinstance(target, Classes):
        target = target.rows(slice(done, done + len(logits)))
    found = target.seeds(logits).classes
    if job.output != job.model.graph.logit.tensor or (found < 0).any():
        raise TargetError(f"target {job.target}: layers predict classes: name one")
    return found


# --- the modes ----------------------------------------------------------------------------------------
def _readout(asked: Asked, layer: Layer, a: Array, rows: Feeds, classes: Array) -> Said:
    """Logits phi W + b; H = sum_k W[k, c] A_k; the evidence W[k, c] phi_k of each filter k."""
    assert asked.readouts is not None
    w, b = asked.readouts.of(layer.name)
    phi, mine = pooled(a, layer), w[:, classes].T
    heat = None
    if layer.has_map:
        shown = in_picture(channels_first(a, layer), layer)
        heat = np.einsum("nk,nkhw->nhw", mine, shown.astype(np.float64))
    return Said(phi @ w + b, heat, mine * phi)


def _masked(asked: Asked, layer: Layer, a: Array, rows: Feeds, classes: Array) -> Said:
    """f(x m + x0 (1 - m)), m = minmax(up-sampled mean_k relu(A_k)), in the space of raw pixels."""
    model = asked.job.model
    source = model.graph.source
    axes = source.axes or ""
    spec, x = input_spec(source, keep_open=False), rows[source.name]
    response = np.maximum(in_picture(channels_first(a, layer), layer), 0).mean(1, dtype=np.float64)
    height, width = (int(source.shape[axes.index(axis)]) for axis in "HW")
    mask = minmax(bilinear(response, (height, width)))
    pixels = (decode(x, spec, model.preprocess) if spec.is_picture else x).astype(np.float64)
    shape = [{"N": len(mask), "H": height, "W": width}.get(axis, 1) for axis in axes]
    m = mask.reshape(shape)
    shown = pixels * m + _baseline_picture(pixels, axes, asked.baseline) * (1 - m)
    fed = encode(shown, spec, model.preprocess) if spec.is_picture else shown.astype(x.dtype)
    logit = model.graph.logit.tensor
    return Said(model.values({**rows, source.name: fed}, (logit,))[logit].astype(np.float64), mask)


def _baseline_picture(pixels: Array, axes: str, baseline: str | None) -> Array:
    """Return x0: the picture blurred beyond recognition, or its mean colour."""
    positions = tuple(axes.index(axis) for axis in "HW")
    if baseline == "mean":
        return np.broadcast_to(pixels.mean(positions, keepdims=True), pixels.shape)
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * max(pixels.shape[i] for i in positions)
    blurred: Array = gaussian_filter(pixels, sigma, axes=positions, mode="nearest")
    return blurred


def _keep(asked: Asked, layer: Layer, a: Array, rows: Feeds, classes: Array) -> Said:
    """The rest of the network on A_k of the strongest filters by mean |A_k|, the baseline elsewhere."""
    model = asked.job.model
    strength = pooled(np.abs(a), layer)
    places = np.argsort(np.argsort(-strength, axis=1, kind="stable"), axis=1)
    kept = places < _count(asked.keep, strength.shape[1])
    base = None if asked.readouts is None else asked.readouts.mean_of(layer.name)
    rest = model.ablation(layer)
    logits = [
        rest.run(a[i : i + 1], kept[i : i + 1].astype(np.float64), base, model.rows(rows, [i]))
        for i in range(len(a))
    ]
    return Said(np.concatenate(logits).astype(np.float64), kept=kept)


_SAY: dict[Mode, Callable[[Asked, Layer, Array, Feeds, Array], Said]] = {
    "readout": _readout,
    "masked": _masked,
    "keep": _keep,
}


def _count(keep: float | int, channels: int) -> int:
    return min(int(keep) if whole(keep, 1) else math.ceil(keep * channels), channels)


# --- what is asked ------------------------------------------------------------------------------------
def uses_readouts(mode: str, baseline: str | None) -> bool:
    """Return whether a mode with a baseline needs readouts."""
    return mode == "readout" or (mode, baseline) == ("keep", "mean")


def check_asked(mode: str, keep: object, baseline: str | None) -> str | None:
    """Return the baseline of a mode; raises ConfigError for what is unknown or out of range."""
    if mode not in get_args(Mode):
        raise ConfigError(f"mode {mode!r} is unknown: choose {', '.join(get_args(Mode))}")
    if not (whole(keep, 1) or (isinstance(keep, float) and 0 < keep <= 1)):
        raise ConfigError(
            f"keep = {keep!r} is neither a number of filters, 1 or more, nor a share, as 0.1"
        )
    known = BASELINES[mode]
    if baseline is not None and baseline not in known:
        choice = f"choose {' or '.join(known)}" if known else "it needs none"
        raise ConfigError(f"mode {mode!r} has no baseline {baseline!r}: {choice}")
    return baseline or next(iter(known), None)


def _readouts(
    model: Model,
    references: Readouts | Data | None,
    layers: Sequence[Layer | str] | None,
    ridge: float | None,
    run: Run | None,
) -> Readouts:
    """Return readouts of this model, fitted now unless they were before."""
    if references is None:
        raise ConfigError(
            "this needs references: images, or readouts fitted to some (fit_readouts)"
        )
    if not isinstance(references, Readouts):
        return fit_readouts(model, references, layers, ridge, run)
    check_readouts(model, references)
    return references


def _layers(
    model: Model, layers: Sequence[Layer | str] | None, mode: Mode, readouts: Readouts | None
) -> tuple[Layer, ...]:
    """Return the layers to ask; raises LayerError for those that the mode cannot ask."""
    chosen = readouts.layers if layers is None and readouts is not None else layers
    found = feature_layers(model, chosen)
    if readouts is not None:
        for layer in found:
            readouts.place(layer.name)
    if mode == "masked":
        if model.graph.source.axes is None:
            raise LayerError(f"{model.name} takes no picture that could be masked: give references")
        flat = [layer.name for layer in found if not layer.has_map]
        found = tuple(layer for layer in found if layer.has_map)
        if flat and (layers is not None or not found):
            raise LayerError(f"layer {flat[0]!r} has no positions to mask a picture by")
    return found
