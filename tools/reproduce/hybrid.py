"""What layers already predict, and which filters matter. (Yang et al., AI 2023; formulas ours)

    python -m tools.reproduce.hybrid --images 100 --write docs/results.md

Layer by layer: how often a linear readout of the layer's mean features, fitted to the model's own logits on
other images, decides as the model does (agreement), and the share of images decided from that layer on
(decision depth). Removal: the filters of the default layer are replaced by 0, the most important first, the
least first (those whose absence raises the logit come before all), and in random order, importance being
measured on other images. Over the share removed: how many images keep their answer, the probability and the
logit of the class, as areas, with intervals over blocks of ten images, which are run apart.
tools/layerwise.py has R2, ridges and the other modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain.metrics.statistics import interval, paired
from onnxplain.metrics.tables import short
from onnxplain.render.report import Table
from tools.layerwise import cifar, imagenet
from tools.reproduce.common import (
    BUNDLED,
    chosen,
    load,
    markdown,
    options,
    provenance,
    publish,
    run,
)

Array = np.ndarray[Any, Any]
MODELS = (
    BUNDLED,
    "cifar10/resnet20.onnx",
    "cifar10/resnet56_dynamo.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
)
BLOCK = 10
LEFT = ("agreement", "probability", "logit")


def main() -> None:
    """Print and write the section."""
    parser = options(__doc__, 100)
    parser.add_argument("--references", type=int, default=5000, help="CIFAR-10 images to fit to")
    parser.add_argument("--measured", type=int, default=100, help="images to measure importance on")
    given = parser.parse_args()
    names = chosen(MODELS, given.files)
    models = [load(name, given.threads) for name in names]
    lines, verdict = provenance(models), list[str]()
    for name, model in zip(names, models, strict=True):
        data = imagenet() if name.startswith("imagenet") else cifar(given.references)
        references, (images, labels) = data
        asked = (images[: given.images], labels[: given.images])
        readouts = ox.fit_readouts(model, references, run=run(given.cache, 32))
        found = ox.layer_agreement(model, asked, readouts, run=run(given.cache, 32))
        shares = [_share(a, found.images) for a in found.agreement]
        decided = found.depth[:-1] / found.images
        rows = [
            (layer, share, f"{depth:.0%}", "–" if r2 is None else f"{r2:.2f}")
            for layer, share, depth, r2 in zip(
                found.layers, shares, decided, readouts.r2, strict=True
            )
        ]
        caption = f"{name}, images: {found.images}, references: {readouts.images}"
        columns = ("layer", "agreement", "decided from here on", "R2 of the readout")
        lines += markdown(Table(columns, tuple(rows), caption))
        rises = np.all(np.diff(found.agreement) >= -0.02)
        verdict.append(
            f"- {name}: agreement {'rises' if rises else 'does not rise steadily'} from "
            f"{found.agreement[0]:.0%} to {found.agreement[-1]:.0%}; {_depths(found)}"
        )
        measured, blocks = _removed(model, references, asked, given.measured, given.cache)
        lines += markdown(_removal_table(name, model, measured, blocks))
        verdict.append(
            "  Areas against a random order (below 0: gone sooner), the most important removed first: "
            + "; ".join(f"{what} {_against(blocks[:, i], 0)}" for i, what in enumerate(LEFT))
            + ". The least important first: "
            + "; ".join(f"{what} {_against(blocks[:, i], 1)}" for i, what in enumerate(LEFT))
            + "."
        )
    lines += ["### Verdict", "", *verdict]
    publish("hybrid", "What layers already predict, and which filters matter", lines, given.write)


def _removed(
    model: ox.Model, references: Any, asked: Any, count: int, cache: Any
) -> tuple[int, Array]:
    """Return how many images importance was measured on, and areas [blocks, what is left, order], 3 x 3."""
    images, labels = references
    some = np.linspace(0, len(labels) - 1, count).astype(int)  # they may be sorted by class
    spread = images[some] if isinstance(images, np.ndarray) else [images[i] for i in some]
    found = ox.filter_importance(
        model, (spread, labels[some]), [model.layer(None)], run=run(cache, 32)
    )
    areas = []
    for begin in range(0, len(asked[1]), BLOCK):
        block = tuple(part[begin : begin + BLOCK] for part in asked)
        curves = ox.removal_curves(model, block, found.layers[0], run=run(cache, BLOCK))
        areas.append([curves.areas(c) for c in (None, curves.probability, curves.score)])
    return found.images, np.stack(areas)


def _removal_table(name: str, model: ox.Model, measured: int, blocks: Array) -> Table:
    layer = model.layer(None)
    ways = ("most important first", "least important first", "random")
    rows = [
        (way, *(_interval(blocks[:, what, order]) for what in range(3)))
        for order, way in enumerate(ways)
    ]
    caption = (
        f"{name}, {layer.name} ({layer.channels} filters), importance from {measured} images, "
        f"removal on {len(blocks)} blocks of {BLOCK}"
    )
    columns = ("filters removed", "area under agreement", "under probability", "under logit")
    return Table(columns, tuple(rows), caption)


def _against(blocks: Array, way: int) -> str:
    """Compare the areas [blocks, 3] of an order with those of the random one."""
    difference = (blocks[:, way] - blocks[:, 2]).mean()
    return f"{difference:+.3f} (p {paired(blocks[:, way], blocks[:, 2]):.2g})"


def _depths(found: Any) -> str:
    """Say whether images that are decided late are more often wrong."""
    if found.depth_labelled is None or found.depth_correct is None:
        return "no labels."
    middle = found.median_depth
    parts: list[str] = []
    for words, where in (("up to", slice(0, middle + 1)), ("after", slice(middle + 1, None))):
        count, right = int(found.depth_labelled[where].sum()), int(found.depth_correct[where].sum())
        if count:
            parts.append(f"{_share(right / count, count)} of those decided {words} it")
    at = found.layers[min(middle, len(found.layers) - 1)]
    return f"the median image is decided at {at}; right are {', '.join(parts)}."


def _share(share: float, count: int) -> str:
    """Return a share of images with its interval."""
    values = np.zeros(count)
    values[: round(share * count)] = 1
    return _interval(values)


def _interval(values: Sequence[float] | Array) -> str:
    mean, low, high = map(short, interval(np.asarray(values, float)))
    return f"{mean} [{low}, {high}]"


if __name__ == "__main__":
    main()
