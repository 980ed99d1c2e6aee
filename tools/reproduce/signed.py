"""Do signed maps find the pixels that blackening and whitening change? (Llorente et al., 2023)

    python -m tools.reproduce.signed --images 200 --large 100 --write docs/results.md

Their benchmark: the top share p of a map's pixels becomes black or white, allegiance(p) is the share of
images whose answer stays, AUC its area for p from 0 to 0.9 (lower: the map finds what matters). Their claim:
with the matched colour (black for positive and active, white for negative and inactive) a signed map lies
below the absolute one, with the other colour above it, in all 16 + 16 cells of their tables (4 + 4 per net).
Theirs beside ours: other networks and images, so the order is to be compared and not the numbers. "random"
takes pixels away in a random order. "exhausted": the share of pixels that a map marks at all; beyond it
nothing more is taken away and the curve is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np

import onnxplain as ox
from onnxplain.dataset import Batch, Job, Partial
from onnxplain.methods.saliency import Kind
from onnxplain.metrics import Answers, Case
from onnxplain.metrics.curves import SHARES, allegiance_curve, area
from onnxplain.metrics.statistics import interval, paired
from onnxplain.metrics.tables import short
from onnxplain.render.report import Table
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
    "cifar10/resnet56_dynamo.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "imagenet/squeezenet1_1_torchvision.onnx",
)
KINDS = (*get_args(Kind), "random")
FILLS = ("black", "white")
MATCHED = {"black": ("positive", "active"), "white": ("negative", "inactive")}
THEIRS = {  # AUC in drafts of the paper, six networks: the columns of the table below
    "black": {
        "absolute": ".23 .23 .24 .26 .28 .49",
        "positive": ".14 .11 .12 .14 .21 .37",
        "active": ".15 .11 .16 .14 .24 .39",
    },
    "white": {
        "absolute": ".21 .22 .21 .23 .26 .46",
        "negative": ".14 .12 .11 .18 .20 .37",
        "inactive": ".15 .12 .14 .16 .23 .42",
    },
}


@dataclass(frozen=True, eq=False)
class Allegiance(Job):
    """Per image, kind and colour the curve, bool [n, 6, 2, 13]; per kind the share of pixels marked."""

    name: ClassVar[str] = "allegiance"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        """Return the rows of a batch."""
        answers = Answers(models[0], batch.x)
        random = np.random.default_rng(0).random((1, *answers.size))
        curves, marked = [], []
        for kind in KINDS:
            if kind == "random":
                maps = np.repeat(random, len(answers), 0)
            else:
                maps = ox.saliency(
                    answers.model, answers.feeds, answers.classes, kind=kind
                ).heatmap()
            case = Case(answers, maps)
            curves.append(np.stack([allegiance_curve(case, fill) for fill in FILLS], axis=1))
            marked.append((maps > 0).mean((1, 2)))
        return {"curves": np.stack(curves, axis=1), "marked": np.stack(marked, axis=1)}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the rows of both."""
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    def key(self) -> Any:
        """Return the settings."""
        return [KINDS, FILLS, SHARES]


def main() -> None:
    """Print and write the section."""
    parser = options(__doc__, 200)
    parser.add_argument("--large", type=int, default=100, help="images of the ImageNet models")
    given = parser.parse_args()
    names = chosen(MODELS, given.files)
    models = [load(name, given.threads) for name in names]
    lines, cells, chance = provenance(models), list[tuple[str, bool, bool]](), list[str]()
    lines += [
        "Area under the allegiance curve (lower: the map finds what matters), mean and interval.",
        "",
    ]
    for name, model in zip(names, models, strict=True):
        count = given.large if name.startswith("imagenet") else given.images
        found = run(given.cache).over(pictures(name, count), model, Allegiance()).partial
        lines += markdown(_table(name, found))
        cells += _cells(name, found)
        chance.append(_beside_chance(name, found))
    lines += ["### The same in the paper", ""]
    rows = tuple(
        (f"{fill}: {kind}", *values.split())
        for fill, kinds in THEIRS.items()
        for kind, values in kinds.items()
    )
    columns = (
        "AUC",
        "CIFAR CNN",
        "CIFAR R18",
        "Imagenette CNN",
        "R18",
        "R18 pre",
        "ConvNeXt-T pre",
    )
    lines += markdown(Table(columns, rows, "Llorente et al., drafts of the paper"))
    lines += ["### Verdict", "", *_verdict(cells), *chance]
    publish("signed", "Do signed maps find what black and white pixels change?", lines, given.write)


def areas(found: Partial, kind: str, fill: str) -> Array:
    """Return the area per image of one kind and colour."""
    curve = found["curves"][:, KINDS.index(kind), FILLS.index(fill)]
    return area(curve.astype(np.float64), np.array(SHARES, np.float64))


def _table(name: str, found: Partial) -> Table:
    rows = []
    for e, kind in enumerate(KINDS):
        cells = [" ".join(_interval(areas(found, kind, fill))) for fill in FILLS]
        flat = [_flat(found["curves"][:, e, f].mean(0)) for f in range(len(FILLS))]
        rows.append((kind, *cells, f"{found['marked'][:, e].mean():.0%}", *flat))
    columns = (
        "map",
        "black ↓",
        "white ↓",
        "exhausted at",
        "flat from (black)",
        "flat from (white)",
    )
    return Table(columns, tuple(rows), f"{name}, images: {len(found['curves'])}")


def _interval(values: Array) -> tuple[str, str]:
    mean, low, high = map(short, interval(values))
    return mean, f"[{low}, {high}]"


def _flat(curve: Array) -> str:
    """Return the share of pixels from which the mean curve stays within a hundredth of its end."""
    away = np.flatnonzero(np.abs(curve - curve[-1]) > 0.01)
    return f"{SHARES[away[-1] + 1 if len(away) else 0]:.0%}"


def _cells(name: str, found: Partial) -> list[tuple[str, bool, bool]]:
    """Return for each signed map and colour: its name, whether they match, whether it lies as claimed."""
    cells = []
    for fill in FILLS:
        absolute = areas(found, "absolute", fill)
        for kind in ("positive", "negative", "active", "inactive"):
            mine, matched = areas(found, kind, fill), kind in MATCHED[fill]
            difference = mine.mean() - absolute.mean()
            p = paired(mine, absolute)
            words = f"{name}, {kind} {fill} {difference:+.3f} (p {p:.2g})"
            cells.append((words, matched, bool(difference < 0) == matched and difference != 0))
    return cells


def _beside_chance(name: str, found: Partial) -> str:
    """Say how each map with its own colour stands beside pixels in random order."""
    said = []
    for fill, kinds in MATCHED.items():
        random = areas(found, "random", fill)
        for kind in ("absolute", *kinds):
            mine = areas(found, kind, fill)
            p = paired(mine, random)
            word = (
                "not told apart"
                if p >= 0.05
                else "below"
                if mine.mean() < random.mean()
                else "above"
            )
            said.append(f"{kind} {fill} {word} (p {p:.2g})")
    return f"- {name}, beside a random order: {', '.join(said)}."


def _verdict(cells: list[tuple[str, bool, bool]]) -> list[str]:
    lines = []
    for matched, where in (
        (True, "matched pairs below absolute"),
        (False, "mismatched pairs above"),
    ):
        mine = [c for c in cells if c[1] == matched]
        held = sum(c[2] for c in mine)
        against = "; ".join(c[0] for c in mine if not c[2])
        lines.append(
            f"- {where}: {held} of {len(mine)} cells" + (f"; not: {against}." if against else ".")
        )
    return lines


if __name__ == "__main__":
    main()
