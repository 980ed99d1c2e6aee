"""Segmentation and detection nets of torchvision, asked for what their users ask: a region, a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import onnxplain as ox
from tools.parity.alive import enliven, random_pictures
from tools.parity.nets import Net, Question, torchvision

SEGMENTATION = (
    "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_resnet50",
)  # fmt: skip
DETECTION = {
    "ssdlite320_mobilenet_v3_large": 160,
    "retinanet_resnet50_fpn": 96,
    "retinanet_resnet50_fpn_v2": 96,
    "fcos_resnet50_fpn": 96,
}
"""Detectors of one stage, and the pixels they are compared at."""

CLASS, OTHER, ANCHOR, SIDE = 5, 7, 20, 2
ANCHORS = {
    "fcos_resnet50_fpn": 36
}  # its boxes end in a ReLU, which is 0 there for ANCHOR: no gradient


class Map(nn.Module):
    """The map of a segmentation net, [N, classes, H, W]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        found: Tensor = self.net(x)["out"]
        return found


class Heads(nn.Module):
    """A detector up to its raw heads: scores [N, anchors, classes], boxes [N, anchors, 4]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = net.backbone, net.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run it."""
        found = self.head(list(self.backbone(x).values()))
        return found["cls_logits"], found["bbox_regression"]


def segmenter(name: str, size: int | None = None) -> Net:
    """Return a segmentation net, asked for a class, and for a contrast of two, over a disc."""
    size = size or 96
    torch.manual_seed(0)
    build = torchvision.models.get_model_builder(name)
    module = Map(build(weights=None, weights_backbone=None)).eval()
    alive = enliven(module, size)
    at = torch.linspace(-1, 1, size)
    disc = (at[:, None] ** 2 + at**2 < 0.5).double()

    def score(z: Sequence[Tensor]) -> Tensor:
        return (z[0][CLASS] * disc.to(z[0].dtype)).sum()

    def contrast(z: Sequence[Tensor]) -> Tensor:
        return ((z[0][CLASS] - z[0][OTHER]) * disc.to(z[0].dtype)).sum()

    questions = (
        Question(ox.Target(CLASS, weights=disc.numpy()), score),
        Question(ox.Target(CLASS, minus=OTHER, weights=disc.numpy()), contrast),
    )
    return Net(name, size, module, ("map",), questions, alive)


def detector(name: str, size: int | None = None) -> Net:
    """Return a detector's raw heads, asked for all anchors that see a class, and for one side of one box."""
    size = size or DETECTION[name]
    torch.manual_seed(0)
    build = torchvision.models.get_model_builder(name)
    module = Heads(build(weights=None, weights_backbone=None)).eval()
    alive = enliven(module, size)
    with torch.no_grad():
        seen = module(random_pictures(1, size))[0][0, :, CLASS]
    anchor = ANCHORS.get(name, ANCHOR)
    threshold = round(float(seen.quantile(0.7)), 3)

    questions = (
        class_above(threshold),
        Question(ox.Target((anchor, SIDE), output="boxes"), lambda z: z[1][anchor, SIDE]),
    )
    return Net(name, size, module, ("scores", "boxes"), questions, alive)


def class_above(threshold: float) -> Question:
    """Ask for the sum of a class's raw scores above a threshold, over all anchors."""

    def score(z: Sequence[Tensor]) -> Tensor:
        of_class = z[0][:, CLASS]
        return of_class[of_class > threshold].sum()

    return Question(ox.Target((slice(None), CLASS), output="scores", above=threshold), score)
