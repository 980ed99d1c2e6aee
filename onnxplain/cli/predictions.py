"""The command that says what each layer already predicts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxplain.cli.app import (
    AsJson,
    Device,
    Labels,
    ModelFile,
    Preprocessing,
    Threads,
    _load,
    app,
)
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
from onnxplain.cli.text import progress, show_guess, show_prediction
from onnxplain.errors import ConfigError

if TYPE_CHECKING:
    from onnxplain.model import Model
    from onnxplain.predictions_files import Predicted
    from onnxplain.results import LayerAgreement, Readouts


@app.command()
def predictions(
    model: ModelFile,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE]...", help="Pictures, or .npy/.npz/.pb inputs."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Images like those the model is for, some hundreds or more, labelled or not: readouts are "
            "fitted to what it says of them. A folder, list, .npz, .tar or .parquet.",
        ),
    ] = None,
    readouts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Readouts fitted before: the readouts.json of an --out."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Also count over a data set how often each layer agrees with the model.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="readout (of a layer's mean features; default with references), masked (the model, shown "
            "what the layer responds to; default without), keep (the layer's strongest filters alone)."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer to ask; may be repeated. `inspect` lists them. Default: one at each depth."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class number or label; default: the predicted class.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Of mode keep: a number of filters (20), or a share (0.1).")
    ] = "0.1",
    baseline: Annotated[
        str | None,
        typer.Option(
            help="What stands for what is taken away: masked: blur, mean (colour); keep: zero, mean (of the "
            "references)."
        ),
    ] = None,
    ridge: Annotated[
        float | None,
        typer.Option(
            help="Of the readouts, 0 or more: how much they are held back; default: the best for each layer."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for records, tables, pictures and the page.")
    ] = Path("onnxplain-out"),
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    batch: BatchSize = 32,
    cache: Cache = CACHE,
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Say what each layer already predicts, and from which layer on the decision stays."""
    from onnxplain.methods.predictions import check_asked, uses_readouts
    from onnxplain.predictions_files import predict_files, write_agreement, write_page
    from onnxplain.render import plots

    if not images and data is None:
        raise ConfigError("give one image or more, or --data to count over a data set")
    if data is not None and references is None and readouts is None:
        raise ConfigError(
            "--data needs --references, other images to fit readouts to, or --readouts"
        )
    check_asked(mode or "keep", _keep(keep), baseline if mode else None)
    options: dict[str, Any] = {
        "mode": mode,
        "layers": layer,
        "keep": _keep(keep),
        "baseline": baseline,
    }
    loaded = _load(model, device, preprocess, labels, threads)
    options["target"] = None if target is None else _class(loaded, target)
    if not as_json:
        show_guess(loaded)
    if not plots.available():
        print(
            "onnxplain: no plots over the layers: they need matplotlib: pip install 'onnxplain[plot]'",
            file=sys.stderr,
        )
    how = (engine, workers, address, batch, cache)
    fitted, counted, files, sections = None, None, list[str](), []
    if readouts is not None or references is not None:
        fitted, files = _readouts(loaded, readouts, references, layer, ridge, out, how)
    if data is not None and fitted is not None:
        counted = _agreement(loaded, data, fitted, how)
        written, section = write_agreement(counted, out)
        files, sections = [*files, *written], [section]
    done = []
    used = fitted if data is None or uses_readouts(mode or "readout", baseline) else None
    results = predict_files(loaded, images or [], out, used, options)
    for result in progress(results, len(images or [])):
        done.append(result)
        if result.error is not None:
            print(f"onnxplain: {result.error}", file=sys.stderr)
        elif not as_json:
            show_predicted(result)
    if counted is not None and not as_json:
        show_agreement(counted)
    files.append(str(write_page(out, loaded, done, sections)))
    if as_json:
        summary = None if counted is None else agreement_facts(counted)
        found = {"images": [r.to_dict() for r in done], "agreement": summary, "files": files}
        print(json.dumps(found, indent=1))
    else:
        print("written: " + ", ".join(files))
    if any(r.error is not None for r in done):
        raise typer.Exit(2)


def _keep(text: str) -> float | int:
    """Read a number of filters ("20"), or a share ("0.1"); raises ConfigError."""
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError as error:
        raise ConfigError(
            f"--keep {text!r} is neither a number of filters nor a share, as 0.1"
        ) from error


def _class(model: Model, text: str) -> int:
    """Read a class by number or label; raises TargetError, ConfigError."""
    from onnxplain.target import parse_target

    chosen = parse_target(text, model.labels)
    if not isinstance(chosen.index, int) or chosen.minus is not None:
        raise ConfigError(f"--target {text!r} is not one class: layers predict classes")
    return chosen.index


