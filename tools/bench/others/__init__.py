"""Tools that explain ONNX files by themselves, each in an environment of its own, beside onnxplain.

A module of this package is a tool and runs under that environment's Python. It has a NAME and two functions
of a file, an image [1, C, H, W] and a number of threads: `fast` gives what is timed in turn, the plain
forward among it; `slow` what is timed once. `process` runs one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PICTURE = ROOT / "models" / "samples" / "cat.jpg"
"""A picture, as noise would be cut into far more segments."""
OURS = "onnxplain"


def measure(path: Path, x: np.ndarray, threads: int, pythons: Mapping[str, str]) -> dict[str, Any]:
    """Return tool -> {"name": ..., "ms": a dict per run}; onnxplain runs before and after the others."""
    order = [OURS, *pythons, OURS]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.npy"
        np.save(image, x)
        for tool in order:
            said = _run(pythons.get(tool, sys.executable), tool, path, image, threads)
            ms = found.setdefault(tool, {"name": said["name"], "ms": []})["ms"]
            ms.append(said["ms"])
    return found


def picture(size: int) -> np.ndarray:
    """Return the picture enlarged, float32 [1, 3, size, size] in 0..1."""
    pixels = np.asarray(Image.open(PICTURE).convert("RGB").resize((size, size)), np.float32) / 255
    return pixels.transpose(2, 0, 1)[None].copy()


def _run(python: str, tool: str, path: Path, image: Path, threads: int) -> dict[str, Any]:
    script = [python, "-m", "tools.bench.others.process", tool, str(path), str(image), str(threads)]
    beside = dict(os.environ, PYTHONPATH=str(ROOT))
    ran = subprocess.run(script, check=False, capture_output=True, text=True, env=beside, cwd=ROOT)
    if ran.returncode:
        raise SystemExit(f"{tool} failed under {python}: {ran.stderr.strip().splitlines()[-1]}")
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said
