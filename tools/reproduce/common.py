"""What the programs share: their options, models and images, and the page of results."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain import bundled
from onnxplain.dataset import Run
from onnxplain.render.report import Table
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, samples

BUNDLED = "vgg_cifar10.onnx (bundled)"
_HEAD = """# The claims, measured

Written by `python -m tools.reproduce.*`; each section says by which command. Test models and images are
described in tests/real_models.py; accuracies are in docs/coverage.md. Intervals are 95 %, by bootstrap over
images. Times were taken while other programs ran on the same two cores: compare them within a table only.
Conclusions are ours and speak of these models and images; docs/metrics.md has them in words.
"""


def options(doc: str | None, images: int) -> argparse.ArgumentParser:
    """Return a parser of what all programs take."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=images, help="of each model, spread over the set"
    )
    parser.add_argument("--files", default="", help="parts of model names, by commas (all)")
    parser.add_argument("--cache", type=Path, help="folder that keeps passes, to go on from")
    parser.add_argument("--threads", type=int, help="of one run (all cores)")
    parser.add_argument("--write", type=Path, help="put the section into this page of results")
    return parser


def chosen(names: Sequence[str], parts: str) -> list[str]:
    """Return the names that hold one of the parts."""
    return [name for name in names if any(part in name for part in parts.split(","))]


def run(cache: Path | None, batch: int = 4) -> Run:
    """Return how passes run: one worker, so that the cost is that of a method alone."""
    return Run(workers=1, batch=batch, cache=cache)


def load(name: str, threads: int | None = None, **changes: Any) -> ox.Model:
    """Load a real model by name, or the bundled one, with its true pre-processing."""
    if name == BUNDLED:
        return ox.load(bundled.model_path(), device="cpu", threads=threads)
    row = REAL_MODELS[name]
    pre = replace(row.pre, **changes)
    return ox.load(row.path(SHARED), device="cpu", threads=threads, preprocess=pre)


def pictures(name: str, count: int) -> Any:
    """Return up to `count` images for a model, spread over its set: paths, or uint8 arrays."""
    data = "cifar10" if name == BUNDLED else REAL_MODELS[name].data
    found, _ = samples(data, SHARED, count)
    return np.stack(found) if isinstance(found[0], np.ndarray) else found


def provenance(models: Sequence[ox.Model]) -> list[str]:
    """Return lines that say what ran: command, versions, hashes."""
    module = Path(sys.argv[0]).stem
    versions = models[0].meta("")["versions"]
    ran = ", ".join(f"{k} {v}" for k, v in versions.items())
    hashes = ", ".join(f"{Path(m.name).name} {m.sha256[:12]}" for m in models)
    return [
        f"`python -m tools.reproduce.{module} {shlex.join(shown(sys.argv[1:]))}`  ",
        f"{ran}  ",
        f"sha256: {hashes}\n",
    ]


def shown(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the folder of the cache, which is the machine's own."""
    found = list(arguments)
    if "--cache" in found:
        at = found.index("--cache")
        del found[at : at + 2]
    return found


def markdown(table: Table) -> list[str]:
    """Return a table as lines of Markdown, its caption in bold."""
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    lines = [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]
    return [f"**{table.caption}**\n", *lines, ""]


def publish(section: str, title: str, lines: Sequence[str], page: Path | None) -> None:
    """Print a section and put it into the page, in the place it has there or at the end."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    body = "\n".join([begin, f"## {title}\n", *lines, end])
    print(body)
    if page is None:
        return
    text = page.read_text(encoding="utf-8") if page.exists() else _HEAD
    if begin in text:
        before, rest = text.split(begin)
        text = before + body + rest.split(end)[1]
    else:
        text = f"{text.rstrip()}\n\n{body}\n"
    page.write_text(text, encoding="utf-8")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).replace("|", "\\|")
