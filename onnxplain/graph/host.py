"""A file as the place that an explanation is written into: its own nodes, and new ones beside them.

onnxruntime chooses kernels and fusions by what it sees around a node, so the original outputs keep their
bits only if little changes there. New nodes read few tensors of the file, each through a copy of their own
(a Concat of one input, which no optimiser removes), so that none of them is merged with a node of the file;
weights are shared by name. What onnxruntime decides by stays: declared shapes, and weights that are listed
as inputs, which it then treats as variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxplain.errors import ModelError
from onnxplain.graph.emit import Emitter
from onnxplain.graph.lift import MIN_OPSET, lift, opset_of
from onnxplain.graph.load import ModelFile
from onnxplain.graph.paths import needed, reads

_MOST_BYTES = (1 << 31) - (1 << 24)  # of a protobuf message, with room for nodes
_WEIGHTS_ARE_INPUTS = 4  # IR version below which every initializer had to be listed as an input


def restore(file: ModelFile, lifted: bool = True) -> onnx.ModelProto:
    """Return the model of a file, whole: as it is, or (`lifted`) at opset `MIN_OPSET` where it is older.

    Raises ModelError where it does not fit one protobuf message, or cannot be lifted.
    """
    if sum(w.nbytes for w in file.weights.values()) > _MOST_BYTES:
        raise ModelError(
            f"{file.name}: holds over 2 GB of weights, more than one ONNX file can: export a smaller one"
        )
    source = file.proto
    model = onnx.ModelProto()
    lifted = lifted and opset_of(source) < MIN_OPSET
    model.CopyFrom(lift(source) if lifted else source)
    if lifted:
        _restore_declarations(source, model)
    constant = lifted and source.ir_version < _WEIGHTS_ARE_INPUTS
    for name in file.weights.keys() - (set() if constant else file.settable):
        _drop_input(model.graph, name)
    weights = (numpy_helper.from_array(w, name) for name, w in file.weights.items())
    model.graph.initializer.extend(weights)
    return model


def graft(
    model: onnx.ModelProto,
    nodes: Sequence[gs.Node],
    inputs: Sequence[gs.Tensor],
    outputs: Mapping[str, gs.Tensor],
    starts: Iterable[gs.Tensor],
    prefix: str,
    one_size: bool = False,
) -> None:
    """Write `nodes` (sorted) into `model`; they get names of their own, which begin with `prefix`.

    `starts` are tensors of the file that they read, `inputs` new inputs of the model, `outputs` new outputs
    by name. `one_size`: the file takes images of any size, `nodes` do not; a run with another size fails.
    Renames the tensors of `nodes`.
    """
    graph = model.graph
    variable = {i.name for i in graph.input}
    taken = {t.name: t for t in graph.initializer if t.name not in variable}
    used = {id(t): t for n in nodes for t in (*reads(n), *n.outputs) if not t.is_empty()}
    shared = {t.name for t in used.values() if _is_shared(t, taken)}
    kept = shared | {t.name for t in inputs}
    begin = [(t.name, t) for t in starts]
    for tensor in used.values():
        if tensor.name not in kept:
            tensor.name = prefix + tensor.name
    for source, own in begin:
        if not own.shape:
            graph.node.append(_rename(source, own.name))
        elif one_size and all(isinstance(n, int) for n in own.shape[1:]):
            _copy_of_size(graph, source, own)
        else:
            graph.node.append(_copy(source, own))
    for node in nodes:
        node.name = prefix + node.name
        graph.node.append(OnnxExporter.export_node(node))
    constants = {t.name: t for t in used.values() if isinstance(t, gs.Constant)}
    new = [t for name, t in constants.items() if name not in shared]
    graph.initializer.extend(map(OnnxExporter.export_tensor_proto, new))
    graph.input.extend(_info(t.name, t) for t in inputs)
    for name, tensor in outputs.items():
        graph.node.append(_rename(tensor.name, name))
        graph.output.append(_info(name, tensor))


def frontier(graph: gs.Graph, model: onnx.ModelProto, tensor: str) -> list[gs.Tensor]:
    """Return where to leave the file to compute `tensor`: itself, or the nearest before it by name."""
    known = names(model)
    if tensor in known:
        return [graph.tensors()[tensor]]
    above = needed(graph.nodes, [tensor], stop=known)
    found = {x.name: x for node in above for x in reads(node) if x.name in known}
    return [x for x in found.values() if isinstance(x, gs.Variable)]


def names(model: onnx.ModelProto) -> set[str]:
    """Return the names of a model's inputs, weights and computed tensors."""
    graph = model.graph
    computed = {name for node in graph.node for name in node.output}
    return computed | {i.name for i in graph.input} | {t.name for t in graph.initializer}


