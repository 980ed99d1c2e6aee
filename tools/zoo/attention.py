"""Transformers and attention blocks in PyTorch."""

# ruff: noqa: D102  (`forward` is what the class computes)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.zoo.classifiers import CLASSES, conv, head, unit
from tools.zoo.exporters import Export
from tools.zoo.style import Style

WIDTH = 8


class Attention(nn.Module):
    """Attention of two heads, written out or by PyTorch's own function."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.fused = fused
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4)
        if self.fused:
            h = F.scaled_dot_product_attention(q, k, v)
        else:
            h = ((q @ k.transpose(-2, -1)) * (WIDTH // 2) ** -0.5).softmax(-1) @ v
        return self.out(h.transpose(1, 2).reshape(n, tokens, WIDTH))


class Block(nn.Module):
    """Attention and a GELU layer, each behind LayerNorm and beside a shortcut."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.attend, self.n1, self.n2 = Attention(fused), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.n1(x))
        return x + self.mlp(self.n2(x))


class ViT(nn.Module):
    """Patches, a class token, positions, a block."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls_table = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.place_table = nn.Parameter(torch.zeros(1, 17, WIDTH))
        self.block, self.norm = Block(fused), nn.LayerNorm(WIDTH)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        h = (
            torch.cat([self.cls_table.expand(tokens.shape[0], -1, -1), tokens], 1)
            + self.place_table
        )
        return self.last(self.norm(self.block(h))[:, 0])


def fused_vit() -> nn.Module:
    """Return the ViT with PyTorch's attention function."""
    return ViT(fused=True)


class Swin(nn.Module):
    """Attention inside windows, then inside shifted windows with a mask, then patch merging."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, WIDTH, 2, 2), nn.LayerNorm(WIDTH)
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.bias_table = nn.Parameter(torch.zeros(2, 16, 16))
        self.merge, self.last = nn.Linear(4 * WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        parts = torch.zeros(8, 8)
        parts[:, 6:] += 1
        parts[6:] += 2
        windows = parts.view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16)
        apart = (windows[:, :, None] != windows[:, None]).float() * -100
        self.register_buffer("mask", apart[None, :, None])

    def windows(self, h: Tensor, layer: nn.Linear, shift: int) -> Tensor:
        h = torch.roll(h, (-shift, -shift), (1, 2)) if shift else h
        n = h.shape[0]
        w = h.view(n, 2, 4, 2, 4, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(n * 4, 16, WIDTH)
        q, k, v = layer(w).reshape(n * 4, 16, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * 0.5 + self.bias_table[None]
        if shift:
            scores = (scores.view(n, 4, 2, 16, 16) + self.mask).view(n * 4, 2, 16, 16)
        w = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, 2, 2, 4, 4, WIDTH)
        h = w.permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, WIDTH)
        return torch.roll(h, (shift, shift), (1, 2)) if shift else h

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).permute(0, 2, 3, 1)
        for i, layer in enumerate(self.qkv):
            h = h + self.windows(self.norm(h), layer, 2 * i)
        quarters = [h[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.last(self.merge(torch.cat(quarters, -1)).mean((1, 2)))


class ConvNeXt(nn.Module):
    """Large depthwise kernels, LayerNorm over channels last, a scaled residual."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.depth = nn.Conv2d(3, WIDTH, 2, 2), conv(WIDTH, WIDTH, 7, groups=WIDTH)
        self.norm, self.up, self.down = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 16),
            nn.Linear(16, WIDTH),
        )
        self.scale, self.last = nn.Parameter(torch.ones(WIDTH)), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        h = self.norm(self.depth(x).permute(0, 2, 3, 1))
        h = self.scale * self.down(F.gelu(self.up(h)))
        return self.last((x + h.permute(0, 3, 1, 2)).mean((2, 3)))


class Hybrid(nn.Module):
    """A convolutional stem, PyTorch's encoder layer, and a mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(unit(3, WIDTH, s=2), conv(WIDTH, WIDTH, s=2))
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, 2, 16, 0.0, batch_first=True, norm_first=True
        )
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class Queries(nn.Module):
    """Learnt queries that read a feature map by cross-attention: classes and boxes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query_table = unit(3, WIDTH, s=4), nn.Parameter(torch.zeros(3, WIDTH))
        self.cross = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.cls, self.box = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.stem(x).flatten(2).transpose(1, 2)
        h, _ = self.cross(self.query_table.expand(memory.shape[0], -1, -1), memory, memory)
        return self.cls(h), self.box(h).sigmoid()


class Gates(nn.Module):
    """Attention over channels and positions: CBAM, efficient channel attention, a non-local block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mlp = unit(3, WIDTH, s=2), nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(),
                                                                 nn.Linear(4, WIDTH))  # fmt: skip
        self.spot, self.line = conv(2, 1, 7), nn.Conv1d(1, 1, 3, padding=1)
        self.theta, self.phi = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(WIDTH, 4, 1)
        self.head = nn.Sequential(*head(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        mean, top = h.mean((2, 3)), h.amax((2, 3))
        h = h * (self.mlp(mean) + self.mlp(top)).sigmoid()[:, :, None, None]
        h = h * self.spot(torch.cat([h.mean(1, True), h.amax(1, True)], 1)).sigmoid()
        h = h * self.line(h.mean((2, 3))[:, None]).sigmoid().transpose(1, 2)[..., None]
        share = torch.einsum(
            "ncp,ncq->npq", self.theta(h).flatten(2), self.phi(h).flatten(2)
        ).softmax(-1)
        return self.head(h + torch.einsum("npq,ncq->ncp", share, h.flatten(2)).view(h.shape))


STYLES = [
    Style("vit", "vision transformer", Export(ViT), peer=True),
    Style("vit_op14", "vision transformer, opset 14: LayerNorm written out",
          Export(ViT, opset=14)),
    Style("vit_static", "vision transformer, batch pinned", Export(ViT, images=1, free={})),
    Style("vit_dynamo", "vision transformer, dynamo, PyTorch's attention function",
          Export(fused_vit, exporter="dynamo", opset=20)),
    Style("vit_attention_op", "vision transformer with the Attention operator of opset 23",
          Export(fused_vit, exporter="dynamo", opset=23)),
    Style("swin", "shifted windows with a mask", Export(Swin), peer=True),
    Style("swin_dynamo", "shifted windows, dynamo, batch pinned",
          Export(Swin, exporter="dynamo", opset=20, images=1, free={})),
    Style("convnext", "large kernels, LayerNorm over channels last", Export(ConvNeXt)),
    Style("hybrid", "convolutional stem, PyTorch's encoder layer", Export(Hybrid)),
    Style("queries", "detection by queries and cross-attention",
          Export(Queries, outputs=("classes", "boxes"))),
    Style("gates", "CBAM, channel attention by Conv1d, non-local block with Einsum", Export(Gates)),
]  # fmt: skip
