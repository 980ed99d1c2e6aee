"""Measure what the layers of real networks already predict: agreement, decision depth, how far to trust it.

    python -m tools.layerwise                     every network, 10,000 references for CIFAR-10 (minutes)
    python -m tools.layerwise --files resnet20 --references 2000
    python -m tools.layerwise --counts            the bundled VGG by the number of references
    python -m tools.layerwise --modes             the bundled VGG in the modes without references

CIFAR-10: readouts are fitted to training images (JPEG), chosen by a fixed seed, and asked about the 483
test images at exact pixel values. ImageNet: fitted to 400 of the 500 sample images, asked about the others.
"""

from __future__ import annotations

import argparse
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

import onnxplain as ox
from onnxplain import bundled
from onnxplain.dataset import Run
from onnxplain.predictions_files import agreement_notes, agreement_table, write_agreement
from onnxplain.results import LayerAgreement
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, samples

Data = tuple[Any, Any]
FILES = [
    "vgg_cifar10.onnx",
    "cifar10/resnet20.onnx",
    "cifar10/resnet56_dynamo.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
]
FIXED = 1e-3
"""A ridge for all layers, to compare with."""


def main() -> int:
    """Print a table per network; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default="", help="parts of file names, by commas (all)")
    parser.add_argument("--references", type=int, default=10_000, help="CIFAR-10 images to fit to")
    parser.add_argument("--counts", action="store_true", help="the VGG by number of references")
    parser.add_argument("--modes", action="store_true", help="the VGG, masked or with few filters")
    parser.add_argument("--out", type=Path, help="folder for records and plots")
    chosen = parser.parse_args()
    if not (SHARED / "data").is_dir():
        parser.error(f"no data in {SHARED}: set ONNXPLAIN_SHARED")
    if chosen.counts:
        by_count()
        return 0
    if chosen.modes:
        by_mode()
        return 0
    for file in FILES:
        if any(part in file for part in chosen.files.split(",")):
            measure(file, chosen.references, chosen.out)
    return 0


def measure(file: str, count: int, out: Path | None) -> None:
    """Fit readouts of one network, ask them, and print what they say."""
    model = load(file)
    references, asked = imagenet() if file.startswith("imagenet") else cifar(count)
    with TemporaryDirectory() as cache:
        run = Run(cache=cache)
        readouts = ox.fit_readouts(model, references, run=run)
        fixed = ox.fit_readouts(model, references, ridge=FIXED, run=run)  # answered by the cache
    found = ox.layer_agreement(model, asked, readouts)
    other = ox.layer_agreement(model, asked, fixed)
    print(f"\n{file}: {readouts.images} references, {readouts.held_out} held out")
    print("\n".join(agreement_table(found).lines()))
    print("\n".join(agreement_notes(found)))
    print(f"ridges: {' '.join(f'{r:g}' for r in readouts.ridges)}")
    for name, a in (("chosen", found), (f"{FIXED:g}", other)):
        print(f"ridge {name}: R2 {numbers(a.r2)}; agreement {numbers(a.agreement)}", flush=True)
    if out is not None:
        write_agreement(found, out / Path(file).stem)


def by_count() -> None:
    """Print R2 and agreement of the bundled VGG's layers by the number of references."""
    model = load(FILES[0])
    for count in (100, 300, 1000, 3000, 10_000, 50_000):
        references, asked = cifar(count)
        readouts = ox.fit_readouts(model, references)
        found: LayerAgreement = ox.layer_agreement(model, asked, readouts)
        print(
            f"{count:6}  R2 {numbers(found.r2)}; agreement {numbers(found.agreement)}", flush=True
        )


def by_mode() -> None:
    """Print how often the bundled VGG decides alike when masked, or with a layer's strongest filters."""
    model = load(FILES[0])
    references, (images, _) = cifar(10_000)
    readouts = ox.fit_readouts(model, references)
    x = model.read(images)
    options: list[dict[str, Any]] = [{"mode": "masked", "baseline": b} for b in ("blur", "mean")]
    for keep in (0.1, 0.25, 0.5, 0.75):
        options.append({"mode": "keep", "keep": keep})
        options.append({"mode": "keep", "keep": keep, "baseline": "mean", "references": readouts})
    for asked in options:
        found = ox.layer_predictions(model, x, **asked)
        what = " ".join(str(v) for k, v in asked.items() if k != "references")
        print(f"{what:18} agreement {numbers(found.agrees.mean(1))}", flush=True)


def numbers(values: Any) -> str:
    """Write some numbers to two digits."""
    return " ".join("-" if v is None else f"{v:.2f}" for v in values)


def load(file: str) -> ox.Model:
    """Return a network with its pre-processing."""
    if file not in REAL_MODELS:
        return ox.load(bundled.model_path(file))
    row = REAL_MODELS[file]
    return ox.load(row.path(SHARED), preprocess=row.pre, labels=row.labels)


def cifar(count: int) -> tuple[Data, Data]:
    """Return some training images, and the lossless test images, with their classes."""
    images = SHARED / "data" / "images"
    train, test = (
        np.load(images / f"cifar10_{name}.npz") for name in ("train_jpeg", "test_lossless")
    )
    data, offsets, labels = train["jpeg"], train["offsets"], train["labels"]
    places = np.sort(np.random.default_rng(0).permutation(len(labels))[:count])
    pixels = [
        np.asarray(Image.open(BytesIO(data[offsets[i] : offsets[i + 1]].tobytes()))) for i in places
    ]
    return (np.stack(pixels), labels[places]), (test["images"], test["labels"])


def imagenet() -> tuple[Data, Data]:
    """Return four fifths of the sample images, and the others, with their classes."""
    paths, labels = samples("imagenet", SHARED)
    asked = np.arange(len(labels)) % 5 == 0
    parts = [
        ([str(p) for p, a in zip(paths, asked, strict=True) if a == which], labels[asked == which])
        for which in (False, True)
    ]
    return parts[0], parts[1]


if __name__ == "__main__":
    sys.exit(main())
