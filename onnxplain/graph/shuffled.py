"""A copy of a model file with the weights of the layers nearest to the output permuted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from onnxplain.graph.load import ModelFile

_INDICES = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)  # no weights


def shuffled(file: ModelFile, share: float, seed: int) -> ModelFile:
    """Return the file with the values of weights permuted within each tensor, in a share of its layers.

    A layer is a node that reads weights: constants of two axes or more with more than one value, whatever
    they are stored as (so the codes of quantised weights too). Layers are counted from the output.
    """
    layers = _layers(file)
    chosen = layers[len(layers) - round(share * len(layers)) :]
    names = {name for weights in chosen for name in weights}
    rng = np.random.default_rng(seed)
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    for tensor in _tensors(proto).values():
        if tensor.name in names:
            mixed = _mixed(numpy_helper.to_array(tensor), rng)
            tensor.CopyFrom(numpy_helper.from_array(mixed, tensor.name))
    weights = {k: _mixed(v, rng) if k in names else v for k, v in file.weights.items()}
    name, sha256 = (f"{x} shuffled {share:g} {seed}" for x in (file.name, file.sha256))
    return replace(file, proto=proto, weights=weights, name=name, sha256=sha256)


def _layers(file: ModelFile) -> list[set[str]]:
    """Return the weights of each layer, from input to output."""
    tensors = {n: t for n, t in _tensors(file.proto).items() if t.data_type not in _INDICES}
    big = {n for n, t in tensors.items() if len(t.dims) > 1 and np.prod(t.dims) > 1}
    big |= {n for n, v in file.weights.items() if v.ndim > 1 and v.size > 1}
    small = {t.name for t in file.proto.graph.initializer} | set(file.weights)
    roots = {
        name: {name} & big for name in small | big
    }  # constants, and the weights they are made of
    layers: list[set[str]] = []
    seen: set[str] = set()
    for node in file.proto.graph.node:
        inputs = [name for name in node.input if name]
        made_of = set().union(*(roots[name] for name in inputs if name in roots), set())
        if node.op_type == "Constant" or (inputs and all(name in roots for name in inputs)):
            for name in node.output:
                roots[name] = made_of | ({name} & big)
        elif new := made_of - seen:
            layers.append(new)
            seen |= new
    return layers


def _tensors(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constants by name; the tensor of a Constant node is named as its output."""
    found = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.name = node.output[0]
                    found[node.output[0]] = attribute.t
    return found


def _mixed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(values.ravel()).reshape(values.shape)
