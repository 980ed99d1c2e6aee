"""inspect --verify: it confirms right rules and catches a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxplain as ox
from onnxplain.backward import VJP, Rule
from onnxplain.backward.variants.blocked import BLOCKED
from onnxplain.errors import ConfigError
from onnxplain.verify import verify
from tests import nets

MODELS = Path(__file__).resolve().parent.parent / "models"


def test_the_bundled_model_is_confirmed() -> None:
    measured = verify(ox.load(MODELS / "vgg_cifar10.onnx", device="cpu"))
    assert measured.ok
    assert measured.forward <= 1e-6
    assert measured.gradient is not None
    assert measured.gradient < 5e-3


def test_a_surrogate_gradient_is_not_claimed_to_be_confirmed() -> None:
    measured = verify(ox.load(MODELS / "vgg_cifar10_int8.onnx", device="cpu"))
    assert measured.gradient is None
    assert measured.forward == 0


def _first(rule: Rule) -> Callable[..., Any]:
    """Return a rule's function that gives the gradient of the first input alone."""

    def first(*args: Any) -> Any:
        found = rule.apply(*args)
        return found[0] if isinstance(found, list) else found

    return first


@pytest.mark.parametrize("op", ["Relu", "Conv", "MaxPool"])
def test_a_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    for table in (VJP, BLOCKED):  # the CPU's gradient has rules of its own for these
        right = table._rules[op]
        wrong = partial(lambda rule, c, g, *rest: c.op.Mul(rule(c, g, *rest), 1.1), _first(right))
        monkeypatch.setitem(table._rules, op, replace(right, apply=wrong))
    assert not verify(ox.load(MODELS / "vgg_cifar10.onnx", device="cpu")).ok


def test_a_forward_that_differs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ox.load(MODELS / "vgg_cifar10.onnx", device="cpu")
    values = model.values
    monkeypatch.setattr(
        model, "values", lambda *a: {k: v + np.float32(0.01) for k, v in values(*a).items()}
    )
    assert not verify(model).ok


def test_only_a_file_with_one_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only a file with a single input"):
        verify(nets.load(nets.conv_net()))
    onnx.save(nets.conv_net(), tmp_path / "net.onnx")
    assert verify(ox.load(tmp_path / "net.onnx", device="cpu")).ok
