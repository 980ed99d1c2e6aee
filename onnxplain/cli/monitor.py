"""The command that follows a training run over its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onnxplain.cli.app import AsJson, Device, Labels, Preprocessing, Threads, _load, app
from onnxplain.cli.passes import (
    CACHE,
    Address,
    BatchSize,
    Cache,
    EngineName,
    Workers,
    running,
    show_data,
)
from onnxplain.cli.text import show_guess


@app.command()
def monitor(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="The .onnx files of the checkpoints, in order."),
    ],
    data: Annotated[Path, typer.Option(help="Images to measure on: what `filters` takes.")],
    references: Annotated[
        Path | None,
        typer.Option(
            help="Other images, to fit the readouts to that tell when decisions are made; default: DATA."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layer to follow; may be repeated. Default: all that hold features."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the record, monitoring.csv, plots and report.html.")
    ] = Path("onnxplain-monitor"),
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    batch: BatchSize = 32,
    cache: Cache = CACHE,
    as_json: AsJson = False,
) -> None:
    """Follow features, filters and decisions over the checkpoints of a training run."""
    from onnxplain.methods.monitor import monitor as follow
    from onnxplain.monitor_files import table, write_monitoring
    from onnxplain.render import plots

    loaded = [_load(model, device, preprocess, labels, threads) for model in models]
    if not as_json:
        show_guess(loaded[0])
    with running("following", engine, workers, address, batch, cache) as run:
        found = follow(loaded, data, layer, references, [str(m) for m in models], run)
    written = [str(path) for path in write_monitoring(found, out)]
    show_data(dict(found.meta))
    shown = table(found)
    if as_json:
        rows = [dict(zip(shown.columns, row, strict=True)) for row in shown.rows]
        facts = {"data": found.meta["data"], "images": found.images}
        print(json.dumps({**facts, "checkpoints": rows, "files": written}, indent=1))
        return
    print(f"{found.images} images of {found.meta['data']}")
    print("\n".join(f"  {line}" for line in shown.lines()))
    if not plots.available():
        print("  plots left out: they need matplotlib (pip install 'onnxplain[plot]')")
    print("  written: " + ", ".join(written))
