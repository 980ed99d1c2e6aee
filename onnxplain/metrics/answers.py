"""What a model answers to images, and to altered versions of each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from onnxplain.errors import InputError, TargetError
from onnxplain.executor import Array
from onnxplain.methods.common import Images
from onnxplain.methods.features import classifying
from onnxplain.model import Model
from onnxplain.results import Prediction
from onnxplain.target import as_target


class Answers:
    """A batch of images, the class that is explained of each, and the model's answers.

    classes: None (the predicted ones), a class, or one per image. Raises InputError, and TargetError for a
    model without classes or a class that it does not have.
    """

    def __init__(self, model: Model, x: Images, classes: object = None) -> None:
        """Check the batch and run it once."""
        classifying(model)
        self.model, self.feeds = model.fit(x)
        self.source = self.model.graph.source
        self._name = self.model.graph.logit.predicted
        logits = [self._run(rows) for rows in self.model.batches(self.feeds)]
        self.logits = np.concatenate(logits).astype(np.float64)
        predicted = self.logits.argmax(1)
        target = as_target(predicted if classes is None else classes, len(predicted))
        self.classes = target.seeds(self.logits).classes
        if (self.classes < 0).any():
            raise TargetError("metrics judge maps of classes: give a class, or one per image")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.logits)

    @property
    def x(self) -> Array:
        """The images as they are fed, [N, ...]."""
        return self.feeds[self.source.name]

    @cached_property
    def kept(self) -> dict[tuple[object, ...], Any]:
        """What was found of these images and serves all methods, by what it is."""
        return {}

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images in pixels; raises InputError where they are no pictures."""
        if self.source.axes is None:
            raise InputError(
                f"{self.model.name}: input {self.source.name!r} is not a picture, so there is no map "
                "of it to judge"
            )
        h, w = (int(self.source.shape[self.source.axes.index(a)]) for a in "HW")
        return h, w

    @cached_property
    def confidence(self) -> Array:
        """The probability of each image's class, float64 [N]."""
        return self.probability(self.logits, self.classes)

    def to(self, i: int, versions: Array) -> Array:
        """Return the logits of altered versions [m, ...] of image i, float64 [m, C]."""
        altered = {self.source.name: versions}
        feeds = self.model.versions(self.feeds, [i] * len(versions), altered)
        parts = [self._run(rows) for rows in self.model.batches(feeds)]
        return np.concatenate(parts).astype(np.float64)

    def to_many(self, i: int, count: int, make: Callable[[slice], Array]) -> Array:
        """Return the logits of `count` altered versions of image i, float64 [count, C].

        make: gives some of them, few at a time.
        """
        size = self.model.together
        parts = [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]
        return np.concatenate([self.to(i, make(part)) for part in parts])

    def to_each(self, versions: Array) -> Array:
        """Return the logits of one altered version of every image, [N, ...] -> float64 [N, C]."""
        feeds = {**self.feeds, self.source.name: versions}
        parts = [self._run(rows) for rows in self.model.batches(feeds)]
        return np.concatenate(parts).astype(np.float64)

    def probability(self, logits: Array, classes: Array | int) -> Array:
        """Return the probability of a class for each row of logits, as the file's own end computes it."""
        found = Prediction(logits=logits, activation=self.model.graph.logit.activation)
        chosen: Array = found.probabilities[np.arange(len(logits)), classes]
        return chosen

    def over_axes(self, planes: Array) -> Array:
        """Return maps [m, H, W] with the axes of the input, to be broadcast over its colours."""
        assert self.source.axes is not None
        return np.expand_dims(planes, self.source.axes.index("C"))

    def _run(self, rows: dict[str, Array]) -> Array:
        return self.model.values(rows, (self._name,))[self._name]
