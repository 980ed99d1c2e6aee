"""What a rule sees of one node: its tensors, attributes and constants, and the emitter to write with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.errors import UnsupportedOpError
from onnxplain.graph.emit import Emitter
from onnxplain.graph.fold import constant_value

Shape = tuple[int | str, ...]
"""Sizes by axis; the axis that counts images is a string: "N", or "12N" where 12 heads are merged in."""


class Context:
    """One node as its rule sees it.

    `x` and `y` are its input and output tensors in the backward's precision (float16 is lifted to
    float32); an omitted optional input is None. `x0` and `y0` are the same tensors at the reference input,
    for tables with `needs_reference`.
    """

    def __init__(
        self,
        node: gs.Node,
        op: Emitter,
        on_path: Sequence[bool],
        references: Mapping[str, gs.Tensor],
        wrt: Sequence[str] = (),
        shared: Collection[str] = (),
    ) -> None:
        """Wrap `node`; `on_path[i]` says whether input i needs a gradient, `wrt` where signals are read.

        `shared` names tensors whose signal is not that of one reader alone.
        """
        self.node = node
        self.op = op
        self._on_path = on_path
        self._references = references
        self._wrt, self._shared = wrt, shared
        self.notes: list[str] = []

    @property
    def type(self) -> str:
        """The op type, for rules that serve several ops."""
        return str(self.node.op)

    @property
    def x(self) -> list[Any]:
        """Input tensors; None where an optional input is omitted."""
        return [None if t.is_empty() else self.op.float(t) for t in self.node.inputs]

    @property
    def y(self) -> list[gs.Tensor]:
        """Output tensors."""
        return [self.op.float(t) for t in self.node.outputs]

    @property
    def x0(self) -> list[Any]:
        """Input tensors at the reference input (constants are the same there)."""
        return [None if t.is_empty() else self._at_reference(t) for t in self.node.inputs]

    @property
    def y0(self) -> list[gs.Tensor]:
        """Output tensors at the reference input."""
        return [self._at_reference(t) for t in self.node.outputs]

    def needs(self, i: int) -> bool:
        """Return whether input `i` is on the path, so that its gradient is used."""
        return i < len(self._on_path) and self._on_path[i]

    def is_wrt(self, i: int) -> bool:
        """Return whether the signal at input `i` is itself a result."""
        return self.node.inputs[i].name in self._wrt

    def is_shared(self, tensor: gs.Tensor) -> bool:
        """Return whether several nodes read a tensor, or a signal starts or is read there."""
        return tensor.name in self._shared

    def has(self, i: int) -> bool:
        """Return whether optional input `i` is given."""
        return i < len(self.node.inputs) and not self.node.inputs[i].is_empty()

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` (state the standard's default where the rule reads it)."""
        return self.node.attrs.get(name, default)

    def const(self, i: int) -> np.ndarray[Any, Any]:
        """Return the value of input `i`, which must not depend on the model's input.

        Floats come in the backward's precision. Raises UnsupportedOpError when the input is computed.
        """
        value = constant_value(self.node.inputs[i]) if self.has(i) else None
        if value is None:
            raise self.refuse(f"input {i} is computed by the network instead of being a constant")
        return value.astype(np.float32) if value.dtype == np.float16 else value

    def shape(self, tensor: gs.Tensor) -> Shape:
        """Return a forward tensor's sizes; the image axis is a string. Unknown sizes are refused."""
        if tensor.shape is None or any(s is None for s in tensor.shape):
            raise self.refuse(f"the shape of {tensor.name!r} is not known")
        return tuple(tensor.shape)

    def note(self, text: str) -> None:
        """Declare that the rule was not exact at this node; results list it."""
        self.notes.append(f"{self.type}: {text}")

    def refuse(self, reason: str) -> UnsupportedOpError:
        """Return the error that names this op and node; rules raise it."""
        return UnsupportedOpError(str(self.node.op), str(self.node.name), reason)

    # --- helpers that many rules need -------------------------------------------------------------
    def reshape_like(self, g: gs.Tensor, tensor: gs.Tensor) -> gs.Tensor:
        """Reshape `g` to the shape of `tensor`; the image axis becomes -1: seeds bring their own."""
        return self.op.Reshape(g, [-1 if isinstance(s, str) else s for s in self.shape(tensor)])

    def unbroadcast(self, g: gs.Tensor, shape: Shape, like: gs.Tensor) -> gs.Tensor:
        """Sum `g` of shape `shape` over the axes along which `like` was broadcast to it."""
        return unbroadcast(self.op, g, shape, self.shape(like))

    def _at_reference(self, tensor: gs.Tensor) -> gs.Tensor:
        if constant_value(tensor) is not None:
            return self.op.float(tensor)
        return self.op.float(self._references[tensor.name])


def unbroadcast(op: Emitter, g: gs.Tensor, source: Shape, target: Shape) -> gs.Tensor:
    """Sum `g` of shape `source` over the axes that broadcasting added or stretched from `target`."""
    extra = len(source) - len(target)
    stretched = [
        i for i, s in enumerate(source) if i >= extra and target[i - extra] == 1 and s != 1
    ]
    if stretched:
        g = op.ReduceSum(g, stretched, keepdims=1)
    if extra:
        g = op.ReduceSum(g, list(range(extra)), keepdims=0)
    return g
