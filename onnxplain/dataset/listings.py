"""CSV and JSON lists of files with their classes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxplain.dataset.folders import Files
from onnxplain.errors import InputError

FILE_COLUMNS = ("file", "path", "image", "filename", "file_name")
LABEL_COLUMNS = ("class_index", "label", "class", "target", "category")
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")


def open_listing(path: Path) -> Files:
    """Return the files that a list names.

    A .csv or .tsv file with a header, a .json list of objects, or a .jsonl file with one object per line. The
    file is under one of FILE_COLUMNS, relative to the list (or to a folder beside it); its class, by number
    or name, under one of LABEL_COLUMNS, where it is known.

    Raises InputError: unreadable, empty, or without such a column.
    """
    try:
        rows = _rows(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path}: not a sound {path.suffix[1:].upper()} list: {error}") from error
    if not rows:
        raise InputError(f"{path}: lists nothing")
    file = _column(rows, FILE_COLUMNS)
    if file is None:
        raise InputError(
            f"{path}: has no column {', '.join(FILE_COLUMNS)} with a file in every row; "
            f"its first row has {', '.join(map(repr, rows[0]))}"
        )
    label = _column(rows, LABEL_COLUMNS)
    folder = _folder(path, str(rows[0][file]))
    paths = [folder / str(row[file]) for row in rows]
    labels = None if label is None else [_label(row[label]) for row in rows]
    return Files(paths, labels, str(path))


def _rows(path: Path) -> list[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix in (".csv", ".tsv"):
            found: Any = list(
                csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            )
        elif path.suffix == ".jsonl":
            found = [json.loads(line) for line in file if line.strip()]
        else:
            found = json.load(file)
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise ValueError("it is not a list of objects")
    return found


def _column(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Return the first of the names that every row has something under."""
    return next((n for n in names if all(row.get(n) not in (None, "") for row in rows)), None)


def _folder(path: Path, first: str) -> Path:
    """Return what the paths of a list are relative to: its folder, or one in there that has the first."""
    if (path.parent / first).is_file():
        return path.parent
    folders = (p for p in sorted(path.parent.iterdir()) if p.is_dir())
    return next((p for p in folders if (p / first).is_file()), path.parent)


def _label(value: Any) -> int | str:
    text = str(value).strip()
    return int(text) if text.isdecimal() else text
