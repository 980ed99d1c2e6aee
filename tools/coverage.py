"""Measure what works on files of every exporter and write docs/coverage.md: `python -m tools.coverage`.

Reads tests/zoo/models and, where they are, the exports and real models of ONNXPLAIN_SHARED (../shared).
Nothing in the table is typed: a cell is a figure that was just measured, or the reason an error gave.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import onnxplain as ox
from onnxplain.version import __version__
from tests.conftest import SHARED
from tests.oracle import run_original
from tests.real_models import REAL_MODELS, samples
from tests.zoo.measure import (
    Subject,
    forward_error,
    gradient_errors,
    lift_residual,
    rank_correlation,
    zoo,
)

ROOT = Path(__file__).resolve().parent.parent


# --- the files -------------------------------------------------------------------------------------------
def exports(shared: Path) -> Iterator[Subject]:
    """Yield the exports of other frameworks."""
    for path in sorted((shared / "data" / "exports").glob("*.onnx")):
        model = onnx.load(path)
        weights = {t.name for t in model.graph.initializer}
        (source,) = (i.name for i in model.graph.input if i.name not in weights)
        x, y = (np.load(path.with_suffix(f".{kind}.npy")) for kind in "xy")
        yield Subject(path, path.stem.split("_")[0], {source: x}, {model.graph.output[0].name: y})


def real_models(shared: Path) -> Iterator[Subject]:
    """Yield the real models, each with a picture and what plain onnxruntime answers."""
    if not (shared / "data" / "models").is_dir():
        return
    for file, row in sorted(REAL_MODELS.items()):
        model = ox.load(row.path(shared), device="cpu", preprocess=row.pre)
        data = "person" if row.data == "none" else row.data
        x = model.read(samples(data, shared, 1)[0])
        if (
            x.dtype.kind == "f"
        ):  # pixels of one colour tie in every MaxPool, and a tie has no derivative
            noise = np.random.default_rng(0).uniform(-0.02, 0.02, x.shape)
            x = (x + noise * np.ptp(x)).astype(x.dtype)
        inputs, outputs = {model.graph.source.name: x}, run_original(row.path(shared), x)
        held = any(node.op == "QuantizeLinear" for node in model.graph.nodes.nodes)
        yield Subject(row.path(shared), file.split("/")[0], inputs, outputs, held=held)


# --- the table -------------------------------------------------------------------------------------------
def row(subject: Subject) -> list[str]:
    """Measure one file; return its cells."""
    try:
        subject.model.graph  # noqa: B018  (loads)
    except ox.OnnxplainError as error:
        return [subject.style, subject.path.stem, _short(error, subject), "", "", "", ""]
    forward = _cell(lambda: forward_error(subject), subject)
    gradient = _cell(lambda: min(gradient_errors(subject)), subject)
    alike = "" if subject.twin is None else f"{rank_correlation(subject):.3f}"
    lift = _cell(lambda: lift_residual(subject.model, subject.inputs), subject)
    return [subject.style, subject.path.stem, "yes", forward, gradient, alike, lift]


def _cell(measure: Any, subject: Subject) -> str:
    try:
        return f"{measure():.0e}"
    except NotImplementedError as error:  # onnx has no kernel of onnxruntime's own operators
        return f"no float64 reference: {str(error).split(' is ')[0]}"
    except ox.OnnxplainError as error:
        return _short(error, subject)


def _short(error: Exception, subject: Subject) -> str:
    text = str(error).replace(f"{subject.path}: ", "").replace("|", "/")
    return text if len(text) <= 160 else f"{text[:157]}..."


FORWARD, GRADIENT, LIFT = 2e-3, 3e-2, 3e-2
"""What the summary counts: the widest limits of tests/zoo/test_zoo.py for a float or half net's outputs."""
TITLES = ("style", "file", "loads", "forward", "gradient", "twin", "LIFT-CAM")
HEAD = """# Coverage

Written by `python -m tools.coverage`; every figure was measured by it.

- **forward**: largest difference from the framework's own output (quantised and hand-written files and real
  models: from plain onnxruntime's), as a share of the largest value.
- **gradient**: estimated relative error of the input gradient of the largest logit, by central differences in
  float64 of the original file along random directions; the best of up to three images (one flipped ReLU costs
  an image up to 1e-2; a wrong rule is wrong on every image). Quantisers are held straight-through,
  and so are the sides of kinks in quantised nets; in real models the canonical graph is run, at the levels
  that onnxruntime has. A figure of 3e-2 or more verifies nothing and is not counted. Real pictures carry
  2 % noise: pixels of one colour tie in MaxPool, and a tie has no derivative.
- **twin**: rank correlation of a quantised net's gradient with that of its float32 twin, the lowest image's.
- **LIFT-CAM**: how far the coefficients are from summing to F(A) - F(0), or why there is no map.

[parity.md](parity.md) compares torchvision's networks with PyTorch itself.
"""


def main() -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "coverage.md")
    parser.add_argument("--skip-models", action="store_true", help="leave out the real models")
    chosen = parser.parse_args()
    sections = {"Zoo (tests/zoo/models)": zoo(), "Exports of other frameworks": exports(SHARED)}
    if not chosen.skip_models:
        sections["Real models"] = real_models(SHARED)
    versions = (
        f"onnxplain {__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    )
    lines = [
        HEAD,
        f"Versions: {versions}, numpy {np.__version__}, Python {sys.version.split()[0]}.",
        "",
    ]
    for title, subjects in sections.items():
        lines += [f"## {title}", "", *table(subjects), ""]
    chosen.out.parent.mkdir(exist_ok=True)
    chosen.out.write_text("\n".join(lines), encoding="utf-8")
    return 0


def table(subjects: Iterator[Subject]) -> list[str]:
    """Measure files; return a summary and their rows."""
    rows, peers = [], []
    for subject in subjects:
        rows.append(row(subject))
        print(*rows[-1], sep=" | ", flush=True)
        if subject.peer:
            peers.append(rows[-1])
    loaded, right, checked, maps = (
        sum(r[2] == "yes" for r in rows),
        sum(_within(r[3], FORWARD) for r in rows),
        sum(_within(r[4], GRADIENT) for r in rows),
        sum(_within(r[6], LIFT) for r in rows),
    )
    said = (
        f"{len(rows)} files: {loaded} load, {right} outputs within {FORWARD:.0e}, {checked} gradients below "
        f"{GRADIENT:.0e}, {maps} LIFT-CAM residuals below {LIFT:.0e}."
    )
    if peers:
        done = sum(_within(r[4], GRADIENT) for r in peers)
        said += f" Of the {len(peers)} styles that alternatives were measured on, {done} have such gradients."
    lines = [" | ".join(r) for r in (TITLES, ["---"] * len(TITLES), *rows)]
    return [said, "", *(f"| {line} |" for line in lines)]


def _within(cell: str, limit: float) -> bool:
    return cell[:1].isdigit() and float(cell) < limit


if __name__ == "__main__":
    sys.exit(main())
