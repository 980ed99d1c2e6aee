"""Where objects are in pictures: boxes, or a folder of masks, as a model sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxplain.dataset.source import key_of_files
from onnxplain.errors import InputError
from onnxplain.model import Model
from onnxplain.preprocess import open_image, resized, seen_box

Array = np.ndarray[Any, Any]
SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Box:
    """A box in shares of the picture's width and height, and what is in it, where that is known."""

    left: float
    top: float
    right: float
    bottom: float
    label: str | None = None


@dataclass(frozen=True)
class Annotated:
    """The boxes of one picture, or the file of its mask; `size` (width, height), where the file says it."""

    boxes: tuple[Box, ...] = ()
    mask: Path | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Annotations:
    """What is known of each picture, by its file's name or the end of its path."""

    name: str
    pictures: Mapping[str, Annotated]

    def mask(self, name: str, label: str | None, size: tuple[int, int], model: Model) -> Array:
        """Return where the object is as the model sees the picture, bool of `size`; False without one.

        Boxes with labels count where theirs is `label`; those without always do.
        """
        found = self._of(name)
        if found is None:
            return np.zeros(size, bool)
        if found.mask is not None:
            return _mask(found.mask, size, model)
        wanted = "" if label is None else label.casefold()
        boxes = [b for b in found.boxes if b.label is None or b.label.casefold() == wanted]
        squashed = model.preprocess.resize == "squash"  # shares stay what they are
        width, height = found.size or ((1, 1) if squashed else open_image(name).size)
        left, top, right, bottom = seen_box(width, height, _target(model), model.preprocess)
        y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1]) + 0.5
        x = (left + x / size[1] * (right - left)) / width  # each pixel's centre in the picture
        y = (top + y / size[0] * (bottom - top)) / height
        inside = [(b.left <= x) & (x < b.right) & (b.top <= y) & (y < b.bottom) for b in boxes]
        return np.any(inside, axis=0) if inside else np.zeros(size, bool)

    def key(self) -> str:
        """Return a hash of all that is known."""
        masks = [a.mask for a in self.pictures.values() if a.mask is not None]
        return key_of_files(masks, sorted(self.pictures.items()))

    def _of(self, name: str) -> Annotated | None:
        """Return what belongs to a picture: the longest end of its path that is known, then its stem."""
        parts = Path(name).parts
        ends = ["/".join(parts[i:]) for i in range(len(parts))]
        return next(
            (self.pictures[e] for e in (*ends, Path(name).stem) if e in self.pictures), None
        )


def open_annotations(given: Annotations | Mapping[str, Any] | str | Path) -> Annotations:
    """Return annotations: as they are, from a file or folder, or from what the file would hold.

    A folder of masks, pictures of the same name (the suffix aside) whose bright pixels are the object. Or a
    .json file: {"cat.jpg": [[left, top, right, bottom], ...]} in shares of width and height, or
    {"box": [...], "label": "cat"} in place of a box; {"cat.jpg": {"size": [width, height], "boxes": ...}} in
    pixels; or COCO's ("images", "annotations", "categories").

    Raises InputError: missing, damaged, or empty.
    """
    if isinstance(given, Annotations):
        return given
    if isinstance(given, Mapping):
        name, pictures = "annotations", _listed(given, "annotations")
    else:
        name = str(given)
        pictures = _masks(Path(given)) if Path(given).is_dir() else _listed(given, name)
    if not pictures:
        raise InputError(f"{name}: holds no annotations")
    return Annotations(name, pictures)


def _masks(folder: Path) -> dict[str, Annotated]:
    masks = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return {p.stem: Annotated(mask=p) for p in masks}


def _listed(given: Mapping[str, Any] | str | Path, name: str) -> dict[str, Annotated]:
    try:
        text = "" if isinstance(given, Mapping) else Path(given).read_text(encoding="utf-8")
        document = given if isinstance(given, Mapping) else json.loads(text)
        return _coco(document) if "annotations" in document else _plain(document)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InputError(f"{name}: no annotations in it: {error!r}"[:300]) from error


def _plain(document: Mapping[str, Any]) -> dict[str, Annotated]:
    return {name: _annotated(entry) for name, entry in document.items()}


def _annotated(entry: Any) -> Annotated:
    """Read boxes in shares of the picture, or in pixels with its size."""
    if not isinstance(entry, dict):
        return Annotated(tuple(map(_box, entry)))
    width, height = (int(n) for n in entry["size"])
    boxes = [[a / width, b / height, c / width, d / height] for a, b, c, d in entry["boxes"]]
    return Annotated(tuple(map(_box, boxes)), size=(width, height))


def _box(entry: Any) -> Box:
    numbers, label = (
        (entry["box"], entry.get("label")) if isinstance(entry, dict) else (entry, None)
    )
    left, top, right, bottom = (float(v) for v in numbers)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(f"box {numbers} is not left, top, right, bottom in shares of 0 to 1")
    return Box(left, top, right, bottom, None if label is None else str(label))


def _coco(document: Mapping[str, Any]) -> dict[str, Annotated]:
    categories = {c["id"]: str(c["name"]) for c in document.get("categories", ())}
    boxes: dict[Any, list[Box]] = {image["id"]: [] for image in document["images"]}
    sizes = {i["id"]: (int(i["width"]), int(i["height"])) for i in document["images"]}
    for entry in document["annotations"]:
        x, y, w, h = (float(v) for v in entry["bbox"])
        width, height = sizes[entry["image_id"]]
        label = categories.get(entry.get("category_id"))
        box = Box(x / width, y / height, (x + w) / width, (y + h) / height, label)
        boxes[entry["image_id"]].append(box)
    return {
        str(i["file_name"]): Annotated(tuple(boxes[i["id"]]), size=sizes[i["id"]])
        for i in document["images"]
    }


def _mask(path: Path, size: tuple[int, int], model: Model) -> Array:
    picture = resized(open_image(path).convert("L"), _target(model), model.preprocess, str(path))
    small = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    found: Array = np.asarray(small) > 127
    return found


def _target(model: Model) -> tuple[int, int]:
    return model.preprocess.target_size(model.spec)
