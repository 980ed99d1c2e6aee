"""Where max pooling sends the signal when values tie, and what the spatial rules refuse by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import onnxplain.backward.rules  # noqa: F401  (registers the rules)
from onnxplain.backward import VJP
from onnxplain.backward.split import Pair
from onnxplain.errors import UnsupportedOpError
from onnxplain.graph.canonical import canonicalize, import_graph
from tests.backward.harness import Case, make_program

Attributes = dict[str, int | list[int]]

TIED: list[tuple[tuple[int, ...], Attributes]] = [
    ((3, 6, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((3, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((3, 6, 5), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ((2, 7, 7), {"kernel_shape": [2, 3], "strides": [2, 1], "dilations": [2, 2]}),
    ((2, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((2, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((2, 4, 4, 4), {"kernel_shape": [2, 2, 2], "strides": [1, 2, 2]}),
    ((2, 4, 4), {}),
]


@pytest.mark.parametrize(("shape", "attributes"), TIED, ids=str)
def test_ties_send_everything_to_the_first(shape: tuple[int, ...], attributes: Attributes) -> None:
    """PyTorch's pooling, too, keeps the first maximum in reading order; float64, so sums are exact."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, *shape)).astype(np.float32)  # nearly every window ties
    options = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    body = f"y = MaxPool<{options}>(x)" if options else "y = GlobalMaxPool(x)"
    linearized = make_program(Case(body, body, {"x": shape})).forward({"x": x})
    seed = rng.integers(-4, 5, linearized["y"].shape).astype(np.float32)

    rank, point = len(shape) - 1, torch.tensor(x, dtype=torch.float64, requires_grad=True)
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    pads = attributes.get("pads", [0] * 2 * rank)
    assert isinstance(pads, list)
    y = pool(
        point,
        attributes.get("kernel_shape", list(shape[1:])),
        stride=attributes.get("strides", [1] * rank),
        padding=pads[:rank],
        dilation=attributes.get("dilations", [1] * rank),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )
    y.backward(torch.tensor(seed, dtype=torch.float64))
    assert point.grad is not None
    np.testing.assert_array_equal(linearized["y"], y.detach().numpy())
    np.testing.assert_array_equal(linearized.backward({"y": seed})["x"], point.grad.numpy())


_HALF = np.array([1, 1, 0.5, 0.5], np.float32)
_ROI = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
_ONES = np.ones(2, np.float32)
_CROP = 'Resize<coordinate_transformation_mode = "tf_crop_and_resize">'

REFUSED: list[tuple[str, dict[str, np.ndarray], str]] = [
    ("w = Exp(x) y = Conv(x, w)", {}, "input 1 is computed"),
    ("w = Exp(x) y = ConvTranspose(x, w)", {}, "input 1 is computed"),
    ('y = Resize<antialias = 1, mode = "linear">(x, , s)', {"s": _HALF}, "antialias"),
    (f"y = {_CROP}(x, roi, s)", {"s": _HALF, "roi": _ROI}, "tf_crop_and_resize"),
    ('y = Pad<mode = "edge">(x, pads, , axes)',
     {"pads": np.array([-1, 1], np.int64), "axes": np.array([3], np.int64)}, "negative"),
    ("a, y = LayerNormalization(x, s)", {"s": _ONES}, "deviation"),
    ("a, mean = LayerNormalization(x, s) y = Add(a, mean)", {"s": _ONES}, "deviation"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "arrays", "reason"), REFUSED)
def test_refusals_name_op_and_reason(body: str, arrays: dict[str, np.ndarray], reason: str) -> None:
    case = Case(body, body, {"x": (1, 2, 2)}, initializers=arrays)
    graph, _ = canonicalize(import_graph(case.model()), {"x": ("N", 1, 2, 2)})
    with pytest.raises(UnsupportedOpError, match=reason):
        Pair(graph, ["y"], ["x"], VJP)
