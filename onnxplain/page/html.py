"""The page itself: template, style, scripts and data in one file that asks nothing of a network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from onnxplain.files import write_text
from onnxplain.hierarchy import Hierarchy
from onnxplain.page.document import page_document

SCRIPTS = (
    "vendor/dagre.min.js", "text.js", "paint.js", "layout.js", "state.js",
    "drawing.js", "graph.js", "panel.js", "outline.js", "viewer.js",
)  # fmt: skip
"""The page's scripts in the order in which they run."""
# What could end a script element; JSON has them in strings only, where they may be \\u escapes.
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def write_page(
    hierarchy: Hierarchy, path: str | Path, other: Hierarchy | None = None, **more: Any
) -> None:
    """Write a hierarchy as one HTML file that works offline; `other` and `more` as for `page_document`.

    Raises ConfigError, OutputError (nothing half-written is left behind).
    """
    write_text(path, page_html(page_document(hierarchy, other, **more)))


def page_html(document: Mapping[str, Any] | None, script: str = "", style: str = "") -> str:
    """Return the page with a document, or an empty one that waits for `OnnxplainViewer.page.show`.

    script, style: what a live page adds; a page with a script may speak to the server it came from, one
    without to nobody. Nothing else runs: the policy lists the digest of every script and style.
    """
    sheet = asset("style.css") + style
    scripts = [_script(asset(name)) for name in SCRIPTS] + ([_script(script)] if script else [])
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(_digest, scripts)),
        "style-src": _digest(sheet),
        "img-src": "data: blob:",
        "connect-src": "'self'" if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    data = json.dumps(document, allow_nan=False).translate(_UNSAFE)
    return Template(asset("template.html")).substitute(
        policy="; ".join(f"{what} {whence}" for what, whence in policy.items()),
        style=sheet,
        document=data,
        scripts="\n".join(f"<script>{code}</script>" for code in scripts),
    )


def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return files("onnxplain.page").joinpath("assets", name).read_text(encoding="utf-8")


def _script(code: str) -> str:
    """Return a script that can stand in a page: it cannot end its element, and names no map file."""
    code = re.sub(r"\n//# sourceMappingURL=.*", "", code)
    return re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE)


def _digest(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
