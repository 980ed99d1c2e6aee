"""The values that records hold: checked, in one immutable form, comparable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import InputError

_PLAIN = {type(None), bool, int, str}  # most of what records hold


class Storable:
    """Marks objects that records may hold besides plain values: other records."""


def declared(
    value: Any, axes: tuple[str, ...], dtype: np.dtype[Any], sizes: dict[str, int], where: str
) -> np.ndarray:
    """Return `value` as an array of `dtype` whose shape agrees with `axes` and `sizes`."""
    a = np.asarray(value)
    named = axes[:-1] if axes[-1] == "..." else axes
    ranks_agree = a.ndim >= len(named) if axes != named else a.ndim == len(named)
    wrong = [
        name
        for name, n in zip(named, a.shape, strict=False)
        if sizes.setdefault(name, n) != n or (n == 0 and name != "N")
    ]
    if wrong or not ranks_agree or 0 in a.shape[1:]:
        known = ", ".join(f"{name} = {sizes[name]}" for name in named if name in sizes)
        raise InputError(f"{where} must be [{', '.join(axes)}], got {list(a.shape)} ({known})")
    if not np.can_cast(a.dtype, dtype, "same_kind"):
        raise InputError(f"{where} must be {dtype}, got {a.dtype}")
    if a.dtype != dtype:
        with np.errstate(over="ignore"):  # found just below
            a = a.astype(dtype)
    if dtype.kind == "f" and not (finite := np.isfinite(a)).all():
        bad = int(a.size - finite.sum())
        raise InputError(f"{where}: {bad} of {a.size} numbers are NaN or infinite")
    return a


def frozen(value: Any, where: str) -> Any:
    """Return `value` in the one form that it also has after a round trip through files."""
    if type(value) in _PLAIN or isinstance(value, Storable):
        return value
    if isinstance(value, np.ndarray):
        return _read_only(value, where)
    if isinstance(value, np.generic):
        return frozen(value.item(), where)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(frozen(v, f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(value, Mapping):
        if odd := [k for k in value if not isinstance(k, str) or k.startswith("$")]:
            raise TypeError(f"{where}: key {odd[0]!r} must be a string that starts without $")
        return {k: v if type(v) in _PLAIN else frozen(v, f"{where}.{k}") for k, v in value.items()}
    raise TypeError(f"{where}: {value!r} cannot be stored")


def _read_only(a: np.ndarray, where: str) -> np.ndarray:
    if a.dtype.kind not in "biufU":
        raise TypeError(f"{where}: arrays of {a.dtype} cannot be stored")
    if a.flags.writeable or not a.flags.owndata or not a.flags.c_contiguous:
        a = np.array(a, order="C")  # a copy: the caller's array stays the caller's
        a.flags.writeable = False
    return a


def same(a: Any, b: Any) -> bool:
    """Whether two frozen values are equal, types included."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and bool(a == b)
