"""What a user calls data -> a source. A new kind of file is a row of `OPENERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from onnxplain.dataset import listings, shards
from onnxplain.dataset.folders import Files, open_folder
from onnxplain.dataset.source import ARRAYS, PICTURES, Array, Source
from onnxplain.dataset.stored import Arrays, checked_labels, open_npz
from onnxplain.errors import InputError

Labels = Sequence[int | str] | Array
Data = str | Path | Source | Array | Sequence[str | Path] | tuple[Array, Labels]

OPENERS: dict[tuple[str, ...], Callable[[Path], Source]] = {
    listings.SUFFIXES: listings.open_listing,
    (".npz",): open_npz,
    shards.TAR: lambda path: shards.Tars([path]),
    shards.PARQUET: lambda path: shards.Parquet([path]),
}


def open_data(data: Data, pictures: bool = True) -> Source:
    """Return the source of some data.

    data: a folder of pictures, or of a sub-folder per class, or of .tar or .parquet shards; a list of files
        (.csv, .tsv, .json, .jsonl); a .npz file; a .tar or .parquet file; paths; an array of uint8 pictures
        [N, H, W(, 3)] or of model input [N, ...]; (array or paths, labels); or a source.
    pictures: whether the model takes pictures; of folders, files of arrays are taken otherwise.

    Raises InputError: nothing there, nothing readable, or an unknown kind of file.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | Path):
        return _open_path(Path(data), pictures)
    if isinstance(data, np.ndarray):
        return Arrays(data, None, "array")
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray):
        return Arrays(data[0], np.asarray(data[1]), "array")
    return _open_paths(data)


def _open_path(path: Path, pictures: bool) -> Source:
    if path.is_dir():
        for suffixes, of_shards in ((shards.TAR, shards.Tars), (shards.PARQUET, shards.Parquet)):
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if found:
                return of_shards(found)
        return open_folder(path, PICTURES if pictures else ARRAYS)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    opener = next((made for suffixes, made in OPENERS.items() if suffix in suffixes), None)
    if opener is not None:
        return opener(path)
    if suffix in (*PICTURES, *ARRAYS):
        return Files([path], None, str(path))
    known = ", ".join(s for suffixes in OPENERS for s in suffixes)
    raise InputError(f"{path}: is no data set that can be read: give a folder, or {known}")


def _open_paths(data: object) -> Source:
    """Return a source of paths, or of (paths, labels)."""
    labels: Labels | None = None
    given = list(data) if isinstance(data, Sequence) else []
    if len(given) == 2 and not isinstance(given[0], str | Path):
        given, labels = list(given[0]), given[1]
    if not given or not all(isinstance(p, str | Path) for p in given):
        raise InputError(f"data {str(data)[:60]!r} is no folder, file, array or list of paths")
    name = f"{given[0]}{f' and {len(given) - 1} more' if len(given) > 1 else ''}"
    if labels is not None:
        labels = checked_labels(labels, len(given), name)
    named = None if labels is None else np.asarray(labels).tolist()
    return Files([Path(p) for p in given], named, name)
