"""Rows of the benchmark: kept as JSON, shown as Markdown."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tools.bench.others.process import LIMIT

Rows = dict[str, dict[str, Any]]
"""By net: the figures of each part ("fast", "slow", "same", "memory", "others"); REAL: those of "real"."""
REAL = "real models"

PACKAGES = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "torch", "torchvision", "captum", "grad-cam",
            "onnx2torch")  # fmt: skip
BESIDE = {
    "gradient": "PyTorch autograd",
    "positive": "captum Saliency",
    "grad_cam": "grad-cam GradCAM",
    "lift_cam": "captum LIFT-CAM",
    "score_cam": "grad-cam ScoreCAM",
    "ablation_cam": "grad-cam AblationCAM",
}
"""Method -> what a PyTorch user would run for the same."""
GOALS = {
    "gradient": {"resnet50": 2.2, "vgg16": 2.2, "mobilenet_v2": 3.2, "densenet121": 3.0,
                 "efficientnet_b0": 4.0},
    "grad_cam": {"vgg16": 1.35, "": 1.15},
    "lift_cam": {"vgg16": 1.35, "": 1.15},
}  # fmt: skip
"""Method -> net -> at most so many forwards."""
HEAD = """# Time and memory

Written by `python -m tools.bench --rows ROWS.json --write docs/benchmarks.md`; rows add up over several runs.
{machine}; {versions}.

{threads} threads of the CPU, one image of 224 x 224, torchvision's nets with seeded random weights, the
predicted class, unless said otherwise. All of one table ran in turn in one process; figures are medians in
milliseconds. A *forward* is plain onnxruntime on the exported file. Distances from PyTorch are between two
float32 runs: with random weights ReLUs flip between any two; [parity.md](parity.md) takes flips out. Figures
of a GPU are in [gpu.md](gpu.md).
"""
MEMORY = """## Memory and start-up

Each row is a process of its own. *peak*: resident memory after the first gradient, imports included;
*growth*: over 990 more images, after ten. *first*: from the file to the first gradient, of which *sessions*
is onnxruntime's part (reading and optimising graphs) and *ours* the rest; *next*: the second gradient.
*cached*: *first* and *ours* of a process that finds its graphs in a cache (`ox.load(cache=...)`).

| net | peak | PyTorch's | ratio | growth | import | first | sessions | ours | cached | ours | next |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""

OTHERS = f"""Tools that explain ONNX files themselves, on the same file and a picture: each in an environment
and process of its own, onnxplain before and after them. *forwards* are those of the tool's own process; those
of OpenVINO XAI are OpenVINO's, in float32. Maps are of the predicted class unless said otherwise. What took
longer than {LIMIT} s was stopped.

| tool | what | ms | forwards |
|---|---|---:|---:|"""
REALS = """A picture each, read as the model wants it: milliseconds, and forwards in brackets.

| file | forward | {methods} |
|---|---:|{rules}"""


def read(path: Path | None) -> Rows:
    """Return the rows of a file; none where there is no file."""
    if path is None or not path.exists():
        return {}
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))
    return rows


def save(path: Path, rows: Rows) -> None:
    """Write rows as JSON."""
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def render(rows: Rows, threads: int, notes: str) -> str:
    """Return the page; `notes` is what it says below the figures."""
    lines = [HEAD.format(machine=machine(), versions=versions(), threads=threads)]
    for net, parts in rows.items():
        lines += [f"## {net}", ""]
        for part in ("fast", "slow"):
            if part in parts:
                forward = parts.get("fast", {}).get("forward", math.nan)
                lines += [*_times(net, parts[part], forward), ""]
        if "turns" in parts:
            forward, gradient = (parts["turns"][name] for name in ("forward", "gradient"))
            lines += [
                f"Once each in turn, which leaves neither its caches: forward {forward:.1f} ms, "
                f"gradient {gradient:.1f} ms ({gradient / forward:.2f} forwards).",
                "",
            ]
        if "batch" in parts:
            said = ", ".join(f"{name} {ms:.0f} ms" for name, ms in parts["batch"].items())
            lines += [f"At once: {said}.", ""]
        if "same" in parts:
            said = ", ".join(f"{k} {a:.0e} to {b:.0e}" for k, (a, b) in parts["same"].items())
            lines += [
                f"Distance from PyTorch, of the largest value, best to worst image: {said}.",
                "",
            ]
        if "others" in parts:
            lines += [*_others(parts["others"]), ""]
        if "real" in parts:
            lines += [*_real(parts["real"]), ""]
    lines += _memory(rows)
    return "\n".join([*lines, notes.strip(), ""])


