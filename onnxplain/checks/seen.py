"""What checks look at: a batch of images with its predictions and maps, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxplain.dataset import Batch
from onnxplain.dataset.annotations import Annotations
from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.methods.registry import explain
from onnxplain.model import Model
from onnxplain.preprocess import decode, encode
from onnxplain.results import Explanation, Prediction, bilinear
from onnxplain.target import parse_target

MODEL, REFERENCE, UNTRAINED = "model", "reference", "untrained"
"""What a model is to the checks."""
PREDICTED, LABEL = "predicted", "label"
"""Targets beside those of `parse_target`: the class the reference (or else the model) predicts; the label."""


@dataclass(frozen=True)
class Asked:
    """Which maps a check looks at: a method, a layer per model (None: the default), a target in words."""

    method: str
    target: str = PREDICTED
    layers: Mapping[str, str | None] = field(default_factory=dict)


class Seen:
    """A batch, the models by their roles, and all that was computed of it so far."""

    def __init__(
        self, models: Mapping[str, Model], batch: Batch, annotations: Annotations | None = None
    ) -> None:
        """Take a batch whose inputs are in the models' order."""
        self.models, self.batch, self.annotations = models, batch, annotations
        self.x = dict(zip(models, batch.inputs, strict=True))
        self._found: dict[Any, Any] = {}

    def first(self, count: int) -> Seen:
        """Return those of the images that are among the first `count` of the data."""
        rows = self.batch.numbers < count
        return self if rows.all() else self.rows(rows)

    def rows(self, chosen: Any) -> Seen:
        """Return some of the images."""
        b, rows = self.batch, np.arange(len(self.batch.names))[chosen]
        names = tuple(b.names[i] for i in rows)
        inputs = tuple(x[rows] for x in b.inputs)
        batch = Batch(b.numbers[rows], names, b.labels[rows], b.digests[rows], inputs)
        return Seen(self.models, batch, self.annotations)

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gives, computed the first time only."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]


class View:
    """A batch as one check sees it: with its options, and the maps of its method.

    `shown` has the maps [n, H, W] that it looked at, by what they are.
    """

    def __init__(self, seen: Seen, asked: Asked, options: Mapping[str, Any]) -> None:
        """Take the batch and the check's settings."""
        self.seen, self.asked, self.options = seen, asked, options
        self.shown: dict[str, Array] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.seen.batch.names)

    def one(self, i: int) -> View:
        """Return the view of one of the images alone."""
        return View(self.seen.rows([i]), self.asked, self.options)

    @property
    def model(self) -> Model:
        """The model under check."""
        return self.seen.models[MODEL]

    @property
    def x(self) -> Array:
        """The input of the model under check [n, ...]."""
        return self.seen.x[MODEL]

    @property
    def labels(self) -> Array:
        """The class of each image; raises InputError where one is not known."""
        labels = self.seen.batch.labels
        if (labels < 0).any():
            name = self.seen.batch.names[int(np.argmax(labels < 0))]
            raise InputError(f"the class of {name} is not known: the data need labels")
        return labels

    def prediction(self, role: str = MODEL) -> Prediction:
        """Return what a model predicts."""
        found: Prediction = self.seen.once(
            ("predicted", role), lambda: self.seen.models[role].predict(self.seen.x[role])
        )
        return found

    @property
    def target(self) -> Any:
        """What is explained, the same for every model."""
        if self.asked.target == LABEL:
            return self.labels
        if self.asked.target != PREDICTED:
            return parse_target(self.asked.target, self.model.labels)
        first = REFERENCE if REFERENCE in self.seen.models else MODEL
        if self.seen.models[first].classes is None:
            return None
        return self.prediction(first).classes

    def layer(self, role: str = MODEL) -> str | None:
        """Return the layer of a model's class activation maps; None for its default."""
        return self.asked.layers.get(MODEL if role == UNTRAINED else role)

    def explanation(self, role: str = MODEL, x: Array | None = None, what: str = "") -> Explanation:
        """Return the explanation of a model's input, or of another one, `x`: `what` it is, in words."""
        asked, layer = self.asked, self.layer(role)

        def compute() -> Explanation:
            given = self.seen.x[role] if x is None else x
            return explain(self.seen.models[role], given, asked.method, self.target, layer)

        found: Explanation = self.seen.once(("explained", *self._key(role, what)), compute)
        return found

    def maps(self, role: str = MODEL, x: Array | None = None, what: str = "") -> Array:
        """Return the heat maps of `explanation` in 0..1, in the size of the model's own [n, H, W].

        They are noted, to be drawn where an image turns out bad.
        """

        def compute() -> Array:
            maps: Array = self.explanation(role, x, what).heatmap()
            if role == MODEL or maps.shape[1:] == self.size:
                return maps
            return bilinear(maps, self.size)

        maps: Array = self.seen.once(("map", *self._key(role, what)), compute)
        self.shown[f"{what or role}: {self.asked.method.replace('_', '-')}"] = maps
        return maps

    def _key(self, role: str, what: str) -> tuple[str | None, ...]:
        return role, what, self.asked.method, self.asked.target, self.layer(role)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's maps."""
        h, w = self.maps().shape[1:]
        return h, w

    @property
    def pixels(self) -> Array:
        """The pixels in 0..1 [n, ...], in the layout of the input; raises InputError for no pictures."""
        if not self.model.spec.is_picture:
            raise InputError(f"{self.model.name} takes no pictures")
        return decode(self.x, self.model.spec, self.model.preprocess)

    def fed(self, pixels: Array) -> Array:
        """Return pixels as model input, what lies outside black and white cut off."""
        return encode(np.clip(pixels, 0, 1), self.model.spec, self.model.preprocess)

    @property
    def masks(self) -> Array:
        """Where the object is, bool [n, H, W]; all False for images without annotation."""
        annotations = self.seen.annotations
        if annotations is None:
            raise InputError("no annotations were given")
        size, classes = self.size, self.explanation().classes
        labels = [None if c < 0 else self.model.label(int(c)) for c in classes]
        names = self.seen.batch.names
        return np.stack(
            [annotations.mask(n, c, size, self.model) for n, c in zip(names, labels, strict=True)]
        )


def numbers(found: Array) -> Array:
    """Return float64, of truth values too."""
    return np.asarray(found, np.float64)
