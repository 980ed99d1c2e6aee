"""The values of an earlier run, to compare with: any report that `check` wrote is one."""

from __future__ import annotations

import json
from pathlib import Path

from onnxplain.checks.report import SCHEMA, Report
from onnxplain.errors import CheckFailed, InputError
from onnxplain.files import write_text


def read_baseline(path: str | Path) -> dict[str, float]:
    """Return the value of each check by its name; raises InputError for what is no such report."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["onnxplain_check"] != SCHEMA:
            said = str(document["onnxplain_check"])[:20]
            raise InputError(f"{path}: written in schema {said}, this version reads {SCHEMA}")
        values = {str(c["name"]): c["value"] for c in document["checks"]}
        return {name: float(v) for name, v in values.items() if v is not None}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is no report that `onnxplain check` wrote") from error


def save_baseline(report: Report, path: str | Path) -> None:
    """Write a report that passed, to compare later ones with; raises CheckFailed for another, OutputError."""
    if not report.passed:
        raise CheckFailed(f"{path}: not written, as the checks {report.verdict}")
    write_text(path, json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
