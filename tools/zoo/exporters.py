"""PyTorch's two exporters, for nets with random weights whose activations stay alive."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from tools.zoo.style import Arrays, Sample, picture, strip

Free = Mapping[int, str]


@dataclass(frozen=True)
class Export:
    """How a net is written: `write(path)` makes the file.

    `inputs`: shape of one image by name, with as many images as `images`. `free`: axes left open, by axis.
    `convert`: the net's number type; `external`: weights beside the file.
    """

    net: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"image": (3, 16, 16)})
    outputs: Sequence[str] = ("logits",)
    exporter: str = "TorchScript"
    opset: int = 17
    images: int = 2
    free: Free = field(default_factory=lambda: {0: "N"})
    convert: torch.dtype = torch.float32
    external: bool = False

    def __call__(self, path: Path) -> Sample:
        """Write the file; return its inputs and PyTorch's answer."""
        x = {k: picture(self.images, *s, seed=i) for i, (k, s) in enumerate(self.inputs.items())}
        net = alive(self.net, [torch.from_numpy(v) for v in x.values()]).to(self.convert)
        arrays = {k: v.astype(_numpy(self.convert)) for k, v in x.items()}
        return self.write(net, arrays, path)

    def write(self, net: nn.Module, x: Arrays, path: Path) -> Sample:
        """Export a net at given inputs."""
        torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel that no exporter knows
        tensors = tuple(torch.from_numpy(v) for v in x.values())
        options: dict[str, Any] = {
            "input_names": list(x), "output_names": list(self.outputs), "opset_version": self.opset,
        }  # fmt: skip
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporters warn of themselves
            if self.exporter == "dynamo":
                free = [dict.fromkeys(self.free, torch.export.Dim.DYNAMIC) for _ in x]
                options |= {"dynamo": True, "verbose": False, "external_data": self.external}
                options |= {"dynamic_shapes": tuple(free) if self.free else None}
                torch.onnx.export(net, tensors, path, **options)
            else:
                free_axes = {name: dict(self.free) for name in x}
                free_axes |= {name: {0: "N"} for name in self.outputs if 0 in self.free}
                options |= {"dynamo": False, "dynamic_axes": free_axes if self.free else None}
                torch.onnx.export(net, tensors, str(path), **options)
            y = net(*tensors)
        strip(path)
        found = y if isinstance(y, tuple) else (y,)
        answers = {k: v.numpy() for k, v in zip(self.outputs, found, strict=True)}
        opset = next(o.version for o in onnx.load(path, load_external_data=False).opset_import)
        maker = f"PyTorch {torch.__version__.split('+')[0]}, {self.exporter}, opset {opset}"
        return Sample(x, answers, maker)


def alive(make: Callable[[], nn.Module], x: Sequence[torch.Tensor]) -> nn.Module:
    """Return a net with seeded weights, in evaluation mode.

    Biases and norms are drawn, BatchNorm's statistics measured, and all rounded to a few bits, so that no
    activation is dead and no parameter trivial.
    """
    torch.manual_seed(0)
    net = make()
    for name, value in net.named_parameters():
        if value.ndim > 1:
            fan = value[0].numel() if "table" not in name else 1
            nn.init.normal_(value, std=float(np.sqrt(1.6 / fan)))
        elif name.endswith("bias"):
            nn.init.normal_(value, std=0.2)
        else:
            nn.init.uniform_(value, 0.6, 1.4)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # a plain average
    with torch.no_grad():
        if norms:
            net.train()(*x)
        for value in net.parameters():
            value.copy_(torch.round(value * 2048) / 2048)
    return net.eval().requires_grad_(False)


def _numpy(kind: torch.dtype) -> np.dtype[Any]:
    return np.dtype(torch.zeros((), dtype=kind).numpy().dtype)
