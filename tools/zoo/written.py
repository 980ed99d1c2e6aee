"""Nets in ONNX's own text: what TensorFlow, Paddle, old and hand-made files look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from tools.zoo.style import Array, Sample, Style, picture, run_plainly

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A net as text: `head { body }`, weights drawn by shape, other constants given."""

    head: str
    body: str
    weights: Mapping[str, Shape]
    inputs: Mapping[str, Array]
    constants: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    functions: str = ""
    change: Callable[[onnx.ModelProto], None] = lambda model: None

    def __call__(self, path: Path) -> Sample:
        """Write the file; return its inputs and onnxruntime's answer."""
        domains = ', "local": 1' if self.functions else ""
        text = f'<ir_version: 8, opset_import: ["": {self.opset}{domains}]> net {self.head} {{ {self.body} }}'
        model = parser.parse_model(text + self.functions)
        rng = np.random.default_rng(0)
        arrays = {k: drawn(rng, s) for k, s in self.weights.items()}
        arrays |= {k: np.asarray(v) for k, v in self.constants.items()}
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in arrays.items())
        self.change(model)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString(deterministic=True))
        outputs = run_plainly(path, self.inputs)
        return Sample(
            dict(self.inputs), outputs, f"onnx {onnx.__version__}, text, opset {self.opset}"
        )


def drawn(rng: np.random.Generator, shape: Shape) -> Array:
    """Draw weights whose products keep the size of what they multiply, in 12 bits."""
    x = rng.normal(size=shape) * np.sqrt(1.6 / max(np.prod(shape[1:]), 2))
    return (np.round(x * 2048) / 2048).astype(np.float32)


# --- changes that text cannot express --------------------------------------------------------------------
def weights_as_inputs(model: onnx.ModelProto) -> None:
    """List the weights among the inputs, as files before IR 4 had to."""
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )


def in_bfloat16(model: onnx.ModelProto) -> None:
    """Store the weights as bfloat16, each behind a Cast to float."""
    stored = list(model.graph.initializer)
    casts = []
    for tensor in stored:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            kind = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
            casts.append(
                helper.make_node(
                    "Cast", [f"{tensor.name}.stored"], [tensor.name], to=TensorProto.FLOAT
                )
            )
            tensor.CopyFrom(numpy_helper.from_array(values.astype(kind), f"{tensor.name}.stored"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def four_bits(model: onnx.ModelProto) -> None:
    """Store `w` as int4 in blocks of 4 along axis 0, behind DequantizeLinear."""
    (tensor,) = (t for t in model.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(tensor)
    blocks = values.reshape(-1, 4, values.shape[1])
    scale = np.abs(blocks).max(1) / 7
    levels = np.clip(np.round(blocks / scale[:, None]), -8, 7).reshape(values.shape)
    kind = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
    model.graph.initializer.remove(tensor)
    model.graph.initializer.append(numpy_helper.from_array(levels.astype(kind), "w.q"))
    model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), "w.s"))
    node = helper.make_node("DequantizeLinear", ["w.q", "w.s"], ["w"], axis=0, block_size=4)
    model.graph.node.insert(0, node)


def with_a_constant_choice(model: onnx.ModelProto) -> None:
    """Let an If on a constant choose the activation, as exporters write `if self.training`."""

    def branch(op: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["c1"], [f"{op}_out"])], op, [], [result])

    choose = helper.make_node(
        "If", ["training"], ["a1"], then_branch=branch("Sigmoid"), else_branch=branch("Relu")
    )
    at = next(i for i, n in enumerate(model.graph.node) if n.output[0] == "c1")
    model.graph.node.insert(at + 1, choose)


# --- the nets ----------------------------------------------------------------------------------------------
NHWC = """
    t = Transpose<perm = [0, 3, 1, 2]>(image)
    c1 = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(t, w1)
    b1 = Add(c1, bias1)
    a1 = Clip(b1, zero, six)
    c2 = Conv<auto_pad = "SAME_LOWER", group = 6>(a1, w2)
    m2 = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(c2)
    s2 = Sigmoid(m2) a2 = Mul(m2, s2)
    p2 = AveragePool<kernel_shape = [2, 2], auto_pad = "SAME_UPPER">(a2)
    back = Transpose<perm = [0, 2, 3, 1]>(p2)
    d = MatMul(back, w3) e = Add(bias3, d) a3 = Relu(e)
    pooled = ReduceMean<axes = [1, 2], keepdims = 0>(a3)
    f = MatMul(pooled, w4) logits = Add(f, bias4) y = Softmax(logits)
"""
NHWC_WEIGHTS = {"w1": (6, 3, 3, 3), "bias1": (1, 6, 1, 1), "w2": (6, 1, 3, 3), "w3": (6, 8), "bias3": (8,),
                "w4": (8, 5), "bias4": (5,)}  # fmt: skip
RELU6 = {"zero": np.float32(0), "six": np.float32(6)}

PLAIN = """
    c1 = Conv<pads = [1, 1, 1, 1]>(image, w1, b1) a1 = Relu(c1)
    p1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a1)
    c2 = Conv<pads = [1, 1, 1, 1]>(p1, w2, b2) a2 = Tanh(c2)
    p2 = GlobalAveragePool(a2) f = Flatten(p2) y = Gemm<transB = 1>(f, w, b)
"""
PLAIN_WEIGHTS = {
    "w1": (6, 3, 3, 3),
    "b1": (6,),
    "w2": (8, 6, 3, 3),
    "b2": (8,),
    "w": (5, 8),
    "b": (5,),
}
HEAD = "(float[N, 3, 12, 12] image) => (float[N, 5] y)"

