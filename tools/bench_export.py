"""What an explanation inside the file costs: explained files beside the original, interleaved medians.

    python tools/bench_export.py MODEL [--methods lift-cam,grad-cam,positive] [--batch 1] [--runs 100]

Bare onnxruntime sessions on the CPU, whose threads do not spin (those of one session would take the cores
from the next); a row per method: median time in forwards of the
original, whether the original outputs have the same bits, and how far the map is from the API's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnxplain as ox
from onnxplain.methods.registry import explain
from onnxplain.verify import noise


def session(path: Path) -> ort.InferenceSession:
    """Open a file as any program would, but for threads that wait without spinning."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def medians(sessions: dict[str, ort.InferenceSession], feeds: Any, runs: int) -> dict[str, float]:
    """Return the median time of each session, run in turn so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(runs + 5):
        for name, one in sessions.items():
            begin = time.perf_counter()
            one.run(None, feeds)
            if turn >= 5:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--methods", default="lift-cam,grad-cam,positive")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    asked = parser.parse_args()
    model = ox.load(asked.model, device="cpu")
    source = model.graph.source.name
    x = np.concatenate([noise(model, seed)[source] for seed in range(asked.batch)])
    with tempfile.TemporaryDirectory() as folder:
        written = {
            m: ox.export(model, m, Path(folder) / f"{m}.onnx") for m in asked.methods.split(",")
        }
        sessions = {"forward": session(asked.model)}
        sessions |= {name: session(e.path) for name, e in written.items()}
        found = medians(sessions, {source: x}, asked.runs)
        forward = sessions["forward"].run(None, {source: x})
        print(f"{asked.model.name}, batch {asked.batch}: forward {1e3 * found['forward']:.2f} ms")
        print(f"{'method':20} {'forwards':>8}  {'outputs':9}  {'map, relative to the API':24}")
        for name in written:
            *outputs, values = sessions[name].run(
                [o.name for o in sessions["forward"].get_outputs()] + ["explanation"], {source: x}
            )
            same = all(a.tobytes() == b.tobytes() for a, b in zip(forward, outputs, strict=True))
            api = explain(model, x, name).values
            error = np.abs(values - api).max() / np.abs(api).max()
            ratio = found[name] / found["forward"]
            print(f"{name:20} {ratio:8.2f}  {'same bits' if same else 'DIFFER':9}  {error:.1e}")


if __name__ == "__main__":
    main()
