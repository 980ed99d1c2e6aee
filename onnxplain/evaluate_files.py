"""An evaluation as files: CSV, JSON, an HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxplain.errors import ConfigError
from onnxplain.files import write_text
from onnxplain.metrics.registry import METRICS
from onnxplain.metrics.tables import ARROWS, NOTE, long_table, tables
from onnxplain.render import plots
from onnxplain.render.report import Picture, Section, Table, write_report
from onnxplain.results.evaluation import Evaluation

SUFFIXES = (".csv", ".json", ".html")


def check_outs(paths: Sequence[Path]) -> None:
    """Raise ConfigError for a file of a kind that cannot be written, before hours of work."""
    for path in paths:
        if path.suffix and not path.is_dir() and path.suffix not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise ConfigError(f"--out {path}: unknown suffix: choose {known}, or a folder")


def write(found: Evaluation, path: Path) -> Path:
    """Write the format of the path's suffix, or the record into a folder; raises OutputError."""
    if not path.suffix or path.is_dir():
        return found.save(path)
    if path.suffix == ".html":
        return write_report(path, "Which explanation is best?", sections(found))
    text = long_table(found).csv()
    write_text(path, text if path.suffix == ".csv" else json.dumps(document(found), indent=1))
    return path


def document(found: Evaluation) -> dict[str, Any]:
    """Return means, intervals and comparisons, JSON-able."""
    table = long_table(found)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    better = dict(zip(found.metrics, found.better, strict=True))
    return {"images": len(found.images), "better": better, "rows": rows, "meta": dict(found.meta)}


def sections(found: Evaluation) -> list[Section]:
    """Return the page's sections: the tables, the values per image where they can be drawn, the metrics."""
    shown = [
        Section(t.caption, (NOTE,), (t,), _spread(found, m)) for m, t in enumerate(tables(found))
    ]
    rows = tuple((f"{k} {ARROWS[METRICS[k].better]}", METRICS[k].what) for k in found.metrics)
    data = found.meta["data"]
    facts = tuple(f"{key}: {data[key]}" for key in ("data", "images", "skipped"))
    return [*shown, Section("What is measured", facts, (Table(("metric", "what"), rows),))]


def _spread(found: Evaluation, m: int) -> tuple[Picture, ...]:
    """Return per metric the sorted values of each method, where matplotlib is installed."""
    if not plots.available():
        return ()
    import numpy as np

    pictures = []
    for k, metric in enumerate(found.metrics):
        lines = {}
        for e, method in enumerate(found.methods):
            values = np.sort(found.values[:, m, e, k][found.present[:, m, e, k]])
            if len(values):
                lines[method] = (np.linspace(0, 1, len(values)), values)
        if lines:
            png = plots.curves(lines, metric, "share of images", metric)
            pictures.append(Picture(png, f"{metric}: the images' values, in order, per method"))
    return tuple(pictures)
