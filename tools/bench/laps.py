"""How long onnxruntime takes to make sessions, apart from what onnxplain does itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import onnxruntime


@contextmanager
def sessions_timed(laps: dict[str, float]) -> Iterator[None]:
    """Add up under "sessions" the seconds that making onnxruntime's sessions takes."""
    make = onnxruntime.InferenceSession
    laps["sessions"] = 0.0

    def timed(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        made = make(*args, **kwargs)
        laps["sessions"] += time.perf_counter() - start
        return made

    with mock.patch.object(onnxruntime, "InferenceSession", timed):
        yield
