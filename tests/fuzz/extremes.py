"""Models made to hurt: absurd sizes, lying headers, very long, wide and deep graphs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from onnxplain.bundled import model_path
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.nets import sound_nets

# One op with sizes or attributes that no sound file has; c is sliced afterwards, because inference of a
# Slice is where a size that came out negative does harm. x is [N, 3, 4, 4], w [5, 3, 9, 9], v [3, 5, 3, 3].
_ABSURD = """
    c = Conv(x, w) | c = MaxPool<kernel_shape = [9, 9]>(x) | c = AveragePool<kernel_shape = [0, 0]>(x)
    p = Constant<value_ints = [0, 0, -5, -5, 0, 0, -5, -5]>() c = Pad(x, p)
    p = Constant<value_ints = [0, 0, 0, 0, 0, 0, 0, 1099511627776]>() c = Pad(x, p)
    p = Constant<value_ints = [0, 0, -5]>() c = Pad(x, p) | c = Conv<pads = [-9, -9, -9, -9]>(x, w)
    c = Conv<pads = [1099511627776, 0, 0, 9223372036854775807]>(x, w) | c = Conv<pads = [1]>(x, w)
    c = Conv<strides = [0, 0]>(x, w) | c = Conv<dilations = [0, 0]>(x, w) | c = Conv<strides = [-1, -1]>(x, w)
    c = Conv<dilations = [-9, -9]>(x, w) | c = Conv<group = 0>(x, w) | c = Conv<kernel_shape = [3]>(x, w)
    c = Conv<auto_pad = "SAME_UPPER", strides = [0, 0]>(x, w) | c = Conv<group = -1099511627776>(x, w)
    c = MaxPool<auto_pad = "SAME_UPPER", strides = [0, 0], kernel_shape = [2, 2]>(x)
    c = MaxPool<ceil_mode = 1, strides = [0, 0], kernel_shape = [2, 2]>(x)
    c = MaxPool<kernel_shape = [-2, -2]>(x) | c = MaxPool<kernel_shape = [1, 1, 1, 1, 1]>(x)
    c = MaxPool<kernel_shape = [1099511627776, 2]>(x) | c = LpPool<kernel_shape = [2, 2], strides = [0, 0]>(x)
    c = ConvTranspose<pads = [20, 20, 20, 20]>(x, v) | c = ConvTranspose<strides = [0, 0]>(x, v)
    c = ConvTranspose<strides = [1099511627776, 1]>(x, v) | c = ConvTranspose<group = 0>(x, v)
    c = ConvTranspose<output_shape = [1099511627776, 1]>(x, v)
    p = Constant<value_ints = [1, 1, -2, 2]>() c = Tile(x, p) | c = BatchNormalization(x, w, w, w, w)
    p = Constant<value_ints = [1, 1, 1099511627776, 2]>() c = Tile(x, p)
    p = Constant<value_ints = [1, 1, -2, 2]>() c = ConstantOfShape(p)
    p = Constant<value_ints = [1099511627776]>() q = ConstantOfShape(p) c = Add(x, q)
    p = Constant<value_ints = [1048576, 1048576]>() q = ConstantOfShape(p) c = Add(x, q)
    p = Constant<value_ints = [1, 1, -2, 2]>() c = Expand(x, p)
    p = Constant<value_ints = [1099511627776, 1, 1, 1, 1]>() c = Expand(x, p)
    p = Constant<value_ints = [1, 3, -4, -4]>() c = Reshape(x, p)
    p = Constant<value_ints = [1099511627776, -1]>() c = Reshape(x, p)
    p = Constant<value_floats = [1.0, 1.0, -4.0, -4.0]>() c = Resize(x, , p)
    p = Constant<value_floats = [1.0, 1.0, 1e30, 1e30]>() c = Resize(x, , p)
    p = Constant<value_floats = [1.0, 1.0, 1e6, 1e6]>() c = Resize(x, , p)
    p = Constant<value_floats = [1.0, 1.0]>() c = Resize<axes = [9, 8]>(x, , p)
    p = Constant<value_ints = [1, 3, -4, 4]>() c = Resize(x, , , p)
    p = Constant<value_ints = [0, 0, 0, 0]>() c = Resize<keep_aspect_ratio_policy = "not_larger">(x, , , p)
    a = Constant<value_float = 0.0>() b = Constant<value_float = 9.0>() q = Range(a, b, a) c = Add(x, q)
    a = Constant<value_float = 1e-30>() b = Constant<value_float = 1e30>() q = Range(a, b, a) c = Add(x, q)
    c = DepthToSpace<blocksize = 0>(x) | c = SpaceToDepth<blocksize = 0>(x) | c = SpaceToDepth<blocksize = -1>(x)
    a, b = Split<num_outputs = 1, axis = 1>(x) c = Identity(a) | c, b = Split<axis = 9, num_outputs = 2>(x)
    c = Split<num_outputs = 1099511627776, axis = 1>(x) | c = Split<num_outputs = 0, axis = 1>(x)
    p = Constant<value_ints = [9, -6]>() c, b = Split<axis = 1>(x, p)
    p = Constant<value_ints = [1099511627776]>() c = Gather<axis = 1>(x, p)
    p = Constant<value_ints = [-1099511627776]>() c = Gather<axis = 9>(x, p) | c = Concat<axis = -9>(x, x)
    c = Transpose<perm = [0, 1, 2, 9]>(x) | c = Transpose<perm = [0, 1]>(x) | c = Transpose<perm = [0, 0, 0, 0]>(x)
    p = Constant<value_ints = [-30]>() c = Unsqueeze(x, p) | p = Constant<value_ints = [30]>() c = Squeeze(x, p)
    p = Constant<value_ints = [30]>() c = ReduceMean(x, p) | c = Flatten<axis = 9>(x) | c = Softmax<axis = 9>(x)
    p = Constant<value_ints = [-30]>() c, i = TopK(x, p) | c = Shape<start = 9, end = -9>(x)
    p = Constant<value_int = -5>() u = Constant<value_floats = [0.0, 1.0]>() i = Cast<to = 7>(x) c = OneHot(i, p, u)
    c = Einsum<equation = "abcdefg,->z">(x, x) | c = Einsum<equation = "">(x) | c = Einsum<equation = "->">(x)
    i = Cast<to = 7>(x) c = GatherND<batch_dims = -9>(x, i) | i = Cast<to = 7>(x) c = GatherND<batch_dims = 9>(x, i)
    c = LayerNormalization<axis = -9>(x, w) | c, h, d = LSTM<hidden_size = -3>(x, w, w)
    p = Constant<value_ints = [-5, 5]>() c = CenterCropPad<axes = [2, 3]>(x, p)
    p = Constant<value_int = -5>() c = DFT(x, p) | p = Constant<value_int = 0>() c = STFT(x, p, p, p)
    p = Constant<value_int = 99>() c = CumSum(x, p) | c = Compress<axis = 9>(x, x) | c = Unique<axis = 9>(x)
    p = Constant<value_ints = [0]>() a = Constant<value_ints = [9]>() c = Slice(x, p, p, a)
    p = Constant<value_ints = [0]>() a = Constant<value_ints = [1]>() c = Slice(x, p, a, a, p)
    t = Constant<value = bool {1}>() c = If(t) <then_branch = g1 () => () { b = Relu(x) }, else_branch = g2 () => (o) { o = Abs(x) }>
    m = Constant<value_int = 9>() t = Constant<value = bool {1}>() c = Loop(m, t, x) <body = g () => (b) { b = Relu(x) }>
    t = Constant<value = bool {1}>() c = If(t) <then_branch = g1 () => (o) { o = Conv(x, w) }, else_branch = g2 () => (o) { o = Conv(x, w) }>
    c = Identity(y) | c = Relu(d) d = Relu(c) | c = Cast<to = 99>(x) | c = GroupNormalization<num_groups = 0>(x, w, w)
