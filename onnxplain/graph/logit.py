"""Find the logit: the tensor a decision is read from, before Softmax, LogSoftmax or Sigmoid.

Explaining a probability instead of its logit gives vanishing and class-mixed gradients, so a trailing
squashing op is stripped, also behind reshapes, casts and quantisers, and the user is told which.
A quantiser at the very end clips the scores it was not calibrated for; where it saturates, nothing
would flow back. Predictions are read after it, as the file has them; explanations start before it.
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
_SQUASHING: dict[str, Activation] = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
}
_TRANSPARENT = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast", "QuantizeLinear",
    "DequantizeLinear",
}  # fmt: skip
_VIEWS_AND_QUANTISERS = _TRANSPARENT - {"Transpose", "Cast"}


@dataclass(frozen=True)
class Logit:
    """What is explained by default.

    `tensor` names the explained tensor, [N, C] or [N, ...]; `predicted` the one that predictions are read
    from, the same but for a final quantiser; `output` the file's output they belong to; `stripped` the op
    types removed between the two; `activation` turns logits into probabilities.
    """

    tensor: str
    predicted: str
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

    The default is the first output that ends in Softmax, else in Sigmoid, else of shape [N, C], else the
    first; [N, C, 1, 1] is flattened to [N, C] by a Reshape added to the graph.
    Raises ModelError when no output depends on the input.
    """
    outputs = [t for t in graph.outputs if len(t.inputs) == 1 and 0 not in (t.shape or ())]
    if not outputs:
        raise ModelError("every output of this model is constant or empty: nothing to explain")
    logits = [_logit_of(graph, t) for t in outputs]

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        shape, stripped = outputs[i].shape, set(logits[i].stripped)
        one_of_many = stripped & {"Softmax", "LogSoftmax"}  # a box may end in Sigmoid, too
        not_rows = shape is None or len(shape) != 2
        return (not one_of_many, not stripped & set(_SQUASHING), not_rows, i)

    return tuple(logits[i] for i in sorted(range(len(logits)), key=rank))


def _logit_of(graph: gs.Graph, output: gs.Tensor) -> Logit:
    tensor, ops = _strip(output)
    stripped = tuple(op for op in ops if op in _SQUASHING)
    rows = _as_rows(graph, tensor)
    explained = _before_quantisers(tensor)
    if explained is not tensor:
        stripped = ("QuantizeLinear", *stripped)
        explained = _as_rows(graph, explained)
    else:
        explained = rows
    activation: Activation = next((_SQUASHING[op] for op in ops if op in _SQUASHING), "softmax")
    if activation == "softmax" and rows.shape is not None and list(rows.shape[1:]) == [1]:
        activation = "sigmoid"
    return Logit(explained.name, rows.name, output.name, stripped, activation)


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


def _before_quantisers(tensor: gs.Tensor) -> gs.Tensor:
    """Return the scores as they were before the quantisers at their end, in the same order."""
    found, at = tensor, tensor
    while len(at.inputs) == 1 and at.inputs[0].op in _VIEWS_AND_QUANTISERS:
        node = at.inputs[0]
        at = node.inputs[0]
        if node.op == "QuantizeLinear":
            found = at
    same = list(found.shape or ()) == list(tensor.shape or ())
    return found if same or (_is_row(found) and _is_row(tensor)) else tensor


def _is_row(tensor: gs.Tensor) -> bool:
    """Whether an image's values lie along a single axis."""
    return tensor.shape is not None and sum(s != 1 for s in tensor.shape[1:]) <= 1


def _as_rows(graph: gs.Graph, tensor: gs.Tensor) -> gs.Tensor:
    """Flatten [N, C, 1, 1] or [N] to rows [N, C] by a Reshape; leave everything else."""
    shape = tensor.shape
    if shape is None or len(shape) == 2 or not _is_row(tensor):
        return tensor
    emitter = Emitter("logit")
    rows = emitter.Reshape(tensor, [-1, int(np.prod(shape[1:]))])
    images = shape[0] if shape else 1
    rows.name, rows.shape = f"{tensor.name}.rows", [images, int(np.prod(shape[1:]))]
    graph.nodes.extend(emitter.nodes)
    return rows
