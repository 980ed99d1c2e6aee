"""Models, predictions and results as the JSON that the page reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from onnxplain.explain import explained_label
from onnxplain.methods.cam import CAMS
from onnxplain.methods.growing import Seed, Weight
from onnxplain.model import Model
from onnxplain.page.html import asset, page_html
from onnxplain.preprocess.images import FORMATS
from onnxplain.serve.asked import CHOICES
from onnxplain.serve.downloads import names_of
from onnxplain.serve.work import Answer, Seen

LONGEST = 300
"""Characters of an error message."""


def live_page() -> str:
    """Return the viewer's page, with the scripts that ask this server."""
    script = "\n".join(asset(name) for name in ("live.js", "live_controls.js", "live_page.js"))
    return page_html(None, script, asset("live.css"))


def about(model: Model, upload: int) -> dict[str, Any]:
    """Return what the page needs to offer its choices; `upload`: bytes a picture's file may have."""
    levels = {layer.name for layer in model.graph.levels}
    return {
        "name": Path(model.name).name,
        "classes": model.classes,
        "labels": model.labels,
        "preprocess": model.preprocess.source,
        "providers": list(model.providers),
        "methods": [{"name": m, "uses_layer": m in CAMS} for m in CHOICES],
        "seeds": get_args(Seed),
        "weights": get_args(Weight),
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "shape": layer.shape,
                "cam": layer.has_map,
                "default_cam": layer == model.default_layer,
                "default_level": layer.name in levels,
            }
            for layer in model.layers
            if layer.cut and layer.axes is not None
        ],
        "upload": upload,
        "formats": FORMATS,
    }


def told(model: Model, message: str) -> str:
    """Return an error message as clients get it: short, and without the folder that the model lies in."""
    text = message.replace(model.name, Path(model.name).name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def about_picture(seen: Seen) -> dict[str, Any]:
    """Return what the model sees and says of a picture."""
    height, width = seen.picture.shape[:2]
    found = seen.prediction
    top = [] if found is None else [ranked._asdict() for ranked in found.top(5)[0]]
    return {
        "width": width,
        "height": height,
        "top": top,
        "warning": None if found is None else found.warning,
    }


def about_answer(model: Model, found: Answer) -> dict[str, Any]:
    """Return what came of a question: a line per method, and the files there are."""
    return {
        "hierarchy": bool(found.hierarchies),
        "methods": [
            {
                "method": name,
                "label": explained_label(model, record),
                "score": float(record.scores[0]),
                "layer": record.meta.get("layer"),
                "inexact": list(record.meta.get("inexact", ())),
            }
            for name, record in found.records.items()
        ],
        "refused": {name: told(model, reason) for name, reason in found.refused.items()},
        "files": names_of(found),
    }
