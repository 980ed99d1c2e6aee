"""Exported torchvision networks against PyTorch in float64: a small slice of tools/parity."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

import torch
import torch.nn.functional as F

from tools.parity.compare import compare
from tools.parity.dense import detector, segmenter
from tools.parity.nets import classifier
from tools.parity.sides import sides_of


@pytest.mark.parametrize(
    ("make", "name", "size", "export"),
    [
        (classifier, "squeezenet1_1", 64, {"opset": 13}),
        (classifier, "resnet18", 64, {"unfused": True}),
        (segmenter, "lraspp_mobilenet_v3_large", 64, {}),
        (detector, "ssdlite320_mobilenet_v3_large", 96, {}),
    ],
)
def test_gradient_is_pytorchs(make, name: str, size: int, export: dict) -> None:
    """The best of two inputs is right to rounding, or all are where PyTorch chooses alike (see the tool)."""
    net = make(name, size)
    assert net.alive is None or 0.2 <= net.alive[0] <= net.alive[1] <= 5
    found = list(compare(net, inputs=2, **export))
    assert len(found) == len(net.questions)
    for row in found:
        assert row.forward <= 1e-5, row
        assert row.verdict in ("ok", "ok but for flips"), row


def test_only_what_rounding_decides_is_taken_over() -> None:
    """Masks that disagree far from the kink are PyTorch's to keep: a wrong rule stays wrong."""
    v = torch.tensor([[[[-1.0, -1e-6, 1e-6, 1.0]]]], dtype=torch.float64, requires_grad=True)
    with sides_of([torch.tensor([[[[True, True, False, False]]]])]):
        F.relu(v).sum().backward()
    assert v.grad.flatten().tolist() == [0, 1, 0, 1]


def test_only_maxima_within_rounding_may_move() -> None:
    """A position counts where its value ties with the highest."""
    v = torch.tensor([[[[1.0, 1 + 1e-6, 0.0, 5.0]]]], dtype=torch.float64, requires_grad=True)
    with sides_of([torch.tensor([[[0, 2]]])]):
        F.max_pool2d(v, (1, 2)).sum().backward()
    assert v.grad.flatten().tolist() == [1, 0, 0, 1]
