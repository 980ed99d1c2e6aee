"""A target: a class, a contrast, any output element, or a weighted sum -> a seed.

Every target is a linear function of one output tensor, so it is one array of weights: the *seed* that the
backward pass starts from. Its score is the sum of seed times output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxplain.errors import TargetError

Array = np.ndarray[Any, Any]
Index = int | slice | tuple[int | slice, ...]
Mean = Literal["mean"]
Chosen = tuple[Array, Array]
"""Seed and class of each image, [N, ...] and [N]."""


@dataclass(frozen=True, eq=False)
class Target:
    """A linear function of one output.

    `index`: a class, or one index per axis of the output without the image axis (slices sum up); None
    means the largest element of each image (the predicted class). `minus`: a second index to subtract (a
    contrast z_a - z_b), or "mean": the mean over the first axis, that of the classes. `output`: an output
    of the file by name (its logit where it ends in Softmax or Sigmoid), or any layer; None is the model's
    logit. `weights`: multiplied on what `index` selects, or on the whole output without one; they have the
    shape of the output's last axes: [H, W] sums a class over a mask, [D] is a direction among embeddings,
    -1 turns the sign. `above`: of what `index` selects, only the values above this count (detection: all
    anchors that see the class; in units of the explained tensor, so of the logit where there is one).
    `name`: how titles call it.
    """

    index: Index | None = None
    minus: Index | Mean | None = None
    output: str | None = None
    weights: Array | None = None
    above: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _checked(self.index))
        if not (isinstance(self.minus, str) and self.minus == "mean"):
            object.__setattr__(self, "minus", _checked(self.minus))
        if self.weights is not None:
            object.__setattr__(self, "weights", _numbers(self.weights))
        if self.above is not None:
            number = isinstance(self.above, int | float | np.number)
            if not number or not np.isfinite(self.above):
                raise TargetError(f"above must be a finite number, got {self.above!r}")

    @classmethod
    def contrast(cls, a: int, b: int | Mean) -> Target:
        """Explain why class `a` rather than class `b`, z_a - z_b; "mean": rather than any, z_a - mean(z)."""
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
        inside = np.zeros(size, np.float32)
        inside[_covered(top, bottom, height), _covered(left, right, width)] = 1
        return cls(index=index, output=output, weights=inside)

    @classmethod
    def similar(
        cls, embedding: Array, output: str | None = None, name: str = "similar to another image"
    ) -> Target:
        """Explain why an output is like `embedding`, that of another image: their product at its length 1.

        The score is |e| cos(e, embedding), the cosine itself where the model's embeddings have length 1. The
        cosine of others is no linear function of the output. Raises TargetError for a zero embedding.
        """
        numbers = _numbers(embedding).astype(np.float64)
        return cls(output=output, weights=numbers / np.linalg.norm(numbers), name=name)

    @property
    def is_largest(self) -> bool:
        """Whether the largest element of each image is explained, and nothing else."""
        parts = (self.index, self.minus, self.weights, self.above)
        return all(part is None for part in parts)

    def seeds(self, values: Array) -> Seeds:
        """Return the seed of each image for an output `values` of shape [N, ...].

        Raises TargetError for an index outside the output.
        """
        return Seeds.at(values, *self._choose(values))

    def ahead(self, shape: tuple[int, ...]) -> Chosen | None:
        """Return what `seeds` chooses of an output of this shape; None where that depends on its values."""
        chosen = self.index is not None or self.weights is not None
        if self.above is not None or not chosen:
            return None
        return self._choose(np.zeros(shape, np.float32))

    def _choose(self, values: Array) -> Chosen:
        n = len(values)
        seed = np.zeros(values.shape, np.float32)
        if self.index is None and self.weights is None:
            flat = values.reshape(n, -1)
            best = flat.argmax(1)
            seed.reshape(n, -1)[np.arange(n), best] = 1
            classes = best if values.ndim == 2 else np.full(n, -1)
        else:
            seed[(slice(None), *_axes(self.index, values))] = 1
            classes = np.full(n, self._class(values))
        if self.minus == "mean":
            if values.ndim < 2 or values.shape[1] < 2:
                raise TargetError(f"target {self}: there is but one class")
            seed -= seed.mean(1, keepdims=True)
        elif self.minus is not None:
            seed[(slice(None), *_axes(self.minus, values))] -= 1
        if self.weights is not None:
            rank = self.weights.ndim
            if self.weights.shape != values.shape[1:][values.ndim - 1 - rank :]:
                raise TargetError(
                    f"weights of shape {self.weights.shape} do not fit an output of shape "
                    f"{values.shape[1:]}"
                )
            seed = seed * self.weights
        if self.above is not None:
            seed = seed * (values > self.above)
            if not seed.reshape(n, -1).any(1).all():
                raise TargetError(f"target {self}: in some image nothing is above {self.above:g}")
        return seed, classes.astype(np.int64)

    def _class(self, values: Array) -> int:
        """Return the class that is explained, or -1 where the target is not one class."""
        if self.minus is not None or self.weights is not None:
            return -1
        if values.ndim != 2 or not isinstance(self.index, int):
            return -1
        return _positive(self.index, values.shape[1])

    def __str__(self) -> str:
        """Describe the target in words."""
        return self.words(str)

    def words(self, label: Callable[[int], str]) -> str:
        """Describe the target in words, for titles and meta, with `label` of the classes."""
        if self.name is not None:
            return self.name
        what = "largest element" if self.weights is None else "everything"
        what = what if self.index is None else _written(self.index, label)
        contrast = "" if self.minus is None else f" minus {_written(self.minus, label)}"
        where = "" if self.output is None else f" of {self.output!r}"
        above = "" if self.above is None else f" above {self.above:g}"
        weights = "" if self.weights is None else f" times {_described(self.weights)}"
        return f"{what}{contrast}{where}{above}{weights}"


@dataclass(frozen=True, eq=False)
class Seeds:
    """Seeds of N images: `seed` [N, ...] like the output, `classes` [N] (-1: not a class), `scores` [N]."""

    seed: Array
    classes: Array
    scores: Array

    @classmethod
    def at(cls, values: Array, seed: Array, classes: Array) -> Seeds:
        """Return seeds with their scores at an output."""
        return cls(seed, classes, scores(seed, values))


@dataclass(frozen=True, eq=False)
class Classes:
    """One class for each of N images."""

    index: Array
    output: str | None = None

    def seeds(self, values: Array) -> Seeds:
        """Return one-hot seeds; raises TargetError for a wrong count or a class out of range."""
        return Seeds.at(values, *self.ahead(values.shape))

    is_largest = False

    def ahead(self, shape: tuple[int, ...]) -> Chosen:
        """Return what `seeds` chooses of an output of this shape."""
        if len(shape) != 2:
            raise TargetError(
                f"an output of shape {shape[1:]} has no classes: use onnxplain.Target(index=...)"
            )
        if self.index.shape != shape[:1]:
            raise TargetError(f"{self.index.size} classes were given for {shape[0]} images")
        index = np.array([_positive(int(i), shape[1]) for i in self.index], np.int64)
        seed = np.zeros(shape, np.float32)
        seed[np.arange(len(index)), index] = 1
        return seed, index

    def rows(self, chosen: slice) -> Classes:
        """Return the classes of some of the images."""
        return Classes(self.index[chosen], self.output)

    def __str__(self) -> str:
        """Describe the target in words."""
        return "one class per image"

    def words(self, _: Callable[[int], str]) -> str:
        """Describe the target in words, which name no class."""
        return str(self)


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
    products: Array = np.multiply(seed, values, dtype=np.float64)
    total: Array = products.reshape(len(seed), -1).sum(1)
    return total


def single_ones(seeds: Array) -> Array | None:
    """Return which element of each seed [n, ...] is 1, int64 [n]; None unless all others are 0."""
    flat = seeds.reshape(len(seeds), -1)
    numbers: Array = flat.argmax(1)
    single = np.count_nonzero(flat) == len(flat)
    return numbers if single and (flat[np.arange(len(flat)), numbers] == 1).all() else None


def _covered(low: float, high: float, size: int) -> slice:
    """Return the pixels that an interval of 0..1 touches; 0.07 * 100 is 7, whatever floats say."""
    return slice(int(np.floor(round(low * size, 6))), int(np.ceil(round(high * size, 6))))


def _positive(index: int, classes: int) -> int:
    if not -classes <= index < classes:
        raise TargetError(
            f"class {index} does not exist: this model has {classes} (0..{classes - 1})"
        )
    return index % classes


def _axes(index: Index | None, values: Array) -> tuple[int | slice, ...]:
    """Check an index expression against an output; raises TargetError for what selects nothing."""
    if index is None:
        return ()
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


def _written(index: Index | Mean, label: Callable[[int], str]) -> str:
    """Write an index the way it is typed, "[17, 1]" or "[:, 1]"; a class by its label."""
    if index == "mean":
        return "the mean"
    if isinstance(index, int):
        return label(index)
    parts = index if isinstance(index, tuple) else (index,)
    texts = [
        f"{'' if i.start is None else i.start}:{'' if i.stop is None else i.stop}"
        if isinstance(i, slice)
        else str(i)
        for i in parts
    ]
    return f"[{', '.join(texts)}]"


def _described(weights: Array) -> str:
    """Write a single weight, or the shape of several."""
    shape = " x ".join(map(str, weights.shape))
    return f"{shape} weights" if shape else f"{weights:g}"


def _numbers(given: object) -> Array:
    """Return weights as float32; raises TargetError for what holds no finite numbers, or zeros alone."""
    found = np.asarray(given)
    if found.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            found = found.astype(np.float32)
        if np.isfinite(found).all() and found.any():
            return found
    raise TargetError("weights must be finite numbers, some of them not zero")
