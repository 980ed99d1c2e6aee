"""Write ONNX nodes as expressions: `op.Where(op.Greater(y, 0), g, 0)`.

Everything inserted into a graph is written through an `Emitter`. It names nodes and tensors uniquely,
turns Python numbers and arrays into constants of the right type, shares equal constants, and knows the
element type (not the shape) of what it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

Tensor: TypeAlias = gs.Tensor

_BOOLEAN = {
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Equal",
    "And",
    "Or",
    "Not",
    "Xor",
    "IsNaN",
    "IsInf",
}
_INT64 = {"Shape", "Size", "ArgMax", "ArgMin", "NonZero"}
_INDICES_SECOND = {"MaxPool", "TopK"}
_TYPE_FROM_SECOND = {"Where"}
# Inputs that are int64 by the standard; a Python list given there becomes int64, elsewhere float.
_INT64_INPUTS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2, 3, 4), "Gather": (1,),
    "GatherElements": (1,), "GatherND": (1,), "ScatterElements": (1,), "ScatterND": (1,),
    "Squeeze": (1,), "Unsqueeze": (1,), "Split": (1,), "Pad": (1, 3), "ReduceSum": (1,),
    "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,), "ReduceProd": (1,),
    "ReduceL1": (1,), "ReduceL2": (1,), "ReduceLogSumExp": (1,), "ReduceSumSquare": (1,),
    "ReduceLogSum": (1,), "Resize": (3,), "ConstantOfShape": (0,), "CumSum": (1,), "OneHot": (0, 1),
    "TopK": (1,), "Trilu": (1,), "Range": (0, 1, 2),
}  # fmt: skip


class Emitter:
    """Appends nodes to a list; `op.<Type>(*inputs, outputs=1, **attributes)` returns the output(s).

    Inputs are tensors, arrays or numbers (constants, cast to the type of the first tensor among the
    inputs unless the operator wants int64 there), or None for an omitted optional input.
    """

    def __init__(self, prefix: str = "ox") -> None:
        """Start with no nodes; `prefix` begins every name written."""
        self.nodes: list[gs.Node] = []
        self._prefix = prefix
        self._constants: dict[tuple[str, tuple[int, ...], bytes], gs.Constant] = {}
        self._written = 0
        self._lifted: dict[str, Tensor] = {}

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """Return the function that writes one node of type `op_type`."""
        if not op_type[:1].isupper():
            raise AttributeError(op_type)

        def write(*inputs: Any, outputs: int = 1, dtype: Any = None, **attrs: Any) -> Any:
            return self._write(op_type, inputs, outputs, dtype, attrs)

        return write

    def constant(self, value: Any, dtype: Any) -> gs.Constant:
        """Return a constant tensor of `dtype`; equal small ones are shared."""
        array = np.asarray(value, dtype=dtype)  # keeps rank 0, unlike ascontiguousarray
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else None
        if key is not None and key in self._constants:
            return self._constants[key]
        self._written += 1
        constant = gs.Constant(f"{self._prefix}.const{self._written}", array)
        if key is not None:
            self._constants[key] = constant
        return constant

    def float(self, tensor: Tensor) -> Tensor:
        """Return the tensor as float32 where it is a narrower float (the backward's precision)."""
        if tensor.dtype is None or np.dtype(tensor.dtype) != np.float16:
            return tensor
        if isinstance(tensor, gs.Constant):
            return self.constant(tensor.values, np.float32)
        if tensor.name not in self._lifted:
            lifted = self.Cast(tensor, to=1, dtype=np.float32)
            lifted.shape = tensor.shape
            self._lifted[tensor.name] = lifted
        return self._lifted[tensor.name]

    def _write(
        self, op_type: str, inputs: Sequence[Any], outputs: int, dtype: Any, attrs: dict[str, Any]
    ) -> Any:
        tensors = [x for x in inputs if isinstance(x, gs.Tensor)]
        wanted = tensors[0].dtype if tensors else np.float32
        if op_type in _TYPE_FROM_SECOND:
            values = [x for x in inputs[1:] if isinstance(x, gs.Tensor)]
            wanted = values[0].dtype if values else np.float32
        wanted = np.float32 if wanted is None else wanted
        int64_at = _INT64_INPUTS.get(op_type, ())
        resolved = [
            self._input(x, np.int64 if i in int64_at else wanted) for i, x in enumerate(inputs)
        ]
        while resolved and resolved[-1].is_empty():
            resolved.pop()
        name = f"{self._prefix}.{op_type}{len(self.nodes)}"
        produced = dtype if dtype is not None else _result_dtype(op_type, wanted)
        results = [gs.Variable(f"{name}:{i}", dtype=produced) for i in range(outputs)]
        if op_type in _INDICES_SECOND and outputs > 1:
            results[1].dtype = np.dtype(np.int64)
        node = gs.Node(
            op_type, name=name, attrs=_attributes(attrs), inputs=resolved, outputs=results
        )
        self.nodes.append(node)
        return results[0] if outputs == 1 else results

    def _input(self, value: Any, dtype: Any) -> Tensor:
        if value is None:
            return gs.Variable.empty()
        return value if isinstance(value, gs.Tensor) else self.constant(value, dtype)


def _result_dtype(op_type: str, first: Any) -> Any:
    if op_type in _BOOLEAN:
        return np.dtype(bool)
    return np.dtype(np.int64) if op_type in _INT64 else first


def _attributes(attrs: dict[str, Any]) -> dict[str, Any]:
    """Drop attributes set to None, so that callers can write `axis=None` for "the default"."""
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    return {k: v for k, v in plain.items() if v is not None}
