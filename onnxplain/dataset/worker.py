"""What does the work: reads the items of a piece and maps the job over them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnxplain.dataset.items import read_item
from onnxplain.dataset.job import Batch, Job, Partial
from onnxplain.dataset.source import Item
from onnxplain.errors import InputError
from onnxplain.model import Model


class Skipped(NamedTuple):
    """An item that could not be used: its place in the data, its name, and the reason."""

    number: int
    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive items with their classes; `skipped`: those among them that could not even be found."""

    numbers: range
    items: tuple[tuple[int, Item, int], ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a piece; `partial` is None where no item of it could be used."""

    numbers: range
    used: int
    partial: Partial | None
    skipped: tuple[Skipped, ...]


def work(models: Sequence[Model], job: Job, piece: Piece) -> Done:
    """Read the items for every model and map the job over those that all of them can be fed."""
    batch, skipped = read_piece(models, piece)
    partial = None if batch is None else job.map(models, batch)
    return Done(piece.numbers, 0 if batch is None else len(batch.names), partial, skipped)


def read_piece(models: Sequence[Model], piece: Piece) -> tuple[Batch | None, tuple[Skipped, ...]]:
    """Return the items that every model can be fed, None where there are none, and those skipped."""
    found: list[tuple[int, str, int, list[np.ndarray]]] = []
    skipped = list(piece.skipped)
    for number, item, label in piece.items:
        try:
            inputs = [read_item(item, model) for model in models]
        except InputError as error:
            skipped.append(Skipped(number, item.name, str(error)))
        else:
            found.append((number, item.name, label, inputs))
    if not found:
        return None, tuple(sorted(skipped))
    numbers, names, labels, inputs_of = zip(*found, strict=True)
    batch = Batch(
        numbers=np.array(numbers, np.int64),
        names=names,
        labels=np.array(labels, np.int64),
        digests=np.array([zlib.crc32(x[0].tobytes()) for x in inputs_of], np.uint32),
        inputs=tuple(np.concatenate(xs) for xs in zip(*inputs_of, strict=True)),
    )
    return batch, tuple(sorted(skipped))
