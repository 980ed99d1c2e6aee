"""The two exporters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def export_net(
    net: torch.nn.Module,
    x: torch.Tensor,
    path: Path,
    outputs: Sequence[str] = ("logits",),
    exporter: str = "ts",
    opset: int | None = None,
    unfused: bool = False,
    pinned: bool = False,
) -> None:
    """Write the net with a free number of pictures unless `pinned`, above 2 GB with its weights beside it.

    exporter: "ts" (TorchScript) or "dynamo"; opset: None is the exporter's own; unfused keeps
    BatchNormalization (ts only).
    """
    options: dict[str, Any] = {} if opset is None else {"opset_version": opset}
    options |= {"input_names": ["input"], "output_names": list(outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of themselves
        if exporter == "dynamo":
            large = sum(p.numel() for p in net.parameters()) * 4 > 1.9e9
            free = None if pinned else ({0: torch.export.Dim("N")},)
            torch.onnx.export(net, (x,), path, dynamo=True, external_data=large, verbose=False,
                              dynamic_shapes=free, **options)  # fmt: skip
            return
        if unfused:
            keep = torch.onnx.TrainingMode.PRESERVE
            options |= {"training": keep, "do_constant_folding": False}
        axes = {} if pinned else {name: {0: "N"} for name in ("input", *outputs)}
        torch.onnx.export(net, (x,), str(path), dynamo=False, dynamic_axes=axes, **options)
