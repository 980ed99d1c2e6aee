"""A report as Markdown, for a pull request or a job's summary."""

from __future__ import annotations

import re
from html import escape

from onnxplain.checks.report import Report
from onnxplain.hierarchy.names import visible

MARK = {"passed": "✅", "failed": "❌", "not run": "⚠️"}


def markdown(report: Report) -> str:
    """Return a table of the checks, and the worst images of those that did not pass."""
    meta = report.meta
    of = f"{plain(meta.get('model', 'model'))} on {meta.get('images', 0)} images"
    lines = [f"### onnxplain: {report.verdict}", "", of, ""]
    lines += ["| | check | value | asked | |", "|---|---|---|---|---|"]
    for r in report.results:
        value = "–" if r.value is None else f"{r.value:.4g}"
        asked = "–" if r.threshold is None else f"{r.key} {r.threshold:.4g}"
        lines.append(
            f"| {MARK[r.status]} | {plain(r.name)} | {value} | {asked} | {plain(r.reason)} |"
        )
    for r in report.results:
        if not r.ok and r.worst:
            named = ", ".join(f"{plain(b.name)} ({b.value:.4g})" for b in r.worst)
            lines += ["", f"**{plain(r.name)}**, worst: {named}"]
    return "\n".join(lines) + "\n"


def plain(value: object) -> str:
    """Return text that Markdown shows as it is, in one line."""
    text = escape(visible(str(value).replace("\n", " ")), quote=False)
    return re.sub(r"([\\`*_{}\[\]#|!~$@])", r"\\\1", text)
