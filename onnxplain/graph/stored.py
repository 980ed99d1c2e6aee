"""Weights in types that NumPy does not have (bfloat16, 4 bits) or in blocks -> plain floats.

They are small things read once; written out, neither shape inference nor a rule needs to know the types.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxplain.graph.emit import Emitter, Tensor
from onnxplain.graph.fusions import Rewrite


def stored(op: Emitter, node: gs.Node) -> Tensor | None:
    """Write out what a DequantizeLinear makes of 4-bit or block-wise quantised weights."""
    if not all(isinstance(t, gs.Constant) for t in node.inputs):
        return None
    levels, scale, *zero = (np.asarray(t.values) for t in node.inputs)
    block, axis = node.attrs.get("block_size", 0), node.attrs.get("axis", 1)
    if not block and levels.dtype.kind in "iu":
        return None
    if block:
        rows = np.arange(levels.shape[axis]) // block
        scale, *zero = (np.take(v, rows, axis) for v in (scale, *zero))
    elif scale.size > 1:
        shape = [-1 if i == axis % levels.ndim else 1 for i in range(levels.ndim)]
        scale, *zero = (v.reshape(shape) for v in (scale, *zero))
    centred = levels.astype(np.float32) - (zero[0].astype(np.float32) if zero else 0)
    return op.Identity(op.constant(centred * scale.astype(np.float32), scale.dtype))


def _cast(op: Emitter, node: gs.Node) -> Tensor | None:
    """Read bfloat16 weights as the floats they are cast to."""
    x, to = node.inputs[0], node.attrs["to"]
    if not isinstance(x, gs.Constant) or np.asarray(x.values).dtype.name != "bfloat16":
        return None
    if to not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        return None
    return op.Identity(op.constant(x.values, onnx.helper.tensor_dtype_to_np_dtype(to)))


STORED: dict[str, Rewrite] = {"DequantizeLinear": stored, "Cast": _cast}
"""Operator -> what it makes of stored weights; None where there is nothing to write out."""
