"""The gradient of a score with respect to the input or a layer, and its guided variant."""

from __future__ import annotations

from typing import Any

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants.guided import GUIDED
from onnxplain.errors import InputError
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import Images, Job, join, start
from onnxplain.model import Model
from onnxplain.program import Array
from onnxplain.results import Attribution


def gradient(
    model: Model, x: Images, target: object = None, wrt: Layer | str | None = None
) -> Attribution:
    """Return d score / d input (or layer): exact vector-Jacobian products.

    x: [N, ...] as `model.read` gives; values have the same shape (that of `wrt`, if a layer), in units of
    score per model-input unit, float32, signed. wrt: a layer, or an input by name where there are several.
    target: None (each image's predicted class), a class, one
    class per image, or a `Target`.

    Raises InputError, TargetError, LayerError; UnsupportedOpError where an op has no derivative.
    """
    paper = "Simonyan et al., 2013, arXiv 1312.6034"
    return _backward(model, x, target, wrt, VJP, "gradient", paper)


def guided_backprop(
    model: Model, x: Images, target: object = None, wrt: Layer | str | None = None
) -> Attribution:
    """Return guided backpropagation: only positive signal passes rectifiers; arguments as `gradient`.

    Not faithful to the class (Adebayo et al., 2018); offered for comparison.
    """
    paper = "Springenberg et al., 2015, arXiv 1412.6806"
    return _backward(model, x, target, wrt, GUIDED, "guided_backprop", paper)


def _backward(
    model: Model,
    x: Images,
    target: object,
    wrt: Layer | str | None,
    rules: RuleTable,
    method: str,
    paper: str,
) -> Attribution:
    job = start(model, x, target)
    if isinstance(wrt, str) and wrt in job.feeds:
        if not next(i for i in job.model.graph.inputs if i.name == wrt).per_image:
            raise InputError(
                f"{wrt!r} is a setting, the same for all images: it has no gradient for each"
            )
        job, wrt = job.explaining(wrt), None
    layer = None if wrt is None else job.model.layer(wrt)
    name = job.source if layer is None else layer.name
    parts = []
    for linearized, seeds in job.linearize(name, rules, ahead=True):
        signal = linearized.backward({job.output: seeds.seed})[name]
        parts.append((signal, seeds.classes, seeds.scores))
    values, classes, scores = join(parts)
    return attribution(job, values, classes, scores, method, rules, layer, paper=paper)


def attribution(
    job: Job,
    values: Array,
    classes: Array,
    scores: Array,
    method: str,
    rules: RuleTable = VJP,
    layer: Layer | None = None,
    **meta: Any,
) -> Attribution:
    """Put values [N, ...] of the input (or a layer) into a record, with what was explained [N]."""
    axes = job.axes if layer is None else layer.axes
    program = job.program(job.source if layer is None else layer.name, rules)
    return Attribution(
        values=values,
        channel_axis=None if axes is None else axes.index("C"),
        classes=classes,
        scores=scores,
        meta=job.meta(method, program, layer=None if layer is None else layer.name, **meta),
    )
