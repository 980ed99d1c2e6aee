"""A model whose weights are shuffled: what it was trained for is gone, all else stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from onnxplain.graph.load import ModelFile
from onnxplain.graph.weights import Array, tensors

_KINDS = "fiu"
_SIZES = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)  # shapes and indices, not weights


def shuffled(file: ModelFile, seed: int = 0) -> ModelFile:
    """Return a copy in which every weight tensor of two axes or more has its numbers in random order.

    Biases, scales and zero points stay, and so does the distribution of each layer's weights (Adebayo et
    al., 2018, draw them anew; shuffling fits quantised files too [ours]).
    """
    rng = np.random.default_rng(seed)
    weights = {
        name: _shuffled(values, rng) if values.ndim > 1 else values
        for name, values in file.weights.items()
    }
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    for tensor in tensors(proto.graph):
        if len(tensor.dims) > 1 and tensor.data_type not in _SIZES:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind in _KINDS:
                tensor.CopyFrom(numpy_helper.from_array(_shuffled(values, rng), tensor.name))
    name = f"{file.name} with shuffled weights"
    return replace(
        file, proto=proto, weights=weights, name=name, sha256=f"{file.sha256}-shuffled-{seed}"
    )


def _shuffled(values: Array, rng: np.random.Generator) -> Array:
    return rng.permutation(values.ravel()).reshape(values.shape)
