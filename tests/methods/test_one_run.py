"""On the CPU forward and backward are one run; the results are those of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.executor import Executor
from onnxplain.methods.registry import explain
from tests import nets

TARGETS: dict[str, Any] = {
    "the largest": None,
    "a class": 2,
    "a class for each": [1, 0, 3],
    "a contrast": ox.Target.contrast(1, 2),
    "a contrast with the largest": ox.Target(minus=0),
    "all classes above a value": ox.Target(index=slice(None), above=-1e6),
    "a direction": ox.Target(weights=np.array([1.0, -1.0, 0.5, 2.0])),
}
METHODS = ("gradient", "positive", "guided_backprop", "lift_cam", "grad_cam", "smooth_grad",
           "integrated_gradients")  # fmt: skip


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_one_run_gives_what_two_give(
    method: str, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = nets.images(3)
    one = explain(nets.load(nets.conv_net()), x, method, target)
    monkeypatch.setattr(Executor, "on_cpu", False)
    two = explain(nets.load(nets.conv_net()), x, method, target)
    scale = np.abs(two.values).max()
    assert scale > 0
    np.testing.assert_allclose(one.values, two.values, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
    np.testing.assert_array_equal(one.classes, two.classes)
    assert one.meta == two.meta


@pytest.mark.parametrize("run", [ox.gradient, ox.saliency, ox.cam])
@pytest.mark.parametrize("target", [None, 1, [1, 0, 3], ox.Target.contrast(0, 1)])
def test_one_run_it_is(
    run: Callable[..., Any], target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = nets.load(nets.conv_net()), nets.images(3)
    run(model, x, target)  # lift_cam's reference pass
    with nets.counted_runs(monkeypatch) as rows:
        run(model, x, target)
    assert rows == [3]


def test_other_seeds_than_those_run_along() -> None:
    x, seed = nets.images(2), np.eye(4, dtype=np.float32)[[1, 3]]
    program = nets.load(nets.conv_net()).program(("z",), ("x",))
    ahead = program.explain({"x": x}, {"z": seed})
    afterwards = program.forward({"x": x})
    for wanted in (seed, 2 * seed, seed[::-1]):
        found, expected = (p.backward({"z": wanted})["x"] for p in (ahead, afterwards))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_that_are_known_ahead(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    target = ox.target.as_target(TARGETS[name], 3)
    ahead = target.ahead(values.shape)
    if "largest" in name or "above" in name:
        assert ahead is None
    else:
        seeds = target.seeds(values)
        np.testing.assert_array_equal(ahead[0], seeds.seed)
        np.testing.assert_array_equal(ahead[1], seeds.classes)
    assert target.is_largest == (name == "the largest")
