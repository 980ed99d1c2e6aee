"""Explain image files: read, predict, run methods, write pictures and records. The main job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.files import read_npz
from onnxplain.methods.cam import CAMS
from onnxplain.methods.common import Images, label
from onnxplain.methods.registry import explain, method_name
from onnxplain.methods.similar import similar
from onnxplain.model import Model
from onnxplain.results import Attribution, Explanation, Ranked
from onnxplain.target import Target, parse_target

if TYPE_CHECKING:
    import PIL.Image

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of one image, first of all its prediction; `error` alone where it could not be used."""

    image: str
    top: tuple[Ranked, ...] = ()
    warning: str | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        top = [r._asdict() for r in self.top]
        return {"image": self.image, "top": top, "warning": self.warning, **self.found()}

    def found(self) -> dict[str, Any]:
        """Return what is known beside the prediction, JSON-able."""
        return {}


@dataclass(frozen=True)
class Explained(Outcome):
    """An image's prediction, and per method what was explained and the files written."""

    methods: tuple[dict[str, Any], ...] = ()
    picture: str | None = None

    def found(self) -> dict[str, Any]:
        """Return what the methods gave, JSON-able."""
        return {"methods": list(self.methods), "picture": self.picture}


def explain_files(
    model: Model,
    images: Sequence[str | Path],
    methods: Sequence[str],
    out: Path,
    target: object = None,
    layer: str | None = None,
    grid: tuple[int, int] | None = None,
) -> Iterator[Explained]:
    """Explain each image by each method, writing into `out`; yield what came of each, in order.

    Per image one PNG (the image beside its maps; none for a model that takes arrays instead of pictures),
    per method a record (.npz and .json). An image that cannot be read is reported in its result and the
    others go on; an error that would befall every image (unknown method, layer or target, nothing
    writable) is raised. Without a feature map to explain, class
    activation maps are left out, unless nothing else was asked for.
    """
    names = [method_name(m) for m in methods]
    if layer is None and model.default_layer is None and not set(names) <= set(CAMS):
        names = [name for name in names if name not in CAMS]  # the default ones must suit any model
    for path, stem in zip(images, file_stems(images), strict=True):
        try:
            x = read_input(model, path)
        except InputError as error:
            yield Explained(str(path), error=str(error))
            continue
        yield _explain_one(model, str(path), stem, x, names, out, target, layer, grid)


def read_input(model: Model, path: str | Path) -> Images:
    """Read one image; a model of several inputs takes an .npz file that holds them all by name."""
    names = [i.name for i in model.graph.inputs]
    if len(names) == 1:
        return model.read([path])
    if Path(path).suffix.lower() != ".npz":
        raise InputError(
            f"{path}: {model.name} has {len(names)} inputs: give an .npz file that holds {', '.join(names)}"
        )
    try:
        return read_npz(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _explain_one(
    model: Model,
    path: str,
    stem: str,
    x: Images,
    methods: Sequence[str],
    out: Path,
    target: object,
    layer: str | None,
    grid: tuple[int, int] | None,
) -> Explained:
    from onnxplain.render import save_png

    prediction = model.predict(x) if model.classes is not None else None
    records = {m: explain(model, x, m, target, layer, grid) for m in methods}
    done = []
    for method, record in records.items():
        written = record.save(out, f"{stem}.{method}")
        done.append(
            {
                "method": method,
                "class": int(record.classes[0]),
                "label": explained_label(model, record),
                "score": float(record.scores[0]),
                "layer": record.meta.get("layer"),
                "grid": record.meta.get("grid"),
                "outside_grid": next(iter(record.meta.get("outside_grid", ())), None),
                "inexact": list(record.meta.get("inexact", ())),
                "record": str(written),
            }
        )
    top = tuple(prediction.top(5)[0]) if prediction is not None else ()
    picture = out / f"{stem}.png" if model.spec.is_picture else None
    if picture is not None:
        best = f": {top[0].label} ({top[0].probability:.1%})" if top else ""
        shown = x[model.graph.source.name] if isinstance(x, Mapping) else x
        save_png(draw(model, shown, records, Path(path).name + best), picture)
    return Explained(
        path,
        top=top,
        methods=tuple(done),
        picture=None if picture is None else str(picture),
        warning=None if prediction is None else prediction.warning,
    )


def read_target(model: Model, text: str) -> Target:
    """Read a target as typed at a terminal: what `parse_target` reads, or another image to be similar to.

    "similar:other.jpg" reads that image as `model` is fed; "embedding[similar:other.jpg]" names the output.
    Raises TargetError, InputError.
    """
    likeness = re.fullmatch(r"(?:(.+)\[)?similar:(.+?)(?(1)\])", text.strip())
    if likeness is None:
        return parse_target(text, model.labels)
    output, other = likeness.groups()
    return similar(model, model.read([other]), output, f"similar to {Path(other).name}")


def read_grid(text: str) -> tuple[int, int]:
    """Read a grid of patches as typed at a terminal: "14x14", height first. Raises ConfigError."""
    sizes = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text.strip())
    if sizes is None:
        raise ConfigError(f"grid {text!r} is not height x width, as in 14x14")
    return int(sizes[1]), int(sizes[2])


def draw(model: Model, x: Array, records: Mapping[str, Explanation], title: str) -> PIL.Image.Image:
    """Draw the first image of `x` as the model sees it beside each record's map."""
    from onnxplain.preprocess import picture
    from onnxplain.render import figure

    shown = picture(x[:1], model.spec, model.preprocess)[0]
    panels = [
        (f"{name.replace('_', '-')}: {explained_label(model, r)}", _subtitle(r), drawn(r))
        for name, r in records.items()
    ]
    return figure(shown, panels, title)


def drawn(record: Explanation) -> Array:
    """Return what to draw of the first image: signed values for gradients, else the heat map."""
    if isinstance(record, Attribution) and record.channel_axis is not None:
        signed: Array = record.values[0].sum(record.channel_axis - 1)
        return signed
    heat: Array = record.heatmap()[0]
    return heat


def _subtitle(record: Explanation) -> str:
    layer = record.meta.get("layer")
    return f"score {record.scores[0]:.3g}" + (f", layer {layer}" if layer else "")


def explained_label(model: Model, record: Explanation) -> str:
    """Return what was explained of the first image, in words."""
    return label(model, int(record.classes[0]), str(record.meta.get("label")))


def file_stems(images: Sequence[str | Path]) -> list[str]:
    """Return a file name for each image's results; equal names get a number."""
    taken: dict[str, int] = {}
    stems = []
    for image in images:
        stem = Path(image).stem
        taken[stem] = taken.get(stem, 0) + 1
        stems.append(stem if taken[stem] == 1 else f"{stem}-{taken[stem]}")
    return stems
