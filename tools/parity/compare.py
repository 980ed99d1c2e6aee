"""Export a net, explain it here and in PyTorch (float64), and compare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onnxplain as ox
from tools.parity.alive import random_pictures
from tools.parity.export import export_net
from tools.parity.nets import Net, Question, Score
from tools.parity.sides import own_run, sides_of

BEST, WORST = 1e-5, 3e-2
ROUNDING, ROUNDED = 3, 1e-4
"""Rounding is up to so many times the error of PyTorch's own float32, and up to so much."""

Errors = tuple[float, ...]


@dataclass(frozen=True)
class Parity:
    """Relative L2 errors of one net's gradients, an entry per input, and of its outputs.

    `same_sides` are the errors where PyTorch chooses as onnxruntime did, `float32` is the best of PyTorch's
    own in float32; None if not needed. `refused` is the error where there was no gradient to compare.
    `alive`: see `enliven`.
    """

    net: str
    exporter: str
    parameters: int
    size: int
    alive: tuple[float, float] | None
    target: str
    errors: Errors = ()
    same_sides: Errors | None = None
    float32: float | None = None
    forward: float = float("nan")
    refused: str | None = None

    @property
    def verdict(self) -> str:
        """Say "ok", "ok but for flips", "ok but for rounding", "refused" or "FAILED"."""
        if self.refused is not None:
            return "refused"
        if passed(self.errors):
            return "ok"
        worst = max(self.same_sides or self.errors)
        if worst <= BEST:
            return "ok but for flips"
        rounding = self.float32 is not None and worst <= min(ROUNDING * self.float32, ROUNDED)
        return "ok but for rounding" if rounding else "FAILED"


def passed(errors: Errors) -> bool:
    """Return whether the best input shows right rules and the worst stays small."""
    return min(errors) <= BEST and max(errors) <= WORST


def compare(net: Net, inputs: int, exporter: str = "ts", **export: Any) -> Iterator[Parity]:
    """Yield what was found for each of the net's questions. The net is in float64 afterwards.

    inputs: the number of random pictures; export: options of `export_net`.
    """
    x = random_pictures(inputs, net.size, torch.Generator().manual_seed(1))
    row = partial(Parity, net.name, exporter, net.parameters, net.size, net.alive)
    try:
        model = _exported(net, x, exporter=exporter, **export)
    except ox.OnnxplainError as error:
        yield from (row(str(question), refused=str(error)) for question in net.questions)
        return
    module, exact = net.module.double(), x.double()
    forward = _forward_error(model, module, exact, net.outputs)
    for question in net.questions:
        try:
            ours = ox.gradient(model, x.numpy(), target=question.target).values
        except ox.OnnxplainError as error:
            yield row(str(question), refused=str(error).removeprefix(f"{model.name}: "))
        else:
            yield row(str(question), *_measured(model, module, exact, question, ours), forward)


def _exported(net: Net, x: torch.Tensor, **export: Any) -> ox.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{net.name}.onnx"
        first = x[: 1 if net.pinned else 2]
        export_net(net.module, first, path, net.outputs, pinned=net.pinned, **export)
        return ox.load(path, device="cpu", threads=1)


def _forward_error(
    model: ox.Model, module: torch.nn.Module, x: torch.Tensor, outputs: Sequence[str]
) -> float:
    """Return the largest error of any picture's outputs, of those that can be explained."""
    worst = 0.0
    for one in x:
        with torch.no_grad():
            exact = dict(zip(outputs, _outputs(module(one[None])), strict=True))
        fitted, feeds = model.fit(one[None].float().numpy())
        tensors = {logit.output: logit.tensor for logit in fitted.graph.logits}
        found = fitted.values(feeds, list(tensors.values()))
        worst = max(worst, *(relative(found[t][0], exact[k].numpy()) for k, t in tensors.items()))
    return worst


def _measured(
    model: ox.Model, module: torch.nn.Module, x: torch.Tensor, question: Question, ours: np.ndarray
) -> tuple[Errors, Errors | None, float | None]:
    """Return `errors`, `same_sides` and `float32` of a row."""
    score = question.score
    exact = [gradient(module, one, score) for one in x]
    errors = tuple(map(relative, ours, exact))
    if passed(errors):
        return errors, None, None
    sides = []
    for one in x:
        found, chosen = own_run(model, one[None].float().numpy(), question.target)
        with sides_of(chosen):
            sides.append(relative(found, gradient(module, one, score)))
    theirs = [gradient(module.float(), one.float(), score) for one in x]
    module.double()
    return errors, tuple(sides), min(map(relative, theirs, exact))


def gradient(module: torch.nn.Module, x: torch.Tensor, score: Score) -> np.ndarray:
    """Return the gradient of a score of one picture [3, H, W], by PyTorch."""
    x = x.clone().requires_grad_()
    value = score(_outputs(module(x[None])))
    return torch.autograd.grad(value, x)[0].numpy()


def _outputs(found: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the outputs of one picture, without the axis of pictures."""
    return [z[0] for z in ([found] if isinstance(found, torch.Tensor) else found)]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Return |found - expected| / |expected|, Euclidean."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
