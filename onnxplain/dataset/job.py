"""A job over data: what is computed of a batch, and how two results become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from onnxplain.dataset.source import Array
from onnxplain.model import Model

Partial = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some items, read.

    Attributes:
        numbers: int64 [n], their places in the data.
        names: n names, for reports.
        labels: int64 [n], their classes; -1 where not known.
        digests: uint32 [n], a hash of each image's content: to split data alike whatever their order.
        inputs: one array [n, ...] per model, as it is fed.
    """

    numbers: Array
    names: tuple[str, ...]
    labels: Array
    digests: Array
    inputs: tuple[Array, ...]

    @property
    def x(self) -> Array:
        """The input of the only, or first, model."""
        return self.inputs[0]


class Job(ABC):
    """Subclasses are frozen dataclasses of plain values and arrays, so that they can be sent to workers."""

    name: ClassVar[str]
    """Begins the name of what is kept on disk."""
    version: ClassVar[int] = 1
    """Raise it when the numbers may change: what was kept before is not used any more."""

    @abstractmethod
    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the statistics of a batch."""

    @abstractmethod
    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the statistics of both; `a` comes first in the data. Must be associative."""

    @abstractmethod
    def key(self) -> Any:
        """Return what the numbers depend on beside models and data, JSON-able."""
