"""Rows of the comparison: kept as JSON, shown as Markdown."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from onnxplain.version import __version__
from tools.parity.compare import BEST, ROUNDED, ROUNDING, WORST, Parity
from tools.parity.nets import torch, torchvision

TITLES = ("net", "exporter", "explained", "parameters", "pixels", "inputs", "BatchNorm", "forward", "best",
          "worst", "worst without flips", "float32", "verdict")  # fmt: skip
HEAD = f"""# torchvision's networks against PyTorch

Written by `python -m tools.parity --rows ROWS.json --write docs/parity.md`, and the same with
`--exporter dynamo`; rows add up over several runs. One core, onnxruntime's CPU provider.

Each net gets random weights, is exported to ONNX, and explained here; the input gradient of what is
explained is compared with PyTorch's in float64. Errors are relative L2 norms.

- **explained**: the largest logit; a class, or the contrast of two, over a disc of a segmentation map; of a
  detector's raw heads the scores of a class above a threshold, summed, and one side of one box. `+nms` is
  exported whole, with NonMaxSuppression: what comes behind it has no row for each picture and is refused.
- **weights**: seeded; no parameter stays at a constant (ViT's head starts at 0, ConvNeXt's blocks at 1e-6,
  and a rule that nothing depends on is not tested). BatchNorm takes its statistics from random pictures.
- **BatchNorm**: smallest and largest standard deviation of any layer's normalised output on other random
  pictures. On those that the statistics come from it is 1; here it tells whether signals die or explode.
  Deep EfficientNets multiply (squeeze-and-excitation), which lets deviations grow.
- **forward**: error of the outputs, the worst input.
- **best**, **worst**: errors of the gradient. A single ReLU or MaxPool that chooses otherwise in float32 than
  in float64 costs a right gradient up to some 1 % on one input and nothing on the next; a wrong rule shows on
  every input. Best at most {BEST:.0e} and worst at most {WORST:.0e} is **ok**.
- **worst without flips**: where that fails, PyTorch in float64 is made to choose as onnxruntime did, at every
  kink of ReLU, ReLU6, HardSigmoid and HardSwish and every MaxPool, as far as rounding decides (the two sides
  lie within 1e-3 of the map's largest value). All inputs within {BEST:.0e} is **ok but for flips**.
- **float32**: where that fails, the error of PyTorch's own float32 gradient, its best input. Up to {ROUNDING}
  times that (and {ROUNDED:.0e}) on all inputs, without flips, is **ok but for rounding**; else **FAILED**.
  Where PyTorch's float32 has flips of its own, only the limit of {ROUNDED:.0e} says anything.
"""


def read(path: Path) -> list[Parity]:
    """Return the rows of a file; none where there is no file."""
    if not path.exists():
        return []
    names = {f.name for f in fields(Parity)}
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Parity(**{k: v for k, v in row.items() if k in names}) for row in rows]


def save(path: Path, rows: Sequence[Parity]) -> None:
    """Write rows as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def cells(row: Parity) -> tuple[str, ...]:
    """Return what the table says of a row."""
    alive = "" if row.alive is None else "–".join(f"{v:.1f}" for v in row.alive)
    about = (row.net, row.exporter, row.target, f"{row.parameters / 1e6:.1f} M", str(row.size))
    if row.refused is not None:
        return (*about, "", alive, "", "", "", "", "", f"refused: {row.refused}".replace("|", "/"))
    sides = "" if row.same_sides is None else f"{max(row.same_sides):.0e}"
    float32 = "" if row.float32 is None else f"{row.float32:.0e}"
    errors = (row.forward, min(row.errors), max(row.errors))
    shown = (f"{error:.0e}" for error in errors)
    return (*about, str(len(row.errors)), alive, *shown, sides, float32, row.verdict)


def render(rows: Sequence[Parity], everything: Sequence[str]) -> str:
    """Return the page; `everything` names the nets of which there should be rows."""
    libraries = {"onnxplain": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                 "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__,
                 "Python": sys.version.split()[0]}  # fmt: skip
    versions = ", ".join(f"{name} {version.split('+')[0]}" for name, version in libraries.items())
    lines = [HEAD, f"Versions: {versions}.", ""]
    for exporter, title in (("ts", "TorchScript"), ("dynamo", "dynamo")):
        here = [row for row in rows if row.exporter == exporter]
        counts = Counter(row.verdict for row in here)
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        lines.append(
            f"{title} exporter: {len({row.net for row in here})} nets, {len(here)} rows: {said}."
        )
    if missing := [name for name in everything if name not in {row.net for row in rows}]:
        lines.append(f"Not measured: {', '.join(missing)}.")
    order = {name: i for i, name in enumerate(everything)}
    ranked = sorted(rows, key=lambda row: (order.get(row.net, len(order)), row.exporter != "ts"))
    table = [TITLES, ["---"] * len(TITLES), *map(cells, ranked)]
    return "\n".join([*lines, "", *(f"| {' | '.join(line)} |" for line in table), ""])
