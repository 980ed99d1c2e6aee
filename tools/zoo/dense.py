"""Nets whose output is a map or a list of boxes, and embeddings, in PyTorch."""

# ruff: noqa: D102  (`forward` is what the class computes)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.zoo.classifiers import CLASSES, conv, unit
from tools.zoo.exporters import Export
from tools.zoo.style import Style


class UNet(nn.Module):
    """Down and up again, once by ConvTranspose and once by Resize, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = unit(3, 4), unit(4, 6), unit(6, 6)
        self.up, self.d = nn.ConvTranspose2d(6, 6, 2, 2), unit(12, 6)
        self.e, self.last = unit(10, 4), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up(c), b], 1))
        up = F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(self.e(torch.cat([up, a], 1)))


class Pyramid(nn.Module):
    """Dilated convolutions side by side, a pooled branch, and a bilinear map of the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 8, s=2)
        self.branches = nn.ModuleList(conv(8, 4, dilation=d) for d in (1, 2, 3))
        self.pooled, self.last = nn.Conv2d(8, 4, 1), nn.Conv2d(16, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        mean = F.interpolate(self.pooled(h.mean((2, 3), True)).relu(), h.shape[2:], mode="nearest")
        joined = torch.cat([*(branch(h).relu() for branch in self.branches), mean], 1)
        return F.interpolate(self.last(joined), x.shape[2:], mode="bilinear", align_corners=True)


class Yolo(nn.Module):
    """A raw head: boxes, objectness and classes of every anchor of two grids, [N, anchors, 5 + classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = unit(3, 8, s=2), unit(8, 8, s=2)
        self.heads = nn.ModuleList(nn.Conv2d(8, 2 * (5 + CLASSES), 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        rows = []
        for stride, head, h in zip((2, 4), self.heads, (fine, self.down(fine)), strict=True):
            n, height, width = h.shape[0], int(h.shape[2]), int(h.shape[3])
            y, z = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            grid = torch.stack([z, y], -1).float()
            p = head(h).view(n, 2, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2)
            place = (p[..., :2].sigmoid() * 2 - 0.5 + grid) * stride
            extent = (p[..., 2:4].sigmoid() * 2) ** 2 * stride
            rows.append(torch.cat([place, extent, p[..., 4:].sigmoid()], -1).flatten(1, 3))
        return torch.cat(rows, 1)


class Style1(nn.Module):
    """Picture to picture: reflection padding, InstanceNorm, nearest up-sampling, Tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(2), nn.Conv2d(3, 6, 5), nn.InstanceNorm2d(6, affine=True), nn.ReLU(),
            conv(6, 8, s=2), nn.InstanceNorm2d(8), nn.ReLU(), nn.UpsamplingNearest2d(scale_factor=2),
            nn.ReplicationPad2d(1), nn.Conv2d(8, 3, 3), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def super_resolution() -> nn.Module:
    """Return convolutions and PixelShuffle."""
    return nn.Sequential(conv(3, 8, 5), nn.Tanh(), conv(8, 12), nn.PixelShuffle(2))


class Autoencoder(nn.Module):
    """Transposed convolutions: grouped, dilated, with output padding; bicubic up-sampling; PixelUnshuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), conv(12, 8), nn.SELU(),
            nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1, groups=2), nn.SELU(),
            nn.ConvTranspose2d(8, 4, 3, 1, 2, dilation=2), nn.Softplus(),
            nn.Upsample(scale_factor=2, mode="bicubic"), nn.Conv2d(4, 1, 3, 2, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Embedding(nn.Module):
    """A vector of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            unit(3, 8, s=2), conv(8, 8), nn.ReLU6(), nn.AvgPool2d(8), nn.Flatten()
        )
        self.last = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.last(self.maps(x)))


def regression() -> nn.Module:
    """Return a net with a single number as its output."""
    return nn.Sequential(
        unit(3, 8, s=2), conv(8, 4), nn.Softsign(), nn.Flatten(), nn.Linear(256, 1)
    )


class Keypoints(nn.Module):
    """Heat maps whose soft argmax gives coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(unit(3, 8, s=2), conv(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.maps(x)
        share = h.flatten(2).softmax(-1).view(h.shape)
        place = torch.linspace(0, 1, 8)
        return torch.stack([(share.sum(2) * place).sum(-1), (share.sum(3) * place).sum(-1)], -1)


class Warped(nn.Module):
    """A spatial transformer: the picture is sampled where a small net says."""

    def __init__(self) -> None:
        super().__init__()
        looks = (conv(3, 4, s=2), nn.Tanh(), nn.AvgPool2d(3), nn.Flatten())
        self.where = nn.Sequential(*looks, nn.Linear(16, 6))
        self.maps = nn.Sequential(
            unit(3, 6, s=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)
        )

    def theta(self, x: Tensor) -> Tensor:
        return self.where(x).view(-1, 2, 3) * 0.2 + torch.tensor([[1.0, 0, 0], [0, 1, 0]])

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x)
        y, z = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij")
        points = torch.stack([z, y, torch.ones_like(z)], -1).view(1, 144, 3)
        grid = (points @ theta.transpose(1, 2)).view(-1, 12, 12, 2)
        return self.maps(F.grid_sample(x, grid, align_corners=True))


class WarpedMaps(Warped):
    """The same by PyTorch's own affine_grid, on feature maps that the net has made already."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.theta(x), x.size(), align_corners=False)
        seen = F.grid_sample(self.stem(x), grid, padding_mode="reflection", align_corners=False)
        return self.maps(seen)


SMALL = {"image": (3, 12, 12)}

STYLES = [
    Style("unet", "U-Net with Resize and ConvTranspose", Export(UNet, inputs=SMALL), peer=True),
    Style("unet_dynamo", "U-Net, dynamo", Export(UNet, inputs=SMALL, exporter="dynamo", opset=20)),
    Style("dilated_pyramid", "segmentation: dilated branches, bilinear with align_corners", Export(Pyramid)),
    Style("dilated_pyramid_dynamo", "segmentation with symbolic height and width, dynamo",
          Export(Pyramid, exporter="dynamo", opset=20, free={0: "N", 2: "H", 3: "W"})),
    Style("yolo_head", "detection: raw boxes and scores", Export(Yolo, inputs=SMALL, outputs=("boxes",)),
          peer=True),
    Style("yolo_head_dynamo", "detection, dynamo, batch pinned",
          Export(Yolo, inputs=SMALL, outputs=("boxes",), exporter="dynamo", opset=18, images=1,
                 free={})),
    Style("style_transfer", "InstanceNorm, reflection padding, up-sampling",
          Export(Style1, outputs=("picture",))),
    Style("super_resolution", "PixelShuffle",
          Export(super_resolution, outputs=("picture",), inputs={"image": (3, 8, 8)})),
    Style("autoencoder", "ConvTranspose: groups, dilation, output_padding; bicubic; PixelUnshuffle",
          Export(Autoencoder, outputs=("map",), inputs=SMALL)),
    Style("embedding", "a vector of length one", Export(Embedding, outputs=("vector",))),
    Style("regression", "a single number", Export(regression, outputs=("age",))),
    Style("keypoints", "soft argmax over heat maps", Export(Keypoints, outputs=("points",))),
    Style("spatial_transformer", "GridSample", Export(Warped, inputs=SMALL)),
    Style("affine_grid", "AffineGrid and GridSample, batch pinned",
          Export(WarpedMaps, inputs=SMALL, opset=20, images=1, free={})),
]  # fmt: skip
