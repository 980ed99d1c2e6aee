"""Which items of a data set activate the channels of some layers most, as a job over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxplain.dataset import Batch, Job, Partial
from onnxplain.executor import Array
from onnxplain.methods.chain import as_maps
from onnxplain.model import Model


@dataclass(frozen=True)
class Best:
    """Of every channel of a layer the largest activations, the largest first.

    values: [K, top], -inf where there are fewer. items: [K, top], numbers of the items, -1 where there are
    fewer. peaks: [K, top, 2], row and column of each.
    """

    values: Array
    items: Array
    peaks: Array

    @classmethod
    def of(cls, maps: Array, items: Array, top: int) -> Best:
        """Return the best of activations [n, K, h, w] of items [n]."""
        flat = maps.reshape(*maps.shape[:2], -1)
        at = flat.argmax(2)
        values = np.take_along_axis(flat, at[:, :, None], 2)[:, :, 0].T
        peaks = np.stack(np.unravel_index(at.T, maps.shape[2:]), 2)
        numbers = np.broadcast_to(items, values.shape)
        missing = max(top - len(items), 0)
        return cls(
            np.pad(values, ((0, 0), (0, missing)), constant_values=-np.inf),
            np.pad(numbers, ((0, 0), (0, missing)), constant_values=-1),
            np.pad(peaks, ((0, 0), (0, missing), (0, 0))),
        ).first(top)

    def merge(self, other: Best) -> Best:
        """Return the best of both; of equal ones those of `self` come first."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Best(*(np.concatenate(pair, 1) for pair in pairs)).first(self.values.shape[1])

    def first(self, top: int) -> Best:
        """Return the `top` largest."""
        order = np.argsort(-self.values, axis=1, kind="stable")[:, :top]
        return Best(
            np.take_along_axis(self.values, order, 1),
            np.take_along_axis(self.items, order, 1),
            np.take_along_axis(self.peaks, order[:, :, None], 1),
        )


@dataclass(frozen=True)
class Highest(Job):
    """The `top` items that activate each channel of some layers most."""

    layers: tuple[str, ...]
    top: int
    name: ClassVar[str] = "exemplars"
    version: ClassVar[int] = 2

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Run up to the layers."""
        model, feeds = models[0].fit(batch.x)
        parts = [model.values(rows, self.layers) for rows in model.batches(feeds)]
        found = []
        for name in self.layers:
            a = np.concatenate([part[name] for part in parts]).astype(np.float32, copy=False)
            found.append(Best.of(as_maps(a, model.layer(name)), batch.numbers, self.top))
        return _partial(found)

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the best of both."""
        pairs = zip(self.best(a).values(), self.best(b).values(), strict=True)
        return _partial([x.merge(y) for x, y in pairs])

    def key(self) -> Any:
        """Return layers and number."""
        return [self.layers, self.top]

    def best(self, partial: Partial) -> dict[str, Best]:
        """Return what was found of each layer."""
        names = ("values", "items", "peaks")
        return {
            layer: Best(*(partial[f"{i}.{name}"] for name in names))
            for i, layer in enumerate(self.layers)
        }


def _partial(found: Sequence[Best]) -> Partial:
    return {f"{i}.{k}": array for i, best in enumerate(found) for k, array in vars(best).items()}
