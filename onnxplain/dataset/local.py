"""Work in this process, by threads that share the models.

onnxruntime, the decoders and NumPy leave Python's lock while they work, so threads use all cores and the
models are loaded once. Processes were measured beside them: `python -m tools.bench_data engines`. BLAS gets
one thread meanwhile: with threads of its own beside these, a pass took 1.4 times as long.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from threadpoolctl import threadpool_limits

from onnxplain.dataset.job import Job
from onnxplain.dataset.worker import Done, Piece, work
from onnxplain.model import Model


def run(
    models: Sequence[Model], job: Job, pieces: Iterable[Piece], workers: int | None
) -> Generator[Done]:
    """Yield what comes of each piece, in order; `workers`: threads, None for as many as cores."""
    count = workers or os.cpu_count() or 1
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(count, "onnxplain-pass")
    try:
        with threadpool_limits(1, "blas"):
            for piece in pieces:
                waiting.append(pool.submit(work, models, job, piece))
                if len(waiting) > count:  # one more than can run is ready, and no more in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
