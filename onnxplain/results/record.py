"""Frozen records: declared once as dataclass fields, then checked, compared, saved and loaded.

A record on disk is `<stem>.json` with every field, and `<stem>.npz` with the arrays that the JSON
refers to as {"$array": name}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from onnxplain.errors import InputError
from onnxplain.results.pair import Format
from onnxplain.results.values import Storable, declared, frozen, same

_FORMAT = Format("onnxplain_schema", 1, "result")
_TYPES: dict[str, type[Record]] = {}


def axes(names: str, dtype: Any = np.float32) -> dict[str, Any]:
    """Declare an array field: `values: Array = field(metadata=axes("N h w"))`.

    Args:
        names: one letter per axis; a letter means the same size in every field of the record, and
            only N (images) may be 0. "..." at the end stands for any further axes.
        dtype: what the array is cast to, within its kind.
    """
    return {"axes": tuple(names.split()), "dtype": np.dtype(dtype)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Record(Storable):
    """Base of all results; a subclass is a dataclass with the same three options.

    Arrays are copied and read-only; lists become tuples, NumPy scalars Python numbers. Fields may
    nest dicts (string keys), tuples, arrays and records.

    Attributes:
        meta: how the result came about (model's sha256, method, rule table, layer, target,
            baseline, providers, versions, paper ...), JSON-able.

    Raises:
        InputError: an array has the wrong shape or type, or holds NaN or infinity.
        TypeError: a value cannot be stored.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)

    def __init_subclass__(cls) -> None:
        known = _TYPES.setdefault(cls.__name__, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"there is a record type {cls.__name__} already")
        _TYPES[cls.__name__] = cls

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for f in dataclasses.fields(self):
            value, where = getattr(self, f.name), f"{type(self).__name__}.{f.name}"
            if "axes" in f.metadata and value is not None:
                value = declared(value, f.metadata["axes"], f.metadata["dtype"], sizes, where)
            object.__setattr__(self, f.name, frozen(value, where))
        self._check()

    def _check(self) -> None:
        """Raise InputError where fields contradict each other; for subclasses."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [f.name for f in dataclasses.fields(self)]
        return all(same(getattr(self, name), getattr(other, name)) for name in names)

    def save(self, folder: str | Path, stem: str | None = None) -> Path:
        """Write `<stem>.npz` and `<stem>.json` into `folder`; return the latter's path.

        Args:
            folder: made if missing.
            stem: a plain file name; the type's name in lower case when None.

        Raises:
            OutputError: a file could not be written.
            ConfigError: `stem` is not a plain file name.
        """
        arrays: dict[str, np.ndarray] = {}
        document = _packed(self, "", arrays)
        return _FORMAT.save(folder, stem or type(self).__name__.lower(), document, arrays)

    @classmethod
    def load(cls, folder: str | Path, stem: str | None = None) -> Self:
        """Read what `save` wrote; `Record.load` takes any type.

        Raises:
            InputError: missing, damaged, from another schema version, or of another type.
        """
        record, path = _FORMAT.load(
            folder,
            stem or cls.__name__.lower(),
            lambda document, arrays: _unpacked({"$record": document["$record"]}, arrays),
        )
        if not isinstance(record, cls):
            raise InputError(f"{path}: holds a {type(record).__name__}, not a {cls.__name__}")
        return record


def _packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return `value` as JSON-able data; arrays go to `arrays` and leave a reference behind."""
    if isinstance(value, np.ndarray):
        key = name if name not in arrays else f"{name}.{len(arrays)}"
        arrays[key] = value
        return {"$array": key}
    if isinstance(value, Record):
        data = {
            f.name: _packed(getattr(value, f.name), f.name, arrays)
            for f in dataclasses.fields(value)
        }
        return {"$record": {"type": type(value).__name__, "fields": data}}
    if isinstance(value, tuple):
        return [_packed(v, name, arrays) for v in value]
    if isinstance(value, dict):
        return {k: _packed(v, name, arrays) for k, v in value.items()}
    return value


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return what `_packed` was given."""
    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays[value["$array"]]
    if "$record" not in value:
        return {k: _unpacked(v, arrays) for k, v in value.items()}
    record = value["$record"]
    if record["type"] not in _TYPES:
        raise InputError(f"record type {record['type']!r} is not known")
    cls = _TYPES[record["type"]]
    names = {f.name for f in dataclasses.fields(cls)}
    if names != set(record["fields"]):
        odd = ", ".join(sorted(names ^ set(record["fields"])))
        raise InputError(f"{record['type']} has other fields in this version: {odd}")
    return cls(**{k: _unpacked(v, arrays) for k, v in record["fields"].items()})
