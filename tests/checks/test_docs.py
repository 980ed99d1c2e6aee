"""docs/checks.md lists what there is."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from onnxplain.checks.config import _TOP
from onnxplain.checks.kinds import KINDS
from tests.conftest import ROOT

TEXT = (ROOT / "docs/checks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_row(name: str) -> None:
    kind = KINDS[name]
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
    default = (
        f"`{kind.key}` {kind.threshold:g}"
        if kind.threshold is not None
        else f"`{kind.key}`: you say"
    )
    assert f"| {default} |" in row
    for key, option in kind.options.items():
        assert f"`{key}`" + ("" if option.default is None else f" {option.default}") in row
    if not (kind.share or kind.alone):
        assert f"| {kind.statistic} |" in row


def test_every_key_is_named() -> None:
    for key in _TOP.keys() - {"check"}:
        assert f"`{key}`" in TEXT


def test_the_examples_are_sound() -> None:
    found = re.findall(r"```(toml|yaml)\n(.*?)```", TEXT, re.DOTALL)
    assert [kind for kind, _ in found] == ["toml", "yaml", "yaml"]
    checks = tomllib.loads(found[0][1])
    assert {c["kind"] for c in checks["check"]} <= KINDS.keys()
    actions, gitlab = (yaml.safe_load(text) for _, text in found[1:])
    assert "onnxplain check checks.toml --out report" in str(actions["jobs"]["check"]["steps"])
    assert gitlab["explanations"]["artifacts"]["reports"]["junit"] == "report/junit.xml"
