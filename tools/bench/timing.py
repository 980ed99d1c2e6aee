"""Interleaved timing: what is compared runs in turn, so that a busy machine is busy for all of it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

Run = Callable[[], object]
SETTLE = 0.1


def interleaved(
    contenders: Mapping[str, Run], rounds: int, seconds: float = math.inf, settle: float = SETTLE
) -> dict[str, float]:
    """Return each contender's median in ms over up to `rounds` rounds, after one to warm up.

    In its turn each first runs untimed for `settle` seconds: threads of the one before spin on for a while.
    At least one round is timed, and no new one starts after `seconds`.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for i in range(rounds + 1):
        if i > 1 and time.perf_counter() - begin > seconds:
            break
        for name, run in contenders.items():
            turn = time.perf_counter()
            while i and time.perf_counter() - turn < settle:
                run()
            start = time.perf_counter()
            run()
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) * 1e3 for name, taken in times.items()}
