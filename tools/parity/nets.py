"""What is compared: torchvision's nets, at sizes that keep them small, and what is asked of each."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import onnxplain as ox
from tools.parity.alive import enliven

# A torchvision without its compiled part cannot import this of itself.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("none"))
import torchvision  # noqa: E402

Score = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Question:
    """What is explained: as a target here, and as a score of one picture's outputs in PyTorch."""

    target: ox.Target
    score: Score

    def __str__(self) -> str:
        """Describe the target."""
        return str(self.target)


@dataclass(frozen=True)
class Net:
    """A network ready to be compared; `alive` is what `enliven` measured.

    `pinned`: it takes one picture at a time.
    """

    name: str
    size: int
    module: nn.Module
    outputs: tuple[str, ...]
    questions: tuple[Question, ...]
    alive: tuple[float, float] | None = None
    pinned: bool = False

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.module.parameters())


# The first prefix that fits. 96 pixels leave 3 x 3 positions to the last layers of most nets. Where there
# is more, it has a reason: TorchScript exports adaptive pooling only to a divisor of the size (AlexNet, VGG),
# MaxViT's windows of 7 must divide every stage, Swin should have more than one window, Inception needs 75.
SIZES = {
    "alexnet": 224, "vgg": 224, "maxvit": 224, "inception": 128, "swin": 112, "regnet_y_128gf": 64,
    "vit_h": 56, "vit_b_16": 64, "vit_l_16": 64, "": 96,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
LARGEST = Question(ox.Target(), lambda outputs: outputs[0].max())

DYNAMO = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_b1", "efficientnet_v2_s",
    "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "swin_t", "swin_v2_t",
    "vgg11", "vit_b_16", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip
"""Compared with the dynamo exporter too: one or more of each family."""


@functools.cache
def classifiers() -> tuple[str, ...]:
    """Return the names of torchvision's classification architectures, the smallest first."""
    return tuple(sorted(torchvision.models.list_models(module=torchvision.models), key=_flops))


def _flops(name: str) -> float:
    """Return what torchvision measured for the first of the net's trained weights, in GFLOPs."""
    return next(iter(torchvision.models.get_model_weights(name))).meta["_ops"]


def classifier(name: str, size: int | None = None) -> Net:
    """Return a classification net with seeded random weights, asked for its largest logit."""
    size = size or next(s for prefix, s in SIZES.items() if name.startswith(prefix))
    options = dict(OPTIONS.get(name, {}))
    if name.startswith("vit"):
        options["image_size"] = size
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    return Net(name, size, module, ("logits",), (LARGEST,), enliven(module, size))
