"""Compare input gradients of torchvision networks, exported and explained here, with PyTorch's in float64.

    python -m tools.parity                                       every net, TorchScript exporter, 224 px
    python -m tools.parity --nets resnet18,convnext_tiny --exporter dynamo --inputs 5 --size 224
    python -m tools.parity --batchnorm initial --unfused

Weights are random. A single ReLU that takes another side in float32 than in float64 costs a right gradient
up to some 1 % on one input and nothing on the next, so several inputs are judged: the best tells whether
the rules are right (<= 1e-5), the worst must stay small (<= 3e-2): "ok". In deep nets at 224 px every input
has such flips. There the comparison is repeated with PyTorch in float64 made to choose, at every ReLU and
MaxPool, as onnxruntime did: on all inputs within 1e-5 it is "ok but for flips". Else "FAILED", exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

import onnxplain as ox

NETS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "vgg11": {},
    "squeezenet1_1": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "densenet121": {},
    "shufflenet_v2_x0_5": {},
    "efficientnet_b0": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "convnext_tiny": {},
}
BEST, WORST = 1e-5, 3e-2


@dataclass(frozen=True)
class Parity:
    """Relative L2 errors of one net's gradients, an entry per input, and of its logits.

    `same_sides` are the errors where PyTorch chooses as onnxruntime did; None if not needed.
    """

    net: str
    errors: tuple[float, ...]
    same_sides: tuple[float, ...] | None
    forward: float

    @property
    def verdict(self) -> str:
        """Say "ok", "ok but for flips" or "FAILED"."""
        if passed(self.errors):
            return "ok"
        flips = self.same_sides is not None and max(self.same_sides) <= BEST
        return "ok but for flips" if flips else "FAILED"

    def __str__(self) -> str:
        """Return the net's line of the table."""
        best, middle, worst = min(self.errors), float(np.median(self.errors)), max(self.errors)
        sides = "        -" if self.same_sides is None else f"{max(self.same_sides):9.1e}"
        figures = f"{best:9.1e} {middle:9.1e} {worst:9.1e} {sides} {self.forward:9.1e}"
        return f"{self.net:20} {figures}  {self.verdict}"


def passed(errors: tuple[float, ...]) -> bool:
    """Return whether the best input shows right rules and the worst stays small."""
    return min(errors) <= BEST and max(errors) <= WORST


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(NETS), help="names, by commas (all)")
    parser.add_argument("--exporter", choices=("ts", "dynamo"), default="ts")
    parser.add_argument("--opset", type=int, help="of the export (the exporter's own)")
    parser.add_argument("--inputs", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batchnorm", choices=("measured", "initial"), default="measured",
                        help="running statistics: of random pictures, or 0 and 1")  # fmt: skip
    parser.add_argument("--unfused", action="store_true", help="keep BatchNormalization (ts only)")
    chosen = parser.parse_args()
    names = chosen.nets.split(",")
    if unknown := set(names) - set(NETS):
        parser.error(f"no such net: {', '.join(sorted(unknown))}; there are {', '.join(NETS)}")
    export = {"exporter": chosen.exporter, "opset": chosen.opset, "unfused": chosen.unfused}
    titles = ("best", "median", "worst", "no flips", "forward")
    print(f"{'net':20}", *(f"{title:>9}" for title in titles), flush=True)
    failed = 0
    for name in names:
        net = make(name, chosen.size, measured=chosen.batchnorm == "measured")
        found = compare(name, net, chosen.inputs, chosen.size, **export)
        failed += found.verdict == "FAILED"
        print(found, flush=True)
    return 1 if failed else 0


def make(name: str, size: int, measured: bool = True) -> torch.nn.Module:
    """Return a torchvision net with seeded random weights, in evaluation mode.

    measured: let BatchNorm take its statistics from random pictures, so that signals neither die nor explode.
    """
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("none"))
    import torchvision

    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None, **NETS[name])
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if measured and norms:
        for norm in norms:
            norm.momentum = None  # a plain average
        with torch.no_grad():
            net.train()(torch.randn(8, 3, size, size))
    return net.eval()