def _readouts(
    model: Model,
    saved: Path | None,
    references: Path | None,
    layers: list[str] | None,
    ridge: float | None,
    out: Path,
    how: tuple[Any, ...],
) -> tuple[Readouts, list[str]]:
    """Return readouts, read or fitted now and then saved, and the files written."""
    from onnxplain.methods.readouts import check_readouts, fed, fit_readouts
    from onnxplain.predictions_files import load_readouts

    if saved is not None:
        if references is not None:
            raise ConfigError(
                "give --references to fit readouts, or --readouts fitted before, not both"
            )
        found = load_readouts(saved)
        check_readouts(model, found)
        if found.meta.get("fed") != fed(model):
            print(
                f"onnxplain: {saved}: images were pre-processed otherwise then: fit the readouts again",
                file=sys.stderr,
            )
        return found, []
    assert references is not None
    with running("fitting readouts", *how) as run:
        fitted = fit_readouts(model, references, layers, ridge, run)
    show_data(dict(fitted.meta))
    return fitted, [str(fitted.save(out, "readouts"))]


def _agreement(
    model: Model, data: Path, readouts: Readouts, how: tuple[Any, ...]
) -> LayerAgreement:
    """Count over a data set, with a bar on a terminal; say what was skipped."""
    from onnxplain.methods.agreement import layer_agreement

    with running("asking layers", *how) as run:
        found = layer_agreement(model, data, readouts, run)
    show_data(dict(found.meta))
    return found


def show_predicted(result: Predicted) -> None:
    """Print one image's prediction, a line per layer, where the decision falls, and what was written."""
    from onnxplain.predictions_files import notes
    from onnxplain.results.predictions import shown_r2

    show_prediction(result)
    r = result.record
    assert r is not None
    c = r.label(int(r.classes[0]))
    tops = [r.top(i, 0, 1)[0] for i in range(len(r.layers))]
    width = max(8, *(min(len(t.label), 24) for t in tops))
    mine = f"p({c[:16]})"
    r2 = f"  {'R2':9}" if r.r2 else ""
    print(
        f"  {'':3} {'predicts':{width}} {'p':>6}  {mine:>{max(7, len(mine))}}  rank  agrees{r2}  layer"
    )
    for i, best in enumerate(tops):
        cells = f"{i + 1:3} {best.label[:24]:{width}} {best.probability:6.1%}"
        p, rank = f"{r.p[i, 0]:.1%}", int(r.ranks[i, 0])
        agrees = "yes" if r.agrees[i, 0] else "no"
        r2 = f"  {shown_r2(r.r2, i):9}" if r.r2 else ""
        print(f"  {cells}  {p:>{max(7, len(mine))}}  {rank:4}  {agrees:6}{r2}  {r.layers[i]}")
    for line in notes(r):
        print(f"  {line}")
    print("  written: " + ", ".join(result.files))


def show_agreement(a: LayerAgreement) -> None:
    """Print a line per layer, and where decisions fall."""
    from onnxplain.predictions_files import agreement_notes
    from onnxplain.results.predictions import shown_r2

    print(f"{a.meta['data']}: {a.images} images, {a.labelled} labelled")
    accuracy = f"  {'accuracy':8}" if a.accuracy is not None else ""
    print(f"  {'':3} agreement{accuracy}  {'p':>5}  decided  {'R2':9}  layer")
    for i, name in enumerate(a.layers):
        accuracy = f"  {a.accuracy[i]:8.1%}" if a.accuracy is not None else ""
        r2 = shown_r2(a.r2, i)
        print(
            f"  {i + 1:3} {a.agreement[i]:9.1%}{accuracy}  {a.p[i]:5.2f}  {a.depth[i]:7}  {r2:9}  {name}"
        )
    accuracy = f"  {a.final_accuracy:8.1%}" if a.final_accuracy is not None else ""
    print(f"      {1:9.1%}{accuracy}  {'':5}  {a.depth[-1]:7}  {'':9}  the model")
    for line in agreement_notes(a):
        print(f"  {line}")


def agreement_facts(a: LayerAgreement) -> dict[str, Any]:
    """Return what was counted over a data set, JSON-able."""
    return {
        "data": a.meta["data"],
        "images": a.images,
        "labelled": a.labelled,
        "final_accuracy": a.final_accuracy,
        "median_depth": a.median_depth,
        "undecided_before_the_end": int(a.depth[-1]),
        "layers": [
            {
                "layer": name,
                "agreement": float(a.agreement[i]),
                "accuracy": None if a.accuracy is None else float(a.accuracy[i]),
                "p": float(a.p[i]),
                "entropy": float(a.entropy[i]),
                "decided_here": int(a.depth[i]),
                "r2": a.r2[i],
            }
            for i, name in enumerate(a.layers)
        ],
    }
