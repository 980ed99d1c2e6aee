"""Decompose what a model decides about image files: read, predict, decompose, write trees and pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.explain import Outcome, file_stems
from onnxplain.hierarchy import Hierarchy, write
from onnxplain.hierarchy.exports import SUFFIXES
from onnxplain.methods.decompose import decompose
from onnxplain.methods.exemplars import Exemplars
from onnxplain.model import Model
from onnxplain.results import Ranked
from onnxplain.target import Target

Pictures = dict[tuple[str, int], list[tuple[np.ndarray[Any, Any], str]]]
DEFAULT_SUFFIXES = (".json", ".html", ".png")
PAGE, PICTURE = ".html", ".png"


@dataclass(frozen=True)
class Decomposed(Outcome):
    """An image's prediction, the hierarchy (and the contrast's), and the files written."""

    hierarchies: tuple[Hierarchy, ...] = ()
    files: tuple[str, ...] = ()

    def found(self) -> dict[str, Any]:
        """Return a summary, JSON-able; the whole hierarchies are in the files."""
        return {"hierarchies": [_summary(h) for h in self.hierarchies], "files": list(self.files)}


@dataclass(frozen=True)
class Wanted:
    """What to explain and where to write it.

    target, options: as for `decompose`. contrast: a class; a second tree says why not that one.
    outs: files, whose suffix is their format, or folders, which get DEFAULT_SUFFIXES.
    """

    outs: Sequence[Path]
    target: Target | None = None
    contrast: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = (*SUFFIXES, PAGE, PICTURE)
        for path in self.outs:
            if path.suffix and not path.is_dir() and path.suffix not in known:
                raise ConfigError(
                    f"--out {path}: unknown suffix {path.suffix!r}: choose {', '.join(known)}, or a folder"
                )


def decompose_files(
    model: Model,
    images: Sequence[str | Path],
    wanted: Wanted,
    exemplars: Exemplars | None = None,
) -> Iterator[Decomposed]:
    """Decompose image by image, yield what came of each, in order.

    With several images, the files of each have the image's name in theirs. exemplars: are shown on the page
    and listed in the JSON. An image that cannot be read is reported in its result and the others go on;
    an error that would befall every image is raised.
    """
    several = len(images) > 1
    for path, stem in zip(images, file_stems(images), strict=True):
        try:
            x = model.read([path])
        except InputError as error:
            yield Decomposed(str(path), error=str(error))
            continue
        yield _decompose_one(model, str(path), stem if several else None, x, wanted, exemplars)


def _decompose_one(
    model: Model, path: str, stem: str | None, x: Any, wanted: Wanted, exemplars: Exemplars | None
) -> Decomposed:
    prediction = model.predict(x) if model.classes is not None else None
    found = [decompose(model, x, wanted.target, **wanted.options)]
    if wanted.contrast is not None:
        against = _contrast(model, found[0].root.channel, wanted.contrast)
        found.append(decompose(model, x, against, **wanted.options))
    found = [_with_exemplars(h, exemplars) for h in found]
    top = tuple(prediction.top(5)[0]) if prediction is not None else ()
    files = [
        str(file)
        for out in wanted.outs
        for target in _targets(out, Path(path).stem, stem)
        for file in _write(found, target, top, exemplars)
    ]
    warning = None if prediction is None else prediction.warning
    return Decomposed(path, top, warning, hierarchies=tuple(found), files=tuple(files))


def _contrast(model: Model, mine: int, other: int) -> Target:
    """Return the target "why class `mine` rather than `other`"."""
    if mine < 0:
        raise ConfigError("a contrast needs a class to set against: let --target be a single class")
    if mine == other:
        raise ConfigError(
            f"--contrast {model.label(mine)} is the class explained: name another one"
        )
    name = f"{model.label(mine)} rather than {model.label(other)}"
    return replace(Target.contrast(mine, other), name=name)


# --- exemplars ----------------------------------------------------------------------------------------
def _with_exemplars(hierarchy: Hierarchy, exemplars: Exemplars | None) -> Hierarchy:
    """List in meta what activates the hierarchy's channels."""
    if exemplars is None:
        return hierarchy
    listed: dict[str, dict[str, Any]] = {}
    for layer, channel in _features(hierarchy):
        listed.setdefault(layer, {})[str(channel)] = [
            {"image": e.image, "value": e.value, "peak": e.peak, "box": e.box}
            for e in exemplars.of(layer, channel)
        ]
    return Hierarchy(hierarchy.graph, {**hierarchy.meta, "exemplars": listed}, hierarchy.image)


def exemplar_pictures(hierarchy: Hierarchy, exemplars: Exemplars) -> Pictures:
    """Return, by layer and channel of a hierarchy, the exemplars' crops with captions, for a page."""
    return {
        (layer, channel): [
            (exemplars.crop(e), f"{Path(e.image).name}: {e.value:.3g}")
            for e in exemplars.of(layer, channel)
            if e.box is not None
        ]
        for layer, channel in _features(hierarchy)
    }


def _features(hierarchy: Hierarchy) -> list[tuple[str, int]]:
    return list(dict.fromkeys((n.layer, n.channel) for n in hierarchy if n.level > 0))


# --- files --------------------------------------------------------------------------------------------
def _targets(out: Path, image: str, stem: str | None) -> list[Path]:
    """Return the files to write for one image; `stem` tells it from others, where there are others."""
    if out.is_dir() or not out.suffix:
        return [out / f"{stem or image}.tree{suffix}" for suffix in DEFAULT_SUFFIXES]
    return [out if stem is None else out.with_name(f"{out.stem}-{stem}{out.suffix}")]


def _write(
    found: Sequence[Hierarchy], path: Path, top: Sequence[Ranked], exemplars: Exemplars | None
) -> list[Path]:
    """Write one format; the page holds both trees, other formats have a file for each."""
    if path.suffix == PAGE:
        from onnxplain.page import write_page

        pictures: Pictures = {}
        if exemplars is not None:
            for hierarchy in found:
                pictures |= exemplar_pictures(hierarchy, exemplars)
        other = found[1] if len(found) > 1 else None
        write_page(found[0], path, other, top=top, exemplars=pictures)
        return [path]
    names = [path, path.with_name(f"{path.stem}.contrast{path.suffix}")]
    return [write(h, name, {PICTURE: _write_sheet}) for h, name in zip(found, names, strict=False)]


def _write_sheet(hierarchy: Hierarchy, path: Path) -> None:
    from onnxplain.render import save_png
    from onnxplain.render.sheet import sheet

    save_png(sheet(hierarchy), path)


# --- in numbers ---------------------------------------------------------------------------------------
def _summary(hierarchy: Hierarchy) -> dict[str, Any]:
    root, meta = hierarchy.root, hierarchy.meta
    return {
        "label": meta["label"],
        "target": meta["target"],
        "class": root.channel,
        "score": root.decision,
        "residual": root.residual,
        "coverage": root.coverage,
        "inexact": meta["inexact"],
        "layers": list(hierarchy.layers),
        "levels": [
            [
                {"id": n.id, "channel": n.channel, "contribution": n.contribution, "share": n.share,
                 "box": n.box}
                for n in hierarchy.level(level)
            ]
            for level in range(1, len(hierarchy.layers) + 1)
        ],
    }  # fmt: skip