PADDLE = """
    c1 = Conv<pads = [1, 1, 1, 1]>(image, w1) i1 = Identity(c1) e1 = Add(i1, bias1) r1 = Relu(e1)
    i2 = Identity(r1) h1 = HardSigmoid<alpha = 0.1667>(i2) m1 = Mul(i2, h1)
    shape = Shape(m1) first = Slice(shape, begin, end, at) goal = Concat<axis = 0>(first, rest)
    flat = Reshape(m1, goal) z = MatMul(flat, w2) y = Add(z, bias2)
"""
PIXELS = """
    f = Cast<to = 1>(pixels) x0 = Sub(f, mean) x1 = Div(x0, std)
    t = Transpose<perm = [0, 3, 1, 2]>(x1)
    c1 = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(t, w1, b1) a1 = Relu(c1)
    p = ReduceMean<axes = [-2, -1], keepdims = 0>(a1) y = Gemm(p, w, b)
"""
MIXED = """
    h = Cast<to = 10>(image) c1 = Conv<pads = [1, 1, 1, 1]>(h, w1, b1) a1 = Relu(c1)
    m = GlobalAveragePool(a1) g = Flatten(m) k = Cast<to = 1>(g) n = LayerNormalization(k, s, t)
    y = Gemm<transB = 1>(n, w, b)
"""
FUNCTION = """
    <domain: "local", opset_import: ["": 17]>
    Unit <slope> (v, weight, bias) => (r) {
        c = Conv<pads = [1, 1, 1, 1]>(v, weight, bias) r = LeakyRelu<alpha: float = @slope>(c)
    }
"""
FUNCTIONS = """
    u = local.Unit<slope = 0.1>(image, w1, b1) v = local.Unit<slope = 0.3>(u, w2, b2)
    p = GlobalAveragePool(v) f = Flatten(p) y = Gemm<transB = 1>(f, w, b)
"""
SQUARED = PLAIN.replace("y = Gemm<transB = 1>(f, w, b)", "z = MatMul(f, w) y = Add(z, b)")


def small(*shape: int) -> dict[str, Array]:
    """Return two pictures."""
    return {"image": picture(*(shape or (2, 3, 12, 12)))}


STYLES = [
    Style("nhwc_auto_pad_same", "TensorFlow: NHWC, auto_pad SAME, ReLU6, SiLU",
          Text("(float[unk__1, 15, 15, 3] image) => (float[unk__1, 5] y)", NHWC, NHWC_WEIGHTS,
               {"image": picture(2, 15, 15, 3)}, RELU6, opset=13), peer=True),
    Style("bfloat16_weights", "bfloat16 weights behind Cast",
          Text(HEAD, PLAIN, PLAIN_WEIGHTS, small(), change=in_bfloat16), peer=True),
    Style("weights_as_inputs", "IR 3, weights among the inputs, opset 8",
          Text(HEAD, PLAIN, PLAIN_WEIGHTS, small(), opset=8, change=weights_as_inputs)),
    Style("paddle", "Paddle: Identity everywhere, bias by Add, a target computed from Shape",
          Text("(float[N, 3, 8, 8] image) => (float[N, 5] y)", PADDLE,
               {"w1": (6, 3, 3, 3), "bias1": (1, 6, 1, 1), "w2": (384, 5), "bias2": (5,)}, small(2, 3, 8, 8),
               {"begin": [0], "end": [1], "at": [0], "rest": [384]}, opset=13)),
    Style("uint8_pixels", "uint8 NHWC pixels, normalised inside",
          Text("(uint8[N, 12, 12, 3] pixels) => (float[N, 5] y)", PIXELS,
               {"w1": (6, 3, 3, 3), "b1": (6,), "w": (6, 5), "b": (5,)},
               {"pixels": ((picture(2, 12, 12, 3) + 1) * 127).astype(np.uint8)},
               {"mean": np.float32([120, 115, 105]), "std": np.float32([58, 57, 59])})),
    Style("mixed_precision", "float16 convolutions inside float32",
          Text(HEAD, MIXED, {"s": (6,), "t": (6,), "w": (5, 6), "b": (5,)}, small(),
               {"w1": drawn(np.random.default_rng(5), (6, 3, 3, 3)).astype(np.float16),
                "b1": np.float16([0.1, -0.2, 0.1, 0, 0.3, 0])})),
    Style("local_functions", "functions of the file's own",
          Text(HEAD, FUNCTIONS, PLAIN_WEIGHTS, small(), functions=FUNCTION)),
    Style("constant_if", "an If whose condition is a constant",
          Text(HEAD, PLAIN.replace("a1 = Relu(c1)", ""), PLAIN_WEIGHTS, small(),
               {"training": np.array(False)}, change=with_a_constant_choice)),
    Style("batch_of_four", "batch pinned to 4",
          Text(HEAD.replace("N", "4"), PLAIN, PLAIN_WEIGHTS, small(4, 3, 12, 12))),
    Style("int4_weights", "int4 weights in blocks",
          Text(HEAD, SQUARED, PLAIN_WEIGHTS | {"w": (8, 5)}, small(), opset=21, change=four_bits)),
]  # fmt: skip
