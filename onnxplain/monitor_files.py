"""Write what was found of the checkpoints of a training run: records, a table, plots, a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onnxplain.files import write_bytes, write_text
from onnxplain.render import plots
from onnxplain.render.report import Picture, Section, Table, write_report
from onnxplain.results.monitoring import Monitoring


def write_monitoring(found: Monitoring, out: Path) -> list[Path]:
    """Write into a folder: the record, `monitoring.csv`, plots where matplotlib is, `report.html`.

    Raises OutputError.
    """
    written = [found.save(out, "monitoring"), out / "monitoring.csv"]
    write_text(written[-1], layer_table(found).csv())
    pictures = dict(_pictures(found)) if plots.available() else {}
    for stem, picture in pictures.items():
        written.append(out / f"{stem}.png")
        write_bytes(written[-1], picture.png)
    text = [
        f"{found.images} images of {found.meta['data']}; {found.meta['skipped']} could not be read."
    ]
    if found.meta["references"] == "the same images":
        text.append("Readouts were fitted to the same images, which flatters agreement and depth.")
    if not pictures:
        text.append("Plots are left out: they need matplotlib (pip install 'onnxplain[plot]').")
    sections = [
        Section("Checkpoints", tuple(text), (table(found),), tuple(pictures.values())),
        Section("Layer by layer", (), (layer_table(found),)),
    ]
    return [
        *written,
        write_report(out / "report.html", "A training run, checkpoint by checkpoint", sections),
    ]


def table(found: Monitoring) -> Table:
    """Return a row per checkpoint: how its decisions and filters relate to those of the last one."""
    columns = ("checkpoint", "accuracy", "decision depth", "dead", "redundancy", "CKA to last",
               "importance ~ last")  # fmt: skip
    rows = tuple(
        (
            name,
            None if found.accuracy is None else float(found.accuracy[m]),
            float(found.mean_depth[m]),
            float(found.dead[m].mean()),
            float(found.redundancy[m].mean()),
            float(found.cka[:, m, -1].mean()),
            float(found.ranks[:, m, -1].mean()),
        )
        for m, name in enumerate(found.names)
    )
    return Table(
        columns, rows, "Means over layers; decision depth: layers before the decision stays."
    )


def layer_table(found: Monitoring) -> Table:
    """Return a row per checkpoint and layer."""
    columns = ("checkpoint", "layer", "agrees with final", "dead", "redundancy", "CKA to last",
               "CKA to next", "importance ~ last", "importance ~ next")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for m, name in enumerate(found.names):
        after = None if m + 1 == len(found.names) else m + 1
        for i, layer in enumerate(found.layers):
            rows.append(
                (
                    name, layer, float(found.agreement[m, i]), float(found.dead[m, i]),
                    float(found.redundancy[m, i]), float(found.cka[i, m, -1]),
                    None if after is None else float(found.cka[i, m, after]),
                    float(found.ranks[i, m, -1]),
                    None if after is None else float(found.ranks[i, m, after]),
                )
            )  # fmt: skip
    return Table(columns, tuple(rows))


def _pictures(found: Monitoring) -> Iterator[tuple[str, Picture]]:
    at = np.arange(len(found.names))
    ticks = [Path(name).stem for name in found.names]
    means = {"decision depth": (at, found.mean_depth / len(found.layers))}
    if found.accuracy is not None:
        means = {"accuracy": (at, found.accuracy), **means}
    over = {
        "decisions": ("accuracy, and depth as a share of the layers", means),
        "agreement": ("share that decides as the model does", _by_layer(found, found.agreement)),
        "cka": ("CKA to the last checkpoint", _by_layer(found, found.cka[:, :, -1].T)),
        "importance": ("Spearman's rho to the last", _by_layer(found, found.ranks[:, :, -1].T)),
    }
    titles = {
        "decisions": "when decisions are made",
        "agreement": "what each layer already decides",
        "cka": "how near features are to the last ones",
        "importance": "whether the same filters matter as in the end",
    }
    for stem, (y, lines) in over.items():
        png = plots.curves(lines, titles[stem], "checkpoint", y, ticks)
        yield stem, Picture(png, f"{titles[stem].capitalize()}: {y}, by checkpoint.")


def _by_layer(found: Monitoring, values: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    at = np.arange(len(found.names))
    return {layer: (at, values[:, i]) for i, layer in enumerate(found.layers)}
