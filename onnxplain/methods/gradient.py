"""The gradient of a score, and its wrappers: SmoothGrad, Integrated Gradients, guided backpropagation."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants.guided import GUIDED
from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Images, Job, concat, start
from onnxplain.model import Model
from onnxplain.results import Attribution
from onnxplain.target import scores as score_of


def gradient(
    model: Model, x: Images, target: object = None, wrt: Layer | str | None = None
) -> Attribution:
    """Return d score / d input (or layer): exact vector-Jacobian products.

    x: [N, ...] as `model.read` gives; values have the same shape (that of `wrt`, if a layer), in units of
    score per model-input unit, float32, signed. target: None (each image's predicted class), a class, one
    class per image, or a `Target`.

    Raises InputError, TargetError, LayerError; UnsupportedOpError where an op has no derivative.
    """
    return _backward(
        model, x, target, wrt, VJP, "gradient", paper="Simonyan et al., 2013, arXiv 1312.6034"
    )


def guided_backprop(
    model: Model, x: Images, target: object = None, wrt: Layer | str | None = None
) -> Attribution:
    """Return guided backpropagation: only positive signal passes rectifiers; arguments as `gradient`.

    Not faithful to the class (Adebayo et al., 2018); offered for comparison.
    """
    paper = "Springenberg et al., 2015, arXiv 1412.6806"
    return _backward(model, x, target, wrt, GUIDED, "guided_backprop", paper=paper)


def smooth_grad(
    model: Model,
    x: Images,
    target: object = None,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Attribution:
    """Return the mean gradient over noisy copies of the input.

    noise: standard deviation as a share of each image's value range (the paper suggests .1 to .2). The
    class is that of the clean image. Deterministic for a `seed`, whatever the batch an image is in.

    Raises ConfigError for fewer than one sample or negative noise; otherwise as `gradient`.
    """
    if samples < 1 or noise < 0:
        raise ConfigError(
            f"smooth_grad needs samples >= 1 and noise >= 0, got {samples} and {noise}"
        )
    job = start(model, x, target)
    _float_input(job)
    name = job.model.graph.source.name
    clean = job.feeds[name]
    axes = tuple(range(1, clean.ndim))
    sigma = noise * (clean.max(axes, keepdims=True) - clean.min(axes, keepdims=True))
    rng = np.random.default_rng(seed)
    found, scores, classes, seeds = _fixed_seeds(job)
    total = np.zeros(clean.shape, np.float64)
    for _ in range(samples):
        jitter = rng.standard_normal(clean.shape[1:]).astype(clean.dtype)
        total += _gradients(job, {**job.feeds, name: clean + sigma * jitter}, seeds)
    return _attribution(
        job, (total / samples).astype(np.float32), scores, classes, "smooth_grad", found,
        samples=samples, noise=noise, seed=seed, paper="Smilkov et al., 2017, arXiv 1706.03825",
    )  # fmt: skip


def integrated_gradients(
    model: Model, x: Images, target: object = None, baseline: Array | None = None, steps: int = 50
) -> Attribution:
    """Return (x - baseline) times the mean gradient on the straight path between them (midpoint rule).

    baseline: broadcastable to x, in model-input units; None is zeros. Values sum to
    score(x) - score(baseline) as steps grow; the difference is in meta["residual"], one per image.

    Raises ConfigError for fewer than one step, InputError for a baseline that does not fit.
    """
    if steps < 1:
        raise ConfigError(f"integrated_gradients needs steps >= 1, got {steps}")
    job = start(model, x, target)
    _float_input(job)
    name = job.model.graph.source.name
    end = job.feeds[name]
    begin = _baseline(baseline, end)
    program, scores, classes, seeds = _fixed_seeds(job)
    total = np.zeros(end.shape, np.float64)
    for k in range(steps):
        at = begin + (end - begin) * np.asarray((k + 0.5) / steps, end.dtype)
        total += _gradients(job, {**job.feeds, name: at}, seeds)
    values = ((end - begin) * total / steps).astype(np.float32)
    at_baseline = _scores_at(job, {**job.feeds, name: begin.astype(end.dtype)}, seeds)
    residual = scores - at_baseline - values.reshape(len(values), -1).sum(1, dtype=np.float64)
    return _attribution(
        job, values, scores, classes, "integrated_gradients", program, steps=steps,
        baseline="zeros" if baseline is None else "given", residual=[float(r) for r in residual],
        paper="Sundararajan et al., 2017, arXiv 1703.01365, eq. 3",
    )  # fmt: skip


def _backward(
    model: Model,
    x: Images,
    target: object,
    wrt: Layer | str | None,
    rules: RuleTable,
    method: str,
    **meta: Any,
) -> Attribution:
    job = start(model, x, target)
    layer = None if wrt is None else job.model.layer(wrt)
    name = job.model.graph.source.name if layer is None else layer.name
    values, scores, classes = [], [], []
    for linearized, seeds in job.linearize(name, rules):
        values.append(linearized.backward({job.output: seeds.seed})[name])
        scores.append(seeds.scores)
        classes.append(seeds.classes)
    return _attribution(
        job,
        concat(values),
        concat(scores),
        concat(classes),
        method,
        job.program(name, rules),
        layer,
        **meta,
    )


def _attribution(
    job: Job,
    values: Array,
    scores: Array,
    classes: Array,
    method: str,
    program: Any,
    layer: Layer | None = None,
    **meta: Any,
) -> Attribution:
    axes = job.model.graph.source.axes if layer is None else layer.axes
    return Attribution(
        values=values,
        channel_axis=None if axes is None else axes.index("C"),
        classes=classes,
        scores=scores,
        meta=job.meta(method, program, layer=None if layer is None else layer.name, **meta),
    )


def _fixed_seeds(job: Job) -> tuple[Any, Array, Array, Array]:
    """Return the program with the scores, classes and seeds of the clean images."""
    name = job.model.graph.source.name
    found = [seeds for _, seeds in job.linearize(name)]
    return (
        job.program(name),
        concat([s.scores for s in found]),
        concat([s.classes for s in found]),
        concat([s.seed for s in found]),
    )


def _gradients(job: Job, feeds: dict[str, Array], seeds: Array) -> Array:
    """Return the input gradient at other inputs, for fixed seeds."""
    name, done, parts = job.model.graph.source.name, 0, []
    program = job.program(name)
    for rows in job.model.batches(feeds):
        part = seeds[done : done + len(rows[name])]
        parts.append(program.forward(rows).backward({job.output: part})[name])
        done += len(part)
    return concat(parts)


def _scores_at(job: Job, feeds: dict[str, Array], seeds: Array) -> Array:
    values = [
        job.model.values(rows, (job.output,))[job.output] for rows in job.model.batches(feeds)
    ]
    return score_of(seeds, concat(values))


def _float_input(job: Job) -> None:
    source = job.model.graph.source
    if source.dtype.kind != "f":
        raise InputError(
            f"input {source.name!r} holds {source.dtype}, which has no values between two pixels: "
            "use gradient or saliency on this model"
        )


def _baseline(baseline: Array | None, x: Array) -> Array:
    try:
        start_at = np.zeros_like(x) if baseline is None else np.broadcast_to(baseline, x.shape)
    except ValueError as error:
        raise InputError(f"the baseline's shape does not fit the input's, {x.shape}") from error
    if not np.isfinite(start_at).all():
        raise InputError("the baseline holds NaN or infinite numbers")
    return start_at.astype(x.dtype)
