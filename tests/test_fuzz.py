"""Malformed models: an `OnnxplainError` or an explanation, never another exception, a hang or a crash.

Seeded cases run in worker processes (tests/fuzz/worker.py), because onnx and onnxruntime are C++ that can
take the whole process down. `python -m tests.fuzz.worker 17 18 1` repeats case 17.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fuzz import worker
from tests.fuzz.nets import sound_nets

WORKERS = 2


COMMANDS = 37
"""Every so many-th case goes through the command line, too: about 60, of every mutation and extreme."""


def outcomes(first: int, total: int, step: int, *how: str) -> dict[int, str]:
    """Return what came of every step-th case; after a crash a new process goes on behind it."""
    found: dict[int, str] = {}
    while first < total:
        span = [str(first), str(total), str(step), *how]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.worker", *span], cwd=ROOT, capture_output=True
        )
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        found |= {line["case"]: line["outcome"] for line in lines if "outcome" in line}
        if done.returncode == 0:
            break
        last = lines[-1] if lines else {"case": first, "name": "could not start"}
        why = done.stderr.decode(errors="replace")[-1000:]
        found[last["case"]] = f"ended the process with {done.returncode}: {last.get('name')}\n{why}"
        first = last["case"] + step
    return found


def of_all(every: int, *how: str) -> dict[int, str]:
    """Return the outcomes of every so many-th case, from all workers."""
    with ThreadPoolExecutor(WORKERS) as pool:
        starts = range(0, WORKERS * every, every)
        parts = pool.map(lambda s: outcomes(s, worker.count(), WORKERS * every, *how), starts)
        return {case: outcome for part in parts for case, outcome in part.items()}


@pytest.fixture(scope="module")
def results() -> dict[int, str]:
    return of_all(1)


def test_nothing_but_our_own_errors(results: dict[int, str]) -> None:
    assert len(results) == worker.count() >= 2000
    bad = {k: v for k, v in results.items() if v.startswith(("escaped", "ended"))}
    assert not bad, "\n".join(f"case {k} ({worker.case(k)[0]}): {v}" for k, v in bad.items())


def test_nobody_tried_to_allocate_what_a_file_claims(results: dict[int, str]) -> None:
    """The workers' memory is limited, so such a try ends in an error of ours that must not hide it."""
    tried = {k: v for k, v in results.items() if "MemoryError" in v or "alloc" in v}
    assert not tried, "\n".join(f"case {k} ({worker.case(k)[0]}): {v}" for k, v in tried.items())


def test_errors_say_what_is_wrong_in_a_line_or_two(results: dict[int, str]) -> None:
    errors = [v for v in results.values() if ": " in v and not v.startswith(("escaped", "ended"))]
    assert len(errors) > len(results) / 2  # else the mutations are too tame to prove anything
    assert max(map(len, errors)) < 2000
    vague = [v for v in errors if "could not be understood" in v]
    assert not vague, "\n".join(vague)


def test_no_traceback_at_the_command_line() -> None:
    """0, or 2 and a line or two that name the file."""
    found = of_all(COMMANDS, "cli")
    assert len(found) == len(range(0, worker.count(), COMMANDS)) >= 60
    bad = {k: v for k, v in found.items() if v != "ended well"}
    assert not bad, "\n".join(f"case {k} ({worker.case(k)[0]}): {v}" for k, v in bad.items())


def test_some_broken_models_still_work(results: dict[int, str]) -> None:
    """Mutations that always end in the first check would test that check alone."""
    explained = sum(v == "explained" for v in results.values())
    assert explained > len(results) / 10


@pytest.mark.parametrize("name", sorted(set(sound_nets()) - {"rnn"}))
def test_the_nets_are_sound_before_they_are_broken(name: str) -> None:
    assert worker.explain(sound_nets()[name].SerializeToString()) == "explained"


def test_a_recurrent_net_is_refused_by_name() -> None:
    assert "LSTM" in worker.explain(sound_nets()["rnn"].SerializeToString())
