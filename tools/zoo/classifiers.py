"""Classifiers in PyTorch."""

# ruff: noqa: D102  (`forward` is what the class computes)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.zoo.exporters import Export
from tools.zoo.style import Style

CLASSES = 5


def conv(i: int, o: int, k: int = 3, s: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size (at stride 1)."""
    return nn.Conv2d(i, o, k, s, dilation * (k // 2), dilation, groups)


def unit(i: int, o: int, k: int = 3, s: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, BatchNorm, ReLU."""
    return nn.Sequential(conv(i, o, k, s, groups=groups), nn.BatchNorm2d(o), nn.ReLU())


class Residual(nn.Module):
    """A block of two convolutions beside a shortcut."""

    def __init__(self, i: int, o: int, s: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(i, o, s=s), conv(o, o), nn.BatchNorm2d(o))
        self.short = nn.Identity() if i == o and s == 1 else nn.Conv2d(i, o, 1, s)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


def head(channels: int) -> list[nn.Module]:
    """Return global average pooling and a linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def resnet() -> nn.Module:
    """Return a residual net of two blocks."""
    return nn.Sequential(unit(3, 4), Residual(4, 4), Residual(4, 6, 2), *head(6))


def vgg() -> nn.Module:
    """Return convolutions, pooling and three dense layers with Dropout between."""
    maps = [conv(3, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 6), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Flatten(), nn.Linear(96, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, CLASSES)]
    return nn.Sequential(*maps, *dense)


class TwoOutputs(nn.Module):
    """Class scores through Softmax, and a box."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            unit(3, 8, s=2), unit(8, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.box, self.cls = nn.Linear(32, 4), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.maps(x)
        return self.box(h).sigmoid(), self.cls(h).softmax(1)


class TwoInputs(nn.Module):
    """A picture beside a row of numbers that scales its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.gate = unit(3, 8, s=2), nn.Sequential(nn.Linear(4, 8), nn.Sigmoid())
        self.rest = nn.Sequential(unit(8, 8), *head(8))

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.rest(self.maps(image) * self.gate(numbers)[:, :, None, None])


class Siamese(nn.Module):
    """Two pictures through the same weights, and the cosine of what they become."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(unit(3, 6, s=2), conv(6, 8), nn.Tanh(), *head(8))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return F.cosine_similarity(self.maps(left), self.maps(right))[:, None]


class MobileNet(nn.Module):
    """Depthwise convolutions with squeeze-and-excitation and HardSwish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, s=2), nn.BatchNorm2d(8), nn.Hardswish())
        self.depth = nn.Sequential(conv(8, 8, 5, groups=8), nn.BatchNorm2d(8), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(),
                                     nn.Conv2d(4, 8, 1), nn.Hardsigmoid())  # fmt: skip
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Sequential(nn.Conv2d(8, 12, 1), nn.Hardswish(), *head(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.depth(x)
        return self.head(self.point(h * self.squeeze(h)) + x)


class Inception(nn.Module):
    """Branches joined by Concat, pooling in ceil mode, a global maximum beside a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(unit(3, 6), nn.MaxPool2d(3, 2, ceil_mode=True))
        self.a, self.b, self.c = nn.Conv2d(6, 4, 1), conv(6, 4), conv(6, 4, 5)
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.last = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.pool(torch.cat([self.a(x), self.b(x), self.c(x)], 1).relu())
        return self.last(
            torch.cat([F.adaptive_max_pool2d(h, 1), h.mean((2, 3), True)], 1).flatten(1)
        )


class ShuffleNet(nn.Module):
    """Channels split in two, one half convolved, then shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.head = unit(3, 8, s=2), unit(4, 4), nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        h = torch.cat([a, self.part(b)], 1)
        n, c, height, width = h.shape
        return self.head(
            h.view(n, 2, c // 2, height, width).transpose(1, 2).reshape(n, c, height, width)
        )


class DenseNet(nn.Module):
    """Every layer reads all before it; BatchNorm and ReLU come first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 6)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), conv(6 + 4 * i, 4))
            for i in range(3)
        )
        self.head = nn.Sequential(nn.BatchNorm2d(18), nn.ReLU(), nn.AvgPool2d(2), *head(18))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for layer in self.layers:
            h = torch.cat([h, layer(h)], 1)
        return self.head(h)


