"""The command that says what each layer already predicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
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
from onnxplain.cli.text import progress, show_guess
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
    importance: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The importance.json of `filters`: say which filters speak loud here and are worth little "
            "over the data.",
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
    from onnxplain.cli.predictions_text import show_agreement
    from onnxplain.methods.predictions import check_asked, uses_readouts
    from onnxplain.predictions_files import (
        agreement_facts,
        load_saved,
        predict_files,
        write_agreement,
        write_page,
    )
    from onnxplain.render import plots
    from onnxplain.results.filters import FilterImportance

    if not images and data is None:
        raise ConfigError("give one image or more, or --data to count over a data set")
    if data is not None and references is None and readouts is None:
        raise ConfigError(
            "--data needs --references, other images to fit readouts to, or --readouts"
        )
    mode = mode or ("masked" if references is None and readouts is None else "readout")
    check_asked(mode, _keep(keep), baseline)
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
    fitted, files = None, list[str]()
    if readouts is not None or references is not None:
        fitted, files = _readouts(loaded, readouts, references, layer, ridge, out, how)
    counted, sections = None, []
    if data is not None and fitted is not None:
        counted = _agreement(loaded, data, fitted, how)
        written, section = write_agreement(counted, out)
        files, sections = [*files, *written], [section]
    used = fitted if data is None or uses_readouts(mode, baseline) else None
    worth = None if importance is None else load_saved(FilterImportance, importance)
    results = predict_files(loaded, images or [], out, used, options, worth)
    done = _shown(progress(results, len(images or [])), as_json)
    files.append(str(write_page(out, loaded, done, sections)))
    if as_json:
        summary = None if counted is None else agreement_facts(counted)
        found = {"images": [r.to_dict() for r in done], "agreement": summary, "files": files}
        print(json.dumps(found, indent=1))
    else:
        if counted is not None:
            show_agreement(counted)
        print("written: " + ", ".join(files))
    if any(r.error is not None for r in done):
        raise typer.Exit(2)


def _shown(results: Iterable[Predicted], as_json: bool) -> list[Predicted]:
    """Show results as they come, and return them."""
    from onnxplain.cli.predictions_text import show_predicted

    done = []
    for result in results:
        done.append(result)
        if result.error is not None:
            print(f"onnxplain: {result.error}", file=sys.stderr)
        elif not as_json:
            show_predicted(result)
    return done


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
    from onnxplain.predictions_files import load_saved
    from onnxplain.results import Readouts

    if saved is not None:
        if references is not None:
            raise ConfigError(
                "give --references to fit readouts, or --readouts fitted before, not both"
            )
        found = load_saved(Readouts, saved)
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
