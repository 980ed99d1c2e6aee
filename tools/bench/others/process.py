"""One tool's process: `python -m tools.bench.others.process TOOL FILE IMAGE.npy THREADS` prints JSON.

Imports nothing that the tools' environments lack. Where a tool takes no number of threads, the processors it
may run on bound them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.timing import Run, interleaved

ROUNDS, SECONDS = 15, 20
LIMIT = 60
"""Seconds that one slow method may take."""
SHORT = 5000
"""Milliseconds of which what is made at the first run only may be a part worth leaving out."""


def main() -> None:
    """Time the tool on no more processors than it may have threads."""
    tool, path, image, threads = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    x = np.load(image)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        module: Any = importlib.import_module(f"tools.bench.others.{tool}")
        ms: dict[str, float | None] = {
            **interleaved(module.fast(path, x, threads), ROUNDS, SECONDS)
        }
        for name, run in module.slow(path, x, threads).items():
            ms[name] = once(run)
    print(json.dumps({"name": module.NAME, "ms": ms}))


def once(run: Run) -> float | None:
    """Return the ms of a run, of a second one where the first is short; None beyond the limit."""

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        ms = _timed(run)
        return ms if ms > SHORT else _timed(run)
    except TimeoutError:
        return None
    finally:
        signal.alarm(0)


def _timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
