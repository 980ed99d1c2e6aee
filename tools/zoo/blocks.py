"""One kind of layer in all its forms per net, in PyTorch."""

# ruff: noqa: D102  (`forward` is what the class computes)

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.zoo.classifiers import conv, head
from tools.zoo.exporters import Export
from tools.zoo.style import Style


class Norms(nn.Module):
    """A convolution before each normalisation; `rms` adds the one that TorchScript cannot write."""

    def __init__(self, rms: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList([
            nn.BatchNorm2d(6), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True), nn.LocalResponseNorm(3),
            nn.LayerNorm([8, 8]), nn.GroupNorm(1, 6, affine=False), *([nn.RMSNorm([8, 8])] if rms else []),
        ])  # fmt: skip
        self.convs = nn.ModuleList(conv(6, 6, groups=3) for _ in self.norms)
        self.stem, self.head = conv(3, 6, s=2), nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for norm, layer in zip(self.norms, self.convs, strict=True):
            h = torch.tanh(norm(layer(h))) + h
        h = F.normalize(h, dim=1) + F.normalize(h, p=1, dim=3)
        std, mean = torch.std_mean(h, (2, 3), keepdim=True)
        return self.head((h - mean) / (std + 0.1) + h.logsumexp(1, keepdim=True))


class Functions(nn.Module):
    """Every activation function, one channel group each."""

    names = ("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
             "logsigmoid", "mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign",
             "tanhshrink", "sigmoid", "tanh")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.slope = conv(3, len(self.names) + 8, s=2), nn.PReLU()
        self.head = nn.Sequential(*head(len(self.names) + 8))

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * self.stem(x)
        maps = [getattr(F, name)(h[:, i : i + 1]) for i, name in enumerate(self.names)]
        a, b, c, d, e, f, g, i = h[:, len(self.names) :].split(1, 1)
        tanh_gelu, quick_gelu = F.gelu(a, approximate="tanh"), b * torch.sigmoid(1.702 * b)
        powers = [self.slope(c), F.threshold(d, 0.0, 0.0), F.glu(torch.cat([e, f], 1), 1)]
        more = [
            torch.exp(-g.square()),
            torch.atan(i),
            torch.log1p(i.abs()),
            torch.sin(f) * torch.cos(e),
        ]
        rows = torch.cat([*maps, tanh_gelu, quick_gelu, *powers, *more[:3]], 1)
        return self.head(rows + more[3])


class Convs(nn.Module):
    """Convolutions: grouped, dilated, of uneven strides, kernels and padding, circular."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 4, 1, 2, groups=3), nn.ReLU(), nn.Conv2d(6, 6, 3, 1, 2, dilation=2, groups=2),
            nn.Tanh(), nn.Conv2d(6, 6, (1, 5), (1, 2), (0, 2)), nn.Conv2d(6, 8, (5, 1), (3, 1), (1, 0)),
            nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), nn.Sigmoid(),
            nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(8, 8, 3, 2, bias=False), nn.Tanh(), *head(8),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Pools(nn.Module):
    """Pooling: dilated, padded, unevenly strided, in ceil mode, adaptive, of powers, over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.a = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, dilation=1), nn.AvgPool2d((2, 3), (1, 2), (1, 1))
        )
        self.b = nn.Sequential(
            nn.MaxPool2d(2, 1, 1, dilation=2), nn.AvgPool2d((3, 2), 2, (1, 0), ceil_mode=True)
        )
        self.c = nn.LPPool2d(2, 3, 2)
        self.head = nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        a, b, c = self.a(h), self.b(h), self.c(h.exp())
        quarters = F.adaptive_avg_pool2d(h, 2)[..., 0, 1], F.adaptive_max_pool2d(h, 2)[..., 1, 0]
        rows = [a.amax(2).mean(2), b.mean(3).amin(2), c.sum((2, 3)) / 64, *quarters]
        return self.head(torch.cat(rows, 1))


class Volumes(nn.Module):
    """Three-dimensional convolutions over five slices."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(1, 4, 3, 1, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def signal() -> nn.Module:
    """Return one-dimensional convolutions."""
    return nn.Sequential(
        nn.Conv1d(2, 6, 5, 2, 2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(6, 8, 3), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


class Indexing(nn.Module):
    """Slices, steps, flips, gathers, stacks, masks, sorts: what code between layers is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 6, s=2), nn.Linear(6 * 4 * 4, 5)
        self.register_buffer("order", torch.tensor([3, 0, 5, 1, 4, 2]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h[:, self.order] + h.flip(3)
        h = torch.where(h > 0, h, 0.3 * h) + torch.triu(h) + h.cumsum(2) / 8
        low, high = torch.minimum(h, h.mean((1, 2, 3), True)), torch.maximum(h, -h)
        h = torch.stack([low, high], -1).amax(-1)[:, :, 1:, ::2]
        top = h.flatten(2).topk(3, 2).values.mean(2)
        rows = F.pad(h[:, :, ::2], (0, 0, 0, 0)).clamp(-1, 2)
        rows = (rows + top[:, :, None, None]).masked_fill(rows.abs() < 0.02, 0.5)
        return self.last(
            rows.repeat(1, 1, 1, 1).flatten(1) / (1 + rows.square().sum((1, 2, 3)).sqrt()[:, None])
        )


STYLES = [
    Style("norms", "Batch, Group, Instance, Layer, local response norms and norms by hand",
          Export(partial(Norms, rms=False))),
    Style("norms_op23", "the same and RMSNorm, dynamo, opset 23 (GroupNormalization, RMSNormalization)",
          Export(Norms, exporter="dynamo", opset=23)),
    Style("functions", "28 activation functions, GELU in three forms", Export(Functions)),
    Style("functions_dynamo", "28 activation functions, dynamo",
          Export(Functions, exporter="dynamo", opset=20)),
    Style("convolutions", "grouped, dilated, uneven, circular", Export(Convs)),
    Style("pools", "dilated, padded, uneven, adaptive, of powers", Export(Pools)),
    Style("pools_dynamo", "the same pools, dynamo", Export(Pools, exporter="dynamo", opset=20)),
    Style("volumes", "three dimensions", Export(Volumes, inputs={"scan": (1, 5, 8, 8)})),
    Style("signal", "one dimension", Export(signal, inputs={"signal": (2, 40)})),
    Style("indexing", "slices, flips, masks, TopK, cumulative sums", Export(Indexing)),
    Style("indexing_dynamo", "the same, dynamo", Export(Indexing, exporter="dynamo", opset=20)),
]  # fmt: skip
