"""A JSON document and the arrays it refers to: two files, and the proof that they belong together.

Both are written atomically, the JSON last and with the other's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.files import read_npz, write_npz, write_text

T = TypeVar("T")
Document = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]

_LONGEST = 300  # characters of a message about what a file holds


@dataclass(frozen=True)
class Format:
    """What is kept in such a pair: the JSON says `version` under `key`; `noun` names it in messages."""

    key: str
    version: int
    noun: str

    def save(
        self,
        folder: str | Path,
        stem: str,
        document: Document,
        arrays: Mapping[str, np.ndarray[Any, Any]],
    ) -> Path:
        """Write `<stem>.npz` and `<stem>.json` into `folder`, made if missing; return the latter's path.

        Raises OutputError (a file could not be written), ConfigError (`stem` is not a plain file name).
        """
        json_path, npz_path = _paths(folder, stem)
        write_npz(npz_path, arrays)
        document = {self.key: self.version, **document, "arrays_sha256": _sha256(npz_path)}
        write_text(json_path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        return json_path

    def load(
        self, folder: str | Path, stem: str, unpack: Callable[[Document, Arrays], T]
    ) -> tuple[T, Path]:
        """Return what `unpack` makes of the document and the arrays, and the JSON's path.

        Raises InputError: missing, damaged, of another version, or `unpack` stumbles over it.
        """
        json_path, npz_path = _paths(folder, stem)
        document = self._document(json_path)
        try:
            if document["arrays_sha256"] != _sha256(npz_path):
                raise InputError(f"{npz_path.name} is damaged or belongs to another {self.noun}")
            return unpack(document, read_npz(npz_path)), json_path
        except OSError as error:
            raise InputError(f"{npz_path}: cannot be read: {error.strerror}") from error
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            what = repr(error)[:_LONGEST]
            raise InputError(f"{json_path}: damaged or altered: {what}") from error
        except InputError as error:
            raise InputError(f"{json_path}: {error}") from error

    def _document(self, path: Path) -> Document:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not valid JSON: {error}") from error
        version = document.get(self.key) if isinstance(document, dict) else None
        if version is None:
            raise InputError(f"{path}: not a {self.noun} that onnxplain saved")
        if version != self.version:
            said = repr(version)[:20]
            raise InputError(f"{path}: written in schema {said}, this version reads {self.version}")
        return dict(document)


def _paths(folder: str | Path, stem: str) -> tuple[Path, Path]:
    """Return the paths of the JSON and the arrays."""
    if Path(stem).name != stem or stem == "..":
        raise ConfigError(f"stem {stem!r} is not a plain file name")
    return Path(folder) / f"{stem}.json", Path(folder) / f"{stem}.npz"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
