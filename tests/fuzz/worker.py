"""Try a range of cases in a process of its own: `python -m tests.fuzz.worker START STOP STEP api|cli [SEED]`.

`api` calls the package, `cli` runs the commands. Another seed breaks the nets in other ways.

Writes a JSON line when a case begins and one when it has ended, so that whoever reads them can name the
case that took the process down: by a crash, or by hanging.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import signal
import sys
import tempfile
import traceback
import warnings
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image

import onnxplain as ox
from onnxplain.cli import app as cli
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


def case(number: int, seed: int = 0) -> tuple[str, bytes]:
    """Return the name of a case and its file."""
    if number >= MUTATED + GARBLED:
        return _extremes()[number - MUTATED - GARBLED]
    rng = np.random.default_rng(number + 100_000 * seed)
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


def run_commands(data: bytes) -> str:
    """Run `inspect` and `explain` on a model file; return what is wrong with how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        path.write_bytes(data)
        image = Path(folder) / "image.png"
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(image)
        out = ["--out", f"{folder}/out", "--device", "cpu", "--threads", "1"]
        complaints = [
            complaint
            for arguments in (
                ["inspect", path],
                ["inspect", path, "--json"],
                ["explain", path, image, *out],
            )
            if (complaint := _complaint([str(a) for a in arguments]))
        ]
    return f"escaped: {'; '.join(complaints)}" if complaints else "ended well"


def _complaint(arguments: list[str]) -> str | None:
    """Run a command; return None if it ended with 0, or with 2 and a line or two that name a file."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["onnxplain", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = argv
    said = [line for line in err.getvalue().splitlines() if not line.startswith(_REMARKS)]
    verdict = "not explainable" in out.getvalue() and "case.onnx" in out.getvalue()
    named = any("case.onnx" in line or "image.png" in line for line in said)
    if not said and code == (2 if verdict else 0):
        return None
    if code == 2 and 1 <= len(said) <= 2 and named:
        return None
    return f"{arguments[0]} ended with {code}, saying {' / '.join(said)[:1000]!r}"


_REMARKS = ("onnxplain: pre-processing", "onnxplain: warning:", "onnxplain: lift-cam left out")


def _set_timers(computing: int, waiting: int) -> None:
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, computing)
        signal.setitimer(signal.ITIMER_REAL, waiting)


def main(start: int, stop: int, step: int, through: str = "api", seed: int = 0) -> None:
    """Try the cases, limited in memory and time."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:  # Windows has no such limits
        pass
    warnings.simplefilter("ignore", RuntimeWarning)  # NaN and overflow are what was asked for
    for number in range(start, stop, step):
        name, data = case(number, seed)
        print(json.dumps({"case": number, "name": name}), flush=True)
        _set_timers(LIMIT, PATIENCE)
        try:
            outcome = {"api": explain, "cli": run_commands}[through](data)
        except Exception:  # whatever gets here is what the fuzzer looks for
            outcome = f"escaped: {traceback.format_exc()}"
        print(json.dumps({"case": number, "outcome": outcome}), flush=True)
    _set_timers(0, 0)


if __name__ == "__main__":
    first, last, every, *how = sys.argv[1:]
    main(int(first), int(last), int(every), *how[:1], *map(int, how[1:]))
