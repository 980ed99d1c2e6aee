"""The command that writes an explanation into the model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onnxplain.cli.app import AsJson, Labels, ModelFile, Preprocessing, _load, app
from onnxplain.cli.text import show_guess
from onnxplain.errors import ConfigError


@app.command()
def export(
    model: ModelFile,
    method: Annotated[
        str,
        typer.Option(
            help="lift-cam, grad-cam, grad-cam-plusplus, xgrad-cam, hires-cam, layer-cam, absolute, "
            "positive, negative, gradient or guided-backprop."
        ),
    ] = "lift-cam",
    layer: Annotated[
        str | None, typer.Option(help="Layer of class activation maps, or to take a gradient of.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="top1 (found in the file), input (class numbers given with the images), or what stays the "
            "same: class number or label, A-B, A-mean, an element of an output (docs/targets.md)."
        ),
    ] = "top1",
    backward: Annotated[
        bool,
        typer.Option(
            "--backward",
            help="Export the vector-Jacobian product: the gradient for seeds that are given with the images.",
        ),
    ] = False,
    grid: Annotated[
        str | None,
        typer.Option(help="Rows x columns of a transformer's patches in that layer: 14x14."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Begins the new names, for a file that has them already.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path(
        "explained.onnx"
    ),
    preprocess: Preprocessing = None,
    labels: Labels = None,
    as_json: AsJson = False,
) -> None:
    """Write the model with its explanation as further outputs: one standard ONNX file."""
    from onnxplain.cli.text import show_exported
    from onnxplain.embed import export as write
    from onnxplain.embed.question import AT_RUN_TIME
    from onnxplain.explain import read_grid, read_target

    if backward and (method, target) != ("lift-cam", "top1"):
        raise ConfigError(
            "--backward takes neither --method nor --target: seeds say what to explain"
        )
    patches = None if grid is None else read_grid(grid)
    loaded = _load(model, "cpu", preprocess, labels, None)
    chosen: object = None
    if backward:
        method, chosen = "gradient", "seed"
    elif target != "top1":
        chosen = target if target in AT_RUN_TIME else read_target(loaded, target)
    if not as_json:
        show_guess(loaded)
    written = write(loaded, method, out, layer, chosen, patches, prefix)
    if as_json:
        print(
            json.dumps({**written.meta, "path": str(out), "shares_forward": written.shares_forward})
        )
    else:
        show_exported(written)
