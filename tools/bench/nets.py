"""What is measured: torchvision's nets with seeded random weights, as modules and as exported files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.parity.export import export_net
from tools.parity.nets import classifier, torch

NETS = ("resnet50", "vgg16", "mobilenet_v2", "efficientnet_b0", "densenet121")
SIZE = 224
LAST_MAPS: dict[str, Callable[[Any], Any]] = {
    "resnet50": lambda net: net.layer4[-1],
    "vgg16": lambda net: net.features[29],
    "mobilenet_v2": lambda net: net.features[-1],
    "efficientnet_b0": lambda net: net.features[-1],
    "densenet121": lambda net: net.features[-1],
}
"""The module whose output class activation maps weigh: the last feature maps."""
HEADS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "vgg16": lambda net: (
        net.features[:30],
        torch.nn.Sequential(net.features[30], net.avgpool, torch.nn.Flatten(), net.classifier),
    ),
    "mobilenet_v2": lambda net: (
        net.features,
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), net.classifier),
    ),
}
"""Features and head, as the authors of LIFT-CAM split a net."""


def module(name: str) -> Any:
    """Return the net in evaluation mode; its activations are not in place, as captum wants it."""
    net = classifier(name, SIZE).module.requires_grad_(False)
    for part in net.modules():
        if hasattr(part, "inplace"):
            part.inplace = False
    return net


def export(name: str, folder: Path) -> Path:
    """Write the net's ONNX file unless it is there; onnx2torch reads no later opset than 17."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        export_net(module(name), torch.zeros(2, 3, SIZE, SIZE), path, opset=17)
    return path
