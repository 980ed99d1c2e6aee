"""Arrays that are model input already: checks, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxplain.errors import InputError
from onnxplain.files import read_npz
from onnxplain.preprocess.spec import InputSpec

SUFFIXES = (".npy", ".npz", ".pb")


def check_array(x: np.ndarray, spec: InputSpec, name: str = "") -> np.ndarray:
    """Return `x` as [N, *spec.shape] of spec.dtype, or say what is wrong with it.

    A missing batch axis is added and one float type cast to another; nothing else is changed.

    Args:
        x: the array.
        spec: the input it is for.
        name: what to call it in messages; the input's name when empty.

    Raises:
        InputError: wrong shape, wrong type, empty, or NaN/Inf in it.
    """
    name = name or f"input {spec.name!r}"
    x = np.asarray(x)
    if _fits(x.shape, spec.shape):
        x = x[None]
    elif not (x.ndim > 0 and len(x) > 0 and _fits(x.shape[1:], spec.shape)):
        wanted = ", ".join("any" if n < 0 else str(n) for n in spec.shape)
        raise InputError(
            f"{name}: has shape {list(x.shape)}, input {spec.name!r} wants [N, {wanted}] "
            f"({spec.layout})"
        )
    if x.dtype != spec.dtype and not (x.dtype.kind == spec.dtype.kind == "f"):
        raise InputError(
            f"{name}: holds {x.dtype}, input {spec.name!r} wants {spec.dtype}: convert it first "
            "(raw pixels must go through the pre-processing)"
        )
    if x.dtype != spec.dtype:
        with np.errstate(over="ignore"):  # what overflows float16 is counted just below
            x = x.astype(spec.dtype)
    finite = np.isfinite(x)
    if not finite.all():  # five times faster than counting, on every image explained
        bad = int(x.size - finite.sum())
        raise InputError(f"{name}: {bad} of {x.size} numbers are NaN or infinite in {x.dtype}")
    return x


def load_array(path: Path, spec: InputSpec) -> np.ndarray:
    """Read a .npy, .npz (one array, or one named as the input) or .pb (TensorProto) file.

    Raises:
        InputError: missing, broken, pickled, too large, or as for `check_array`.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".pb": _read_pb}
    try:
        x = readers[path.suffix.lower()](path, spec.name)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # NumPy, zipfile and protobuf raise anything on hostile bytes
        raise InputError(f"{path}: cannot be read as an array: {error}") from error
    return check_array(x, spec, str(path))


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        n > 0 and m in (n, -1) for n, m in zip(shape, wanted, strict=True)
    )


def _read_npy(path: Path, _: str) -> np.ndarray:
    # mapped: a header that promises more than the file holds fails before memory is taken
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path, name: str) -> np.ndarray:
    arrays = read_npz(path)
    if name in arrays:
        return arrays[name]
    if len(arrays) != 1:
        raise ValueError(f"holds {', '.join(arrays) or 'nothing'}; keep one, or name it {name!r}")
    return next(iter(arrays.values()))


def _read_pb(path: Path, _: str) -> np.ndarray:
    import onnx

    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError("its data lies in another file: save it into the .pb itself")
    return np.asarray(onnx.numpy_helper.to_array(proto))
