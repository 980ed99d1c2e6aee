"""Find the logit: the tensor a decision is read from, before Softmax, LogSoftmax or Sigmoid.

Explaining a probability instead of its logit gives vanishing and class-mixed gradients, so a trailing
squashing op is stripped, also behind reshapes, casts and quantisers, and the user is told which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.errors import ModelError
from onnxplain.graph.emit import Emitter

Activation = Literal["softmax", "sigmoid"]
_SQUASHING: dict[str, Activation] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_TRANSPARENT = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast", "QuantizeLinear",
    "DequantizeLinear",
}  # fmt: skip


@dataclass(frozen=True)
class Logit:
    """What is explained by default.

    `tensor` names the explained tensor, [N, C] or [N, ...]; `output` the file's output it belongs to;
    `stripped` the op types removed between the two; `activation` turns it into probabilities.
    """

    tensor: str
    output: str
    stripped: tuple[str, ...]
    activation: Activation

    def __str__(self) -> str:
        """Say which tensor is explained, and what was stripped."""
        if not self.stripped:
            return f"{self.tensor!r}, the output itself"
        return f"{self.tensor!r}, before {' and '.join(self.stripped)} of output {self.output!r}"


def find_logits(graph: gs.Graph) -> tuple[Logit, ...]:
    """Return what to explain of each output, the default first.

    The default is the first output that ends in a squashing op, else the first of shape [N, C], else the
    first; [N, C, 1, 1] is flattened to [N, C] by a Reshape added to the graph.
    Raises ModelError when no output depends on the input.
    """
    outputs = [t for t in graph.outputs if len(t.inputs) == 1]
    if not outputs:
        raise ModelError("no output of this model depends on its input")
    logits = [_logit_of(graph, t) for t in outputs]

    def rank(i: int) -> tuple[bool, bool, int]:
        shape = outputs[i].shape
        return (not logits[i].stripped, shape is None or len(shape) != 2, i)

    return tuple(logits[i] for i in sorted(range(len(logits)), key=rank))


def _logit_of(graph: gs.Graph, output: gs.Tensor) -> Logit:
    tensor, ops = _strip(output)
    stripped = tuple(op for op in ops if op in _SQUASHING)
    rows = _as_rows(graph, tensor)
    activation: Activation = _SQUASHING[stripped[0]] if stripped else "softmax"
    if not stripped and rows.shape is not None and list(rows.shape[1:]) == [1]:
        activation = "sigmoid"
    return Logit(rows.name, output.name, stripped, activation)


def _strip(tensor: gs.Tensor) -> tuple[gs.Tensor, Sequence[str]]:
    """Walk up through transparent ops to below the first squashing op; return where that led."""
    ops: list[str] = []
    at = tensor
    while len(at.inputs) == 1:
        node = at.inputs[0]
        if node.op in _SQUASHING:
            return _with_images_first(node.inputs[0]), [*ops, node.op]
        if node.op not in _TRANSPARENT:
            break
        ops.append(node.op)
        at = node.inputs[0]
    return tensor, ()


def _with_images_first(tensor: gs.Tensor) -> gs.Tensor:
    """Undo the Flatten by which Softmax before opset 13 merges images with other axes ("4420N")."""
    while tensor.shape and isinstance(tensor.shape[0], str) and tensor.shape[0] != "N":
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None or producer.op not in ("Flatten", "Reshape"):
            break
        tensor = producer.inputs[0]
    return tensor


def _as_rows(graph: gs.Graph, tensor: gs.Tensor) -> gs.Tensor:
    """Flatten [N, C, 1, 1] or [N] to rows [N, C] by a Reshape; leave everything else."""
    shape = tensor.shape
    if shape is None or len(shape) == 2 or sum(s != 1 for s in shape[1:]) > 1:
        return tensor
    emitter = Emitter("logit")
    rows = emitter.Reshape(tensor, [-1, int(np.prod(shape[1:]))])
    rows.name, rows.shape = f"{tensor.name}.rows", [shape[0], int(np.prod(shape[1:]))]
    graph.nodes.extend(emitter.nodes)
    return rows
