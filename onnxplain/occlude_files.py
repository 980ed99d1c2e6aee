"""Occlude image files: read, explain, alter, and write a picture and a record of what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import InputError
from onnxplain.explain import Outcome, file_stems
from onnxplain.metrics.fills import Fill
from onnxplain.metrics.occlude import occlude
from onnxplain.model import Model
from onnxplain.results.occlusion import Occlusion


@dataclass(frozen=True)
class Occluded(Outcome):
    """An image's prediction, what became of it per method, and the files written."""

    occlusions: tuple[Occlusion, ...] = ()
    files: tuple[str, ...] = ()

    def found(self) -> dict[str, Any]:
        """Return what was found, JSON-able."""
        return {"occlusions": [o.to_dict() for o in self.occlusions], "files": list(self.files)}


def occlude_files(
    model: Model,
    images: Sequence[str | Path],
    methods: Sequence[str],
    out: Path,
    target: object = None,
    share: float = 0.1,
    fills: Sequence[Fill] = (),
) -> Iterator[Occluded]:
    """Occlude image by image, writing a PNG and a record per method into `out`; yield what came of each.

    An image that cannot be read, or whose map marks nothing, is reported in its result and the others go on;
    an error that would befall every image is raised.
    """
    from onnxplain.render import save_png

    for path, stem in zip(images, file_stems(images), strict=True):
        try:
            x = model.read([path])
            found = [occlude(model, x, target, m, share, fills) for m in methods]
        except InputError as error:
            said = str(error) if str(path) in str(error) else f"{path}: {error}"
            yield Occluded(str(path), error=said)
            continue
        prediction = model.predict(x)
        files = []
        for one in found:
            name = f"{stem}.occluded.{one.method}"
            files.append(str(one.save(out, name)))
            if model.spec.is_picture:
                save_png(draw(model, x, one, Path(path).name), out / f"{name}.png")
                files.append(str(out / f"{name}.png"))
        top = tuple(prediction.top(5)[0])
        yield Occluded(
            str(path), top, prediction.warning, occlusions=tuple(found), files=tuple(files)
        )


def draw(model: Model, x: np.ndarray[Any, Any], found: Occlusion, name: str) -> Any:
    """Draw the image, its map, and each altered version with what it did."""
    from onnxplain.preprocess import picture
    from onnxplain.render import figure

    pixels = f"{found.mask.mean():.1%} of the pixels"
    panels = [(f"{found.method.replace('_', '-')}: {found.labels[0]}", pixels, found.map)]
    for f, fill in enumerate(found.fills):
        change = f"score {found.observed[f, 0]:+.3g}, foretold {found.foretold[f, 0]:+.3g}"
        altered = found.images[f : f + 1].astype(model.spec.dtype)
        shown = picture(altered, model.spec, model.preprocess)[0]
        panels.append((f"{fill}: {answer(found, f)}", change, shown))
    title = f"{name}: {found.answer_labels[0]}; what if its {found.method} pixels were others?"
    return figure(picture(x[:1], model.spec, model.preprocess)[0], panels, title)


def answer(found: Occlusion, f: int) -> str:
    """Say what the answer is after fill f, and how sure the explained class is."""
    before, after = found.answer_labels[0], found.answer_labels[f + 1]
    changed = (
        f"{before} -> {after}" if found.answers[0] != found.answers[f + 1] else f"still {after}"
    )
    return (
        f"{changed} ({found.labels[0]} {found.confidence[0]:.0%} -> {found.confidence[f + 1]:.0%})"
    )
