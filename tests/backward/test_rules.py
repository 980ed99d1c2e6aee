"""Every backward rule against float64 finite differences, and no rule without a case."""

from __future__ import annotations

import pytest

from onnxplain.backward import VJP
from tests.backward.cases import CASES
from tests.backward.harness import Case, check_gradient


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_equals_finite_differences(case: Case) -> None:
    check_gradient(case)


def test_every_rule_has_a_case() -> None:
    elsewhere = {"Cast"}  # tests/backward/test_quantize.py
    covered = elsewhere | {op for case in CASES for op in case.ops}
    covered |= {node.op_type for case in CASES for node in case.model().graph.node}
    missing = sorted(op for op in VJP if op not in covered and VJP.find(op).exact)
    assert not missing, f"rules without a row in tests/backward/cases: {missing}"
