"""What is asked of a picture, and the answer: no network here, only onnxplain's own functions."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxplain.errors import InputError, OnnxplainError
from onnxplain.explain import draw, drawn
from onnxplain.hierarchy import Hierarchy
from onnxplain.methods.decompose import decompose
from onnxplain.methods.registry import explain
from onnxplain.model import Model
from onnxplain.page import page_document
from onnxplain.preprocess import picture
from onnxplain.preprocess.images import decoded
from onnxplain.render import overlay, signed, symmetric_limit
from onnxplain.results import Explanation, Prediction
from onnxplain.target import Target, parse_target

if TYPE_CHECKING:
    from onnxplain.serve.asked import Asked

Array = np.ndarray[Any, Any]
Report = Callable[[str, int, int, float], None]
DECOMPOSE = "decompose"
MIN_SIDE = 8
"""Pixels: a smaller picture shows nothing that could be explained."""
TILE = 320
"""Pixels of a small picture's longer side on the page."""


@dataclass(frozen=True, eq=False)
class Seen:
    """An uploaded picture as the model sees it: its input x [1, ...] and the prediction, if it classifies."""

    x: Array
    picture: Array
    prediction: Prediction | None

    @property
    def size(self) -> int:
        """Bytes it keeps in memory."""
        return int(self.x.nbytes + self.picture.nbytes)


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a question.

    Attributes:
        seen: the picture.
        hierarchies: of evidence: none, or that of the target and one to compare it with, if asked for.
        records: by method.
        refused: methods that cannot answer this question, each with the reason.
    """

    seen: Seen
    hierarchies: tuple[Hierarchy, ...]
    records: dict[str, Explanation]
    refused: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes it keeps in memory, about."""
        arrays: list[Array | None] = [self.seen.x, self.seen.picture]
        for tree in self.hierarchies:
            arrays += [a for node in tree for a in (node.map, node.pixels)]
        arrays += [
            a for r in self.records.values() for a in vars(r).values() if hasattr(a, "nbytes")
        ]
        return sum(a.nbytes for a in arrays if a is not None)


def look(model: Model, data: bytes) -> Seen:
    """Decode an uploaded picture, given as the bytes of its file, and predict.

    Raises InputError for what is no picture, too large, too small, or does not fit the model.
    """
    image = decoded(io.BytesIO(data), "the picture")  # no path of a client's is ever opened
    if min(image.size) < MIN_SIDE:
        raise InputError(
            f"the picture has {image.width} x {image.height} pixels: too small to explain"
        )
    x = model.read([image])
    shown = picture(x, model.spec, model.preprocess)[0]
    return Seen(x, shown, model.predict(x) if model.classes is not None else None)


def answer(model: Model, seen: Seen, asked: Asked, report: Report) -> Answer:
    """Answer a question; `report(step, at, of, part)` is told of every step, when it begins and on its way.

    A method that cannot answer does not keep the others from it. Raises TargetError, what `report` raises,
    and where no method can answer, the reason of the first.
    """
    targets = [_target(model, asked.target)]
    if asked.compare is not None:
        targets.append(_target(model, asked.compare))
    hierarchies: list[Hierarchy] = []
    records: dict[str, Explanation] = {}
    refused: dict[str, OnnxplainError] = {}
    steps = [(m, t) for m in asked.methods for t in (targets if m == DECOMPOSE else targets[:1])]
    for at, (method, target) in enumerate(steps, 1):
        report(method.replace("_", "-"), at, len(steps), 0)
        try:
            if method == DECOMPOSE:
                told = partial(_tell, report, at, len(steps))
                hierarchies.append(_grow(model, seen, asked, target, told))
            else:
                records[method] = explain(model, seen.x, method, target, asked.layer)
        except OnnxplainError as error:
            refused.setdefault(method, error)
    if not hierarchies and not records:
        raise next(iter(refused.values()))
    return Answer(seen, tuple(hierarchies), records, {m: str(e) for m, e in refused.items()})


def document(found: Answer) -> dict[str, Any] | None:
    """Return what the viewer shows of the hierarchy, JSON-able; None where none was asked for."""
    if not found.hierarchies:
        return None
    top = found.seen.prediction.top(5)[0] if found.seen.prediction is not None else ()
    maps = {name.replace("_", "-"): drawn(record) for name, record in found.records.items()}
    return page_document(*found.hierarchies, top=top, maps=maps)


def tile(found: Answer, method: str) -> Image.Image:
    """Draw a method's map over the picture, large enough for the page."""
    values, shown = drawn(found.records[method]), _enlarged(found.seen.picture)
    if values.min() < 0:
        return Image.fromarray(signed(shown, values))
    # full colour as for signed maps: a few extreme pixels do not turn the rest pale
    return Image.fromarray(overlay(shown, np.minimum(values / symmetric_limit(values), 1)))


def figure(model: Model, found: Answer, method: str) -> Image.Image:
    """Draw the picture beside a method's map, with title and colour bar, as `onnxplain explain` does."""
    best = found.seen.prediction.top(1)[0][0] if found.seen.prediction is not None else None
    title = "" if best is None else f"predicted: {best.label} ({best.probability:.1%})"
    return draw(model, found.seen.x, {method: found.records[method]}, title)


def _grow(
    model: Model,
    seen: Seen,
    asked: Asked,
    target: Target | None,
    told: Callable[[int, int], None],
) -> Hierarchy:
    return decompose(
        model, seen.x, target, asked.layers, asked.top_k, asked.seed,
        weight=asked.weight, depth=asked.depth, progress=told,
    )  # fmt: skip


def _tell(report: Report, at: int, of: int, done: int, levels: int) -> None:
    """Report how far a decomposition is."""
    what = f"level {done + 1} of {levels}" if done < levels else "pixels"
    report(f"{DECOMPOSE}: {what}", at, of, done / (levels + 1))


def _target(model: Model, text: str | None) -> Target | None:
    return None if text is None else parse_target(text, model.labels)


def _enlarged(shown: Array) -> Array:
    """Return a tiny picture in whole, sharp pixels of a size to look at."""
    times = max(1, round(TILE / max(shown.shape[:2])))
    return shown.repeat(times, 0).repeat(times, 1)
