"""A target as typed at a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from onnxplain.errors import TargetError
from onnxplain.target.target import Target


def parse_target(text: str, labels: Sequence[str] | None = None) -> Target:
    """Read a target as typed at a terminal.

    "281" or "tabby" (a class by number or label), "281-285" or "tabby - Egyptian cat" (a contrast),
    "281-mean" (a contrast with the mean of all classes; a label "mean" goes first),
    "boxes[17,2]" (an element of an output), "scores[:,1]" (a sum; also "10:20"), "scores[:,1]>2" (the sum
    of what is above 2). Raises TargetError for anything else.
    """
    text, names = text.strip(), list(labels or ())
    if (one := _class_named(text, names)) is not None:
        return Target(index=one)
    for at in (i for i, c in enumerate(text) if c == "-" and i > 0):
        one, other = (_class_named(part.strip(), names) for part in (text[:at], text[at + 1 :]))
        if one is not None and other is not None:
            return Target.contrast(one, other)
        if one is not None and text[at + 1 :].strip() == "mean":
            return Target.contrast(one, "mean")
    element = re.fullmatch(r"(.*)\[([^\[\]]*)\](?:\s*>\s*(\S+))?", text)
    if element:
        output, inside, above = element.groups()
        try:
            index = tuple(_part(part) for part in inside.split(","))
            return Target(
                index, output=output or None, above=None if above is None else float(above)
            )
        except ValueError as error:
            raise TargetError(
                f"target {text!r}: indices must be whole numbers or ranges, as in scores[17,1] "
                "or scores[:,1]>2"
            ) from error
    hint = "a class number" + (", a label" if names else "") + ", A-B, A-mean, or output[index]"
    raise TargetError(f"target {text!r} is none of: {hint}")


def _part(text: str) -> int | slice:
    """Read one index: "17", ":" or "10:20"."""
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon:
        return int(low)
    return slice(int(low) if low else None, int(high) if high else None)


def _class_named(text: str, names: list[str]) -> int | None:
    """Return the class of a label or of a number in ASCII digits, else None."""
    if text in names:
        return names.index(text)
    return int(text) if text.isascii() and text.isdigit() else None
