"""Random weights on which every rule shows: nothing constant, nothing dead.

A constant parameter hides what depends on it. Fresh nets are full of them: ViT's head is 0 (so is the
gradient), ConvNeXt's layer scales are 1e-6 (the blocks add nothing), a BatchNorm that has seen no data passes
signals that die or explode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

PICTURES, LARGE = (32, 8), 200
"""Random pictures that BatchNorm takes its statistics from: fewer of so many pixels a side."""


def enliven(net: nn.Module, size: int) -> tuple[float, float] | None:
    """Draw the constant parameters, then take BatchNorm's statistics from random pictures.

    Returns the smallest and largest standard deviation of any BatchNorm's normalised output on other
    pictures (1 is right), or None without BatchNorm.
    """
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            _draw(name, parameter)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return None

    def run() -> None:
        with torch.no_grad():
            net(random_pictures(PICTURES[size >= LARGE], size))

    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # a plain average
    run()
    spreads: list[float] = []

    def spread(norm: nn.BatchNorm2d, _: object, y: torch.Tensor) -> None:
        shape = (1, -1, 1, 1)
        spreads.append(float(((y - norm.bias.view(shape)) / norm.weight.view(shape)).std()))

    hooks = [norm.eval().register_forward_hook(spread) for norm in norms]
    run()
    for hook in hooks:
        hook.remove()
    return min(spreads), max(spreads)


def _draw(name: str, parameter: nn.Parameter) -> None:
    first = parameter.flatten()[0]
    if parameter.numel() == 1 or not bool((parameter == first).all()):
        return
    if first == 1 or "layer_scale" in name:
        parameter.uniform_(0.5, 1.5)
    elif first == 0:
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.normal_(0, spread)


def random_pictures(
    count: int, size: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Return pictures [N, 3, size, size] of noise and coarse patches.

    Pictures of noise alone look alike to the last layers, whose BatchNorm then magnifies rounding errors.
    """
    noise, patches = (torch.randn(count, 3, s, s, generator=generator) for s in (size, 4))
    return noise + F.interpolate(patches, size=(size, size), mode="bilinear")
