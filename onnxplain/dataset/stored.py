"""Arrays: in memory, or in .npz files that are mapped, never read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxplain.dataset.source import Array, Item, Source, key_of_files
from onnxplain.errors import InputError
from onnxplain.files import map_npz

IMAGE_NAMES = ("images", "x", "X", "data", "x_test", "x_train")
LABEL_NAMES = ("labels", "y", "label", "Y", "y_test", "y_train")


class Arrays(Source):
    """Rows of an array: uint8 [N, H, W] or [N, H, W, 3] pictures, else model input [N, ...]."""

    def __init__(
        self, rows: Array, labels: Array | None, name: str, path: Path | None = None
    ) -> None:
        """Take rows and labels; raises InputError where they do not fit. `path`: the file they are from."""
        if rows.ndim < 2 or not len(rows):
            raise InputError(f"{name}: of shape {list(rows.shape)}, not a row per image")
        self.name, self._rows, self._path = name, rows, path
        self._labels = None if labels is None else checked_labels(labels, len(rows), name)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def item(self, number: int) -> Item:
        """Return a copy of a row."""
        label = None if self._labels is None else self._labels[number].item()
        return Item(f"{self.name}[{number}]", np.array(self._rows[number]), label)

    def key(self) -> str:
        """Return a hash of the file, or of what is in memory."""
        if self._path is not None:
            return key_of_files([self._path])
        digest = hashlib.sha256(repr((self._rows.shape, self._rows.dtype.str)).encode())
        for row in self._rows:
            digest.update(row.tobytes())
        if self._labels is not None:
            digest.update(repr(self._labels.tolist()).encode())
        return digest.hexdigest()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The distinct names among the labels."""
        named = self._labels is not None and self._labels.dtype.kind == "U"
        return tuple(np.unique(self._labels).tolist()) if named else ()  # type: ignore[arg-type]


class Encoded(Source):
    """Encoded pictures end to end in one uint8 array; picture i is bytes offsets[i] to offsets[i + 1]."""

    def __init__(self, data: Array, offsets: Array, labels: Array | None, path: Path) -> None:
        """Take the bytes and where the pictures lie in them; raises InputError where these do not fit."""
        sound = offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype.kind in "iu"
        if not sound or data.dtype != np.uint8 or data.ndim != 1:
            raise InputError(f"{path}: needs bytes, and whole numbers where pictures begin in them")
        if (
            offsets[0] < 0
            or offsets[-1] > len(data)
            or (np.diff(offsets.astype(np.int64)) < 0).any()
        ):
            raise InputError(f"{path}: offsets lie outside the {len(data)} bytes of pictures")
        self.name, self._path, self._data, self._offsets = str(path), path, data, np.array(offsets)
        self._labels = None if labels is None else checked_labels(labels, len(self), self.name)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._offsets) - 1

    def item(self, number: int) -> Item:
        """Return an encoded picture."""
        begin, end = self._offsets[number : number + 2]
        label = None if self._labels is None else self._labels[number].item()
        return Item(f"{self.name}[{number}]", self._data[begin:end].tobytes(), label)

    def key(self) -> str:
        """Return a hash of the file."""
        return key_of_files([self._path])


def open_npz(path: Path) -> Source:
    """Return the images of a .npz file.

    Pictures or model input under one of IMAGE_NAMES (or the only array beside labels), classes under one of
    LABEL_NAMES; or encoded pictures end to end in "jpeg" with "offsets".

    Raises InputError: unreadable, or without such arrays.
    """
    try:
        arrays = map_npz(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    labels = next((arrays[n] for n in LABEL_NAMES if n in arrays), None)
    if {"jpeg", "offsets"} <= set(arrays):
        return Encoded(arrays["jpeg"], arrays["offsets"], labels, path)
    named = next((n for n in IMAGE_NAMES if n in arrays), None)
    others = [n for n, a in arrays.items() if n not in LABEL_NAMES and a.ndim > 1]
    if named is None and len(others) != 1:
        raise InputError(
            f"{path}: has {', '.join(arrays) or 'nothing'}: call the images {' or '.join(IMAGE_NAMES[:2])}"
        )
    return Arrays(arrays[named or others[0]], labels, str(path), path)


def checked_labels(labels: Array | Sequence[int | str], count: int, name: str) -> Array:
    """Return labels as whole numbers or names [count]; raises InputError."""
    found = np.asarray(labels)
    if found.dtype.kind == "O" or found.dtype.kind not in "iuU" or found.shape != (count,):
        raise InputError(
            f"{name}: labels are {found.dtype} {list(found.shape)}, not a class for each of {count} images"
        )
    return found