def images_of(model: onnx.ModelProto, name: str) -> int | str:
    """Return how many images an input takes: a number, or the name of an open axis."""
    (given,) = (i for i in model.graph.input if i.name == name)
    first = given.type.tensor_type.shape.dim[0]
    return int(first.dim_value) if first.dim_value > 0 else str(first.dim_param)


def _restore_declarations(source: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Give a lifted model back what lifting leaves out, as far as it still has those tensors."""
    for field in ("metadata_props", "doc_string", "producer_name", "producer_version"):
        value = getattr(source, field)
        if isinstance(value, str):
            setattr(model, field, value)
        else:
            getattr(model, field).extend(value)
    computed = {name for node in model.graph.node for name in node.output}
    del model.graph.value_info[:]
    model.graph.value_info.extend(v for v in source.graph.value_info if v.name in computed)
    if source.ir_version >= _WEIGHTS_ARE_INPUTS:
        small = {t.name for t in model.graph.initializer}
        model.graph.input.extend(i for i in source.graph.input if i.name in small)


def _drop_input(graph: onnx.GraphProto, name: str) -> None:
    for i, given in enumerate(graph.input):
        if given.name == name:
            del graph.input[i]
            return


def _is_shared(tensor: gs.Tensor, taken: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a constant is an initializer of the file, not changed on the way to canonical form."""
    if not isinstance(tensor, gs.Constant) or tensor.name not in taken:
        return False
    proto = OnnxExporter.export_tensor_proto(tensor)
    theirs = taken[tensor.name]
    same_type = (proto.data_type, list(proto.dims)) == (theirs.data_type, list(theirs.dims))
    return same_type and np.array_equal(numpy_helper.to_array(proto), numpy_helper.to_array(theirs))


def _copy(source: str, own: gs.Tensor) -> onnx.NodeProto:
    axis = len(own.shape) - 1  # not the images', lest they seem to be combined
    return onnx.helper.make_node("Concat", [source], [own.name], name=f"{own.name}.copy", axis=axis)


def _copy_of_size(graph: onnx.GraphProto, source: str, own: gs.Tensor) -> None:
    """Write a Reshape to what the sizes are anyway, and a Gather that fails where they are not."""
    sizes = np.array([-1, *own.shape[1:]], np.int64)
    op = Emitter(f"{own.name}.size")
    found = op.Shape(gs.Variable(source, dtype=own.dtype), start=1)
    wrong = op.ReduceSum(op.Abs(op.Sub(found, sizes[1:])), [0], keepdims=0)
    none = op.Gather(op.constant([0], np.int64), wrong)
    op.Reshape(gs.Variable(source, dtype=own.dtype), op.Add(none, sizes))
    op.nodes[-1].outputs = [own]
    graph.node.extend(map(OnnxExporter.export_node, op.nodes))
    read = {x.name: x for node in op.nodes for x in node.inputs if isinstance(x, gs.Constant)}
    graph.initializer.extend(map(OnnxExporter.export_tensor_proto, read.values()))


def _rename(source: str, target: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Identity", [source], [target], name=f"{target}.name")


def _info(name: str, tensor: gs.Tensor) -> onnx.ValueInfoProto:
    info: onnx.ValueInfoProto = OnnxExporter.export_value_info_proto(tensor, do_type_check=False)
    info.name = name
    return info
