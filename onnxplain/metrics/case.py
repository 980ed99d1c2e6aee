"""One case to judge: images, the maps that explain them, and what else a metric may want to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.methods.common import Images
from onnxplain.metrics.answers import Answers
from onnxplain.model import Model
from onnxplain.results import Explanation

Explain = Callable[[Model, Images, Array], Explanation]
"""(model, images, classes) -> what explains them: a method with its options."""


@dataclass(frozen=True, eq=False)
class Case:
    """What metrics judge. Runs that several of them need are made once.

    Attributes:
        answers: the images and what the model answers.
        maps: [N, H, W] in 0..1 at the size of the input, as `.heatmap()` gives them; NaN and other ranges
            are refused with InputError.
        explain: the method that made them; for metrics that explain other images or models.
        explanation: what it returned for these images.
        masks: bool [N, H, W], where the object is.
    """

    answers: Answers
    maps: Array
    explain: Explain | None = None
    explanation: Explanation | None = None
    masks: Array | None = None

    def __post_init__(self) -> None:
        wanted = (len(self.answers), *self.answers.size)
        object.__setattr__(self, "maps", checked_maps(self.maps, wanted))

    @classmethod
    def of(cls, answers: Answers, explain: Explain, masks: Array | None = None) -> Case:
        """Explain the images and return the case."""
        found = explain(answers.model, answers.feeds, answers.classes)
        return cls(answers, found.heatmap(), explain, found, masks)

    @cached_property
    def curves(self) -> dict[tuple[object, ...], Array]:
        """Curves that were asked for, by their settings."""
        return {}


def checked_maps(maps: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return maps as float64 [N, H, W]; raises InputError unless they are finite, in 0..1, of that shape."""
    found = np.asarray(maps)
    if found.ndim != 3 or found.dtype.kind not in "fiub" or not found.size:
        raise InputError(f"maps must be numbers [N, H, W], got {found.dtype} {list(found.shape)}")
    if shape is not None and found.shape != shape:
        raise InputError(
            f"maps of shape {list(found.shape)} do not lie over images {list(shape)}: use .heatmap()"
        )
    found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError("maps hold NaN or infinite numbers")
    if found.min() < 0 or found.max() > 1:
        raise InputError(
            f"maps must lie in 0..1, got {found.min():.3g} to {found.max():.3g}: use .heatmap()"
        )
    return found
