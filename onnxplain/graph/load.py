"""Read a model from a path, bytes or a ModelProto, trusting nothing in it.

External data may only lie inside the model's own folder; sizes are compared with what is really there
before anything is allocated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from onnxplain.errors import ModelError, OnnxplainError

Source = str | Path | bytes | onnx.ModelProto
_MOST_AXES = 64  # of a NumPy array
_EXTERNAL = onnx.TensorProto.EXTERNAL


@dataclass(frozen=True)
class ModelFile:
    """A parsed model with where it came from; `sha256` is of the file (external data not included)."""

    proto: onnx.ModelProto
    name: str
    path: Path | None
    sha256: str

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata_props."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}


def read_model(source: Source) -> ModelFile:
    """Parse and check a model.

    Raises ModelError: file missing, empty, not ONNX, truncated, invalid, or external data that is missing
    or lies outside the model's folder.
    """
    if isinstance(source, onnx.ModelProto):
        return _checked(source, source.SerializeToString(), "the given ModelProto", None)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return _checked(_parse(data, "the given bytes"), data, "the given bytes", None)
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {kind}")
    path = Path(source)
    data = _read(path)
    return _checked(_parse(data, str(path)), data, str(path), path)


@contextmanager
def understanding(name: str) -> Iterator[None]:
    """Turn whatever a malformed graph makes libraries raise into one ModelError that names the file."""
    try:
        yield
    except ModelError as error:
        if name in str(error):
            raise
        error.args = (f"{name}: {error}",)
        raise
    except OnnxplainError:
        raise
    except (
        Exception
    ) as error:  # the file is not trusted: no assumption about it may end in a traceback
        what = f"{type(error).__name__}: {str(error).strip()[:200]}"
        raise ModelError(f"{name}: this graph could not be understood ({what})") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ModelError(f"{path}: is a folder; give the .onnx file in it") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{name}: is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{name}: is not an ONNX model, or is truncated") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{name}: is not an ONNX model (it holds no graph)")
    return proto


def _checked(proto: onnx.ModelProto, data: bytes, name: str, path: Path | None) -> ModelFile:
    external = [t for t in _tensors(proto.graph) if t.data_location == _EXTERNAL]
    for tensor in external:
        _check_external(tensor, name, None if path is None else path.parent)
    for tensor in _tensors(proto.graph):
        _check_header(tensor, name)
    if external and path is not None:
        external_data_helper.load_external_data_for_model(proto, str(path.parent))
    _check_validity(proto, name)
    return ModelFile(proto, name, path, hashlib.sha256(data).hexdigest())


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initializers, and those in attributes, subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sub in (attribute.g, *attribute.graphs):
                yield from _tensors(sub)


def _check_external(tensor: onnx.TensorProto, name: str, folder: Path | None) -> None:
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    if folder is None:
        raise ModelError(
            f"{name}: tensor {tensor.name!r} lies in an external file ({location!r}): load the model "
            "by its path"
        )
    target = (folder / location).resolve()
    if not location or not target.is_relative_to(folder.resolve()):
        raise ModelError(
            f"{name}: tensor {tensor.name!r} points outside the model's folder ({location!r}): refused"
        )
    if not target.is_file():
        raise ModelError(
            f"{name}: its weights file {location!r} is missing: put it beside the model"
        )
    try:
        offset, length = int(info.get("offset", 0)), int(info.get("length", 0))
    except ValueError as error:
        raise ModelError(
            f"{name}: tensor {tensor.name!r} has a broken external position"
        ) from error
    if offset < 0 or length < 0 or offset + max(length, _byte_size(tensor)) > target.stat().st_size:
        raise ModelError(f"{name}: the weights file {location!r} is too short: copy it again")


def _check_header(tensor: onnx.TensorProto, name: str) -> None:
    """Refuse a header that claims more than the file holds, before anyone allocates it."""
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"{name}: tensor {tensor.name!r} has a negative size")
    if len(tensor.dims) > _MOST_AXES:
        raise ModelError(f"{name}: tensor {tensor.name!r} has {len(tensor.dims)} axes")
    claimed = _byte_size(tensor)
    if tensor.HasField("raw_data") and claimed and claimed != len(tensor.raw_data):
        raise ModelError(
            f"{name}: tensor {tensor.name!r} claims {list(tensor.dims)} but holds "
            f"{len(tensor.raw_data)} bytes"
        )


def _byte_size(tensor: onnx.TensorProto) -> int:
    """Return the bytes a tensor's header claims; 0 for types of less than a byte each or strings."""
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        return 0
    packed = tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    text = tensor.data_type == onnx.TensorProto.STRING
    return 0 if packed or text else prod(tensor.dims) * int(width)


def _check_validity(proto: onnx.ModelProto, name: str) -> None:
    if proto.ByteSize() >= 1 << 31:
        return  # onnx's checker works on bytes, which protobuf caps at 2 GB
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and C++ types of its own
        lines = [line for line in str(error).strip().splitlines() if line]
        raise ModelError(
            f"{name}: is not a valid ONNX model: {lines[0] if lines else error}"
        ) from error