class PreActivation(nn.Module):
    """BatchNorm that no convolution absorbs, before each activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, s=2)
        self.body = nn.Sequential(nn.BatchNorm2d(8), nn.PReLU(8), conv(8, 8), nn.BatchNorm2d(8), nn.ELU(),
                                  conv(8, 8))  # fmt: skip
        self.head = nn.Sequential(nn.BatchNorm2d(8), nn.LeakyReLU(0.2), *head(8))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head(h + self.body(h))


class EfficientNet(nn.Module):
    """An inverted bottleneck with SiLU and squeeze-and-excitation by a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 6, s=2), nn.BatchNorm2d(6), nn.SiLU())
        self.expand = nn.Sequential(nn.Conv2d(6, 12, 1), nn.BatchNorm2d(12), nn.SiLU(),
                                    conv(12, 12, groups=12), nn.BatchNorm2d(12), nn.SiLU())  # fmt: skip
        self.down, self.up, self.project = (
            nn.Conv2d(12, 3, 1),
            nn.Conv2d(3, 12, 1),
            nn.Conv2d(12, 6, 1),
        )
        self.head = nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.expand(x)
        s = self.up(F.silu(self.down(h.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head(x + self.project(h * s))


def perceptron() -> nn.Module:
    """Return dense layers on pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def multi_label() -> nn.Module:
    """Return a net whose scores end in Sigmoid."""
    return nn.Sequential(unit(3, 8, s=2), conv(8, 8), nn.GELU(), *head(8), nn.Sigmoid())


STYLES = [
    Style("ts_op17_dynamic", "TorchScript, opset 17, dynamic batch; residual net", Export(resnet), peer=True),
    Style("ts_op17_static", "TorchScript, opset 17, batch pinned to 1; VGG with Dropout",
          Export(vgg, images=1, free={}), peer=True),
    Style("ts_op11_dynamic", "opset 11; VGG", Export(vgg, opset=11), peer=True),
    Style("dynamo_op20_dynamic", "dynamo, opset 20, dynamic batch; residual net",
          Export(resnet, exporter="dynamo", opset=20), peer=True),
    Style("dynamo_op18_static", "dynamo, opset 18, batch pinned to 1; VGG",
          Export(vgg, exporter="dynamo", opset=18, images=1, free={}), peer=True),
    Style("dynamo_op23", "dynamo, opset 23; depthwise convolutions",
          Export(MobileNet, exporter="dynamo", opset=23), peer=True),
    Style("ts_op20", "TorchScript, opset 20; inverted bottleneck", Export(EfficientNet, opset=20), peer=True),
    Style("ts_op9", "opset 9; residual net", Export(resnet, opset=9)),
    Style("ts_op7", "opset 7; VGG", Export(vgg, opset=7)),
    Style("external_data", "weights in a file beside the model",
          Export(vgg, exporter="dynamo", opset=20, external=True), peer=True),
    Style("symbolic_size", "symbolic height and width; residual net",
          Export(resnet, free={0: "N", 2: "H", 3: "W"}), peer=True),
    Style("dynamo_symbolic_size", "dynamo, symbolic height and width",
          Export(EfficientNet, exporter="dynamo", opset=20, free={0: "N", 2: "H", 3: "W"})),
    Style("two_outputs", "two outputs: box and class probabilities",
          Export(TwoOutputs, outputs=("box", "probabilities")), peer=True),
    Style("two_inputs", "two inputs: a picture and numbers",
          Export(TwoInputs, inputs={"image": (3, 16, 16), "numbers": (4,)}), peer=True),
    Style("siamese", "two pictures, one set of weights, their cosine",
          Export(Siamese, inputs={"left": (3, 12, 12), "right": (3, 12, 12)}, outputs=("cosine",))),
    Style("depthwise_se_hardswish", "depthwise, squeeze-and-excitation, HardSwish",
          Export(MobileNet), peer=True),
    Style("ceil_mode_globalmax_concat", "ceil_mode pooling, GlobalMaxPool, Concat",
          Export(Inception, inputs={"image": (3, 15, 15)}), peer=True),
    Style("shufflenet", "channel split and shuffle", Export(ShuffleNet)),
    Style("shufflenet_dynamo", "channel split and shuffle, dynamo",
          Export(ShuffleNet, exporter="dynamo", opset=20)),
    Style("densenet", "dense connections, BatchNorm before ReLU", Export(DenseNet)),
    Style("preactivation", "BatchNorm that stays, PReLU, ELU, LeakyReLU", Export(PreActivation)),
    Style("efficientnet", "SiLU, bottleneck", Export(EfficientNet, opset=13)),
    Style("multi_label", "scores through Sigmoid", Export(multi_label, opset=14)),
    Style("float16", "float16 weights and input; residual net",
          Export(resnet, convert=torch.float16), peer=True),
    Style("float16_dynamo", "float16, dynamo; VGG",
          Export(vgg, exporter="dynamo", opset=20, convert=torch.float16)),
    Style("float64", "double precision; dense layers (onnxruntime has no such convolution)",
          Export(perceptron, inputs={"image": (1, 8, 8)}, convert=torch.float64)),
]  # fmt: skip
