"""The large tensors of a model file: beside the proto, held once, mapped from external data.

Everything after reading works on a proto without them (onnx's C++ passes copy it through bytes, which end
at 2 GB) and on arrays that views, copies of the graph and sessions share.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from onnxplain.errors import ModelError

Array = np.ndarray[Any, Any]

LARGE = 1 << 12
"""Bytes; smaller tensors (shapes, axes, scales) steer shapes and stay in the proto."""

_MOST_AXES = 64  # of a NumPy array
_LONGEST = 1 << 31  # elements along an axis
_PACKED = {
    getattr(TensorProto, name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(TensorProto, name)
}  # several elements in a byte


class External:
    """The weights files beside a model, each checked and mapped once.

    A mapped file is read when its numbers are used, and must not be changed while the model is.
    """

    def __init__(self, name: str, folder: Path | None) -> None:
        """Look for files in `folder`; None where the model came without one."""
        self._name, self._folder = name, folder
        self._maps: dict[str, mmap.mmap | bytes] = {}

    def files(self) -> Iterator[mmap.mmap | bytes]:
        """Yield what is in every file that was asked for, in the order of their names."""
        for _, content in sorted(self._maps.items()):
            yield content

    def bytes_of(self, tensor: TensorProto) -> memoryview:
        """Return the bytes of a tensor, not copied; raises ModelError as `read_model` does."""
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        content = self._content(location, tensor.name)
        try:
            offset, length = int(info.get("offset", 0)), int(info.get("length", 0))
        except ValueError as error:
            raise ModelError(
                f"{self._name}: tensor {tensor.name!r} has a broken external position"
            ) from error
        claimed = byte_size(tensor)
        if claimed and length not in (0, claimed):
            raise ModelError(
                f"{self._name}: tensor {tensor.name!r} claims {list(tensor.dims)} but "
                f"{location!r} holds {length} bytes of it"
            )
        length = claimed or length
        if offset < 0 or length < 0 or offset + length > len(content):
            raise ModelError(
                f"{self._name}: the weights file {location!r} is too short: copy it again"
            )
        return memoryview(content)[offset : offset + length]

    def _content(self, location: str, tensor: str) -> mmap.mmap | bytes:
        if self._folder is None:
            raise ModelError(
                f"{self._name}: tensor {tensor!r} lies in an external file ({location!r}): load the "
                "model by its path"
            )
        if location not in self._maps:
            self._maps[location] = self._map(location, tensor, self._folder)
        return self._maps[location]

    def _map(self, location: str, tensor: str, folder: Path) -> mmap.mmap | bytes:
        try:
            target = (folder / location).resolve()
            inside = bool(location) and target.is_relative_to(folder.resolve())
            if inside and not target.is_file():
                raise FileNotFoundError
            if inside:
                with target.open("rb") as file:
                    empty = target.stat().st_size == 0
                    return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise ModelError(
                f"{self._name}: its weights file {location!r} is missing: put it beside the model"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
            raise ModelError(
                f"{self._name}: its weights file {location!r} cannot be read: {error}"
            ) from error
        raise ModelError(
            f"{self._name}: tensor {tensor!r} points outside the model's folder ({location!r}): refused"
        )


def take_out(
    model: onnx.ModelProto, held: Mapping[int, bytes], external: External
) -> dict[str, Array]:
    """Make a model's large initializers typed inputs, in place, and return their values by name.

    held: the raw bytes that lie beside the parsed model, by the initializer's position. Those that are no
    large weights are put back, and what else lies in external files is read in. Headers must have been
    checked.
    """
    graph = model.graph
    named = Counter(t.name for t in graph.initializer)
    taken: dict[str, Array] = {}
    inputs: list[onnx.ValueInfoProto] = []
    for i, tensor in enumerate(graph.initializer):
        outside = tensor.data_location == TensorProto.EXTERNAL
        if (outside or i in held) and named[tensor.name] == 1 and _is_large(tensor):
            data = external.bytes_of(tensor) if outside else held[i]
            taken[tensor.name] = _array(tensor, data)
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            inputs.append(info)
        elif i in held:
            tensor.raw_data = held[i]
    for part in (graph.initializer, graph.input):
        for i in reversed(range(len(part))):
            if part[i].name in taken:
                del part[i]
    graph.input.extend(inputs)
    for tensor in tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = external.bytes_of(tensor).tobytes()
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
    return taken


def tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Yield every stored tensor: initializers, and those in attributes, subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sub in (attribute.g, *attribute.graphs):
                yield from tensors(sub)


def check_headers(graph: onnx.GraphProto, raw: Mapping[int, slice], name: str) -> None:
    """Refuse a header that claims more than the file holds, before anyone allocates it.

    raw: where bytes lie that the parsed model lacks, by the initializer's position.
    """
    for i, tensor in enumerate(tensors(graph)):  # initializers are the first
        place = raw.get(i)
        _check_header(tensor, None if place is None else place.stop - place.start, name)


def _check_header(tensor: TensorProto, held: int | None, name: str) -> None:
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"{name}: tensor {tensor.name!r} has a negative size")
    if any(d >= _LONGEST for d in tensor.dims):
        raise ModelError(
            f"{name}: tensor {tensor.name!r} claims sizes {list(tensor.dims)[:8]}, more than any layer has"
        )
    if len(tensor.dims) > _MOST_AXES:
        raise ModelError(f"{name}: tensor {tensor.name!r} has {len(tensor.dims)} axes")
    if not tensor.HasField("raw_data"):
        return
    claimed, held = byte_size(tensor), len(tensor.raw_data) if held is None else held
    if claimed and claimed != held:
        raise ModelError(
            f"{name}: tensor {tensor.name!r} claims {list(tensor.dims)} but holds {held} bytes"
        )


def byte_size(tensor: TensorProto) -> int:
    """Return the bytes a tensor's header claims; 0 for types of less than a byte each or strings."""
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        return 0
    odd = tensor.data_type in _PACKED or tensor.data_type == TensorProto.STRING
    return 0 if odd else prod(tensor.dims) * int(width)


def _is_large(tensor: TensorProto) -> bool:
    if not tensor.name or byte_size(tensor) < LARGE:
        return False
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).kind in "fiub"


def _array(tensor: TensorProto, data: memoryview | bytes) -> Array:
    """Return a large tensor's values: a view of its bytes where they lie as NumPy wants them."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
    values: Array = np.frombuffer(data, kind).reshape(tuple(tensor.dims))
    return np.require(values, kind.newbyteorder("="), ["C", "A"])  # copies what is not aligned