def _times(net: str, times: dict[str, float], forward: float) -> list[str]:
    lines = ["| what | ms | forwards | at most | instead | ms | times faster |"]
    lines.append("|---|---:|---:|---:|---|---:|---:|")
    others = [k for k in times if "captum" in k or "grad-cam" in k or "PyTorch" in k]
    shown = set()
    for name, ms in times.items():
        if name in others:
            continue
        goals = GOALS.get(name, {})
        goal = goals.get(net, goals.get(""))
        beside = "PyTorch forward" if name == "forward" else BESIDE.get(name, "")
        beside = beside if beside in times else ""
        shown.add(beside)
        theirs = f"{times[beside]:.1f} | {times[beside] / ms:.2f}" if beside else " | "
        limit = "" if goal is None else f"{goal:g}"
        lines.append(f"| {name} | {ms:.1f} | {ms / forward:.2f} | {limit} | {beside} | {theirs} |")
    for name in others:
        if name not in shown:
            lines.append(f"| | | | | {name} | {times[name]:.1f} | |")
    return lines


def _others(tools: dict[str, Any]) -> list[str]:
    lines = [OTHERS]
    for said in tools.values():
        first = said["name"]
        for name in said["ms"][0]:
            times = [run[name] for run in said["ms"]]
            if None in times:
                cells = f"> {LIMIT * 1000:,} | "
            else:
                shares = [run[name] / run["forward"] for run in said["ms"]]
                cells = f"{_span(times, 1)} | {_span(shares, 2)}"
            lines.append(f"| {first} | {name} | {cells} |")
            first = ""
    return lines


def _span(values: Sequence[float], digits: int) -> str:
    ends = [f"{at(values):,.{digits}f}" for at in (min, max)]
    return " to ".join(dict.fromkeys(ends))


def _real(files: dict[str, dict[str, float | str]]) -> list[str]:
    methods = [name for name in next(iter(files.values())) if name != "forward"]
    lines = [REALS.format(methods=" | ".join(methods), rules="---:|" * len(methods))]
    reasons = []
    for file, times in files.items():
        forward = float(times["forward"])
        cells = []
        for name in methods:
            ms = times[name]
            cells.append("-" if isinstance(ms, str) else f"{ms:.2f} ({ms / forward:.2f})")
            reasons += [f"- {file}, {name}: {ms}"] if isinstance(ms, str) else []
        lines.append(f"| {file.removesuffix('.onnx')} | {forward:.2f} | {' | '.join(cells)} |")
    return [*lines, *(["", "Refused:", "", *reasons] if reasons else [])]


def _memory(rows: Rows) -> list[str]:
    with_memory = {net: parts["memory"] for net, parts in rows.items() if "memory" in parts}
    if not with_memory:
        return []
    lines = [MEMORY]
    for net, m in with_memory.items():
        first, cached = (x["load"] + x["first"] for x in (m, m["cached"]))
        cells = (
            net,
            f"{m['peak']:.0f} MB",
            f"{m['pytorch']:.0f} MB",
            f"{m['peak'] / m['pytorch']:.2f}",
            "" if m["growth"] is None else f"{m['growth']:.0f} MB",
            f"{m['import']:.2f} s",
            f"{first:.2f} s",
            f"{m['sessions']:.2f} s",
            f"{first - m['sessions']:.2f} s",
            f"{cached:.2f} s",
            f"{cached - m['cached']['sessions']:.2f} s",
            f"{m['next']:.3f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def machine() -> str:
    """Describe the processor."""
    found = "an unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [s for s in info.read_text().splitlines() if s.startswith("model name")]
        found = f"{len(names)} cores of {names[0].split(':')[1].strip()}" if names else found
    return f"{found}, {platform.system()} {platform.machine()}"


def versions() -> str:
    """Name what was installed."""
    said = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(said)
