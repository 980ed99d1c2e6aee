"""Work on a Ray cluster, by actors that each hold the models.

Models and job are put into the object store once. Pictures travel encoded, so that workers need none of
the driver's files (.npy, .npz and .pb files excepted). A worker that dies is replaced, and what it had is
done again.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from threadpoolctl import threadpool_limits

from onnxplain.dataset.job import Job
from onnxplain.dataset.worker import Done, Piece, Skipped, work
from onnxplain.errors import ConfigError, InputError, OnnxplainError, WorkerError
from onnxplain.model import Model

TIMEOUT = 5.0
"""Seconds to wait for a cluster to answer at all."""
TRIES = 4
"""A piece is given up after so many workers died of it."""

# Ray would print a notice, count its use, and draw bars of its own.
_QUIET = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


class Actor:
    """Holds the models in a process of its own; `threads` of each run."""

    def __init__(self, models: Sequence[Model], threads: int | None) -> None:
        """Take the models from the object store."""
        self._models = models
        threadpool_limits(1, "blas")
        if threads is not None:
            for model in models:
                model.executor.threads = threads  # no session has been made yet

    def work(self, job: Job, piece: Piece) -> Done:
        """Do one piece."""
        return work(self._models, job, piece)


@dataclass
class _Task:
    piece: Piece
    slot: int
    ref: Any
    tries: int = 1


class _Crew:
    """The actors, by slot."""

    def __init__(self, ray: Any, models: Sequence[Model], job: Job, workers: int | None) -> None:
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1)) or 1
        self.count = workers or gpus or cpus
        threads = None if gpus else max(1, cpus // self.count)
        # Half a CPU each: whole ones would leave none for anything else that the cluster does.
        options = {"num_cpus": min(0.5, cpus / self.count), "num_gpus": min(1, gpus / self.count)}
        actor, shipped = ray.remote(Actor).options(**options), ray.put(tuple(models))
        self._make: Callable[[], Any] = lambda: actor.remote(shipped, threads)
        self._ray, self._job = ray, ray.put(job)
        self._actors = [self._make() for _ in range(self.count)]

    def give(self, piece: Piece, busy: Sequence[_Task]) -> _Task:
        """Give a piece to the worker with the least to do."""
        refs = [task.ref for task in busy]
        _, left = self._ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ((), ())
        load = [0] * self.count
        for task in busy:
            load[task.slot] += task.ref in left
        slot = load.index(min(load))
        return _Task(piece, slot, self._actors[slot].work.remote(self._job, piece))

    def replace(self, slot: int, tasks: Iterable[_Task]) -> None:
        """Put a new worker in a dead one's place and give it what that one had."""
        self._actors[slot] = self._make()
        for task in tasks:
            if task.slot == slot:
                task.ref = self._actors[slot].work.remote(self._job, task.piece)

    def dismiss(self) -> None:
        """End the workers."""
        for actor in self._actors:
            self._ray.kill(actor)


def run(
    models: Sequence[Model],
    job: Job,
    pieces: Iterable[Piece],
    workers: int | None,
    address: str | None,
) -> Generator[Done]:
    """Yield what comes of each piece, in order.

    workers: actors, None for one per GPU, or per CPU where there is no GPU. address: of the cluster; None is
    that of RAY_ADDRESS, or a cluster on this machine for the time being.

    Raises ConfigError (no Ray, or no cluster there), WorkerError (workers die of a piece again and again).
    """
    ray = _connect(address)
    crew = _Crew(ray, models, job, workers)
    waiting: deque[_Task] = deque()
    try:
        for piece in pieces:
            waiting.append(crew.give(_packed(piece), waiting))
            if len(waiting) >= 2 * crew.count:
                yield _result(ray, crew, waiting)
        while waiting:
            yield _result(ray, crew, waiting)
    finally:
        crew.dismiss()


def import_ray() -> Any:
    """Return the ray module; raises ConfigError where it is not installed."""
    if (
        "ray" not in sys.modules
    ):  # it reads these when it is imported, and mixes up what comes later
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError("engine 'ray' needs Ray: pip install 'onnxplain[ray]'") from error
    return ray


def _connect(address: str | None) -> Any:
    """Return Ray, connected: once for all passes, until the process ends."""
    ray = import_ray()
    if ray.is_initialized():
        return ray
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises a family of types, gRPC's among them
        raise ConfigError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    return ray


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens at "host:port": Ray itself waits for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), TIMEOUT).close()


def _packed(piece: Piece) -> Piece:
    """Return a piece that does not depend on files of this machine."""
    items, skipped = [], list(piece.skipped)
    for number, item, label in piece.items:
        try:
            items.append((number, item.packed(), label))
        except InputError as error:
            skipped.append(Skipped(number, item.name, str(error)))
    return replace(piece, items=tuple(items), skipped=tuple(skipped))


def _result(ray: Any, crew: _Crew, waiting: deque[_Task]) -> Done:
    """Wait for the first piece; replace its worker where that dies."""
    while True:
        first = waiting[0]
        try:
            done: Done = ray.get(first.ref)
        except ray.exceptions.RayActorError as error:
            if first.tries == TRIES:
                of = first.piece.numbers
                raise WorkerError(
                    f"{TRIES} workers died at items {of.start} to {of.stop - 1} of the data: out of memory? "
                    "Try fewer workers or a smaller batch"
                ) from error
            first.tries += 1
            crew.replace(first.slot, waiting)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, OnnxplainError) else error from error
        else:
            waiting.popleft()
            return done
