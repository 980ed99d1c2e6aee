"""docs/ops.md is what the registry, the cases and the zoo say now."""

from __future__ import annotations

from onnxplain.backward import VJP
from tools import ops


def test_page_is_up_to_date() -> None:
    written = ops.PAGE.read_text(encoding="utf-8")
    assert written == ops.page(), "run `python -m tools.ops`"


def test_every_rule_is_tested_by_something_that_the_page_counts() -> None:
    elsewhere = {"Ceil", "Floor", "Round"}  # tests/backward/test_quantize.py
    rows = [line.split(" | ") for line in ops.page().splitlines() if line.startswith("| ")][2:]
    counted = {row[0].strip("| "): int(row[3]) + int(row[4].strip("| ")) for row in rows}
    assert set(counted) == set(VJP)
    assert {op for op, tests in counted.items() if not tests} <= elsewhere
