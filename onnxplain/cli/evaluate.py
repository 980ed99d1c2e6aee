"""The command that judges methods by metrics over a data set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from onnxplain.cli.app import (
    AsJson,
    Device,
    Labels,
    Preprocessing,
    Threads,
    _load,
    _methods,
    app,
)
from onnxplain.cli.passes import (
    CACHE,
    Address,
    BatchSize,
    Cache,
    DataSet,
    EngineName,
    Workers,
    running,
    show_data,
)
from onnxplain.cli.text import show_guess


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")],
    data: DataSet,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="lift-cam, grad-cam, positive, ...; by commas, or repeated."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="average-drop, insertion, deletion, ...; by commas."),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option("--model", help="Judge this model too; may be repeated."),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="What maps explain: the predicted class, or the label.")
    ] = "predicted",
    layer: Annotated[str | None, typer.Option(help="Layer of class activation maps.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Where objects are: a folder of masks, or a JSON file of boxes (docs/checks.md)."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="File to write: .csv, .json or .html; or a folder for the record (.npz, .json). "
            "May be repeated."
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    batch: BatchSize = 8,
    cache: Cache = CACHE,
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Judge explanations over a data set: means, intervals, and which differences are significant."""
    from onnxplain.evaluate_files import check_outs, document, write
    from onnxplain.metrics.evaluate import METHODS
    from onnxplain.metrics.evaluate import evaluate as judge
    from onnxplain.metrics.registry import DEFAULT
    from onnxplain.metrics.tables import NOTE, tables

    check_outs(out or [])
    models = [_load(path, device, preprocess, labels, threads) for path in (model, *(other or []))]
    if not as_json:
        show_guess(models[0])
    with running("evaluating", engine, workers, address, batch, cache) as run:
        found = judge(
            models, data, _methods(methods or list(METHODS)), _methods(metrics or list(DEFAULT)), run,
            classes, layer, boxes,  # type: ignore[arg-type]
        )  # fmt: skip
    show_data(found.meta["data"])
    for path in out or []:
        print(f"written: {write(found, path)}", file=sys.stderr)
    if as_json:
        print(json.dumps(document(found), indent=1))
        return
    for table in tables(found):
        print(table.caption)
        print("\n".join(f"  {line}" for line in table.lines()))
    print(NOTE)
