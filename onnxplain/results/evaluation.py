"""What an evaluation found: a number per image, model, method and metric."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxplain.errors import InputError
from onnxplain.results.record import Record, axes
from onnxplain.results.records import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Record):
    """Methods x metrics x models over a data set. `onnxplain.metrics.statistics.standings` compares them.

    Attributes:
        models, methods, metrics: M, E and K names.
        better: of each metric, "up", "down" or "zero".
        images: names of the N images.
        values: float64 [N, M, E, K]; 0 where there is none.
        present: bool, the same shape: whether there is a value (a metric may need more than a method gives).
        classes: int64 [N, M], the class that was explained.
        ms: float64 [N, M, E], milliseconds an image took: the mean of the images of its batch.
        forward_ms: float64 [N, M], the same for a plain forward run.
    """

    models: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    better: tuple[str, ...]
    images: tuple[str, ...]
    values: Array = field(metadata=axes("N M E K", np.float64))
    present: Array = field(metadata=axes("N M E K", np.bool_))
    classes: Array = field(metadata=axes("N M", np.int64))
    ms: Array = field(metadata=axes("N M E", np.float64))
    forward_ms: Array = field(metadata=axes("N M", np.float64))

    def _check(self) -> None:
        named = (self.images, self.models, self.methods, self.metrics)
        if self.values.shape != tuple(map(len, named)) or len(self.better) != len(self.metrics):
            raise InputError(
                f"values {list(self.values.shape)} are not [images, models, methods, metrics] = "
                f"{list(map(len, named))}"
            )

    def of(self, method: str, metric: str, model: str | None = None) -> Array:
        """Return the values that one method has by one metric, float64 [n]; the first model's by default.

        Raises ValueError for a name that is not there.
        """
        m = 0 if model is None else self.models.index(model)
        at = (slice(None), m, self.methods.index(method), self.metrics.index(metric))
        found: Array = self.values[at][self.present[at]]
        return found

    def cost(self, method: str, model: str | None = None) -> tuple[float, float]:
        """Return (milliseconds per image, the same in plain forward runs): medians over the images."""
        m = 0 if model is None else self.models.index(model)
        ms = self.ms[:, m, self.methods.index(method)]
        return float(np.median(ms)), float(np.median(ms / self.forward_ms[:, m]))
