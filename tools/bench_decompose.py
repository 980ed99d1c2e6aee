"""Time a decomposition against the plain forward and against autograd called once per node.

    python -m tools.bench_decompose                     ResNet-50 with random weights, 4 levels, top 3
    python -m tools.bench_decompose --net vgg16 --rounds 9

Per round every contender runs once, in turn; printed are medians and their ratios to the forward. The
PyTorch side is the same algorithm written with `torch.autograd.grad`: one forward that keeps the graph of
every segment, then one backward call per node (what hooks on a module lead to). Both pick their own children.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onnxplain as ox
from tools.bench.timing import interleaved
from tools.parity.nets import classifier

STAGES: dict[str, Callable[[Any], list[Callable[[torch.Tensor], torch.Tensor]]]] = {
    "resnet50": lambda m: [
        torch.nn.Sequential(m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2),
        m.layer3,
        m.layer4,
        torch.nn.Sequential(m.avgpool, torch.nn.Flatten(), m.fc),
    ],
    "vgg16": lambda m: [
        m.features[:16],
        m.features[16:23],
        m.features[23:30],
        torch.nn.Sequential(m.features[30], m.avgpool, torch.nn.Flatten(), m.classifier),
    ],
}
"""A net's segments, bottom to top, cut after the last layer of each of the three lowest resolutions."""


def torch_tree(
    stages: list[Callable[[torch.Tensor], torch.Tensor]], x: torch.Tensor, top_k: int
) -> list[list[int]]:
    """Return the channels of every level of the "path" tree, in order, by one autograd call per node."""
    with torch.no_grad():
        value = stages[0](x)
    inputs, outputs = [], []
    for stage in stages[1:]:
        at = value.detach().requires_grad_()
        value = stage(at)
        inputs.append(at)
        outputs.append(value)
    seed = torch.zeros_like(outputs[-1])
    seed[0, outputs[-1].argmax()] = 1
    frontier, levels = [seed], []
    for at, out in zip(reversed(inputs), reversed(outputs), strict=True):
        below, channels = [], []
        for node in frontier:
            (g,) = torch.autograd.grad(out, at, node, retain_graph=True)
            c = (g * at.detach()).sum((0, 2, 3))
            for k in c.argsort(descending=True)[:top_k].tolist():
                child = torch.zeros_like(g)
                child[:, k] = g[:, k]
                below.append(child)
                channels.append(k)
        frontier = below
        levels.append(channels)
    return levels


def main() -> None:
    """Export the net, check that both sides find the same channels, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--net", choices=sorted(STAGES), default="resnet50")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--device", default="cpu", choices=["cpu", "cuda"], help="of onnxplain alone"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    net = classifier(args.net, 224).module
    image = torch.randn(1, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            net, (image,), str(path), dynamo=False, input_names=["x"], output_names=["z"]
        )
        model = ox.load(path, device=args.device, threads=args.threads)
    x, stages = image.numpy(), STAGES[args.net](net)
    every: dict[str, Any] = {"min_share": 0.0, "min_root_share": 0.0, "inhibitors": 0, "depth": 3}

    def tree(top_k: int, pixels: bool = False) -> ox.Hierarchy:
        return ox.decompose(model, x, top_k=top_k, pixels=pixels, max_nodes=10_000, **every)

    found = [[n.channel for n in tree(3).level(i)] for i in (1, 2, 3)]
    theirs = torch_tree(stages, image, 3)
    same = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(found, theirs, strict=True)]
    print(
        f"{args.net}, {len(tree(3))} nodes; channels shared with PyTorch, by level (Jaccard): {same}"
    )
    contenders: dict[str, Callable[[], Any]] = {
        "forward": lambda: model.values({model.graph.source.name: x}, (model.graph.logit.tensor,)),
        "tree, top 3": lambda: tree(3),
        "tree and pixels": lambda: tree(3, pixels=True),
        "PyTorch, top 3": lambda: torch_tree(stages, image, 3),
        **{f"tree, top {k}": (lambda k=k: tree(k)) for k in (1, 2, 4, 5)},
    }
    medians = interleaved(contenders, args.rounds)
    nodes = {k: len(tree(k)) for k in (1, 2, 3, 4, 5)}
    for name, ms in medians.items():
        count = nodes.get(int(name[-1])) if name.startswith("tree, top") else None
        counted = "" if count is None else f"  ({count} nodes)"
        print(f"{name:18} {ms:9.1f} ms  {ms / medians['forward']:6.2f} forwards{counted}")
    print(f"PyTorch / onnxplain: {medians['PyTorch, top 3'] / medians['tree, top 3']:.2f}")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
