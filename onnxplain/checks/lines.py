"""Where a key stands in a TOML file: `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line (from 1 on) on which a key, a table or the n-th of several tables begins.

    path: keys, and numbers of tables, from the top: ("check", 2, "min"). The line is the first behind the
    longest beginning of the file that is sound TOML and does not have it yet; of what is not in the file,
    that of the table it is missing from, or 1.
    """
    for before, document in _beginnings(text):
        if _has(document, path):
            return before + 1
    return line_of(text, path[:-1]) if len(path) > 1 else 1


@lru_cache(maxsize=1)
def _beginnings(text: str) -> tuple[tuple[int, dict[str, Any]], ...]:
    """Return what each sound beginning of the file holds, with the number of lines of the one before it."""
    lines, before, found = text.splitlines(), 0, []
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value of several lines
        found.append((before, document))
        before = end
    return tuple(found)


def _has(document: Any, path: Sequence[str | int]) -> bool:
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
