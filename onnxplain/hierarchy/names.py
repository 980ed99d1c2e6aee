"""Names that come from files, made fit for a terminal, an XML file or a drawing."""

from __future__ import annotations

import re

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, and the carriage return, which its readers turn into a line feed."""


def visible(text: str) -> str:
    """Return `text` with all that is not printable as an escape: no control sequence, no line break."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def for_xml(text: str) -> str:
    """Return `text` with the characters that XML cannot hold as escapes; any other text as it is."""
    return _NOT_XML.sub(lambda match: _escape(match[0]), text)


def short(text: str, most: int) -> str:
    """Return `text` in at most `most` characters: the middle of a longer one gives way to an ellipsis."""
    head = (most - 1) // 2
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
