"""The worst images, each as one picture: what the model saw, and the maps that the check looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO

from onnxplain.checks.job import Setting
from onnxplain.checks.kinds import KINDS
from onnxplain.checks.report import Bad, Result
from onnxplain.checks.seen import MODEL, REFERENCE, Seen, View
from onnxplain.dataset import Source, take
from onnxplain.dataset.annotations import Annotations
from onnxplain.errors import OnnxplainError
from onnxplain.model import Model
from onnxplain.preprocess import picture
from onnxplain.render import figure

DRAWN = {"failed": 3, "passed": 1}
"""Images of a check that are drawn; more are listed."""


def draw_worst(
    results: Sequence[Result],
    settings: Sequence[Setting],
    models: Mapping[str, Model],
    data: Source,
    annotations: Annotations | None,
) -> list[Result]:
    """Return the results with pictures of the worst images of each, where the model takes pictures."""
    if not models[MODEL].spec.is_picture:
        return list(results)
    read: dict[int, Seen | None] = {}

    def seen(number: int) -> Seen | None:
        if number not in read:
            batch = take(data, list(models.values()), number)
            read[number] = None if batch is None else Seen(models, batch, annotations)
        return read[number]

    drawn = []
    for result, setting in zip(results, settings, strict=True):
        worst = [
            replace(bad, png=_png(setting, found, bad))
            if i < DRAWN[result.status] and (found := seen(bad.number)) is not None
            else bad
            for i, bad in enumerate(result.worst)
        ]
        drawn.append(replace(result, worst=tuple(worst)))
    return drawn


def _png(setting: Setting, seen: Seen, bad: Bad) -> bytes:
    """Measure one image again, and draw what was looked at."""
    view = View(seen, setting.asked, setting.options)
    KINDS[setting.kind].measure(view)
    if not view.shown:
        try:
            look_at_all(view)  # checks of predictions look at no map; it tells all the same
        except OnnxplainError:
            view.shown.clear()  # no map to draw, as this model has no layer for one, say
    return drawn(view, f"{bad.name}: {bad.value:.4g}")


def look_at_all(view: View) -> None:
    """Make the maps of the model, and of the reference where there is one."""
    for role in (REFERENCE, MODEL):
        if role in view.seen.models:
            view.maps(role)


def drawn(view: View, title: str, called: Mapping[str, str] | None = None) -> bytes:
    """Return a PNG of the first image and of the maps that were looked at; `called`: roles in words."""
    panels = []
    ordered = sorted(view.shown.items(), key=lambda shown: not shown[0].startswith(REFERENCE))
    for what, maps in ordered:
        role, _, method = what.partition(": ")
        panels.append(
            (f"{(called or {}).get(role, role)}: {method}", _subtitle(view, role), maps[0])
        )
    model = view.model
    shown = picture(view.x[:1], model.spec, model.preprocess)[0]
    file = BytesIO()
    figure(shown, panels, title).save(file, "PNG")
    return file.getvalue()


def _subtitle(view: View, role: str) -> str:
    """Say which class the map is of, and what a model predicts."""
    explained = int(view.explanation().classes[0])
    of = "" if explained < 0 else f"of {view.model.label(explained)}"
    if role not in view.seen.models or view.seen.models[role].classes is None:
        return of
    predicted = int(view.prediction(role).classes[0])
    return f"{of}; predicts {view.seen.models[role].label(predicted)}"
