"""Part of a graph -> a standard ONNX model for a session, its large weights beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper
from onnx_graphsurgeon.exporters.onnx_exporter import (
    OnnxExporter,
    dtype_to_onnx,
    update_import_domains,
)
from onnx_graphsurgeon.ir.tensor import SparseValues

Array = np.ndarray[Any, Any]

_IR_VERSION = 10  # the first with every element type of opset 21; onnxruntime reads it since 1.18
_BESIDE = 1 << 16  # bytes; smaller constants go into the model
_MANY = 1 << 30  # bytes of constants of a part, above which weights are fed
_FED = 1 << 20  # bytes; smaller constants are never fed
# Bytes of Gemm weights that are not packed, where they are most of the network: such a head reads them once
# per batch. Packed, VGG-16 takes 2.2 GB instead of 1.4 and its first gradient twice as long; its gradient of
# two images is 8 % faster then, that of one or of sixteen is not.
_LARGE_HEAD = 1 << 26
_PRODUCTS = {"Gemm", "MatMul", "Conv", "ConvTranspose"}


@dataclass(frozen=True)
class Part:
    """A serialised model, or the path of one, that names its large weights instead of holding them.

    `beside`: values of initializers that `model` declares external; a session copies them into its own
    layout. `fed`: values of inputs, the same memory in every session and run; slower, and so only where
    there are many. Together they may exceed the 2 GB of a protobuf message. `pack`: whether the session may
    keep weights of products a second time, in an order that is read faster. `plans`: whether it holds
    convolutions, which CUDA plans for each shape.
    """

    model: bytes | str
    beside: Mapping[str, Array] = field(default_factory=dict)
    fed: Mapping[str, Array] = field(default_factory=dict)
    pack: bool = True
    plans: bool = False


def export(
    graph: gs.Graph,
    nodes: Sequence[gs.Node],
    inputs: Sequence[gs.Tensor],
    outputs: Sequence[gs.Tensor],
) -> Part:
    """Write `nodes` (sorted) with the given inputs and outputs, in the opset of `graph`."""
    part = gs.Graph(
        nodes=list(nodes),
        inputs=list(inputs),
        outputs=list(outputs),
        name=graph.name,
        opset=graph.opset,
        import_domains=graph.import_domains,
    )
    tensors = list(part.tensors().values())
    constants = [t for t in tensors if isinstance(t, gs.Constant)]
    sparse = [t for t in constants if isinstance(t._values, SparseValues)]
    large = [t for t in constants if _nbytes(t) >= _BESIDE]
    many = sum(map(_nbytes, large)) >= _MANY
    fed = [t for t in large if many and _nbytes(t) >= _FED and _only_multiplied(t)]
    beside = _without(large, fed)
    model = helper.make_model(
        helper.make_graph(
            [OnnxExporter.export_node(node) for node in nodes],
            graph.name,
            [_info(t) for t in (*inputs, *fed)],
            [_info(t) for t in outputs],
            [
                *map(OnnxExporter.export_tensor_proto, _without(constants, large, sparse)),
                *map(_reference, beside),
            ],
            value_info=[
                _info(t) for t in _without(tensors, constants, inputs, outputs) if _known(t)
            ],
            sparse_initializer=[OnnxExporter.export_sparse_tensor_proto(t) for t in sparse],
        ),
        opset_imports=update_import_domains(part),
        ir_version=_IR_VERSION,
        producer_name="onnxplain",
    )
    head = sum(_nbytes(t) for t in large if any(node.op == "Gemm" for node in t.outputs))
    plans = any(node.op in ("Conv", "ConvTranspose") for node in nodes)
    pack = head < _LARGE_HEAD or 2 * head < sum(map(_nbytes, large))
    return Part(model.SerializeToString(), _Values(beside), _Values(fed), pack, plans)


def _without(tensors: Sequence[gs.Tensor], *others: Sequence[gs.Tensor]) -> list[gs.Tensor]:
    names = {t.name for other in others for t in other}
    return [t for t in tensors if t.name not in names]


def _known(tensor: gs.Tensor) -> bool:
    return tensor.dtype is not None or tensor.shape is not None


def _info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    info: onnx.ValueInfoProto = OnnxExporter.export_value_info_proto(tensor, do_type_check=False)
    return info


def _nbytes(constant: gs.Constant) -> int:
    """Return the bytes of a constant; 0 for what must stay in the model: types that NumPy has not."""
    if isinstance(constant._values, SparseValues) or isinstance(constant.dtype, int):
        return 0
    dtype = np.dtype(constant.dtype)
    return prod(constant.shape) * dtype.itemsize if dtype.kind in "fiub" else 0


def _only_multiplied(tensor: gs.Tensor) -> bool:
    """Whether only products read a tensor: they take computed operands as well as stored ones.

    Also by way of a Transpose, which onnxruntime merges into the MatMul behind it.
    """
    return all(
        node.op in _PRODUCTS or (node.op == "Transpose" and _only_multiplied(node.outputs[0]))
        for node in tensor.outputs
    )


def _reference(constant: gs.Constant) -> TensorProto:
    """Return the header of an initializer whose values come with the session."""
    proto = TensorProto(name=constant.name, data_location=TensorProto.EXTERNAL)
    proto.data_type = dtype_to_onnx(constant.dtype)
    proto.dims.extend(constant.shape)
    proto.external_data.add(key="location", value="beside")
    return proto


class _Values(Mapping[str, Array]):
    """Values of constants, brought in order when asked for: a cached session never asks."""

    def __init__(self, constants: Sequence[gs.Constant]) -> None:
        self._constants = {t.name: t for t in constants}

    def __getitem__(self, name: str) -> Array:
        return np.ascontiguousarray(self._constants[name].values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)
