"""How far the importance of filters can be trusted, on real models: the tables of docs/interpreter.md.

    python -m tools.filter_figures [--limit 200]

Per layer: Spearman's rho between first-order and exact effects, and what is left on average over a removal
curve, the most important first, in random order, and the least important first, for score, probability and
agreement with the prediction. Real models and images are found through ONNXPLAIN_SHARED (default ../shared).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import onnxplain as ox
from onnxplain import bundled
from onnxplain.dataset import Run, open_data
from onnxplain.results.filters import spearman
from tools.bench_data import CIFAR, First

SHARED = Path(os.environ.get("ONNXPLAIN_SHARED", "../shared")) / "data"
LOSSLESS = SHARED / "images/cifar10_test_lossless.npz"
PHOTOS = SHARED / "images/imagenet_sample_labels.csv"
CASES: list[tuple[Path, Any, Path, int, int]] = [
    (bundled.model_path(), None, LOSSLESS, 483, 3),
    (SHARED / "models/cifar10/resnet20.onnx", CIFAR, LOSSLESS, 483, 3),
    (SHARED / "models/cifar10/resnet56_dynamo.onnx", CIFAR, LOSSLESS, 483, 3),
    (SHARED / "models/imagenet/squeezenet1_1_torchvision.onnx", "imagenet", PHOTOS, 60, 1),
    (SHARED / "models/imagenet/mobilenet_v2_torchvision_float.onnx", "imagenet", PHOTOS, 60, 1),
]
"""File, pre-processing, data, number of images, and of how many of the last resolutions the last layer."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=483, help="images, at most")
    parser.add_argument("--cache", default=None, help="folder that keeps what was found")
    given = parser.parse_args()
    run = Run(cache=given.cache)
    print(
        "| model | images | layer | filters | base | first order ~ exact | score: most, random, least "
        "| probability | agreement | best < random < worst |\n" + "|---" * 10 + "|"
    )
    for path, settings, source, count, levels in CASES:
        model = ox.load(path, device="cpu", preprocess=settings)
        data = First(open_data(source), min(count, given.limit))
        layers = [layer.name for layer in model.graph.levels[:levels]]
        for base in ("zero", "mean"):
            exact = ox.filter_importance(model, data, layers, "exact", base, run)  # type: ignore[arg-type]
            first = ox.filter_importance(model, data, layers, "first_order", base, run)  # type: ignore[arg-type]
            for layer in exact.layers:
                curves = ox.removal_curves(model, data, layer, run=run)
                means = [
                    curves.areas(c) for c in (curves.score, curves.probability, curves.agreement)
                ]
                shown = [", ".join(f"{m[i]:.3g}" for i in (0, 2, 1)) for m in means]
                ordered = ["yes" if m[0] < m[2] < m[1] else "no" for m in means]
                rho = spearman(layer.effect, first[layer.layer].effect)
                print(
                    f"| {path.name} | {len(data)} | {layer.layer} | {len(layer.effect)} | {base} "
                    f"| {rho:.2f} | {' | '.join(shown)} | {', '.join(ordered)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
