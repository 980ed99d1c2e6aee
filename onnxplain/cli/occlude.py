"""The command that alters the pixels that a map found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxplain.cli.app import (
    AsJson,
    Device,
    Images,
    Labels,
    ModelFile,
    Preprocessing,
    Threads,
    _load,
    _methods,
    _report,
    app,
)
from onnxplain.cli.decompose import class_of
from onnxplain.cli.text import progress, show_guess, show_prediction

if TYPE_CHECKING:
    from onnxplain.occlude_files import Occluded

MARGINS = 3
"""Classes whose margins a terminal is shown; --json has all that were compared."""


@app.command()
def occlude(
    model: ModelFile,
    images: Images,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose pixels: active (default), positive, lift-cam, ...; may be repeated."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class number or label; default: the predicted class.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Alter this share of the pixels, the top ones.")
    ] = 0.1,
    fill: Annotated[
        str,
        typer.Option(
            help="What they become, by commas: black, white, blur, mean, zero, impute, a grey in 0..1; "
            "a colour as r/g/b."
        ),
    ] = "black,white,blur",
    out: Annotated[
        Path, typer.Option(help="Folder for pictures (.png) and records (.npz, .json).")
    ] = Path("onnxplain-out"),
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Blacken, whiten or alter the pixels that a map found: the effect foretold and observed."""
    from onnxplain.metrics.fills import read_fill
    from onnxplain.occlude_files import occlude_files

    fills = [read_fill(part.strip().replace("/", ",")) for part in fill.split(",")]
    loaded = _load(model, device, preprocess, labels, threads)
    chosen = None if target is None else class_of(loaded, target, "--target")
    if not as_json:
        show_guess(loaded)
    results = occlude_files(
        loaded, images, _methods(method or ["active"]), out, chosen, share, fills
    )
    _report(progress(results, len(images)), show_occluded, as_json)


def show_occluded(result: Occluded) -> None:
    """Print what became of one image's answer."""
    from onnxplain.occlude_files import answer

    show_prediction(result)
    for found in result.occlusions:
        print(f"  {found.method}: {found.mask.sum()} pixels ({found.mask.mean():.1%}) altered")
        for f, fill in enumerate(found.fills):
            observed, foretold = found.observed[f], found.foretold[f]
            print(f"    {fill}: {answer(found, f)}")
            print(f"      {found.labels[0]} {observed[0]:+.4g} (foretold {foretold[0]:+.4g})")
            for k in range(1, min(MARGINS + 1, len(found.classes))):
                print(
                    f"      margin to {found.labels[k]}: {found.margins[k - 1]:.4g} "
                    f"{observed[0] - observed[k]:+.4g} (foretold {foretold[0] - foretold[k]:+.4g})"
                )
    print("  written: " + ", ".join(result.files))
