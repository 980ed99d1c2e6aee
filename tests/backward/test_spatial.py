"""Where max pooling sends the signal when values tie, and what the spatial rules refuse by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxplain.errors import UnsupportedOpError
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


def _program(body: str, shape: tuple[int, ...], opset: int = 18, **arrays: object):
    given = {k: np.asarray(v) for k, v in arrays.items()}
    return make_program(Case(body, body, {"x": shape}, initializers=given, opset=opset))


@pytest.mark.parametrize(("shape", "attributes"), TIED, ids=str)
def test_ties_send_everything_to_the_first(shape: tuple[int, ...], attributes: Attributes) -> None:
    """PyTorch's pooling, too, keeps the first maximum in reading order; float64, so sums are exact."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, *shape)).astype(np.float32)  # nearly every window ties
    options = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    program = _program(f"y = {'MaxPool' if options else 'GlobalMaxPool'}<{options}>(x)", shape)
    linearized = program.forward({"x": x})
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


_PADS = np.array([0, 0, -1, 0, 0, 1], np.int64)
_ONE = np.ones(2, np.float32)

REFUSED: list[tuple[str, tuple[int, ...], dict[str, object], str]] = [
    ("w = Concat<axis = 0>(x, x) y = Conv(x, w)", (1, 3, 3), {}, "input 1"),
    ("w = Exp(x) y = ConvTranspose(x, w)", (1, 3, 3), {}, "input 1"),
    (
        "y = Resize<antialias = 1, mode = \"linear\">(x, , s)",
        (1, 4, 4),
        {"s": np.array([1, 1, 0.5, 0.5], np.float32)},
        "antialias",
    ),
    (
        "y = Resize<coordinate_transformation_mode = \"tf_crop_and_resize\">(x, roi, s)",
        (1, 4, 4),
        {"s": np.ones(4, np.float32) * [1, 1, 2, 2], "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1])},
        "tf_crop_and_resize",
    ),
    ('y = Pad<mode = "edge">(x, p)', (4, 4), {"p": _PADS}, "negative"),
    ("_, y = LayerNormalization(x, s)", (3, 2), {"s": _ONE}, "deviation"),
    ("y, v = LayerNormalization(x, s) z = Add(y, v) ", (3, 2), {"s": _ONE}, "deviation"),
]
