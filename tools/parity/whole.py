"""A detector exported whole: NonMaxSuppression after the scores, and the raw heads as outputs beside.

What comes behind NonMaxSuppression has a row per box instead of one per picture, and which boxes it keeps
has no derivative: it cannot be explained. The raw heads of the same file can.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import onnxplain as ox
from tools.parity.alive import enliven
from tools.parity.dense import ANCHOR, SIDE, Heads, class_above
from tools.parity.nets import Net, Question, torchvision

OUTPUTS = ("scores", "boxes", "kept_boxes", "kept_scores", "kept_labels")
SIZE = 320  # the detector's own: it resizes every picture to it


class Whole(nn.Module):
    """A detector of one picture [1, 3, H, W]: its raw heads, then what it keeps of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run it."""
        raw: dict[str, Tensor] = {}
        hook = self.net.head.register_forward_hook(lambda _, __, found: raw.update(found))
        (kept,) = self.net([x[0]])
        hook.remove()
        heads = raw["cls_logits"], raw["bbox_regression"]
        return (*heads, kept["boxes"], kept["scores"], kept["labels"])


def whole_detector(name: str, size: int | None = None) -> Net:
    """Return ssdlite320 with all it does after its heads, asked for raw outputs and for a kept score."""
    _have_nms()
    torch.manual_seed(0)
    build = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    few = {"num_classes": 8, "score_thresh": 0.2, "topk_candidates": 20, "detections_per_img": 10}
    net = build(weights=None, weights_backbone=None, **few).eval()
    alive = enliven(Heads(net), size or SIZE)
    questions = (
        class_above(0.5),
        Question(ox.Target((ANCHOR, SIDE), output="boxes"), lambda z: z[1][ANCHOR, SIDE]),
        Question(ox.Target(0, output="kept_scores"), lambda z: z[3]),
    )
    return Net(name, size or SIZE, Whole(net).eval(), OUTPUTS, questions, alive, pinned=True)


def _have_nms() -> None:
    """Define torchvision's operator where torchvision came without its compiled part."""
    if torchvision.extension._has_ops():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _LIBRARIES.append(library)
    torchvision.extension._has_ops = _yes


_LIBRARIES: list[torch.library.Library] = []  # an operator lives as long as its library


def _yes() -> bool:
    return True


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep boxes from the highest score on, without those that overlap a kept one."""
    overlap = torchvision.ops.box_iou(boxes, boxes)
    left, kept = torch.ones(len(boxes), dtype=torch.bool), []
    for i in scores.argsort(descending=True).tolist():
        if left[i]:
            kept.append(i)
            left &= overlap[i] <= iou_threshold
    return torch.tensor(kept, dtype=torch.long)
