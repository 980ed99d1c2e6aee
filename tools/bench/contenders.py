"""Who is timed on a net: onnxplain, the plain forward, and what a PyTorch user would run instead."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain.methods.registry import explain
from tools.bench.nets import HEADS, LAST_MAPS, SIZE, module
from tools.bench.sessions import forward
from tools.bench.timing import Run
from tools.parity.nets import torch

FAST = ("gradient", "positive", "active", "grad_cam", "lift_cam")
SLOW = ("score_cam", "ablation_cam")
"""Hundreds or thousands of forward runs."""


def image(count: int = 1) -> np.ndarray:
    """Return seeded noise [count, 3, H, W]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)


def ours(path: Path, threads: int, slow: bool) -> Iterator[tuple[str, Run]]:
    """Yield the forward (beside fast methods) and onnxplain's methods, of one image's predicted class."""
    x = image()
    if not slow:
        yield "forward", forward(path, x, threads)
    model = ox.load(path, device="cpu", threads=threads)
    for name in SLOW if slow else FAST:
        yield name, partial(explain, model, x, name)
    if slow:
        yield (
            "active, all 1,000 classes",
            partial(ox.saliency, model, x, kind="active", classes="all"),
        )
    else:
        tree = {"depth": 3, "min_share": 0.0, "min_root_share": 0.0, "inhibitors": 0}
        yield "decompose", lambda: ox.decompose(model, x, pixels=False, **tree)


def batch(net: str, path: Path, threads: int, count: int = 16) -> Iterator[tuple[str, Run]]:
    """Yield the forward and the gradient of several images at once, by onnxplain and by PyTorch."""
    x = image(count)
    model = ox.load(path, device="cpu", threads=threads)
    native, same = module(net), torch.from_numpy(x)
    yield f"forward, {count} images", forward(path, x, threads)
    yield f"gradient, {count} images", lambda: ox.gradient(model, x)
    yield f"PyTorch autograd, {count} images", lambda: _autograd(native, same)


def peers(net: str, path: Path, slow: bool) -> Iterator[tuple[str, Run]]:
    """Yield what PyTorch's tools take for the same, on the native module and on the converted file."""
    native, x = module(net), torch.from_numpy(image())
    layer = LAST_MAPS[net](native)
    if slow:
        for kind in ("ScoreCAM", "AblationCAM"):
            yield f"grad-cam {kind}", _grad_cam(kind, native, layer, x)
        return
    yield "PyTorch forward", torch.no_grad()(lambda: native(x))
    yield "PyTorch autograd", lambda: _autograd(native, x)
    yield "captum Saliency", _captum("Saliency", native, x)
    yield "captum LayerGradCam", _captum("LayerGradCam", native, x, layer)
    usual = module(
        net
    ).requires_grad_()  # grad-cam calls .backward(), so weights must have gradients
    yield "grad-cam GradCAM", _grad_cam("GradCAM", usual, LAST_MAPS[net](usual), x)
    if net in HEADS:
        yield "captum LIFT-CAM", _lift_cam(*HEADS[net](native), x)
    try:
        converted = _converted(path)
    except Exception as error:  # the converter raises anything
        print(f"{net}: onnx2torch cannot convert it: {error}")
    else:
        yield "onnx2torch + captum Saliency", _captum("Saliency", converted, x)


def _autograd(net: Any, x: Any) -> Any:
    at = x.detach().clone().requires_grad_()
    z = net(at)
    return torch.autograd.grad(z.max(1).values.sum(), at)[0].numpy()


def _captum(kind: str, net: Any, x: Any, *layer: Any) -> Run:
    import captum.attr

    method = getattr(captum.attr, kind)(net, *layer)

    def run() -> Any:
        at = x.detach().clone().requires_grad_()
        with torch.no_grad():
            target = int(net(at).argmax())
        return method.attribute(at, target=target).detach().numpy()

    return run


def _grad_cam(kind: str, net: Any, layer: Any, x: Any) -> Run:
    import pytorch_grad_cam

    cam = getattr(pytorch_grad_cam, kind)(model=net, target_layers=[layer])
    cam.batch_size = 32

    def run() -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            return cam(input_tensor=x, targets=None)

    return run


def _lift_cam(features: Any, head: Any, x: Any) -> Run:
    """Follow the authors: features in PyTorch, captum's DeepLift on the head with a reference of zeros."""
    from captum.attr import DeepLift

    method = DeepLift(head)

    def run() -> Any:
        import warnings

        with torch.no_grad():
            maps = features(x)
            target = int(head(maps).argmax())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the hooks it sets and removes
            shares = method.attribute(maps, torch.zeros_like(maps), target=target)
        weights = shares.sum((2, 3), keepdim=True)
        return torch.relu((weights * maps).sum(1)).detach().numpy()

    return run


def _converted(path: Path) -> Any:
    import onnx
    from onnx2torch import convert

    return convert(onnx.load(path)).eval().requires_grad_(False)


def same(net: str, path: Path, threads: int, images: int = 5) -> dict[str, list[float]]:
    """Return how far onnxplain lies from PyTorch, relative to the largest value: best and worst image.

    A ReLU that rounding sends the other way moves the gradient of one image; the best tells of the rules.
    """
    native, many = module(net), image(images)
    model = ox.load(path, device="cpu", threads=threads)
    pairs = {"gradient": (ox.gradient(model, many).values, partial(_autograd, native))}
    if net in HEADS:
        lift = np.maximum(ox.cam(model, many).values, 0)
        pairs["lift_cam"] = (lift, lambda x: _lift_cam(*HEADS[net](native), x)())
    found = {}
    for name, (mine, run) in pairs.items():
        theirs = np.concatenate([run(torch.from_numpy(x[None])) for x in many])
        gaps = [
            float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(mine, theirs, strict=True)
        ]
        found[name] = [min(gaps), max(gaps)]
    return found
