"""The command that studies filters over a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxplain.cli.app import AsJson, Device, Labels, ModelFile, Preprocessing, Threads, _load, app
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

if TYPE_CHECKING:
    from onnxplain.filter_files import FilterStudy


@app.command()
def filters(
    model: ModelFile,
    data: DataSet,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer to study; may be repeated. Default: all that hold features are correlated, "
            "importance is measured at the last of each resolution."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="exact (run the rest of the network without each filter), or first-order (one backward "
            "pass)."
        ),
    ] = "exact",
    base: Annotated[
        str, typer.Option(help="What replaces a filter: zero, or its mean over the data.")
    ] = "zero",
    curves: Annotated[
        bool, typer.Option("--curves/--no-curves", help="Remove more and more filters.")
    ] = True,
    threshold: Annotated[
        float, typer.Option(help="Mean |correlation| (0..1) from which filters form a group.")
    ] = 0.9,
    out: Annotated[
        Path, typer.Option(help="Folder for records, filters.csv, plots and report.html.")
    ] = Path("onnxplain-filters"),
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
    """Say which filters matter over a data set, which go together, and which are dead."""
    from onnxplain.filter_files import study_filters, write_study

    loaded = _load(model, device, preprocess, labels, threads)
    if not as_json:
        show_guess(loaded)
    with running("studying filters", engine, workers, address, batch, cache) as run:
        found = study_filters(
            loaded,
            data,
            layer,
            mode.replace("-", "_"),  # type: ignore[arg-type]
            base,  # type: ignore[arg-type]
            curves,
            threshold,
            run,
        )
    written = [str(path) for path in write_study(found, out)]
    show_data(dict(found.importance.meta))
    if as_json:
        print(json.dumps({**_summary(found), "files": written}, indent=1))
    else:
        _show(found, written)


def _summary(found: FilterStudy) -> dict[str, Any]:
    from onnxplain.filter_files import layer_table

    table = layer_table(found)
    importance = found.importance
    return {
        "model": importance.meta["model"],
        "data": importance.meta["data"],
        "images": importance.images,
        "skipped": importance.meta["skipped"],
        "accuracy": importance.right,
        "layers": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
    }


def _show(found: FilterStudy, written: list[str]) -> None:
    from onnxplain.filter_files import doubts, layer_table
    from onnxplain.render import plots

    importance = found.importance
    right = "" if importance.right is None else f", accuracy {importance.right:.1%}"
    print(
        f"{importance.meta['model']}: {importance.images} images of {importance.meta['data']}{right}"
    )
    print("\n".join(f"  {line}" for line in layer_table(found).lines()))
    for line in doubts(found):
        print(f"  {line}")
    if not plots.available():
        print("  plots left out: they need matplotlib (pip install 'onnxplain[plot]')")
    print("  written: " + ", ".join(written))
