"""One pass of a job over data: cut into pieces, worked on, merged in order, kept on disk as it goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from onnxplain.dataset import local, on_ray
from onnxplain.dataset.job import Batch, Job, Partial
from onnxplain.dataset.kept import Kept
from onnxplain.dataset.kinds import Data, open_data
from onnxplain.dataset.labels import Numbering
from onnxplain.dataset.source import Source
from onnxplain.dataset.worker import Done, Piece, Skipped, read_piece
from onnxplain.errors import ConfigError, InputError
from onnxplain.model import Model

Engine = Literal["local", "ray"]
Progress = Callable[[int, int], object]

KEEP_EVERY = 5.0
"""Seconds between two writes of what has been found so far."""
SHOWN = 20
"""Items that were skipped are named in records up to here; all are counted."""


@dataclass(frozen=True, eq=False)
class Found:
    """The statistics of a whole data set.

    Attributes:
        partial: what the job merged.
        data: the name of the source.
        used: number of items that went into it.
        skipped: those that could not be used.
        note: why the labels of the data are not used, if so.
    """

    partial: Partial
    data: str
    used: int
    skipped: tuple[Skipped, ...]
    note: str | None

    @property
    def meta(self) -> dict[str, Any]:
        """What records say about the data, JSON-able."""
        named = [[s.name, s.reason] for s in self.skipped[:SHOWN]]
        found = {"data": self.data, "images": self.used, "skipped": len(self.skipped)}
        return {**found, "skipped_first": named, "labels_note": self.note}


@dataclass(frozen=True, eq=False)
class Run:
    """How passes over data are run.

    Attributes:
        engine: "local" (threads) or "ray" (actors on a cluster; `pip install 'onnxplain[ray]'`).
        workers: threads or actors; None for one per core, or per GPU where a cluster has some.
        address: of a Ray cluster; None for the one of RAY_ADDRESS, or one on this machine.
        batch: items of one piece of work.
        cache: a folder for findings, by what they depend on: an interrupted pass goes on from there, a
            finished one answers at once; a damaged file is as good as none. None keeps nothing.
        progress: is told how many items are done, of how many; what it raises ends the pass.

    Engine, workers and batch change the time, not the result (but for float error).

    Raises ConfigError for values out of range.
    """

    engine: Engine = "local"
    workers: int | None = None
    address: str | None = None
    batch: int = 32
    cache: str | Path | None = None
    progress: Progress | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise ConfigError(
                f"engine {self.engine!r} is unknown: choose {', '.join(get_args(Engine))}"
            )
        for name, value in (("workers", self.workers), ("batch", self.batch)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} = {value!r} must be a whole number, 1 or more")

    def over(self, data: Data, models: Model | Sequence[Model], job: Job) -> Found:
        """Map the job over all items that can be read by every model, and merge what comes of them.

        Classes are numbered as the first model has them. Raises InputError (no data, or none of use),
        ConfigError, WorkerError, and what the job raises.
        """
        group = (models,) if isinstance(models, Model) else tuple(models)
        source = open_data(data, group[0].spec.is_picture)
        numbering = Numbering(source, group[0])
        kept = Kept.open(self._file(source, group, job))
        told = self.progress or (lambda done, of: None)
        written = time.monotonic()
        told(kept.done, len(source))
        work = self._work(group, job, _pieces(source, numbering, kept.done, self.batch))
        try:
            for done in work:
                kept.add(done, job)
                told(kept.done, len(source))
                if time.monotonic() - written >= KEEP_EVERY:
                    kept.write()
                    written = time.monotonic()
        finally:
            work.close()
            kept.write()
        if kept.partial is None:
            reason = kept.skipped[0].reason if kept.skipped else "it is empty"
            raise InputError(f"{source.name}: none of {len(source)} items can be used: {reason}")
        return Found(kept.partial, source.name, kept.used, tuple(kept.skipped), numbering.note)

    def _work(self, models: Sequence[Model], job: Job, pieces: Iterator[Piece]) -> Generator[Done]:
        if self.engine == "ray":
            return on_ray.run(models, job, pieces, self.workers, self.address)
        return local.run(models, job, pieces, self.workers)

    def _file(self, source: Source, models: Sequence[Model], job: Job) -> Path | None:
        """Return the file to keep findings in, named by all that they depend on."""
        if self.cache is None:
            return None
        what = {
            "job": [job.name, job.version, job.key()],
            "models": [
                [m.sha256, {**asdict(m.preprocess), "source": ""}, m.labels] for m in models
            ],
            "data": source.key(),
        }
        digest = hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()
        return Path(self.cache) / f"{job.name}-{digest}.npz"


def take(data: Data, models: Sequence[Model], number: int) -> Batch | None:
    """Read one item of the data, as a batch; None where it cannot be used."""
    source = open_data(data, models[0].spec.is_picture)
    numbering = Numbering(source, models[0])
    batch, _ = read_piece(models, _piece(source, numbering, range(number, number + 1)))
    return batch


def _pieces(source: Source, numbering: Numbering, begin: int, size: int) -> Iterator[Piece]:
    """Yield the items from `begin` on, `size` at a time, not decoded yet."""
    for start in range(begin, len(source), size):
        yield _piece(source, numbering, range(start, min(start + size, len(source))))


def _piece(source: Source, numbering: Numbering, numbers: range) -> Piece:
    items, skipped = [], []
    for number in numbers:
        try:
            item = source.item(number)
        except InputError as error:
            skipped.append(Skipped(number, f"{source.name}[{number}]", str(error)))
        else:
            items.append((number, item, numbering.number(item)))
    return Piece(numbers, tuple(items), tuple(skipped))
