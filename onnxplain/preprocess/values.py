"""Converters of single settings: what comes back is the clean value, or an error is raised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

import numpy as np

Resize = Literal["short", "squash", "fit", "none"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Channels = Literal["RGB", "BGR", "L"]
MAX_SIDE = 8192  # pixels; larger inputs are a mistake or an attack

T = TypeVar("T")


def convert(key: str, value: Any) -> Any:
    """Return `value` in the form setting `key` has; ValueError says what it must be."""
    converter, words = RULES[key]
    try:
        return converter(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{key} = {value!r} must be {words}") from error


def _optional(converter: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else converter(value)


def _one_of(choices: tuple[str, ...]) -> tuple[Callable[[Any], str], str]:
    def choose(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    return choose, f"one of {', '.join(choices)}"


def _pixels(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError
    if not 1 <= value <= MAX_SIDE:
        raise ValueError
    return int(value)


def _size(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return _pixels(height), _pixels(width)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError
    if not math.isfinite(value):
        raise ValueError
    return float(value)


def _factor(value: Any) -> float:
    if _number(value) == 0:
        raise ValueError
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    numbers = tuple(_number(v) for v in (value if isinstance(value, list | tuple) else (value,)))
    if len(numbers) not in (1, 3):
        raise ValueError
    return numbers


def _positive(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError
    return numbers


RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "resize": _one_of(get_args(Resize)),
    "short": (_optional(_pixels), f"a whole number, 1 to {MAX_SIDE} pixels"),
    "size": (_optional(_size), f"[height, width] or one number, 1 to {MAX_SIDE} pixels"),
    "interpolation": _one_of(get_args(Interpolation)),
    "scale": (_factor, "a finite number, not 0"),
    "mean": (_numbers, "one finite number or a list of 1 or 3"),
    "std": (_positive, "one number above 0 or a list of 1 or 3"),
    "channels": _one_of(get_args(Channels)),
}
