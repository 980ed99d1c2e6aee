"""float16 -> float32, for runtimes that compute float16 in float32 anyway.

onnxruntime's CPU has float16 kernels for few ops: it casts around the others, and leaves casts out between
them as far as nothing reads a tensor there. With explanations reading everywhere it would round at every
tensor, and some of its float16 kernels take ten times as long. Inputs stay float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

_TYPES = ("to", "dtype")
"""Attributes that name an element type."""


def widen(graph: gs.Graph) -> bool:
    """Make every float16 tensor of `graph` and of its branches float32, in place; return whether one was."""
    changed, casts = _widen(graph), []
    for given in [t for t in graph.inputs if _is_half(t.dtype)]:
        wide = gs.Variable(f"{given.name}/float32", np.float32, given.shape)
        _replace(graph, given, wide)
        attrs = {"to": int(TensorProto.FLOAT)}
        casts.append(gs.Node("Cast", f"{given.name}/Cast", attrs, inputs=[given], outputs=[wide]))
    graph.nodes = [*casts, *graph.nodes]
    return changed or bool(casts)


def _widen(graph: gs.Graph) -> bool:
    given = {t.name for t in graph.inputs}
    tensors = [t for t in graph.tensors().values() if t.name not in given and _is_half(t.dtype)]
    for tensor in tensors:
        if isinstance(tensor, gs.Constant):
            tensor.values = tensor.values.astype(np.float32)
        else:
            tensor.dtype = np.dtype(np.float32)
    changed = bool(tensors)
    for node in graph.nodes:
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                changed |= _widen(value)
            elif name in _TYPES and value in (np.float16, TensorProto.FLOAT16):
                node.attrs[name] = int(TensorProto.FLOAT)
                changed = True
            elif isinstance(value, gs.Constant) and _is_half(value.dtype):
                node.attrs[name] = gs.Constant(value.name, value.values.astype(np.float32))
                changed = True
    return changed


def _is_half(dtype: Any) -> bool:
    return bool(dtype == np.float16)  # sequences have types that are no NumPy types


def _replace(graph: gs.Graph, old: gs.Tensor, new: gs.Tensor) -> None:
    """Let nodes, those in branches too, and outputs read `new` instead of `old`."""
    for node in graph.nodes:
        node.inputs = [new if x is old else x for x in node.inputs]
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                _replace(value, old, new)
    graph.outputs = [new if x is old else x for x in graph.outputs]