"""  # noqa: E501  one line each is easier to read than a table
_SLICED = """
    s1 = Constant<value_ints = [1]>() s2 = Constant<value_ints = [2]>() back = Constant<value_ints = [-1]>()
    y = Slice(c, s1, s2, back)
"""


def extremes() -> Iterator[tuple[str, bytes]]:
    """Yield (name, file) of every model."""
    for op in (part.strip() for line in _ABSURD.splitlines() for part in line.split(" | ")):
        if op:
            yield from ((f"{op} (opset {v})", _absurd(op, v)) for v in (13, 18, 23))
    yield from _headers()
    yield from _sizes()
    yield from _interfaces()
    for depth in (3, 10, 30):  # protobuf reads no deeper file
        yield f"If nested {depth} deep", _nested(depth).SerializeToString()
    yield from _files()


def _absurd(op: str, opset: int) -> bytes:
    head = f'<ir_version: 8, opset_import: ["": {opset}]> net (float[N, 3, 4, 4] x) => (float y)'
    model = parser.parse_model(f"{head} {{ {op} {_SLICED} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, shape in (("w", (5, 3, 9, 9)), ("v", (3, 5, 3, 3))):
        weight = numpy_helper.from_array(np.ones(shape, np.float32), name)
        model.graph.initializer.append(weight)
    return model.SerializeToString()


def _headers() -> Iterator[tuple[str, bytes]]:
    """Headers that claim terabytes, or that count more than 64 bits hold."""
    for dims in ([1 << 40], [1 << 20] * 3, [1 << 62, 4], [(1 << 63) - 1], [0, 1 << 62], [1] * 5000):
        for kind in (TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT4, TensorProto.BFLOAT16):
            for field in ("raw_data", "float_data", "nothing"):
                model = sound_nets()["conv"]
                tensor = model.graph.initializer[0]
                tensor.data_type, tensor.dims[:] = kind, dims
                tensor.ClearField("raw_data")
                if field == "raw_data":
                    tensor.raw_data = bytes(4)
                elif field == "float_data":
                    tensor.float_data.append(1)
                yield f"a header of {dims[:4]}, type {kind}, {field}", model.SerializeToString()
    model = sound_nets()["shapes"]
    constant = next(n for n in model.graph.node if n.op_type == "Constant").attribute[0].t
    constant.dims[:] = [1 << 40]
    yield "a Constant of 8 TB", model.SerializeToString()


def _sizes() -> Iterator[tuple[str, bytes]]:
    for name, model in sound_nets().items():
        for size in (0, -1, 1, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1):
            for axis in range(1, len(model.graph.input[0].type.tensor_type.shape.dim)):
                model = sound_nets()[name]
                model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
                yield f"{name}, input axis {axis} of {size}", model.SerializeToString()


def _interfaces() -> Iterator[tuple[str, bytes]]:
    """Very many nodes, inputs or outputs."""
    yield "10,000 nodes in a chain", chain(10_000).SerializeToString()
    info = helper.make_tensor_value_info
    many = [info(f"x{i}", TensorProto.FLOAT, ["N", 2]) for i in range(5000)]
    nodes = [helper.make_node("Sum", [x.name for x in many], ["y"])]
    y = info("y", TensorProto.FLOAT, ["N", 2])
    yield "5,000 inputs", _model(nodes, many, [y]).SerializeToString()
    nodes = [helper.make_node("Relu", ["x0"], [f"y{i}"]) for i in range(2000)]
    outputs = [info(f"y{i}", TensorProto.FLOAT, ["N", 2]) for i in range(2000)]
    yield "2,000 outputs", _model(nodes, many[:1], outputs).SerializeToString()


def chain(length: int) -> ModelProto:
    """Return a model of so many nodes, one behind the other."""
    names = ["x", *(f"t{i}" for i in range(length - 1)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]
    info = helper.make_tensor_value_info
    ends = (info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    return _model(nodes, [next(ends)], [next(ends)])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> ModelProto:
    graph = helper.make_graph(nodes, "net", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _nested(depth: int) -> ModelProto:
    info = helper.make_tensor_value_info
    condition = info("c", TensorProto.BOOL, [])
    x, y = (info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    for i in range(depth):
        made = [info(f"y{i}", TensorProto.FLOAT, ["N", 3])]
        nodes[-1].output[0] = f"y{i}"
        then = helper.make_graph(nodes, f"then{i}", [], made)
        other = helper.make_graph([helper.make_node("Abs", ["x"], [f"y{i}"])], f"else{i}", [], made)
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    return _model(nodes, [x, condition], [y])


def _files() -> Iterator[tuple[str, bytes]]:
    """Files cut off, with names that are not UTF-8, and broken copies of a real one."""
    whole = sound_nets()["conv"].SerializeToString()
    for percent in range(0, 100, 4):
        yield f"the first {percent} %", whole[: len(whole) * percent // 100]
    for name in (b"w1", b"c1", b"n1", b"Relu", b"SAME_UPPER", b"epsilon"):
        yield f"{name!r} not UTF-8", whole.replace(name, b"\xff" * len(name))
    real = model_path().read_bytes()
    for seed in range(4):
        yield f"the bundled model, broken {seed}", mutate_bytes(real, np.random.default_rng(seed))
