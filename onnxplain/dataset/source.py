"""What a data set is: a row of items that can be read in any order."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import InputError

Array = np.ndarray[Any, Any]

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
ARRAYS = (".npy", ".npz", ".pb")


@dataclass(frozen=True, eq=False)
class Item:
    """One picture or model input, not decoded yet.

    Attributes:
        name: what reports call it.
        content: a file; the bytes of an encoded picture; or an array: uint8 [H, W] or [H, W, 3] are pixels,
            anything else is model input.
        label: its class, by number or by name; None where that is not known.
    """

    name: str
    content: Path | bytes | Array
    label: int | str | None = None

    def packed(self) -> Item:
        """Return the item with a picture's file read, to be sent elsewhere; InputError if it cannot be."""
        if not isinstance(self.content, Path) or self.content.suffix.lower() in ARRAYS:
            return self
        try:
            return replace(self, content=self.content.read_bytes())
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror}") from error


class Source(ABC):
    """A data set. `name` says in messages and records what it is."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def item(self, number: int) -> Item:
        """Return an item; InputError says which one could not be read and why."""

    @abstractmethod
    def key(self) -> str:
        """Return a hash that changes when the data do: results kept on disk depend on it."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The distinct names among the labels, sorted; none where labels are numbers, or missing."""
        return ()


class First(Source):
    """The first items of another source, at most `count`."""

    def __init__(self, source: Source, count: int) -> None:
        """Take the source."""
        self.name, self._source, self._count = source.name, source, count

    def __len__(self) -> int:
        """Return the number of items."""
        return min(len(self._source), self._count)

    def item(self, number: int) -> Item:
        """Return an item of the other source."""
        return self._source.item(number)

    def key(self) -> str:
        """Return a hash of the other source's and the count."""
        return f"{self._source.key()}-{self._count}"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The other source's names."""
        return self._source.label_names


def key_of_files(paths: Iterable[Path], *more: object) -> str:
    """Return a hash of files by name, size and time of change, as `make` tells whether they are new."""
    digest = hashlib.sha256(repr(more).encode())
    for path in paths:
        try:
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        except OSError:
            digest.update(f"{path}\0missing\0".encode())
    return digest.hexdigest()
