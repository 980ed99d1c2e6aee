"""The cases are small, and still go the way of large maps."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count whatever enters blocks as enough."""
    monkeypatch.setattr("onnxplain.program.FEW_ELEMENTS", 1)
