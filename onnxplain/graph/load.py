"""Read a model from a path, bytes or a ModelProto, trusting nothing in it.

External data may only lie inside the model's own folder; sizes are compared with what is really there
before anything is allocated.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from onnxplain.errors import ModelError, OnnxplainError
from onnxplain.graph import weights
from onnxplain.graph.precheck import check_ops, check_text
from onnxplain.graph.weights import Array, External
from onnxplain.graph.wire import Buffer, strip

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
        name = "the given ModelProto"
        return _checked(io.BytesIO(_serialized(source, name)), name, None)
    if isinstance(source, bytes | bytearray | memoryview):
        return _checked(io.BytesIO(bytes(source)), "the given bytes", None)
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {kind}")
    path = Path(source)
    with _opened(path) as file:
        return _checked(file, str(path), path)


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


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ModelError(f"{path}: is a folder; give the .onnx file in it") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _serialized(proto: onnx.ModelProto, name: str) -> bytes:
    try:
        data: bytes = proto.SerializeToString()
        return data
    except EncodeError as error:
        raise ModelError(_too_large(name)) from error


def _too_large(name: str) -> str:
    return (
        f"{name}: is larger than 2 GB, which no ONNX file can be: save its weights beside it, with "
        "onnx.save(..., save_as_external_data=True)"
    )


def _checked(file: io.BufferedIOBase, name: str, path: Path | None) -> ModelFile:
    """Parse and check what is in a file."""
    file, data = _mapped(file)
    if not data:
        raise ModelError(f"{name}: is empty")
    if len(data) >= _MOST_BYTES:
        raise ModelError(_too_large(name))
    light, raw = strip(data, weights.LARGE)
    proto = _parse(light, name)
    del data, light  # as large as the file where nothing could be taken out
    with understanding(name):
        check_text(proto, name)
        weights.check_headers(proto.graph, raw, name)
    digest = hashlib.sha256()
    held: dict[int, bytes] = {}
    external = External(name, None if path is None else path.parent)
    inputs = {i.name for i in proto.graph.input}
    with ThreadPoolExecutor(1) as other:  # hashing lets go of the interpreter, all else goes on
        other.map(digest.update, _pieces(file, raw, held, name))
        with understanding(name):
            taken = weights.take_out(proto, held, external)
            check_ops(proto, name)
            _check_validity(proto, name)
    for content in external.files():
        digest.update(content)
    return ModelFile(proto, taken, frozenset(inputs & taken.keys()), name, path, digest.hexdigest())


def _mapped(file: io.BufferedIOBase) -> tuple[io.BufferedIOBase, Buffer]:
    """Return a file to read from its start, and all that is in it, to look at here and there."""
    try:
        return file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # bytes, which are not copied; a pipe; an empty file
        data = file.read()
        return io.BytesIO(data), data


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{name}: is not an ONNX model, or is truncated") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{name}: is not an ONNX model (it holds no graph)")
    return proto


def _pieces(
    file: io.BufferedIOBase, raw: Mapping[int, slice], held: dict[int, bytes], name: str
) -> Iterator[bytes]:
    """Read a file once, from start to end, and yield it; its slices `raw` are `held` by their keys.

    Weights are not left mapped: whoever overwrote the file would change the model, or crash it.
    """
    at = 0
    for i, place in raw.items():
        yield file.read(place.start - at)
        held[i] = file.read(place.stop - place.start)
        if len(held[i]) < place.stop - place.start:
            raise ModelError(f"{name}: became shorter while it was read: load it again")
        yield held[i]
        at = place.stop
    yield file.read()


def _check_validity(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and C++ types of its own
        lines = [line for line in str(error).strip().splitlines() if line]
        raise ModelError(
            f"{name}: is not a valid ONNX model: {lines[0] if lines else error}"
        ) from error
