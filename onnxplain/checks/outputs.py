"""The files of a report: all of them, or none."""

from __future__ import annotations

import json
from pathlib import Path

from onnxplain.checks.junit import junit
from onnxplain.checks.markdown import markdown
from onnxplain.checks.page import check_sections
from onnxplain.checks.report import Report
from onnxplain.errors import OutputError
from onnxplain.files import write_text
from onnxplain.render.report import write_report

JSON, JUNIT, MARKDOWN, PAGE = "report.json", "junit.xml", "summary.md", "report.html"
NAMES = (PAGE, MARKDOWN, JUNIT, JSON)
"""The JSON comes last: where it is, the others are."""


def clear(folder: Path) -> None:
    """Remove an earlier report: a run that ends early must not leave the verdict of another behind.

    Raises OutputError.
    """
    for name in reversed(NAMES):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{folder / name}: cannot be removed: {error.strerror}") from error


def write(report: Report, folder: Path) -> dict[str, Path]:
    """Write the files into a folder; whatever goes wrong or interrupts, none is left. Raises OutputError."""
    document = json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"
    try:
        write_report(folder / PAGE, f"onnxplain check: {report.verdict}", check_sections(report))
        for name, text in ((MARKDOWN, markdown(report)), (JUNIT, junit(report)), (JSON, document)):
            write_text(folder / name, text)
    except BaseException:
        clear(folder)
        raise
    return {name: folder / name for name in NAMES}
