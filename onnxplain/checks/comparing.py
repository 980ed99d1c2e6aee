"""Explanation drift between two files, over data of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from onnxplain.checks import agree
from onnxplain.checks.match import at_layers, matched
from onnxplain.checks.seen import MODEL, PREDICTED, REFERENCE, Asked, Seen, View
from onnxplain.dataset import Batch, Data, Job, Partial, Run, open_data
from onnxplain.errors import InputError
from onnxplain.methods.registry import method_name
from onnxplain.model import Model, load
from onnxplain.results.comparison import Comparison

ROLES = (REFERENCE, MODEL)
"""Of A and B."""
OPTIONS = {"share": 0.1}

MEASURES = {
    "logit_difference": agree.logit_difference,
    "rank_correlation": agree.rank_correlation,
    "top_overlap": agree.top_overlap,
    "ssim": agree.ssim,
    "centre_shift": agree.centre_shift,
}


@dataclass(frozen=True, eq=False)
class Comparing(Job):
    """A row per image: both classes, and each measure."""

    asked: Asked
    classify: bool
    devices: tuple[str, ...] = ()

    name: ClassVar[str] = "compare"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Measure a batch."""
        view = View(Seen(dict(zip(ROLES, models, strict=True)), batch), self.asked, OPTIONS)
        found = {"numbers": batch.numbers, "names": np.array(batch.names)}
        if self.classify:
            found |= {
                f"classes_{f}": view.prediction(r).classes for f, r in zip("ab", ROLES, strict=True)
            }
        chosen = (n for n in MEASURES if self.classify or n != "logit_difference")
        return found | {name: MEASURES[name](view) for name in chosen}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """List the images of both."""
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    def key(self) -> Any:
        """Return what maps are compared, and where: one file on two devices is a comparison too."""
        return [asdict(self.asked), self.classify, self.devices]


def compare(
    model_a: Model | str | Path,
    model_b: Model | str | Path,
    data: Data,
    method: str = "lift_cam",
    *,
    target: str | int = PREDICTED,
    layer: str | None = None,
    run: Run | None = None,
) -> Comparison:
    """Compare what two files predict and how they explain it, image by image.

    Each image is read for each file by that file's own pre-processing. method: any of `registry.METHODS`; its
    heat maps in 0..1 are compared, A's brought to B's size. target: what both explain: "predicted" (by A),
    "label", a class, or as typed at a terminal. layer: of class activation maps, in either file; by default
    A's default layer. Its counterpart in the other file is found by name, else by shape and activation.
    run: how to pass over the data.

    Raises InputError (no data, different numbers of classes), ConfigError, LayerError, TargetError.
    """
    a, b = (m if isinstance(m, Model) else load(m) for m in (model_a, model_b))
    if a.classes != b.classes:
        raise InputError(
            f"{a.name} has {a.classes or 'no'} classes, {b.name} {b.classes or 'no'}: not the same question"
        )
    source = open_data(data, a.spec.is_picture)
    pairs = matched(a, b, source)
    asked = Asked(method_name(method), str(target), {} if layer is None else {MODEL: layer})
    asked = at_layers(asked, a, pairs, b)
    for role, model in zip(ROLES, (a, b), strict=True):
        if asked.layers.get(role) is not None:
            model.layer(asked.layers[role])
    job = Comparing(asked, a.classes is not None, (a.executor.device, b.executor.device))
    found = (run or Run()).over(source, (a, b), job)
    rows = dict(found.partial)
    names = tuple(rows.pop("names").tolist())
    return Comparison(
        names=names,
        labels=a.labels,
        layers=tuple(vars(p) for p in pairs),
        meta=a.meta(
            "compare",
            other={"model": Path(b.name).name, "sha256": b.sha256},
            maps=asked.method,
            target=asked.target,
            layer=dict(asked.layers),
            **found.meta,
        ),
        **rows,
    )


def view_of(models: tuple[Model, Model], comparison: Comparison, batch: Batch) -> View:
    """Return a view of a batch by which its maps can be drawn."""
    meta: Mapping[str, Any] = comparison.meta
    asked = Asked(meta["maps"], meta["target"], meta["layer"])
    return View(Seen(dict(zip(ROLES, models, strict=True)), batch), asked, OPTIONS)
