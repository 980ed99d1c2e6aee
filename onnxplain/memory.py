"""How much memory is left: what a process may take before the machine or its container runs out."""

from __future__ import annotations

import ctypes
import os
from math import inf
from pathlib import Path

_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")
_CUDA_RUNTIME = "cudart64_13.dll" if os.name == "nt" else "libcudart.so.13"
_LIMIT_AND_USE = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Of control groups, version 2 and 1."""


def available() -> float:
    """Return the bytes that are free or hold what can be dropped; infinity where nobody tells (not Linux)."""
    return min(_of_machine(), *(_of_container(*names) for names in _LIMIT_AND_USE))


def of_device() -> float:
    """Return the bytes that are free on the CUDA device in use; infinity where nobody tells.

    Asks the CUDA runtime that this process has loaded. What an arena has taken counts as used, also where it
    is free again: ask before the first session is made.
    """
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        runtime = ctypes.CDLL(_CUDA_RUNTIME)
        failed = runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except (OSError, AttributeError):
        return inf
    return inf if failed else float(free.value)


def _of_machine() -> float:
    try:
        lines = _MACHINE.read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return inf


def _of_container(limit: str, use: str, parts: str) -> float:
    try:
        most, used = (int((_CONTAINER / name).read_text(encoding="ascii")) for name in (limit, use))
        # Read files that are still kept count as used; they are dropped when memory is wanted.
        lines = (_CONTAINER / parts).read_text(encoding="ascii").splitlines()
        return float(
            most - used + sum(int(x.split()[1]) for x in lines if "inactive_file" in x.split())
        )
    except (OSError, ValueError):  # no container, or "max": no limit
        return inf
