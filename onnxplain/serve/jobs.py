"""Work in threads beside the event loop: bounded in what waits, and in what is kept."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Literal, TypeVar

from onnxplain.errors import OnnxplainError

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
log = logging.getLogger("onnxplain.serve")


class Busy(Exception):
    """As much work waits as may wait."""


class Cancelled(Exception):
    """The job was cancelled or forgotten; raised inside it at its next step."""


class Pool:
    """Threads that work through a queue of bounded length."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        """Start `threads` threads when needed; at most `waiting` pieces of work wait for them."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threading.BoundedSemaphore(threads + waiting)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue a piece of work; raises Busy."""
        if not self._room.acquire(blocking=False):
            raise Busy
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """Take no more work and drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Kept(Generic[T]):
    """The things used last, by an unguessable id: at most `count` of them and `size` bytes together."""

    def __init__(self, count: int, size: int, forget: Callable[[T], None] = lambda _: None) -> None:
        """`forget` is called with what is dropped."""
        self._most, self._size, self._forget = count, size, forget
        self._items: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, name: str, item: T, size: int = 0) -> None:
        """Keep an item of `size` bytes; the ones unused for longest make room."""
        with self._lock:
            self._items[name] = (item, size)
            dropped = self._make_room()
        for old in dropped:
            self._forget(old)

    def resize(self, name: str, size: int) -> None:
        """Say how many bytes an item has grown to, if it is still kept."""
        with self._lock:
            if name in self._items:
                self._items[name] = (self._items[name][0], size)
            dropped = self._make_room()
        for old in dropped:
            self._forget(old)

    def get(self, name: str) -> T | None:
        """Return an item, None where it is unknown or was dropped."""
        with self._lock:
            if name not in self._items:
                return None
            self._items.move_to_end(name)
            return self._items[name][0]

    def drop(self, name: str) -> bool:
        """Forget an item; return whether it was kept."""
        with self._lock:
            found = self._items.pop(name, None)
        if found is not None:
            self._forget(found[0])
        return found is not None

    def clear(self) -> None:
        """Forget everything."""
        for name in list(self._items):
            self.drop(name)

    def __len__(self) -> int:
        return len(self._items)

    def _make_room(self) -> list[T]:
        """Drop the oldest items over the limits; the newest stays, whatever its size."""
        dropped = []
        while len(self._items) > 1 and (
            len(self._items) > self._most or sum(s for _, s in self._items.values()) > self._size
        ):
            dropped.append(self._items.popitem(last=False)[1][0])
        return dropped


class Job(Generic[T]):
    """One question while it is answered: its state, how far it is, and what came of it."""

    def __init__(self) -> None:
        self.id = new_id()
        self.state: State = "queued"
        self.step, self.at, self.of, self.part = "", 0, 0, 0.0
        self.error: str | None = None
        self.result: T | None = None
        self._stop = threading.Event()

    def report(self, step: str, at: int, of: int, part: float = 0.0) -> None:
        """Say what is done next: step `at` (from 1) of `of`, of which a `part` in 0..1 is done.

        Raises Cancelled where nobody waits any more.
        """
        if self._stop.is_set():
            raise Cancelled
        self.step, self.at, self.of, self.part = step, at, of, part

    def cancel(self) -> None:
        """Stop before the next step."""
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "id": self.id, "state": self.state, "step": self.step, "at": self.at, "of": self.of,
            "part": self.part, "error": self.error,
        }  # fmt: skip

    def run(self, work: Callable[[Job[T]], T]) -> None:
        """Work, and keep what came of it: a short sentence where it went wrong."""
        try:
            self.report("starting", 0, 0)
            self.state = "running"
            self.result = work(self)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except OnnxplainError as error:
            self.error, self.state = str(error), "failed"
        except MemoryError:
            self.error, self.state = "not enough memory: ask for less at once", "failed"
        except Exception:
            log.exception("job %s failed", self.id)
            self.error = "this failed inside the server, whose terminal says more"
            self.state = "failed"


class Jobs(Generic[T]):
    """The jobs that run, wait, or ended not long ago."""

    def __init__(
        self, threads: int, waiting: int, kept: int, size: int, size_of: Callable[[T], int]
    ) -> None:
        """Answer in `threads` threads; keep `kept` jobs whose results take `size` bytes together."""
        self._pool = Pool("onnxplain-job", threads, waiting)
        self._kept: Kept[Job[T]] = Kept(kept, size, Job.cancel)
        self._size_of = size_of

    def start(self, work: Callable[[Job[T]], T]) -> Job[T]:
        """Queue a job; raises Busy."""
        job: Job[T] = Job()

        def run() -> None:
            job.run(work)
            if job.result is not None:
                self._kept.resize(job.id, self._size_of(job.result))

        self._kept.add(job.id, job)
        try:
            self._pool.submit(run)
        except Busy:
            self._kept.drop(job.id)
            raise
        return job

    def get(self, name: str) -> Job[T] | None:
        """Return a job, None where it is unknown or was forgotten."""
        return self._kept.get(name)

    def forget(self, name: str) -> bool:
        """Cancel a job and drop what came of it; return whether it was known."""
        return self._kept.drop(name)

    def close(self) -> None:
        """Cancel everything."""
        self._pool.close()
        self._kept.clear()


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_urlsafe(16)
