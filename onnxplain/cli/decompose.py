"""The command that decomposes decisions into trees of evidence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
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
    _report,
    app,
)
from onnxplain.cli.text import bar, show_guess, show_prediction
from onnxplain.errors import ConfigError

if TYPE_CHECKING:
    from onnxplain.decompose_files import Decomposed
    from onnxplain.hierarchy import Hierarchy
    from onnxplain.methods.exemplars import Exemplars
    from onnxplain.model import Model

LONGEST = 45
"""Lines of a tree that a terminal is shown; of a larger one the upper levels."""


@app.command()
def decompose(
    model: ModelFile,
    images: Images,
    target: Annotated[
        str | None,
        typer.Option(
            help="What to explain: class number or label, A-B, A-mean; default: the predicted class."
        ),
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Make a second tree: why the class and not this one?"),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer to look at; may be repeated. `inspect` lists them (cuts). "
            "Default: the last of each resolution."
        ),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="Look at so many layers, from the top; all by default.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Follow so many channels below each.")] = 3,
    seed: Annotated[
        str,
        typer.Option(
            help="What a channel stands for below: path (its share of its parent), root (of the score; "
            "channels met twice become one), max (its highest activation), sum (all of its map)."
        ),
    ] = "path",
    weight: Annotated[
        str,
        typer.Option(
            help="How activations are weighed: signed (contributions add up), positive (as LayerCAM), "
            "mean (as Grad-CAM)."
        ),
    ] = "signed",
    min_share: Annotated[
        float, typer.Option(help="Leave out channels below this share (0..1) of the evidence.")
    ] = 0.02,
    max_nodes: Annotated[int, typer.Option(help="Keep the tree to so many channels.")] = 200,
    inhibitors: Annotated[
        int, typer.Option(help="Show so many channels that speak against each.")
    ] = 1,
    pixels: Annotated[
        bool, typer.Option("--pixels/--no-pixels", help="Trace the lowest channels to the pixels.")
    ] = True,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Show the pictures of a folder that activate each channel most."
        ),
    ] = None,
    cache: Annotated[
        Path,
        typer.Option(help="Folder that keeps what was found among exemplars for the next time."),
    ] = Path("onnxplain-cache"),
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="File to write, its suffix being the format: .json (with .npz), .html (a page to explore), "
            ".png, .graphml, .gexf, .dot; or a folder. May be repeated. Default: onnxplain-out."
        ),
    ] = None,
    preprocess: Preprocessing = None,
    labels: Labels = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Decompose a decision into the channels that support it, layer by layer: a tree of evidence."""
    from onnxplain.decompose_files import Wanted, decompose_files
    from onnxplain.explain import read_target

    options = {
        "layers": layer, "depth": depth, "top_k": top_k, "seed": seed, "weight": weight,
        "min_share": min_share, "max_nodes": max_nodes, "inhibitors": inhibitors, "pixels": pixels,
    }  # fmt: skip
    loaded = _load(model, device, preprocess, labels, threads)
    wanted = Wanted(
        outs=out or [Path("onnxplain-out")],
        target=None if target is None else read_target(loaded, target),
        contrast=None if contrast is None else class_of(loaded, contrast, "--contrast"),
        options=options,
    )
    found = None if exemplars is None else _search(loaded, exemplars, layer, depth, cache)
    if not as_json:
        show_guess(loaded)

    def results() -> Iterator[Decomposed]:
        with bar("decomposing") as told:
            watched = replace(wanted, options={**options, "progress": told})
            yield from decompose_files(loaded, images, watched, found)

    _report(results(), show_decomposed, as_json)


def class_of(model: Model, text: str, option: str) -> int:
    """Return the number of a class given by number or label."""
    from onnxplain.target import parse_target

    chosen = parse_target(text, model.labels)
    if not isinstance(chosen.index, int) or chosen.minus is not None:
        raise ConfigError(f"{option} {text!r} is not one class: give its number or label")
    return chosen.index


def _search(
    model: Model, folder: Path, layers: list[str] | None, depth: int | None, cache: Path
) -> Exemplars:
    """Look for exemplars of the layers, with a bar on a terminal; say what was skipped."""
    from onnxplain.dataset import Run
    from onnxplain.methods.decompose import choose_layers
    from onnxplain.methods.exemplars import exemplars

    chosen = choose_layers(model, layers, depth)
    with bar("looking for exemplars") as told:
        found = exemplars(model, folder, chosen, run=Run(cache=cache, progress=told))
    for _, reason in found.skipped:
        print(f"onnxplain: {reason}; skipped", file=sys.stderr)
    return found


def show_decomposed(result: Decomposed) -> None:
    """Print one image's prediction, its tree, how complete it is and what was written."""
    show_prediction(result)
    for hierarchy in result.hierarchies:
        for line in _lines(hierarchy):
            print(f"  {line}")
        for note in hierarchy.meta["inexact"]:
            print(f"  not exact: {note}")
    print("  written: " + ", ".join(result.files))


def _lines(hierarchy: Hierarchy) -> list[str]:
    """Return the tree, of a large one the upper levels, and how complete it is."""
    from onnxplain.hierarchy import strongest_path, text

    depths = range(len(hierarchy.layers), 0, -1)
    shown = (text(hierarchy, depth=depth) for depth in depths)
    lines = next((tree for tree in shown if len(tree) <= LONGEST), text(hierarchy, depth=1))
    root = hierarchy.root
    path = " > ".join(f"{n.layer} ch {n.channel}" for n in strongest_path(hierarchy)[1:])
    if path:
        lines.append(f"strongest path: {path}")
    if root.coverage == 0:
        lines.append(
            f"no channel of {hierarchy.layers[0]} holds {hierarchy.meta['min_share']:.0%} of the positive "
            "evidence: try --min-share 0, or a lower layer"
        )
    if root.coverage is not None:
        lines.append(
            f"channels: {len(hierarchy) - 1}; those of {hierarchy.layers[0]} cover {root.coverage:.0%} of "
            f"its positive evidence; residual (biases, curvature) {root.residual:+.4g}"
        )
    return lines
