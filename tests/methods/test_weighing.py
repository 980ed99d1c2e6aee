"""The weightings as arrays and as nodes: one formula, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx.reference import ReferenceEvaluator

from onnxplain.graph.compute import NUMPY
from onnxplain.graph.emit import Emitter
from onnxplain.graph.export import export
from onnxplain.methods.cam import CAMS
from onnxplain.methods.saliency import strongest
from tests import nets

Array = np.ndarray[Any, Any]
FORMULAS = {kind: row.formula for kind, row in CAMS.items() if row.formula is not None}


def run(formula: Callable[..., Any], *arrays: Array) -> Array:
    """Write `formula` into a graph and run it with onnx's reference kernels."""
    op = Emitter("test")
    inputs = [gs.Variable(f"x{i}", np.float32, a.shape) for i, a in enumerate(arrays)]
    result = op.Identity(formula(op, *inputs))
    part = export(gs.Graph(opset=18), op.nodes, inputs, [result])
    evaluator = ReferenceEvaluator(onnx.load_from_string(part.model))
    return np.asarray(
        evaluator.run(None, {t.name: a for t, a in zip(inputs, arrays, strict=True)})[0]
    )


def maps() -> tuple[Array, Array]:
    """Return A and G with a dead channel, and one where alpha of Grad-CAM++ is 0 / 0."""
    a, g = np.abs(nets.images(2, (5, 4, 3))), nets.images(2, (5, 4, 3), seed=2)
    a[:, 1], g[:, 1], g[:, 2] = 0, 0, 0
    return a, g


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_weighting_is_the_same_in_a_graph(kind: str) -> None:
    a, g = maps()
    expected = FORMULAS[kind](NUMPY, a, g)
    assert np.isfinite(expected).all() and np.any(expected)
    np.testing.assert_allclose(run(FORMULAS[kind], a, g), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["absolute", "positive", "negative"])
def test_the_strongest_colour_is_the_same_in_a_graph(kind: str) -> None:
    g = nets.images()
    found = run(lambda op, x: strongest(op, x, kind, 1), g)
    np.testing.assert_array_equal(found, strongest(NUMPY, g, kind, 1))


def test_sums_do_not_lose_what_cancels() -> None:
    """1e8 and -1e8 with a 1 between them: float32 gives 0."""
    x = np.array([1e8, 1, -1e8], np.float32).reshape(1, 1, 3, 1)
    assert NUMPY.ReduceSum(x, (2, 3)).item() == 1
