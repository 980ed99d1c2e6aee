"""Where a key stands in a TOML file: `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line (from 1 on) on which a key, a table or the n-th of several tables begins.

    path: keys, and numbers of tables, from the top: ("check", 2, "min"). The line is the first behind the
    longest beginning of the file that is sound TOML and does not have it yet; of what is not in the file,
    that of the table it is missing from, or 1.
    """
    lines = text.splitlines()
    before = 0
    for end in range(1, len(lines) + 1):
        try:
            found = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value of several lines
        if _has(found, path):
            return before + 1
        before = end
    return line_of(text, path[:-1]) if len(path) > 1 else 1


def _has(document: Any, path: Sequence[str | int]) -> bool:
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
