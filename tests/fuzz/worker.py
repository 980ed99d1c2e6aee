"""Try a range of cases in a process of its own: `python -m tests.fuzz.worker START STOP STEP`.

Writes a JSON line when a case begins and one when it has ended, so that whoever reads them can name the
case that took the process down: by a crash, or by hanging.
"""

from __future__ import annotations

import copy
import functools
import json
import signal
import sys
import traceback
import warnings
from math import prod

import numpy as np

import onnxplain as ox
from onnxplain.doctor import inspect
from onnxplain.errors import OnnxplainError
from tests.fuzz.extremes import extremes
from tests.fuzz.mutations import MUTATIONS, mutate_bytes
from tests.fuzz.nets import sound_nets

LIMIT, PATIENCE = 10, 60
"""Seconds that a case may compute, and may take on a busy machine: the system ends the process then."""
MEMORY = 6 << 30
"""Bytes of address space that a worker may map; the libraries alone take more than one GB."""
MUTATED, GARBLED = 1400, 300
"""Numbers of cases: nets with one or two mutations, nets with broken bytes."""


@functools.cache
def _extremes() -> list[tuple[str, bytes]]:
    return list(extremes())


def count() -> int:
    """Return the number of cases."""
    return MUTATED + GARBLED + len(_extremes())


def case(number: int) -> tuple[str, bytes]:
    """Return the name of a case and its file."""
    if number >= MUTATED + GARBLED:
        return _extremes()[number - MUTATED - GARBLED]
    rng = np.random.default_rng(number)
    names = list(sound_nets())
    net = names[number % len(names)]
    model = copy.deepcopy(sound_nets()[net])
    if number >= MUTATED:
        return f"{net}, bytes", mutate_bytes(model.SerializeToString(), rng)
    chosen = MUTATIONS[number // len(names) % len(MUTATIONS)]
    chosen(model, rng)
    return f"{net}, {chosen.__name__}", model.SerializeToString()


def explain(data: bytes) -> str:
    """Load, inspect, predict and differentiate a model; return what came of it."""
    try:
        model = ox.load(data, device="cpu", threads=1)
        inspect(model)
        images = 1 if model.graph.pinned is not None else 2
        shapes = {
            i.name: tuple(images if s == "N" else int(s) for s in i.shape)
            for i in model.graph.inputs
        }
        if sum(prod(s) for s in shapes.values()) > 1 << 22:
            return "too large to feed"
        rng = np.random.default_rng(0)
        feeds = {
            i.name: rng.normal(size=shapes[i.name]).astype(i.dtype) for i in model.graph.inputs
        }
        if model.classes is not None:
            model.predict(feeds)
        ox.gradient(model, feeds)
    except OnnxplainError as error:
        return f"{type(error).__name__}: {error}"
    return "explained"


def _set_timers(computing: int, waiting: int) -> None:
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, computing)
        signal.setitimer(signal.ITIMER_REAL, waiting)


def main(start: int, stop: int, step: int) -> None:
    """Try the cases, limited in memory and time."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:  # Windows has no such limits
        pass
    warnings.simplefilter("ignore", RuntimeWarning)  # NaN and overflow are what was asked for
    for number in range(start, stop, step):
        name, data = case(number)
        print(json.dumps({"case": number, "name": name}), flush=True)
        _set_timers(LIMIT, PATIENCE)
        try:
            outcome = explain(data)
        except Exception:  # whatever gets here is what the fuzzer looks for
            outcome = f"escaped: {traceback.format_exc()}"
        print(json.dumps({"case": number, "outcome": outcome}), flush=True)
    _set_timers(0, 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