def compare(name: str, net: torch.nn.Module, inputs: int, size: int, **export: Any) -> Parity:
    """Export, explain each input's predicted class here and in PyTorch (float64), and compare."""
    x = torch.randn(inputs, 3, size, size, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export_net(net, x[:2], path, **export)
        model = ox.load(path, device="cpu")
    net, exact = net.double(), x.double()
    z, expected = gradients(net, exact)
    target = z.argmax(1)
    logits = model.predict(x.numpy()).logits
    found = ox.gradient(model, x.numpy(), target=target).values
    errors = tuple(map(relative, found, expected))
    sides = None
    if not passed(errors):
        forced = [gradients_on_sides(net, one[None], model) for one in exact]
        sides = tuple(map(relative, found, forced))
    return Parity(name, errors, sides, relative(logits, z))


def export_net(
    net: torch.nn.Module,
    x: torch.Tensor,
    path: Path,
    exporter: str = "ts",
    opset: int | None = None,
    unfused: bool = False,
) -> None:
    """Write the net with a free number of images."""
    options: dict[str, Any] = {} if opset is None else {"opset_version": opset}
    names = {"input_names": ["input"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of themselves
        if exporter == "dynamo":
            free = ({0: torch.export.Dim("N")},)
            torch.onnx.export(net, (x,), path, dynamo=True, external_data=False, verbose=False,
                              dynamic_shapes=free, **names, **options)  # fmt: skip
            return
        if unfused:
            keep = torch.onnx.TrainingMode.PRESERVE
            options |= {"training": keep, "do_constant_folding": False}
        free = {"input": {0: "N"}, "logits": {0: "N"}}
        torch.onnx.export(net, (x,), str(path), dynamo=False, dynamic_axes=free, **names, **options)


def gradients(net: torch.nn.Module, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and the gradient of each image's highest logit, by PyTorch."""
    logits, found = [], []
    for one in x:
        one = one[None].clone().requires_grad_()
        z = net(one)
        found.append(torch.autograd.grad(z.max(), one)[0].numpy())
        logits.append(z.detach().numpy())
    return np.concatenate(logits), np.concatenate(found)


class Side(torch.autograd.Function):
    """A clamp to 0..top whose gradient passes where `passes` says."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, passes: torch.Tensor, top: float) -> torch.Tensor:
        """Clamp."""
        ctx.save_for_backward(passes)
        return v.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Pass what may pass."""
        return g * ctx.saved_tensors[0], None, None


def gradients_on_sides(net: torch.nn.Module, x: torch.Tensor, model: ox.Model) -> np.ndarray:
    """Return the float64 gradient of one image with each ReLU and MaxPool choosing as onnxruntime does.

    A tensor of the net is the one of the file that has its shape and lies nearest. Only what is compared may
    be an output: asking for a convolution's would undo its fusion, and with that change the rounding.
    """
    compared = ("Relu", "Clip", "Concat", "MaxPool")
    made_by = {layer.name: layer.op for layer in model.layers if layer.op in compared}
    taken = model.values({model.graph.source.name: x.float().numpy()}, list(made_by))
    rectified = [a for name, a in taken.items() if made_by[name] in ("Relu", "Clip")]
    max_pool = F.max_pool2d

    def twin(v: torch.Tensor, among: Iterable[np.ndarray]) -> torch.Tensor:
        here = v.detach().numpy()
        same = [a for a in among if a.shape == here.shape]
        return torch.from_numpy(min(same, key=lambda a: float(np.abs(a - here).max())))

    def rectifier(top: float) -> Callable[..., torch.Tensor]:
        def rectify(v: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            y = twin(v.clamp(0, top), rectified)
            return Side.apply(v, (y > 0) & (y < top), top)

        return rectify

    def pool(v: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        at = max_pool(twin(v, taken.values()), *args, **{**kwargs, "return_indices": True})[1]
        return v.flatten(2).gather(2, at.flatten(2)).reshape(at.shape)

    chosen = {"relu": rectifier(np.inf), "relu6": rectifier(6), "hardtanh": rectifier(6)}
    with mock.patch.multiple(F, **chosen, max_pool2d=pool):
        return gradients(net, x)[1][0]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Return |found - expected| / |expected|, Euclidean."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    sys.exit(main())
