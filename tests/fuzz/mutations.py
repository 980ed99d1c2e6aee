"""Ways to break a model, one function each: `mutation(model, rng)` changes it in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.random import Generator
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

T = TypeVar("T")
Mutation = Callable[[ModelProto, Generator], None]

MUTATIONS: list[Mutation] = []
NUMBERS = [0, 1, -1, 2, 3, 7, -2, 127, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40,
           -(1 << 40), (1 << 63) - 1, -(1 << 63)]  # fmt: skip
FLOATS = [0.0, -1.0, np.nan, np.inf, -np.inf, 1e38, 1e-45, 1e30, 1e6, 1e-6]
NAMES = ["", "nobody", "x", "y", "w1", "\0", "é" * 100]
_OPS = """
    Relu Add Mul Conv MatMul Gemm Concat Split Reshape Transpose Softmax Gather Resize Pad Slice Squeeze
    Unsqueeze Expand Tile MaxPool AveragePool BatchNormalization LayerNormalization ReduceMean ReduceMax
    Clip Cast Shape ConstantOfShape Range Identity Dropout Flatten TopK Where LSTM If Loop Scan Constant
    QuantizeLinear DequantizeLinear QLinearConv ConvTranspose InstanceNormalization Einsum CumSum
    ScatterND GatherND GridSample DepthToSpace LRN PRelu OneHot NonMaxSuppression Nope SequenceConstruct
    SequenceAt Optional DFT Attention DeformConv CenterCropPad MaxUnpool Trilu EyeLike MelWeightMatrix
    HannWindow SplitToSequence ConcatFromSequence Compress Unique ReverseSequence Col2Im RoiAlign
    GroupNormalization Hardmax STFT Bernoulli Size NonZero AffineGrid MatMulInteger ConvInteger
    DynamicQuantizeLinear ImageDecoder RegexFullMatch TfIdfVectorizer LabelEncoder StringConcat
"""
_ATTRIBUTES = """
    auto_pad group axis axes pads strides dilations kernel_shape output_shape output_padding epsilon
    keepdims allowzero transA to blocksize num_outputs mode ceil_mode training_mode perm alpha start end
    batch_dims channels_last unknown noop_with_empty_axes antialias stash_type saturate
