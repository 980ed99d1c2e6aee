"""PyTorch made to choose, at every kink of an activation and every MaxPool, as onnxruntime did.

What the gradient's own run chose, the rules can tell: masks of rectifiers, slopes of HardSwish, positions of
maxima. It counts only where both sides lie within rounding of each other, so a wrong rule stays wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

import onnxplain as ox
from onnxplain.backward import VJP, RuleTable
from onnxplain.graph.export import Part
from onnxplain.methods.common import output_tensor
from onnxplain.target import single_ones

PLAIN = RuleTable("vjp", base=VJP)
"""The rules of the gradient, whose masks are truth values; written for blocks they are numbers."""

NEAR = 1e-3
"""Share of a map's largest value within which rounding may decide."""


def own_run(model: ox.Model, x: np.ndarray, target: ox.Target) -> tuple[np.ndarray, list[Tensor]]:
    """Return the gradient [3, H, W] of one picture [1, 3, H, W], and what it chose in the same run.

    Another run, of a graph that onnxruntime optimises otherwise, may round otherwise and so choose otherwise.
    """
    fitted, feeds = model.fit(x)
    output, source = output_tensor(fitted, target.output), fitted.graph.source.name
    seed = target.seeds(fitted.values(feeds, (output,))[output]).seed
    program = fitted.program((output,), (source,))
    plain = fitted.program((output,), (source,), PLAIN)
    if program._one_run:
        number = single_ones(seed) if program._each.picks else None
        asked = {f"seed({output})": seed} if number is None else {f"element({output})": number}
        both = _beside(program._each.fused(picked=number is not None), plain.pair.forward())
        values = fitted.executor.session(both).run({**feeds, **asked})
        found, names = values[f"gradient({source})"], [_apart(r) for r in plain.pair.residuals]
    else:
        linearized = plain.forward(feeds)
        found, values = linearized.backward({output: seed})[source], linearized.values
        names = plain.pair.residuals
    return found[0], [torch.from_numpy(np.asarray(({**feeds, **values})[name])) for name in names]


def _beside(run: Part, other: Part) -> Part:
    """Return `run` that also has the outputs of `other`, a part of the same graph."""
    a, b = onnx.load_from_string(run.model), onnx.load_from_string(other.model)
    known = {y for node in a.graph.node for y in node.output}
    known = {*known, *(t.name for t in (*a.graph.input, *a.graph.initializer))} - {""}
    for node in b.graph.node:
        node.name = _apart(node.name)
        for names in (node.input, node.output):
            names[:] = map(_apart, names)
    for t in (*b.graph.input, *b.graph.initializer, *b.graph.output):
        t.name = _apart(t.name)
    new = [n for n in b.graph.node if not known & set(n.output)]
    read = {x for n in new for x in n.input} - known
    a.graph.node.extend(new)
    a.graph.initializer.extend(t for t in b.graph.initializer if t.name in read)
    a.graph.input.extend(t for t in b.graph.input if t.name in read)
    outputs = {t.name for t in a.graph.output}
    a.graph.output.extend(t for t in b.graph.output if t.name not in outputs)
    beside, fed = (
        {_apart(n): v for n, v in values.items() if _apart(n) in read}
        for values in (other.beside, other.fed)
    )
    beside, fed = {**beside, **run.beside}, {**fed, **run.fed}
    return Part(a.SerializeToString(), beside, fed, run.pack, run.plans)


def _apart(name: str) -> str:
    """Return another name for what a rule wrote: the rules of both parts count from 0."""
    return f"plain.{name}" if name.startswith("vjp") else name


@contextmanager
def sides_of(kept: Sequence[Tensor]) -> Iterator[None]:
    """Give PyTorch's functions the choices among `kept`, each the one that is most like its own."""
    max_pool = F.max_pool2d

    def choice(own: Tensor) -> Tensor:
        kind = own.dtype if own.dtype in (torch.bool, torch.long) else torch.float32
        same = [r.to(own.dtype) for r in kept if r.shape == own.shape and r.dtype == kind]
        return min(same, key=lambda r: _distance(r, own), default=own)

    def clamp(top: float) -> Callable[..., Tensor]:
        def sided(v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            slope = (v > 0) & (v < top)
            near = _near(v, 0, v) | _near(v, top, v)
            return _Sided.apply(v, v.clamp(0, top), torch.where(near, choice(slope), slope))

        return sided

    def hardsigmoid(v: Tensor, *args: Any) -> Tensor:
        inside = v.abs() < 3
        inside = torch.where(_near(v.abs(), 3, v), choice(inside), inside)
        return _Sided.apply(v, (v + 3).clamp(0, 6) / 6, inside / 6)

    def hardswish(v: Tensor, *args: Any) -> Tensor:
        slope = torch.where(v.abs() < 3, (2 * v + 3) / 6, (v > 0).to(v.dtype))
        slope = torch.where(_near(v.abs(), 3, v), choice(slope), slope)
        return _Sided.apply(v, v * (v + 3).clamp(0, 6) / 6, slope)

    def pool(v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y, own = max_pool(v, *args, **{**kwargs, "return_indices": True})
        flat, highest, own = v.flatten(2), y.flatten(2), own.flatten(2)
        found = choice(own)
        near = _near(flat.gather(2, found), highest, v)
        return flat.gather(2, torch.where(near, found, own)).reshape(y.shape)

    sided = {"relu": clamp(np.inf), "relu6": clamp(6), "hardtanh": clamp(6), "max_pool2d": pool,
             "hardsigmoid": hardsigmoid, "hardswish": hardswish}  # fmt: skip
    with mock.patch.multiple(F, **sided):
        yield


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a != b).sum() if a.dtype != torch.float64 else (a - b).abs().sum())


def _near(v: Tensor, to: Tensor | float, scale: Tensor) -> Tensor:
    return (v - to).abs() <= NEAR * scale.abs().max()


class _Sided(torch.autograd.Function):
    """A function of `v` with this value and this slope."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """Multiply by the slope."""
        return g * ctx.saved_tensors[0], None, None
