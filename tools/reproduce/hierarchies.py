"""Do the channels that a hierarchy (gAP) names matter? (Cheng et al., IJCV 2023; formulas ours)

    python -m tools.reproduce.hierarchies --images 60 --write docs/results.md

For each image the tree of the predicted class (top 3 channels, three layers). Deleting the tree's K channels
of a layer: share of the logit's rise z(A) - z(0) that is lost, beside as many random channels (mean of 5
draws), the most active on average and those of the largest mean gradient; keeping them alone: the share that
is reached. Edges: how much of a node's activation is lost without its children, beside random ones. noise:
Jaccard index of the tree's channels under noise of 2 % of the image's spread; shuffled: with the tree of the
model with all weights shuffled. docs/hierarchy-results.md has more baselines, medians and wrong answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import onnxplain as ox
from onnxplain.dataset import Batch, Job, Partial
from onnxplain.metrics.statistics import interval, paired
from onnxplain.metrics.tables import short
from onnxplain.render.report import Table
from tools import hierarchies as measuring
from tools.reproduce.common import (
    BUNDLED,
    chosen,
    load,
    markdown,
    options,
    pictures,
    provenance,
    publish,
    run,
)

Array = np.ndarray[Any, Any]
MODELS = (
    BUNDLED,
    "cifar10/resnet20.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "imagenet/squeezenet1_1_torchvision.onnx",
)
COLUMNS = ("delete: tree", "random", "most active", "gradient", "keep: tree", "keep: random",
           "edge: children", "edge: random", "noise", "shuffled")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trees(Job):
    """Per image, layer and column a number; NaN where a tree does not reach that far."""

    name: ClassVar[str] = "trees"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        """Return the rows of a batch, [n, layers, columns]."""
        model, depth = models[0], measuring.TREE["depth"]
        rows = np.full((len(batch.numbers), depth, len(COLUMNS)), np.nan)
        for row, x, digest in zip(rows, batch.x, batch.digests, strict=True):
            tree = ox.decompose(model, x[None], **measuring.TREE)
            rng = np.random.default_rng(int(digest))
            noise = rng.normal(0, measuring.NOISE * float(x.std()), x.shape).astype(x.dtype)
            target = tree.root.channel
            noisy = ox.decompose(model, (x + noise)[None], target, **measuring.TREE)
            other = ox.decompose(model.shuffled(), x[None], target, **measuring.TREE)
            for level in range(1, len(tree.layers) + 1):
                if tree.level(level):
                    at = measuring.Measured()
                    measuring.delete(model, x[None], tree, level, at, rng)
                    measuring.edges(model, x[None], tree, level, at, rng)
                    row[level - 1] = [
                        *(at.drop[r][0] for r in measuring.RIVALS[:4]),
                        *(at.keep[r][0] for r in measuring.RIVALS[:2]),
                        *(np.mean(at.edge[r] or np.nan) for r in measuring.RIVALS[:2]),
                        measuring.jaccard(tree, noisy, level),
                        measuring.jaccard(tree, other, level),
                    ]
        return {"rows": rows}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the rows of both."""
        return {"rows": np.concatenate([a["rows"], b["rows"]])}

    def key(self) -> Any:
        """Return the settings."""
        return [measuring.TREE, measuring.NOISE, measuring.DRAWS, COLUMNS]


def main() -> None:
    """Print and write the section."""
    given = options(__doc__, 60).parse_args()
    names = chosen(MODELS, given.files)
    models = [load(name, given.threads) for name in names]
    lines, won = provenance(models), defaultdict[str, list[str]](list)
    lines += [
        "Shares of the rise of the logit, means and intervals; noise and shuffled: Jaccard.",
        "",
    ]
    for name, model in zip(names, models, strict=True):
        found = run(given.cache).over(pictures(name, given.images), model, Trees()).partial["rows"]
        rows = []
        for level in range(found.shape[1]):
            here = found[:, level]
            rows.append((f"{level + 1}", *(_cell(here[:, k]) for k in range(len(COLUMNS)))))
            for rival, k in (("random", 1), ("most active", 2), ("gradient", 3)):
                won[rival].append(_compared(here[:, 0], here[:, k]))
            won["random, edges"].append(_compared(here[:, 6], here[:, 7]))
        columns = ("layer from the top", *COLUMNS)
        lines += markdown(Table(columns, tuple(rows), f"{name}, images: {len(found)}"))
    lines += ["### Verdict", ""]
    for rival, verdicts in won.items():
        known = [v for v in verdicts if v]
        counted = ", ".join(f"{known.count(v)} {v}" for v in ("better", "not told apart", "worse"))
        lines.append(f"- The tree's channels against {rival}: {counted} (of {len(known)} layers).")
    publish("hierarchies", "Do the channels that a hierarchy names matter?", lines, given.write)


def _cell(values: Array) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    mean, low, high = map(short, interval(known))
    return f"{mean} [{low}, {high}]"


def _compared(a: Array, b: Array) -> str:
    """Say whether a is better than b by a paired test at p < 0.05."""
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return ""
    if paired(a[both], b[both]) >= 0.05:
        return "not told apart"
    return "better" if a[both].mean() > b[both].mean() else "worse"


if __name__ == "__main__":
    main()
