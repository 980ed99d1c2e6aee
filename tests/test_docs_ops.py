"""docs/ops.md is what the registry, the cases and the zoo say now."""

from __future__ import annotations

import onnx

from onnxplain.backward import VJP
from onnxplain.graph.canonical import REWRITES
from onnxplain.graph.paths import WITHOUT_SIGNAL
from onnxplain.graph.quantized import STANDARD
from tools import ops


def test_page_is_up_to_date() -> None:
    written = ops.PAGE.read_text(encoding="utf-8")
    assert written == ops.page(), "run `python -m tools.ops`"


def test_every_standard_operator_is_in_one_class() -> None:
    """Up to opset 28, the newest when this was written."""
    named = {
        s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and s.since_version <= 28
    }
    refused = [op for names in ops.REFUSED.values() for op in names]
    assert len(refused) == len(set(refused))
    known = {*VJP, *STANDARD, *REWRITES, *WITHOUT_SIGNAL}
    assert not known & {*refused, *ops.SOURCES, *ops.LIFTED}
    assert named <= known | {*refused, *ops.SOURCES, *ops.LIFTED}


def test_every_rule_is_tested_by_something_that_the_page_counts() -> None:
    elsewhere = {"Ceil", "Floor", "Round"}  # tests/backward/test_quantize.py
    rows = [line.split(" | ") for line in ops.page().splitlines() if line.startswith("| ")][2:]
    counted = {row[0].strip("| "): int(row[3]) + int(row[4].strip("| ")) for row in rows}
    assert set(counted) == set(VJP)
    assert {op for op, tests in counted.items() if not tests} <= elsewhere
