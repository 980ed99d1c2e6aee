"""Exported torchvision networks against PyTorch in float64: a small slice of tools/parity.py."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

from tools import parity

SIZE = 64


@pytest.mark.parametrize(
    ("net", "export"),
    [
        ("squeezenet1_1", {"opset": 13}),
        ("resnet18", {"unfused": True}),
    ],
)
def test_gradient_is_pytorchs(net: str, export: dict) -> None:
    """The best of three inputs is right to rounding; a ReLU may flip in another (see the tool)."""
    found = parity.compare(net, parity.make(net, SIZE), inputs=3, size=SIZE, **export)
    assert found.forward <= 1e-5
    assert found.verdict == "ok", found