"""
OPS, ATTRIBUTES = _OPS.split(), _ATTRIBUTES.split()
STRINGS = [b"", b"\xff\xfe", b"SAME_LOWER", b"VALID", b"nonsense", b"i->", b"ij,jk->ik", b"cubic",
           b"nearest"]  # fmt: skip


def mutation(function: Mutation) -> Mutation:
    MUTATIONS.append(function)
    return function


def pick(rng: Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def place(rng: Generator, sequence: Sequence[Any]) -> int:
    return int(rng.integers(len(sequence)))


def names(model: ModelProto) -> list[str]:
    graph = model.graph
    made = [y for n in graph.node for y in n.output]
    return [*made, *(i.name for i in graph.input), *(t.name for t in graph.initializer), *NAMES]


def reorder(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    kept = [copy.deepcopy(n) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def with_attributes(model: ModelProto) -> list[NodeProto]:
    return [n for n in model.graph.node if n.attribute]


# --- nodes and edges ----------------------------------------------------------------------------------
@mutation
def drop_node(model: ModelProto, rng: Generator) -> None:
    del model.graph.node[place(rng, model.graph.node)]


@mutation
def repeat_node(model: ModelProto, rng: Generator) -> None:
    node = copy.deepcopy(pick(rng, model.graph.node))
    node.output[0] = pick(rng, [node.output[0], "copy"])
    model.graph.node.append(node)


@mutation
def shuffle(model: ModelProto, rng: Generator) -> None:
    nodes = list(model.graph.node)
    reorder(model, [nodes[i] for i in rng.permutation(len(nodes))])


@mutation
def insert_op(model: ModelProto, rng: Generator) -> None:
    index = place(rng, model.graph.node)
    nodes = [copy.deepcopy(n) for n in model.graph.node]
    if nodes[index].input:
        at = place(rng, nodes[index].input)
        read = [nodes[index].input[at], *(pick(rng, names(model)) for _ in range(rng.integers(4)))]
        nodes[index].input[at] = "inserted"
        nodes.insert(index, helper.make_node(pick(rng, OPS), read, ["inserted"]))
        reorder(model, nodes)


@mutation
def swap_ops(model: ModelProto, rng: Generator) -> None:
    a, b = pick(rng, model.graph.node), pick(rng, model.graph.node)
    a.op_type, b.op_type = b.op_type, a.op_type


@mutation
def change_op(model: ModelProto, rng: Generator) -> None:
    pick(rng, model.graph.node).op_type = pick(rng, OPS)


@mutation
def change_domain(model: ModelProto, rng: Generator) -> None:
    domain = pick(rng, ["com.microsoft", "ai.onnx.ml", "ai.onnx", "ai.onnx.training", "nobody's"])
    pick(rng, model.graph.node).domain = domain
    if rng.random() < 0.7:
        model.opset_import.add(domain=domain, version=1)


@mutation
def name_nodes_alike(model: ModelProto, rng: Generator) -> None:
    for node in model.graph.node:
        node.name = pick(rng, ["same", *NAMES])


def edges(node: NodeProto, model: ModelProto, rng: Generator, side: MutableSequence[str]) -> None:
    """Change, drop or add an edge; with luck it closes a cycle."""
    how = int(rng.integers(4))
    if how == 3:
        side.append(pick(rng, names(model)))
    elif side and how:
        side[place(rng, side)] = pick(rng, names(model))
    elif side:
        del side[place(rng, side)]


@mutation
def change_input(model: ModelProto, rng: Generator) -> None:
    node = pick(rng, model.graph.node)
    edges(node, model, rng, node.input)


@mutation
def change_output(model: ModelProto, rng: Generator) -> None:
    node = pick(rng, model.graph.node)
    edges(node, model, rng, node.output)


@mutation
def call_a_function(model: ModelProto, rng: Generator) -> None:
    inner = helper.make_node(pick(rng, [*OPS, "F"]), ["a"], ["b"])
    inner.domain = "local" if inner.op_type == "F" else ""
    opsets = [helper.make_opsetid(d, v) for d, v in (("", pick(rng, [0, 11, 18])), ("local", 1))]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], [inner], opsets))
    model.opset_import.add(domain="local", version=1)
    node = pick(rng, model.graph.node)
    node.op_type, node.domain = "F", "local"
    del node.attribute[:]


# --- attributes ---------------------------------------------------------------------------------------
@mutation
def change_attribute(model: ModelProto, rng: Generator) -> None:
    attribute = pick(rng, pick(rng, with_attributes(model)).attribute)
    if attribute.type == AttributeProto.INT:
        attribute.i = pick(rng, NUMBERS)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = pick(rng, FLOATS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = pick(rng, STRINGS)
    elif attribute.type == AttributeProto.TENSOR:
        change_tensor(attribute.t, rng)
    elif attribute.type == AttributeProto.GRAPH:
        change_branch(attribute.g, model, rng)
    elif attribute.ints:
        change_ints(attribute.ints, rng)


def change_ints(ints: MutableSequence[int], rng: Generator) -> None:
    how, number = int(rng.integers(4)), pick(rng, NUMBERS)
    if how == 0:
        ints[place(rng, ints)] = number
    elif how == 1:
        ints.append(number)
    elif how == 2:
        del ints[-1]
    else:
        ints[:] = [number] * len(ints)


def change_branch(graph: onnx.GraphProto, model: ModelProto, rng: Generator) -> None:
    how = int(rng.integers(4))
    if how == 0:
        del graph.node[:]
    elif how == 1:
        del graph.output[:]
    elif how == 2 and graph.node and graph.node[0].input:
        graph.node[0].input[0] = pick(rng, names(model))
    elif graph.output:
        graph.output[0].name = "nobody"


@mutation
def change_attribute_type(model: ModelProto, rng: Generator) -> None:
    attribute = pick(rng, pick(rng, with_attributes(model)).attribute)
    empty = helper.make_graph([], "g", [], [])
    tensor = numpy_helper.from_array(np.zeros(3, np.float32))
    value = pick(rng, [1, 1.5, "s", [1, 2], [1.0], ["a"], tensor, empty])
    attribute.CopyFrom(helper.make_attribute(attribute.name, value))
    if rng.random() < 0.3:
        attribute.type = int(rng.integers(15))  # type: ignore[assignment]


@mutation
def drop_attribute(model: ModelProto, rng: Generator) -> None:
    node = pick(rng, with_attributes(model))
    del node.attribute[place(rng, node.attribute)]


@mutation
def add_attribute(model: ModelProto, rng: Generator) -> None:
    several = [pick(rng, NUMBERS) for _ in range(int(rng.integers(1, 5)))]
    value = pick(rng, [pick(rng, NUMBERS), several, pick(rng, FLOATS), "SAME_UPPER", "x"])
    attribute = helper.make_attribute(pick(rng, ATTRIBUTES), value)
    pick(rng, model.graph.node).attribute.append(attribute)


# --- stored values ------------------------------------------------------------------------------------
def constants(model: ModelProto) -> list[TensorProto]:
    found = [n.attribute[0].t for n in model.graph.node if n.op_type == "Constant" and n.attribute]
    return [*found, *model.graph.initializer]


def change_tensor(tensor: TensorProto, rng: Generator) -> None:
    """Change what a tensor claims to be, or what it holds."""
    how = int(rng.integers(5))
    if how == 0 and tensor.dims:
        tensor.dims[place(rng, tensor.dims)] = pick(rng, NUMBERS)
    elif how == 1:
        tensor.dims.append(pick(rng, NUMBERS))
    elif how == 2:
        tensor.data_type = int(rng.integers(27))
    elif how == 3:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    else:
        tensor.name = pick(rng, NAMES)


@mutation
def change_header(model: ModelProto, rng: Generator) -> None:
    change_tensor(pick(rng, constants(model)), rng)


@mutation
def change_value(model: ModelProto, rng: Generator) -> None:
    tensors = [t for t in constants(model) if t.data_type in (TensorProto.INT64, TensorProto.FLOAT)]
    shapes = [t for t in tensors if t.data_type == TensorProto.INT64]
    tensor = pick(rng, shapes if shapes and rng.random() < 0.6 else tensors)
    array = np.array(numpy_helper.to_array(tensor))
    extremes: list[Any] = FLOATS if array.dtype.kind == "f" else NUMBERS
    array.flat[place(rng, array.ravel())] = pick(rng, extremes)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@mutation
def change_array(model: ModelProto, rng: Generator) -> None:
    tensor = pick(rng, constants(model))
    a = np.array(numpy_helper.to_array(tensor))
    kinds = [np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_, np.int8]
    forms = [a[..., :0] if a.ndim else a, a[None], a.ravel(), a.T, np.zeros(0, a.dtype),
             np.zeros((), a.dtype), np.resize(a, a.size + 1), a.astype(pick(rng, kinds))]  # fmt: skip
    tensor.CopyFrom(numpy_helper.from_array(np.array(pick(rng, forms), order="C"), tensor.name))


@mutation
def change_initializers(model: ModelProto, rng: Generator) -> None:
    stored = model.graph.initializer
    tensor, how = copy.deepcopy(pick(rng, stored)), int(rng.integers(4))
    if how == 0:
        stored.remove(tensor)
    elif how == 1:
        stored.append(tensor)
    elif how == 2:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, [*tensor.dims, 3])
        model.graph.input.append(info)
    else:
        outside = pick(rng, list(stored))
        outside.data_location = TensorProto.EXTERNAL
        outside.external_data.add(key="location", value=pick(rng, ["../x", "x", ""]))


@mutation
def add_sparse(model: ModelProto, rng: Generator) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), pick(rng, ["sparse", "w1"]))
    indices = numpy_helper.from_array(np.array([pick(rng, NUMBERS)]), "i")
    sparse = helper.make_sparse_tensor(values, indices, [pick(rng, NUMBERS)])
    model.graph.sparse_initializer.append(sparse)


# --- inputs, outputs, the model -----------------------------------------------------------------------
@mutation
def change_info(model: ModelProto, rng: Generator) -> None:
    info = pick(rng, [*model.graph.input, *model.graph.output])
    kind, how = info.type.tensor_type, int(rng.integers(8))
    dims = kind.shape.dim
    if how == 0 and dims:
        pick(rng, dims).dim_value = pick(rng, NUMBERS)
    elif how == 1:
        dims.add(dim_value=pick(rng, NUMBERS))
    elif how == 2 and dims:
        pick(rng, dims).dim_param = pick(rng, ["N", "B", *NAMES])
    elif how == 3:
        kind.elem_type = int(rng.integers(27))
    elif how == 4:
        kind.ClearField("shape")
    elif how == 5:
        info.name = pick(rng, names(model))
    elif how == 6:
        del dims[int(rng.integers(2)) :]
    else:
        inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
        wrap = pick(rng, [helper.make_sequence_type_proto, helper.make_optional_type_proto])
        info.type.CopyFrom(pick(rng, [onnx.TypeProto(), wrap(inner)]))


@mutation
def claim_value_info(model: ModelProto, rng: Generator) -> None:
    dims = [pick(rng, NUMBERS) for _ in range(3)]
    info = helper.make_tensor_value_info(pick(rng, names(model)), pick(rng, [1, 7, 10]), dims)
    model.graph.value_info.append(info)


@mutation
def change_interface(model: ModelProto, rng: Generator) -> None:
    side = pick(rng, [model.graph.input, model.graph.output])
    how = int(rng.integers(3))
    if how == 0:
        side.append(copy.deepcopy(pick(rng, side)))
    elif how == 1:
        del side[place(rng, side)]
    else:
        dims = pick(rng, [[], [2], ["N", 3], ["N"], ["N", 3, 8, 8], [1 << 40], [0], None])
        kind = pick(rng, [1, 7, 8, 9, 10, 11, 16, 20, 23])
        name = pick(rng, ["more", *names(model)])
        side.append(helper.make_tensor_value_info(name, kind, dims))


@mutation
def change_versions(model: ModelProto, rng: Generator) -> None:
    how = int(rng.integers(4))
    if how == 0:
        model.ir_version = pick(rng, [0, 1, 3, 7, 10, 12, 99, 1 << 40])
    elif how == 1:
        model.opset_import.add(domain=pick(rng, ["", "ai.onnx"]), version=int(rng.integers(7, 24)))
    else:
        versions = [0, -1, 1, *range(5, 27), 99, 1 << 40]
        pick(rng, model.opset_import).version = pick(rng, versions)


@mutation
def add_metadata(model: ModelProto, rng: Generator) -> None:
    keys, values = ["onnxplain", "labels", "classes", ""], ["{", "[1]", "a,b", "\0"]
    model.metadata_props.add(key=pick(rng, keys), value=pick(rng, values))


# --- bytes --------------------------------------------------------------------------------------------
def mutate_bytes(data: bytes, rng: Generator) -> bytes:
    """Change, drop and insert a few bytes (names stop being UTF-8, lengths lie)."""
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, some = place(rng, broken), int(rng.integers(1, 9))
        how = int(rng.integers(4))
        if how == 0:
            del broken[at : at + some]
        elif how == 1:
            broken[at:at] = rng.bytes(some)
        else:
            broken[at] = int(rng.integers(256))
    return bytes(broken)
