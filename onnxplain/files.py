"""Files that appear whole or not at all, and arrays from files that nobody vouches for."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxplain.errors import OutputError

MAX_UNPACKED = 4 << 30  # bytes of one array in a .npz file: a zip can promise 1000 times its size


def atomic_write(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write `path` through `write(file)`: afterwards it holds all of it, or what it held before.

    The bytes go to a temporary file in the same folder (made if missing), reach the disk and then
    take the name in one step. Whatever goes wrong, the temporary file is removed.

    Args:
        path: the file to write; an existing regular file is replaced.
        write: gets the open binary file.

    Raises:
        OutputError: the system refused (disk full, no permission, not a regular file).
            Everything else that `write` raises, KeyboardInterrupt included, passes through.
    """
    path = Path(path)
    try:
        _replace(path, write)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` with `atomic_write`."""
    atomic_write(path, lambda file: file.write(data))


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with `atomic_write`."""
    write_bytes(path, text.encode())


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a .npz file with `atomic_write`; equal arrays give equal bytes.

    Unlike numpy.savez it takes any name ("file" too) and never pickles.
    """

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that time leaves no trace
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    atomic_write(path, write)


def read_npz(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of a .npz file, without pickles and without unpacking bombs.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or no such file at all. Callers turn both into their own error.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if entry.file_size > MAX_UNPACKED:
                        raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}
        except Exception as error:  # zipfile, zlib and NumPy raise anything on hostile bytes
            raise ValueError(f"not a sound .npz file: {error}") from error


def map_npz(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """Map all arrays of a .npz file: what is looked at is read, the rest stays on disk.

    A compressed array is unpacked once, into a temporary file without a name.

    Raises:
        OSError, ValueError: as for `read_npz`.
    """
    found = {}
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    found[entry.filename.removesuffix(".npy")] = _mapped(archive, entry)
        except Exception as error:  # as above
            raise ValueError(f"not a sound .npz file: {error}") from error
    return found


def _mapped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    if entry.file_size > MAX_UNPACKED:
        raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes")
    with archive.open(entry) as member:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(member)]
        shape, by_column, dtype = read_header(member)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds pickled objects")
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(member, unpacked)
            if unpacked.tell() != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{entry.filename} is not as long as it says")
            if not unpacked.tell():
                return np.empty(shape, dtype)
            return np.memmap(unpacked, dtype, "r", 0, shape, "F" if by_column else "C")


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    if path.exists() and not path.is_file():  # os.replace would do away with /dev/null
        raise OSError("it exists and is not a regular file; name another one")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".onnxplain-{secrets.token_hex(8)}.tmp"
    try:
        # "x", not tempfile: a result gets the permissions the user's umask gives to any new file
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # gone already when the replace succeeded
