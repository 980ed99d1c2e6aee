"""The commands that say whether a file may be deployed: `check` and `compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxplain.cli.app import AsJson, Device, app
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
)  # fmt: skip

if TYPE_CHECKING:
    from onnxplain.checks.report import Report
    from onnxplain.results.comparison import Comparison

FEW = 10
"""Images that are printed; the files have all."""


@app.command()
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The .toml file of checks.")],
    model: Annotated[Path | None, typer.Option(help="Check this file instead.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Compare with this file instead.")] = None,
    data: Annotated[Path | None, typer.Option(help="Check on these data instead.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A report.json of an earlier run, for checks with worse_by.")
    ] = None,
    save_baseline: Annotated[
        Path | None, typer.Option(help="Write the report here too, if all passed.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, report.json, junit.xml, summary.md.")
    ] = Path("onnxplain-check"),
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    batch: BatchSize = 32,
    cache: Cache = CACHE,
    as_json: AsJson = False,
) -> None:
    """Run the checks of a file. Exit codes: 0 all passed, 1 one failed, 2 one could not be run."""
    from onnxplain.checks import check as run_checks
    from onnxplain.checks import outputs
    from onnxplain.checks import save_baseline as save

    outputs.clear(out)
    with running("checking", engine, workers, address, batch, cache) as run:
        report = run_checks(
            config, model=model, reference=reference, data=data, baseline=baseline, run=run
        )
    written = outputs.write(report, out)
    if as_json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        show_report(report)
        print(f"written: {', '.join(str(p) for p in written.values())}")
    if str(report.meta["preprocess"]).startswith("guessed"):
        print(
            f"onnxplain: pre-processing {report.meta['preprocess']}; set preprocess if that is wrong",
            file=sys.stderr,
        )
    show_data(dict(report.meta))
    if save_baseline is not None and report.passed:
        save(report, save_baseline)
    elif save_baseline is not None:
        print(
            f"onnxplain: {save_baseline}: not written, as the checks {report.verdict}",
            file=sys.stderr,
        )
    if report.exit_code:
        raise typer.Exit(report.exit_code)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An .onnx file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The one to compare with it.")],
    data: DataSet,
    method: Annotated[str, typer.Option(help="Whose maps are compared.")] = "lift-cam",
    target: Annotated[
        str,
        typer.Option(
            help="What both explain: predicted (by A), label, a class, or an element of an output."
        ),
    ] = "predicted",
    layer: Annotated[str | None, typer.Option(help="Layer of class activation maps.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="Of A, and of B: preset or file.")] = None,
    preprocess_b: Annotated[str | None, typer.Option(help="Of B, if another.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one class name per line.")] = None,
    device: Device = "auto",
    device_b: Annotated[
        str | None, typer.Option(help="Of B, if another: cpu against cuda.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for compare.html, compare.csv and the record.")
    ] = Path("onnxplain-out"),
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    batch: BatchSize = 32,
    cache: Cache = CACHE,
    as_json: AsJson = False,
) -> None:
    """Compare two files, prediction and explanation, image by image: float and int8, before and after."""
    from onnxplain.checks import compare as run_compare
    from onnxplain.checks.page import comparison_sections, comparison_table
    from onnxplain.cli.text import show_guess
    from onnxplain.files import write_text
    from onnxplain.model import load
    from onnxplain.render.report import write_report

    models = [
        load(path, device=on, preprocess=pre, labels=labels)  # type: ignore[arg-type]
        for path, on, pre in (
            (a, device, preprocess),
            (b, device_b or device, preprocess_b or preprocess),
        )
    ]
    for model in models:
        show_guess(model)
    with running("comparing", engine, workers, address, batch, cache) as run:
        found = run_compare(models[0], models[1], data, method, target=target, layer=layer, run=run)
    record = found.save(out)
    write_text(out / "compare.csv", comparison_table(found).csv())
    sections = comparison_sections(found, (models[0], models[1]), data)
    page = write_report(out / "compare.html", f"{a.name} against {b.name}", sections)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        show_comparison(found)
        print(f"written: {page}, {out / 'compare.csv'}, {record}")
    show_data(dict(found.meta))


def show_report(report: Report) -> None:
    """Print a line per check, and why those that did not pass did not."""
    from onnxplain.hierarchy.names import visible
    from onnxplain.render.report import Table

    rows = tuple(
        (
            visible(r.name),
            r.status,
            r.value,
            "" if r.threshold is None else f"{r.key} {r.threshold:.4g}",
        )
        for r in report.results
    )
    print("\n".join(Table(("check", "result", "value", "asked"), rows).lines()))
    for r in report.results:
        if not r.ok:
            print(f"\n{visible(r.name)} {r.status}: {visible(r.reason)}")
            for bad in r.worst:
                print(f"  {bad.value:10.4g}  {visible(bad.name)}")
    print(f"\n{report.verdict}")


def show_comparison(found: Comparison) -> None:
    """Print the drift overall, of the worst images, and where it begins."""
    from onnxplain.checks.page import comparison_table, summary_table
    from onnxplain.render.report import Table

    print(f"{found.verdict}\n")
    print("\n".join(summary_table(found).lines()))
    table = comparison_table(found)
    print("\nworst images:")
    print("\n".join(Table(table.columns, table.rows[:FEW]).lines()))
    renamed = sum(p["a"] != p["b"] for p in found.layers)
    least = min(found.layers, key=lambda p: p["similarity"], default=None)
    if least is not None:
        print(
            f"\nlayers: {len(found.layers)} hold the same in both, {renamed} under another name; least "
            f"alike: {least['a']} ({least['similarity']:.4f})"
        )
