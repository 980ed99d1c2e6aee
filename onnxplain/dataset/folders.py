"""Folders of pictures, and lists of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxplain.dataset.source import Item, Source, key_of_files
from onnxplain.errors import InputError


class Files(Source):
    """Files by path, with a label each or none at all."""

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int | str | None] | None, name: str
    ) -> None:
        """Take the paths; `labels` fits them."""
        self.name = name
        self._paths, self._labels = tuple(paths), None if labels is None else tuple(labels)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def item(self, number: int) -> Item:
        """Return a file, not read yet."""
        path = self._paths[number]
        return Item(str(path), path, None if self._labels is None else self._labels[number])

    def key(self) -> str:
        """Return a hash of the files and the labels."""
        return key_of_files(self._paths, self._labels)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The distinct names among the labels."""
        return tuple(sorted({label for label in self._labels or () if isinstance(label, str)}))


def open_folder(folder: Path, suffixes: Sequence[str]) -> Files:
    """Return the files with these suffixes in a folder, sorted by name.

    Where there are none, its sub-folders are classes, as in torchvision's ImageFolder: what is below them
    has their name as label. Hidden files are passed over. Raises InputError where nothing is found.
    """
    here = _found(folder.iterdir(), suffixes)
    if here:
        return Files(here, None, str(folder))
    paths: list[Path] = []
    labels: list[str] = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        below = _found(sub.rglob("*"), suffixes)
        paths += below
        labels += [sub.name] * len(below)
    if not paths:
        raise InputError(
            f"{folder}: no files ({', '.join(suffixes)}) in it, nor in its sub-folders"
        )
    return Files(paths, labels, str(folder))


def _found(paths: object, suffixes: Sequence[str]) -> list[Path]:
    return sorted(
        p
        for p in paths  # type: ignore[attr-defined]
        if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()
    )
