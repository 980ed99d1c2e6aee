"""What is explained: a class, a contrast, any output element, or a sum over a region -> a seed.

Every target is a linear function of one output tensor, so it is one array of weights: the *seed* that the
backward pass starts from. Its score is the sum of seed times output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxplain.errors import TargetError

Array = np.ndarray[Any, Any]
Index = int | slice | tuple[int | slice, ...]


@dataclass(frozen=True, eq=False)
class Target:
    """A linear function of one output.

    `index`: a class, or one index per axis of the output without the image axis (slices sum up); None
    means the largest element of each image (the predicted class). `minus`: a second index to subtract (a
    contrast z_a - z_b). `output`: an output of the file by name (its logit where it ends in Softmax or
    Sigmoid), or any layer; None is the model's logit. `region`: weights over the last two axes of the
    output, [H, W], multiplied on (segmentation: the sum of a class over a mask). `above`: of what `index`
    selects, only the values above this count (detection: all anchors that see the class; in units of the
    explained tensor, so of the logit where there is one).
    """

    index: Index | None = None
    minus: Index | None = None
    output: str | None = None
    region: Array | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _checked(self.index))
        object.__setattr__(self, "minus", _checked(self.minus))
        if self.region is not None:
            region = np.asarray(self.region)
            if region.dtype.kind not in "fiub" or not np.isfinite(region).all() or not region.any():
                raise TargetError("a region must be numbers [H, W], some of them not zero")
            object.__setattr__(self, "region", region.astype(np.float32))

    @classmethod
    def contrast(cls, a: int, b: int) -> Target:
        """Explain why class `a` rather than class `b`: z_a - z_b."""
        return cls(index=a, minus=b)

    @classmethod
    def box(
        cls, index: Index, box: Sequence[float], size: tuple[int, int], output: str | None = None
    ) -> Target:
        """Sum `index` over a box (left, top, right, bottom), each in 0..1, of an output of `size` (H, W).

        Raises TargetError for a box outside 0..1 or without area.
        """
        left, top, right, bottom = box if len(box) == 4 else (0, 0, 0, 0)
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise TargetError(
                f"box {tuple(box)} must be left, top, right, bottom in 0..1 with an area"
            )
        height, width = size
        region = np.zeros(size, np.float32)
        region[_covered(top, bottom, height), _covered(left, right, width)] = 1
        return cls(index=index, output=output, region=region)

    def seeds(self, values: Array) -> Seeds:
        """Return the seed of each image for an output `values` of shape [N, ...].

        Raises TargetError for an index outside the output.
        """
        n = len(values)
        seed = np.zeros(values.shape, np.float32)
        if self.index is None:
            flat = values.reshape(n, -1)
            best = flat.argmax(1)
            seed.reshape(n, -1)[np.arange(n), best] = 1
            classes = best if values.ndim == 2 else np.full(n, -1)
        else:
            seed[(slice(None), *_axes(self.index, values))] = 1
            classes = np.full(n, self._class(values))
        if self.minus is not None:
            seed[(slice(None), *_axes(self.minus, values))] -= 1
        if self.region is not None:
            if values.ndim < 3 or self.region.shape != values.shape[-2:]:
                raise TargetError(
                    f"a region of shape {self.region.shape} does not fit an output of shape "
                    f"{values.shape[1:]}"
                )
            seed = seed * self.region
        if self.above is not None:
            seed = seed * (values > self.above)
            if not seed.reshape(n, -1).any(1).all():
                raise TargetError(
                    f"nothing that {self} selects is above {self.above} in every image"
                )
        return Seeds(seed, classes.astype(np.int64), scores(seed, values))

    def _class(self, values: Array) -> int:
        """Return the class that is explained, or -1 where the target is not one class."""
        if values.ndim != 2 or not isinstance(self.index, int) or self.minus is not None:
            return -1
        return _positive(self.index, values.shape[1])

    def __str__(self) -> str:
        """Describe the target in words, for titles and meta."""
        what = "largest element" if self.index is None else _written(self.index)
        contrast = "" if self.minus is None else f" minus {_written(self.minus)}"
        where = "" if self.output is None else f" of {self.output!r}"
        region = " over a region" if self.region is not None else ""
        above = "" if self.above is None else f" above {self.above:g}"
        return f"{what}{contrast}{where}{region}{above}"


@dataclass(frozen=True, eq=False)
class Seeds:
    """Seeds of N images: `seed` [N, ...] like the output, `classes` [N] (-1: not a class), `scores` [N]."""

    seed: Array
    classes: Array
    scores: Array


@dataclass(frozen=True, eq=False)
class Classes:
    """One class for each of N images."""

    index: Array
    output: str | None = None

    def seeds(self, values: Array) -> Seeds:
        """Return one-hot seeds; raises TargetError for a wrong count or a class out of range."""
        if values.ndim != 2:
            raise TargetError(
                f"an output of shape {values.shape[1:]} has no classes: use onnxplain.Target(index=...)"
            )
        if self.index.shape != (len(values),):
            raise TargetError(f"{self.index.size} classes were given for {len(values)} images")
        index = np.array([_positive(int(i), values.shape[1]) for i in self.index], np.int64)
        seed = np.zeros(values.shape, np.float32)
        seed[np.arange(len(values)), index] = 1
        return Seeds(seed, index, scores(seed, values))

    def rows(self, chosen: slice) -> Classes:
        """Return the classes of some of the images."""
        return Classes(self.index[chosen], self.output)

    def __str__(self) -> str:
        """Describe the target in words."""
        return "one class per image"


def as_target(target: object, images: int) -> Target | Classes:
    """Turn what callers may give (None, class, one class per image, Target) into a target.

    Raises TargetError for anything else, or a count that differs from the number of images.
    """
    if target is None:
        return Target()
    if isinstance(target, Target | Classes):
        return target
    array = np.asarray(target)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TargetError(
            f"target {target!r} is not a class number, one class per image, or an onnxplain.Target"
        )
    if array.ndim == 0:
        return Target(index=int(array))
    if len(array) != images:
        raise TargetError(f"{len(array)} classes were given for {images} images")
    return Classes(array.astype(np.int64))


def scores(seed: Array, values: Array) -> Array:
    """Return the explained score of each image, sum(seed * output), float64 [N]."""
    products: Array = seed.astype(np.float64) * values.astype(np.float64)
    total: Array = products.reshape(len(seed), -1).sum(1)
    return total


def _covered(low: float, high: float, size: int) -> slice:
    """Return the pixels that an interval of 0..1 touches; 0.07 * 100 is 7, whatever floats say."""
    return slice(int(np.floor(round(low * size, 6))), int(np.ceil(round(high * size, 6))))


def _positive(index: int, classes: int) -> int:
    if not -classes <= index < classes:
        raise TargetError(
            f"class {index} does not exist: this model has {classes} (0..{classes - 1})"
        )
    return index % classes


def _axes(index: Index, values: Array) -> tuple[int | slice, ...]:
    """Check an index expression against an output; raises TargetError for what selects nothing."""
    full = index if isinstance(index, tuple) else (index,)
    shape = values.shape[1:]
    if len(full) == len(shape) == 1 and isinstance(full[0], int):
        return (_positive(full[0], shape[0]),)
    if len(full) > len(shape):
        raise TargetError(f"index {full} has more axes than the output, {shape}")
    for i, size in zip(full, shape, strict=False):
        if isinstance(i, int) and not -size <= i < size:
            raise TargetError(f"index {full} lies outside an output of shape {shape}")
        if isinstance(i, slice) and not range(size)[i]:
            raise TargetError(f"index {full} selects nothing of an output of shape {shape}")
    return full


def _checked(index: object) -> Index | None:
    """Return an index as Python numbers and slices; raises TargetError for anything else."""
    if index is None:
        return None
    parts = index if isinstance(index, tuple | list) else (index,)
    if not all(isinstance(i, int | np.integer | slice) for i in parts):
        raise TargetError(f"index {index!r} must be whole numbers or slices")
    plain = tuple(i if isinstance(i, slice) else int(i) for i in parts)
    return plain if isinstance(index, tuple | list) else plain[0]


def parse_target(text: str, labels: Sequence[str] | None = None) -> Target:
    """Read a target as typed at a terminal.

    "281" or "tabby" (a class by number or label), "281-285" or "tabby - Egyptian cat" (a contrast),
    "boxes[17,2]" (an element of an output), "scores[:,1]" (a sum; also "10:20"), "scores[:,1]>2" (the sum
    of what is above 2). Raises TargetError for anything else.
    """
    text, names = text.strip(), list(labels or ())
    if (one := _class_named(text, names)) is not None:
        return Target(index=one)
    for at in (i for i, c in enumerate(text) if c == "-" and i > 0):
        pair = [_class_named(part.strip(), names) for part in (text[:at], text[at + 1 :])]
        if pair[0] is not None and pair[1] is not None:
            return Target.contrast(pair[0], pair[1])
    element = re.fullmatch(r"(.*)\[([^\[\]]*)\](?:\s*>\s*(\S+))?", text)
    if element:
        output, inside, above = element.groups()
        try:
            index = tuple(_part(part) for part in inside.split(","))
            return Target(
                index, output=output or None, above=None if above is None else float(above)
            )
        except ValueError as error:
            raise TargetError(
                f"target {text!r}: indices must be whole numbers or ranges, as in scores[17,1] "
                "or scores[:,1]>2"
            ) from error
    hint = "a class number" + (", a label" if names else "") + ", A-B, or output[index]"
    raise TargetError(f"target {text!r} is none of: {hint}")


def _written(index: Index) -> str:
    """Write an index the way it is typed: "3", "[17, 1]" or "[:, 1]"."""
    parts = index if isinstance(index, tuple) else (index,)
    texts = [
        f"{'' if i.start is None else i.start}:{'' if i.stop is None else i.stop}"
        if isinstance(i, slice)
        else str(i)
        for i in parts
    ]
    return texts[0] if isinstance(index, int) else f"[{', '.join(texts)}]"


def _part(text: str) -> int | slice:
    """Read one index: "17", ":" or "10:20"."""
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon:
        return int(low)
    return slice(int(low) if low else None, int(high) if high else None)


def _class_named(text: str, names: list[str]) -> int | None:
    """Return the class of a label or of a number in ASCII digits, else None."""
    if text in names:
        return names.index(text)
    return int(text) if text.isascii() and text.isdigit() else None
