"""What may stand behind a key: a test of the value that returns a complaint, or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Any

Test = Callable[[Any], str | None]


@dataclass(frozen=True)
class Option:
    """A key of a check: its default (None: it must be given) and the test of what is given."""

    default: Any
    test: Test


def number(low: float, high: float) -> Test:
    """Accept numbers from `low` to `high`."""

    def test(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {value!r}"
        if not isfinite(value) or not low <= value <= high:
            return f"must be {_between(low, high)}, not {value!r}"
        return None

    return test


def whole(low: int, high: float = float("inf")) -> Test:
    """Accept whole numbers from `low` to `high`."""

    def test(value: Any) -> str | None:
        if type(value) is not int:
            return f"must be a whole number, not {value!r}"
        return None if low <= value <= high else f"must be {_between(low, high)}, not {value!r}"

    return test


def text(value: Any) -> str | None:
    """Accept strings that are not empty."""
    return None if isinstance(value, str) and value.strip() else f"must be a text, not {value!r}"


def one_of(names: Sequence[str]) -> Test:
    """Accept some words."""

    def test(value: Any) -> str | None:
        if isinstance(value, str) and value in names:
            return None
        return f"{value!r} is unknown{meant(value, names)}: choose {', '.join(names)}"

    return test


def box(value: Any) -> str | None:
    """Accept a box, left, top, right, bottom in shares of width and height."""
    sound = (
        isinstance(value, list | tuple)
        and len(value) == 4
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        and 0 <= value[0] < value[2] <= 1
        and 0 <= value[1] < value[3] <= 1
    )
    form = "[left, top, right, bottom] in shares of width and height, from 0 to 1"
    return None if sound else f"must be {form}, not {value!r}"


def meant(value: object, names: Sequence[str]) -> str:
    """Return a guess at what was meant, in brackets; nothing where none is close."""
    close = get_close_matches(str(value), names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _between(low: float, high: float) -> str:
    return f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
