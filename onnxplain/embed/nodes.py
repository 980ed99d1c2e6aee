"""A question as nodes: the seed, the backward pass, and what the method makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxplain.backward import seeds
from onnxplain.backward.draft import Draft
from onnxplain.embed import operators
from onnxplain.embed.question import MAPS, SALIENCY, Question
from onnxplain.errors import ConfigError, InputError, TargetError
from onnxplain.executor import Array
from onnxplain.methods.cam import CAMS, input_size, reference_zeros
from onnxplain.methods.saliency import input_scale, strongest
from onnxplain.target import Target


def draft(q: Question) -> Draft:
    """Write the nodes that answer a question; raises UnsupportedOpError, TargetError, ConfigError."""
    made = Draft(q.model.graph.nodes)
    seed, index = _seed(q, made)
    signal = made.backward(q.output, seed, q.wrt, q.rules, _reference(q), index)
    write = _map if q.method in MAPS else _saliency if q.method in SALIENCY else _gradient
    write(q, made, signal)
    if q.predicted is not None and len(_sizes(q, made)) == 1:
        _output(q, made, "explained_class", index, [])
    return made


def _seed(q: Question, made: Draft) -> tuple[Any, Any]:
    """Write what the backward pass starts from; return it and, where that is one element, its number."""
    op, explained, sizes = made.op, made.tensor(q.output), _sizes(q, made)
    dtype = np.float64 if explained.dtype == np.float64 else np.float32
    if q.target == "seed":
        given = made.input(f"{q.prefix}seed", np.float32, [q.images, *sizes])
        return operators.of_type(op, given, dtype), None
    if q.target == "input":
        if len(sizes) != 1:
            raise TargetError(f"{q.model.name} has no classes to choose from: take target='seed'")
        given = made.input(f"{q.prefix}target_class", np.int64, [q.images])
        index = operators.existing(op, given, sizes[0])
        return seeds.one_hot(op, index, sizes, dtype), index
    if q.predicted is not None:
        index = seeds.largest(op, made.tensor(q.predicted))
        return seeds.one_hot(op, index, sizes, dtype), index
    assert isinstance(q.target, Target)
    return operators.fixed(op, q.target, explained, sizes, dtype)


def _sizes(q: Question, made: Draft) -> list[int]:
    return [int(s) for s in (made.tensor(q.output).shape or ())[1:]]


def _reference(q: Question) -> dict[str, Array]:
    """Return the activations at the reference input, which are constants of the file."""
    if not q.rules.needs_reference or q.layer is None:
        return {}
    program = q.model.program((q.output,), (q.wrt,), q.rules)
    reference_zeros(q.model, program, q.layer)
    try:
        return program.reference()
    except InputError as error:
        raise ConfigError(f"{q.method} cannot be exported: {error}; export grad-cam") from error


def _map(q: Question, made: Draft, signal: Any) -> None:
    op, layer = made.op, q.layer
    assert layer is not None
    assert layer.size is not None
    values = operators.cam(op, CAMS[q.method], layer, made.tensor(layer.name), signal)
    _output(q, made, "explanation", values, layer.size)
    shown = operators.enlarged(op, op.Relu(values), layer.size, input_size(q.model))
    _output(q, made, "heatmap", operators.scaled(op, shown), input_size(q.model))


def _saliency(q: Question, made: Draft, signal: Any) -> None:
    op, scale = made.op, input_scale(q.model)
    signal = operators.single(op, signal)
    signal = signal if isinstance(scale, float) else op.Mul(signal, scale)
    values = strongest(op, signal, q.method, _channels(q.model.graph.source.axes))
    _output(q, made, "explanation", values, input_size(q.model))
    _output(q, made, "heatmap", operators.scaled(op, values), input_size(q.model))


def _gradient(q: Question, made: Draft, signal: Any) -> None:
    op, source = made.op, q.model.graph.source
    values = operators.single(op, signal)
    shape = source.shape[1:] if q.layer is None else q.layer.shape
    _output(q, made, "explanation", values, shape)
    if q.layer is None and source.axes is not None:
        maps = strongest(op, values, "absolute", _channels(source.axes))
        _output(q, made, "heatmap", operators.scaled(op, maps), input_size(q.model))


def _output(q: Question, made: Draft, name: str, tensor: Any, sizes: Sequence[Any]) -> None:
    made.output(q.prefix + name, tensor, [q.images, *sizes])


def _channels(axes: str | None) -> int:
    assert axes is not None
    return axes.index("C")
