"""Peak memory and start-up time: each figure from a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PEAK = """
def highest():
    lines = open("/proc/self/status").read().splitlines()  # ru_maxrss would start at the parent's
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
"""
OURS = """
import json, resource, sys, time
begin = time.perf_counter()
import numpy as np
import onnxplain as ox
from tools.bench.laps import sessions_timed
path, threads, images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
laps = {"import": time.perf_counter() - begin}
with sessions_timed(laps):
    start = time.perf_counter()
    model = ox.load(path, device="cpu", threads=threads)
    laps["load"] = time.perf_counter() - start
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    start = time.perf_counter()
    ox.gradient(model, x)
    laps["first"] = time.perf_counter() - start
start = time.perf_counter()
ox.gradient(model, x)
laps["next"] = time.perf_counter() - start
peak = highest()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
grown = None
for i in range(images):
    ox.gradient(model, x + np.float32(i) / 1000)
    if i == 9:
        grown = resident()
print(json.dumps({"peak": peak, "growth": None if grown is None else resident() - grown, **laps}))
"""
TORCH = """
import json, sys, types
import torch
sys.modules["torchvision._meta_registrations"] = types.ModuleType("none")  # without its compiled part
import torchvision
torch.set_num_threads(int(sys.argv[2]))
net = torchvision.models.get_model(sys.argv[1], weights=None).eval().requires_grad_(False)
x = torch.randn(1, 3, 224, 224).requires_grad_()
z = net(x)
torch.autograd.grad(z[0, z[0].argmax()], x)
print(json.dumps({"peak": highest()}))
"""


def own(path: Path, threads: int, images: int = 0) -> dict[str, Any]:
    """Return MB and seconds of a first gradient, and the MB by which `images` more grow it after ten.

    "cached" has the seconds of a process that finds its sessions in a cache.
    """
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            cached = _measured(OURS, str(path), str(threads), "0", ONNXPLAIN_CACHE=cache)
    return {**_measured(OURS, str(path), str(threads), str(images)), "cached": cached}


def pytorch(net: str, threads: int) -> dict[str, Any]:
    """Return the peak in MB of the same gradient by PyTorch."""
    return _measured(TORCH, net, str(threads))


def _measured(script: str, *arguments: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-c", PEAK + script, *arguments]
    # As a user's process, which finds the modules compiled.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | environment
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=usual)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found
