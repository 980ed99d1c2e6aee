"""Are the numbers sound? Completeness, gradients, NaN, ties, dead filters, time. Float64 [n]."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from onnxplain.checks.seen import View, numbers
from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.methods.cam import cam
from onnxplain.methods.common import start
from onnxplain.methods.decompose import decompose
from onnxplain.methods.features import feature_layers
from onnxplain.methods.registry import explain
from onnxplain.target import scores
from onnxplain.verify import slope_error


def lift_efficiency(v: View) -> Array:
    """What LIFT-CAM's weights miss of score(A) - score(A = 0), as a share of |score(A)| + |score(0)|.

    The second score comes from running the rest of the network, not from the backward pass.
    """
    found = cam(v.model, v.x, v.target, "lift_cam", v.layer())
    assert found.weights is not None
    job = start(v.model, v.x, v.target)
    seed = job.seeds().seed
    layer = job.model.layer(v.layer())
    empty = np.zeros((len(v), *(int(s or 0) for s in layer.shape)), job.model.dtype_of(layer.name))
    program = job.program(layer.name)
    base = scores(seed, program.tail({**job.feeds, layer.name: empty})[job.output])
    whole = found.scores.astype(np.float64)
    missed = np.abs(whole - base - found.weights.sum(1, dtype=np.float64))
    share: Array = missed / np.maximum(np.abs(whole) + np.abs(base), 1e-12)
    return share


def gap_residual(v: View) -> Array:
    """The part of the score that no channel of the last level carries (biases, curvature): |B / D|, gAP."""
    found = []
    for i in range(len(v)):
        target = v.target if np.ndim(v.target) == 0 else v.target[i : i + 1]
        layers = None if v.layer() is None else [str(v.layer())]
        tree = decompose(v.model, v.x[i : i + 1], target, layers, top_k=1, depth=1, pixels=False)
        found.append(abs(tree.root.residual or 0) / max(abs(tree.root.decision), 1e-12))
    return np.array(found)


def gradient_error(v: View) -> Array:
    """The relative error of the gradient's slope along itself, against central differences."""
    found = []
    for i in range(len(v)):
        target = v.target if np.ndim(v.target) == 0 else v.target[i : i + 1]
        error = slope_error(v.model, v.x[i : i + 1], target)
        if error is None:
            raise InputError(
                "no difference can confirm this gradient: it is a surrogate (rounding, quantisers), "
                "zero here, or not float32"
            )
        found.append(error)
    return np.array(found)


def broken_numbers(v: View) -> Array:
    """Whether the logits or the map hold NaN or infinity."""
    model, feeds = v.model.fit(v.x)
    name = model.graph.logit.predicted
    parts = [model.values(rows, (name,))[name] for rows in model.batches(feeds)]
    logits = np.concatenate(parts)
    bad = ~np.isfinite(logits.reshape(len(logits), -1)).all(1)
    if not bad.any():
        bad |= _unusable(v)
    return numbers(bad)


def _unusable(v: View) -> Array:
    """Return for which images the explanation holds NaN or infinity: a record refuses them."""
    try:
        v.maps()
    except InputError as error:
        if "NaN" not in str(error):
            raise
    else:
        return np.zeros(len(v), bool)
    found = []
    for i in range(len(v)):
        try:
            v.one(i).maps()
        except InputError:
            found.append(True)
        else:
            found.append(False)
    return np.array(found)


def tied(v: View) -> Array:
    """Whether several classes share the highest logit."""
    return numbers(v.prediction().ties > 1)


def top_logit(v: View) -> Array:
    """The highest logit."""
    return numbers(v.prediction().logits.max(1))[:, None]


def at_ceiling(tops: Array) -> Array:
    """Return which of n images' highest logits [n, 1] are the highest of all, where several are."""
    at = tops[:, 0] == tops.max()
    return numbers(at & (at.sum() > 1))


def extremes(v: View) -> Array:
    """Each filter's largest value over the images and positions, and minus its smallest [1, 2, filters]."""
    layers = feature_layers(v.model, None)
    model, feeds = v.model.fit(v.x)
    names = [layer.name for layer in layers]
    parts = [model.values(rows, names) for rows in model.batches(feeds)]
    found = []
    for layer in layers:
        a = np.concatenate([part[layer.name] for part in parts])
        axes = tuple(i for i in range(a.ndim) if i != layer.channel_axis)
        found.append(np.stack([a.max(axes), -a.min(axes)]).astype(np.float64))
    return np.concatenate(found, 1)[None]


def dead(found: Array) -> Array:
    """Return which filters never change, from `extremes` of all data [1, 2, filters]."""
    return numbers(found[0].sum(0) == 0)


def latency(v: View) -> Array:
    """How many forward passes an explanation of one image takes; medians of `repeats` runs in turn [1]."""
    x, target = v.x[:1], v.target if np.ndim(v.target) == 0 else v.target[:1]

    def explained() -> None:
        explain(v.model, x, v.asked.method, target, v.layer())

    model, feeds = v.model.fit(x)
    outputs = (model.graph.logit.predicted,)
    model.values(feeds, outputs)
    explained()  # what is made once, is made
    times: dict[str, list[float]] = {"forward": [], "explanation": []}
    for _ in range(v.options["repeats"]):
        times["forward"].append(_seconds(lambda: model.values(feeds, outputs)))
        times["explanation"].append(_seconds(explained))
    return np.array([np.median(times["explanation"]) / np.median(times["forward"])])


def _seconds(do: Callable[[], object]) -> float:
    begin = time.perf_counter()
    do()
    return time.perf_counter() - begin
