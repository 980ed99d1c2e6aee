"""The commands. Exit codes: 0 fine, 1 a check failed, 2 usage or bad input, 130 interrupted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from onnxplain.errors import OnnxplainError
from onnxplain.version import __version__

if TYPE_CHECKING:
    from onnxplain.explain import Outcome

Shown = TypeVar("Shown", bound="Outcome")

app = typer.Typer(
    name="onnxplain",
    help="Explain why a network exported to ONNX decided what it decided, from the .onnx file alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one run; all cores by default.")]
Preprocessing = Annotated[
    str | None,
    typer.Option(help="Preset (imagenet, inception, caffe, unit, raw) or a .toml/.json file."),
]
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or .npy/.npz/.pb inputs.")
]
Labels = Annotated[Path | None, typer.Option(help="Text file, one class name per line.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")
]


def main() -> None:
    """Run the command line; turn errors into one or two lines on stderr and an exit code."""
    try:
        app(standalone_mode=True)
    except OnnxplainError as error:
        print(f"onnxplain: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # typer's answer to Ctrl-C
            print("onnxplain: interrupted; files written before are complete", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader of stdout (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"onnxplain {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Explain why a network exported to ONNX decided what it decided, from the .onnx file alone."""


@app.command()
def inspect(
    model: ModelFile,
    preprocess: Preprocessing = None,
    labels: Labels = None,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="List every layer, not cuts only.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--verify", help="Also run it: forward against the file, gradient against differences."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether and how a model can be explained: ops, logit, layers, pre-processing."""
    from onnxplain.cli.text import show_inspection, show_verification
    from onnxplain.doctor import inspect as examine
    from onnxplain.verify import verify

    loaded = _load(model, "cpu", preprocess, labels, None)
    found = examine(loaded)
    measured = verify(loaded) if check and found.ready else None
    if as_json:
        more = {} if measured is None else {"verification": measured.to_dict()}
        print(json.dumps({**found.to_dict(), **more}, indent=1))
    else:
        show_inspection(found, all_layers)
        show_verification(measured)
    if not found.ready or (measured is not None and not measured.ok):
        raise typer.Exit(2)


@app.command()
def explain(
    model: ModelFile,
    images: Images,
    method: Annotated[
        list[str] | None,
        typer.Option(help="gradient, positive, active, lift-cam, grad-cam, ...; may be repeated."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Class number or label, A-B or A-mean, output[i,j], similar:FILE; default: predicted."
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of class activation maps.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="Rows x columns of a transformer's patches in that layer: 14x14."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for pictures (.png) and records (.npz, .json).")
    ] = Path("onnxplain-out"),
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Explain images: one picture each, and a record per method."""
    from onnxplain.cli.text import progress, show_explained, show_guess, show_left_out
    from onnxplain.explain import explain_files, read_grid, read_target

    patches = None if grid is None else read_grid(grid)
    loaded = _load(model, device, preprocess, labels, threads)
    chosen = None if target is None else read_target(loaded, target)
    methods = _methods(method)
    if layer is None:
        show_left_out(loaded, methods)
    if not as_json:
        show_guess(loaded)
    results = explain_files(loaded, images, methods, out, chosen, layer, patches)
    _report(progress(results, len(images)), show_explained, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("onnxplain-demo"),
    as_json: AsJson = False,
) -> None:
    """Run the main job on the bundled model and its sample photos."""
    from onnxplain import bundled
    from onnxplain.cli.text import progress, show_explained
    from onnxplain.explain import explain_files
    from onnxplain.model import load

    loaded = load(bundled.model_path())
    photos = bundled.photos()
    results = explain_files(loaded, photos, ["lift_cam", "grad_cam", "positive", "active"], out)
    _report(progress(results, len(photos)), show_explained, as_json)


def _methods(given: list[str] | None) -> list[str]:
    names = [name for entry in given or ["lift-cam", "positive"] for name in entry.split(",")]
    return list(dict.fromkeys(names))


def _load(
    path: Path, device: str, preprocess: str | None, labels: Path | None, threads: int | None
) -> Any:
    from onnxplain.model import load

    return load(path, device=device, preprocess=preprocess, labels=labels, threads=threads)  # type: ignore[arg-type]


def _report(results: Iterable[Shown], show: Callable[[Shown], None], as_json: bool) -> None:
    """Show results as they come; exit with 2 if an image could not be used."""
    done = []
    for result in results:
        done.append(result)
        if result.error is not None:
            print(f"onnxplain: {result.error}", file=sys.stderr)
        elif not as_json:
            show(result)
    if as_json:
        print(json.dumps([r.to_dict() for r in done], indent=1))
    if any(r.error is not None for r in done):
        raise typer.Exit(2)
