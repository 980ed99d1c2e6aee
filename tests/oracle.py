"""What a model file says, by code that shares nothing with onnxplain: in float64, and by onnxruntime.

`Oracle`: onnx's reference evaluator runs a copy of the *original* file in which every float is a double;
the slow ops are torch kernels, and quantisers pass changes straight through. It gives the logit (the tensor
before a trailing Softmax or Sigmoid) and judges a gradient by central differences. `run_original` is plain
onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.kernels import KERNELS
from tests.quantisers import held_kinks, straight_through

Array = np.ndarray[Any, Any]
STEP = 1e-7
"""Of the input's range: small enough to cross next to no kink, far above rounding in float64."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
GRIDS = ("QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear")
SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast")


class Oracle:
    """One output of a model as a function of one input, in float64.

    `others`: the remaining inputs, held. `output`: which output, where there are several. `at`: what
    onnxruntime had before each QuantizeLinear (`tests/quantisers.py`).
    """

    def __init__(
        self,
        source: Path | onnx.ModelProto,
        others: Mapping[str, Array] = MappingProxyType({}),
        output: str | None = None,
        at: Mapping[str, Array] = MappingProxyType({}),
    ) -> None:
        proto = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
        self.proto = _in_double(_bound(proto, others, output))
        self.logit = find_logit(self.proto.graph)
        if self.logit not in [o.name for o in self.proto.graph.output]:
            self.proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(self.logit))
        ops = straight_through(at)
        if any(n.op_type in GRIDS for n in self.proto.graph.node):
            ops += held_kinks(at)
        ops += KERNELS  # the first of a name is used
        self._evaluator = ReferenceEvaluator(self.proto, new_ops=ops)
        weights = {t.name for t in self.proto.graph.initializer}
        (self.input,) = [i.name for i in self.proto.graph.input if i.name not in weights]

    def run(self, x: Array, names: Sequence[str] | None = None) -> list[Array]:
        """Return outputs (all of the file's, or those named) for one batch."""
        return self._evaluator.run(names, {self.input: x.astype(np.float64)})

    def logits(self, x: Array) -> Array:
        """Return the logit of each image [n, ...], run one by one; [1, C, 1, 1] becomes [n, C]."""
        rows = [self.run(one[None], [self.logit])[0] for one in x]
        z = np.concatenate(rows)
        assert z.dtype == np.float64, "something on the way computed in a narrower type"
        return z.reshape(len(x), -1) if sum(s != 1 for s in z.shape[1:]) <= 1 else z


def run_original(path: Path, x: Array) -> dict[str, Array]:
    """Run the file as it is, image by image, with onnxruntime's defaults; return all outputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    rows = [session.run(names, {session.get_inputs()[0].name: one[None]}) for one in x]
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(names)}


def find_logit(graph: onnx.GraphProto) -> str:
    """Return what is explained: before an output's Softmax or Sigmoid, before the quantiser at its end."""
    makers = {y: n for n in graph.node for y in n.output}
    quantisers = ("QuantizeLinear", "DequantizeLinear")

    def up(name: str, until: tuple[str, ...]) -> str:
        """Walk up through views and quantisers to before the highest node of `until`."""
        found = name
        while name in makers and makers[name].op_type in (*VIEWS, *quantisers):
            node = makers[name]
            name = node.input[0]
            found = name if node.op_type in until else found
        return found

    ends = [makers.get(up(output.name, (*VIEWS, *quantisers))) for output in graph.output]
    for squashing in (("Softmax", "LogSoftmax"), SQUASHING):  # scores before boxes
        for node in ends:
            if node is not None and node.op_type in squashing:
                return up(node.input[0], ("QuantizeLinear",))
    return up(graph.output[0].name, ("QuantizeLinear",))


# --- judging a gradient -------------------------------------------------------------------------------
def gradient_error(f: Callable[[Array], float], x: Array, g: Array, directions: int = 3) -> float:
    """Estimate |g - grad f| / |g| from central differences of f along random directions.

    For normal u, E (g.u - df/du)^2 = |g - grad f|^2, so the root of the mean over directions estimates the
    error of the whole gradient, whatever its length. The gradient's own direction is compared too, and the
    larger of the two is returned: it would show a wrong length even if the directions happen to be blind.
    """
    rng = np.random.default_rng(3)
    exact, g = x.astype(np.float64), g.astype(np.float64)
    length = np.linalg.norm(g)
    assert length > 0, "a zero gradient cannot be judged"
    drawn = [rng.normal(size=x.shape) for _ in range(directions)]
    errors = [float((g * u).sum()) - derivative(f, exact, u) for u in drawn]
    own = abs(length - derivative(f, exact, g / length)) / length
    return max(float(np.sqrt(np.mean(np.square(errors))) / length), float(own))


def judge(errors: Iterable[float], best: float, worst: float) -> None:
    """Assert that one image's error is at most `best`, and none before it above `worst`.

    A ReLU or MaxPool whose inputs lie within float32 rounding of its kink takes the other side than in
    float64; one such flip in a deep net costs up to 1 % of a right gradient, and there is none on the next
    image. So the best tells whether the rules are right, and a wrong rule is wrong on every image.
    """
    seen: list[float] = []
    for error in errors:
        seen.append(error)
        assert error <= worst, f"relative error of the gradient {error:.1e}, allowed {worst:.0e}"
        if error <= best:
            return
    raise AssertionError(f"no image has a gradient within {best:.0e}: {seen}")


def derivative(f: Callable[[Array], float], x: Array, u: Array, step: float = STEP) -> float:
    """Return df/du at x by central differences; no element moves by more than `step` of x's range."""
    h = step * np.ptp(x) / np.abs(u).max()
    return (f(x + h * u) - f(x - h * u)) / (2 * h)


# --- the file as it is run --------------------------------------------------------------------------------
def _bound(
    model: onnx.ModelProto, others: Mapping[str, Array], output: str | None
) -> onnx.ModelProto:
    """Return a copy with constant inputs, one output and no bfloat16."""
    bound = onnx.inliner.inline_local_functions(model)
    graph = bound.graph
    for name, value in others.items():
        (info,) = (i for i in graph.input if i.name == name)
        graph.input.remove(info)
        graph.initializer.append(numpy_helper.from_array(value, name))
    if output is not None:
        unwanted = [o for o in graph.output if o.name != output]
        for info in unwanted:
            graph.output.remove(info)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    return bound


def _in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    for entry in model.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        _widen_attributes(node)
    return model


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _widen_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen(attribute.t)
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in _FLOATS:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            single = attribute.name == "value_float"
            values = np.array(attribute.f if single else attribute.floats, np.float64)
            tensor = numpy_helper.from_array(values)
            attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
