"""Train the bundled architecture for a few epochs and export it after some of them: material to monitor.

    python tools/checkpoints.py --out out/checkpoints
    onnxplain monitor out/checkpoints/*.onnx --data DATA

12,000 of the CIFAR-10 training images (as JPEG), two minutes on two free cores. The real images are found
through ONNXPLAIN_SHARED (default ../shared).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cifar10_bundle as bundle
import cifar10_training as cifar10
import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
IMAGES, EPOCHS = 12_000, 8
AFTER = (1, 2, 4, 6, 8)
"""Epochs after which the network is exported."""


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out/checkpoints")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ.get("ONNXPLAIN_SHARED", ROOT.parent / "shared"))
    torch.manual_seed(cifar10.SEED)
    pixels, labels = cifar10.read_training_images(shared)
    chosen = np.random.default_rng(cifar10.SEED).permutation(len(labels))[:IMAGES]
    x = torch.from_numpy(cifar10.normalise(pixels[chosen]))
    y = torch.from_numpy(labels[chosen])
    net = cifar10.vgg().to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(y) // cifar10.BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.15, EPOCHS * steps, pct_start=0.25)
    for epoch in range(1, EPOCHS + 1):
        loss = cifar10.train_epoch(net, sgd, schedule, x, y, epoch)
        if epoch in AFTER:
            path = out / f"epoch{epoch}.onnx"
            bundle.write(net.eval(), path)
            print(f"{path}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
