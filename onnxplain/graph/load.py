"""Read a model from a path, bytes or a ModelProto, trusting nothing in it.

External data may only lie inside the model's own folder; sizes are compared with what is really there
before anything is allocated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from onnxplain.errors import ModelError, OnnxplainError
from onnxplain.graph.precheck import check_ops, check_text
from onnxplain.graph.weights import Array, External, check_header, take_out, tensors

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

Source = str | Path | bytes | onnx.ModelProto
_MOST_BYTES = 1 << 31  # of a protobuf message


@dataclass(frozen=True)
class ModelFile:
    """A parsed model with where it came from.

    `proto` has its large initializers as inputs; `weights` holds their values by name; `settable` names
    those that were inputs already, so that whoever runs the file may replace them. `sha256` is of the
    file followed by the weights files that it names, in the order of their names.
    """

    proto: onnx.ModelProto
    weights: dict[str, Array]
    settable: frozenset[str]
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
        digest = hashlib.sha256(source.SerializeToString())
        return _checked(source, digest, "the given ModelProto", None)
    if isinstance(source, bytes | bytearray | memoryview):
        return _checked(*_parse(bytes(source), "the given bytes"), "the given bytes", None)
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {kind}")
    path = Path(source)
    return _checked(*_parse(_read(path), str(path)), str(path), path)


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
        if path.stat().st_size >= _MOST_BYTES:
            raise ModelError(
                f"{path}: is larger than 2 GB, which no ONNX file can be: save its weights beside it, with "
                "onnx.save(..., save_as_external_data=True)"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ModelError(f"{path}: is a folder; give the .onnx file in it") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(data: bytes, name: str) -> tuple[onnx.ModelProto, Digest]:
    """Return the model and the digest of its bytes, which nobody needs any more."""
    if not data:
        raise ModelError(f"{name}: is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{name}: is not an ONNX model, or is truncated") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{name}: is not an ONNX model (it holds no graph)")
    return proto, hashlib.sha256(data)


def _checked(proto: onnx.ModelProto, digest: Digest, name: str, path: Path | None) -> ModelFile:
    external = External(name, None if path is None else path.parent)
    with understanding(name):
        check_text(proto, name)
        for tensor in tensors(proto.graph):
            check_header(tensor, name)
        light, weights = take_out(proto, external)
        check_ops(light, name)
        _check_validity(light, name)
    for content in external.files():
        digest.update(content)
    settable = frozenset(i.name for i in proto.graph.input if i.name in weights)
    return ModelFile(light, weights, settable, name, path, digest.hexdigest())


def _check_validity(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and C++ types of its own
        lines = [line for line in str(error).strip().splitlines() if line]
        raise ModelError(
            f"{name}: is not a valid ONNX model: {lines[0] if lines else error}"
        ) from error
