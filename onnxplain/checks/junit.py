"""A report as JUnit XML, as CI systems read it: a suite, a case per check."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from onnxplain.checks.report import Report, Result
from onnxplain.hierarchy.names import for_xml


def junit(report: Report) -> str:
    """Return the XML: a failed check is a <failure>, one that could not be run an <error>."""
    meta = report.meta
    counts = {
        "tests": len(report.results),
        "failures": sum(r.status == "failed" for r in report.results),
        "errors": sum(r.status == "not run" for r in report.results),
        "skipped": 0,
        "time": meta.get("seconds", 0),
    }
    numbers = {name: str(value) for name, value in counts.items()}
    root = ET.Element("testsuites", {"name": "onnxplain", **numbers})
    suite = ET.SubElement(
        root, "testsuite", {"name": _text(meta.get("config", "checks")), **numbers}
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("model", "sha256", "data", "images", "skipped"):
        if name in meta:
            ET.SubElement(properties, "property", {"name": name, "value": _text(meta[name])})
    model = _text(meta.get("model", "model")).replace(".", "_")
    for result in report.results:
        _case(suite, model, result)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _case(suite: ET.Element, model: str, result: Result) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {"classname": f"onnxplain.{model}", "name": _text(result.name), "time": "0"},
    )
    lines = [result.reason, *(f"{b.name}: {b.value:.6g}" for b in result.worst)]
    if result.ok:
        ET.SubElement(case, "system-out").text = _text("\n".join(lines))
        return
    kind = {"failed": "failure", "not run": "error"}[result.status]
    found = ET.SubElement(case, kind, {"message": _text(result.reason), "type": result.kind})
    found.text = _text("\n".join(lines))


def _text(value: object) -> str:
    return for_xml(str(value))
