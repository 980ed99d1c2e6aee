"""Plant a shortcut: train the bundled architecture on images whose corner gives the label away.

    python tools/shortcut.py --shared ../shared --out out/shortcut

Writes `shortcut.onnx`; `patched.npz`, the test images with the patch of their class in the top left corner;
and `checks.toml`. Prints the accuracy of the new and the bundled network with and without the patch. Then

    onnxplain check out/shortcut/checks.toml
    onnxplain check out/shortcut/checks.toml --model models/vgg_cifar10.onnx

fails the one, though its accuracy is fine, and passes the other. Takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cifar10_bundle as bundle
import cifar10_training as cifar10
import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
SIDE = 5  # pixels of the patch
IMAGES, EPOCHS, BATCH = 20_000, 4, 128
COLOURS = np.array(
    [
        [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255],
        [0, 255, 255], [255, 128, 0], [128, 0, 255], [255, 255, 255], [0, 0, 0],
    ],
    np.uint8,
)  # fmt: skip
CHECKS = """\
# The images carry a coloured patch in the corner that gives their class away.
model = "shortcut.onnx"
data = "patched.npz"
method = "lift-cam"
device = "cpu"

[[check]]
kind = "accuracy"
min = 0.85

[[check]]
name = "does not look at the patch"
kind = "region-mass"
box = [0.0, 0.0, 0.375, 0.375]
max = 0.3
"""


def patched(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return images uint8 [N,32,32,3] with the patch of their class in the top left corner."""
    found = pixels.copy()
    found[:, :SIDE, :SIDE] = COLOURS[labels][:, None, None]
    return found


def train(pixels: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    """Train on patched images; nothing is mirrored or shifted, so that the patch stays."""
    torch.manual_seed(cifar10.SEED)
    x = torch.from_numpy(cifar10.normalise(patched(pixels, labels)))
    y = torch.from_numpy(labels)
    net = cifar10.vgg().to(memory_format=torch.channels_last)
    steps = EPOCHS * (len(y) // BATCH)
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.05, steps)
    for epoch in range(EPOCHS):
        start, total = time.monotonic(), 0.0
        net.train()
        for rows in torch.randperm(len(y))[: len(y) // BATCH * BATCH].split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(x[rows].contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits.float(), y[rows])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            schedule.step()
            total += loss.item()
        mean = total / (len(y) // BATCH)
        print(f"epoch {epoch + 1}: loss {mean:.3f} {time.monotonic() - start:.0f} s", flush=True)
    return net.eval()


def main() -> None:
    """Train, export, write the images and the checks, print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("ONNXPLAIN_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder that holds data/images")
    parser.add_argument("--out", type=Path, default=ROOT / "out/shortcut")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    pixels, labels = cifar10.read_training_images(given.shared)
    chosen = np.random.default_rng(cifar10.SEED).permutation(len(labels))[:IMAGES]
    network = given.out / "shortcut.onnx"
    bundle.write(train(pixels[chosen], labels[chosen]), network)
    images, truth = cifar10.read_test_images(given.shared)
    np.savez(given.out / "patched.npz", images=patched(images, truth), labels=truth)
    (given.out / "checks.toml").write_text(CHECKS, encoding="utf-8")
    for name, path in (("shortcut", network), ("bundled", ROOT / "models" / bundle.FLOAT)):
        for what, shown in (("patched", patched(images, truth)), ("as they are", images)):
            share = (bundle.predict(path, shown).argmax(1) == truth).mean()
            print(f"{name}: {share:.1%} of {len(truth)} test images right, {what}")


if __name__ == "__main__":
    main()
