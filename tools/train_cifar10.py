"""Rebuild models/: train the CIFAR-10 network, export it, quantise it, cut the photos, list all.

    python tools/train_cifar10.py --shared ../shared            everything, in this order
    python tools/train_cifar10.py --shared ../shared photos manifest

A training that was stopped goes on after its last whole epoch. Needs the extra `test` (PyTorch)
and scikit-image, whose wheel holds the photos. Takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cifar10_bundle as bundle
import cifar10_training
import torch

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("train", "export", "quantize", "photos", "manifest")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (all)")
    shared = Path(os.environ.get("ONNXPLAIN_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder that holds data/images")
    parser.add_argument("--out", type=Path, default=ROOT / "models", help="where the files go")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "out/train_cifar10.pt")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    if unknown := set(chosen.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    if not (chosen.shared / "data/images").is_dir():
        parser.error(f"no data/images in {chosen.shared}: give --shared or set ONNXPLAIN_SHARED")
    return chosen


def main() -> None:
    """Run the chosen steps in their order."""
    chosen = arguments()
    shared, models, checkpoint = chosen.shared, chosen.out, chosen.checkpoint
    torch.set_num_threads(chosen.threads)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    (models / "samples").mkdir(parents=True, exist_ok=True)
    steps = {
        "train": lambda: cifar10_training.train(shared, checkpoint),
        "export": lambda: bundle.export(checkpoint, models),
        "quantize": lambda: bundle.quantize(shared, models),
        "photos": lambda: bundle.photos(models),
        "manifest": lambda: bundle.manifest(shared, models),
    }
    for name, step in steps.items():
        if name in (chosen.steps or STEPS):
            step()


if __name__ == "__main__":
    main()
