"""What the commands print: tables and lines, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from onnxplain.doctor import Inspection
    from onnxplain.embed import Exported
    from onnxplain.explain import Explained, Outcome
    from onnxplain.model import Model
    from onnxplain.verify import Verification

T = TypeVar("T")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr if it is a terminal; yield what is to be told (done, of)."""
    from rich.console import Console
    from rich.progress import Progress

    # What is printed while it shows goes above the bar, unless stdout is a file that waits for it.
    with Progress(
        console=Console(stderr=True), transient=True,
        disable=not sys.stderr.isatty(), redirect_stdout=sys.stdout.isatty(),
    ) as shown:  # fmt: skip
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """Yield the items, showing a bar on stderr if it is a terminal and there is more than one."""
    if total < 2 or not sys.stderr.isatty():
        yield from items
        return
    with bar("explaining") as told:
        for done, item in enumerate(items, 1):
            yield item
            told(done, total)


def show_guess(model: Model) -> None:
    """Warn on stderr when the pre-processing is a guess: a wrong one explains another question."""
    if model.spec.is_picture and model.preprocess.source.startswith("guessed"):
        print(
            f"onnxplain: pre-processing {model.preprocess.source}; set --preprocess if that is wrong",
            file=sys.stderr,
        )


def show_left_out(model: Model, methods: list[str]) -> None:
    """Say on stderr which class activation maps the model has no layer for."""
    from onnxplain.methods.cam import CAMS

    maps = [m for m in methods if m.replace("-", "_") in CAMS]
    if model.default_layer is None and maps and len(maps) < len(methods):
        print(f"onnxplain: {', '.join(maps)} left out: {model.why_default_layer}", file=sys.stderr)


def show_prediction(result: Outcome) -> None:
    """Print an image's name and prediction."""
    print(result.image)
    if result.top:
        print("  predicted: " + ", ".join(f"{r.label} {r.probability:.1%}" for r in result.top[:3]))
    if result.warning:
        print(f"  warning: {result.warning}")


def show_explained(result: Explained) -> None:
    """Print one image's prediction and what was written."""
    show_prediction(result)
    for m in result.methods:
        at = f" at {m['layer']}" if m["layer"] else ""
        at += f" ({m['grid']})" if m["grid"] else ""
        print(f"  {m['method']}: {m['label']}, score {m['score']:.4g}{at} -> {m['record']}")
        if m["outside_grid"]:
            print(f"    not in the map: {m['outside_grid']:.0%} of what the tokens contribute")
        for note in m["inexact"]:
            print(f"    not exact: {note}")
    if result.picture is not None:
        print(f"  picture: {result.picture}")


def show_inspection(found: Inspection, all_layers: bool) -> None:
    """Print an inspection, verdict first; names come last in their lines, whole, to be copied."""
    for doubt in found.doubts:
        print(f"onnxplain: warning: {found.model}: {doubt}", file=sys.stderr)
    print(f"{found.model}: {found.verdict}")
    print(f"LIFT-CAM: {found.lift_cam}")
    print("\nops on the way (nodes, op, gradient):")
    for op in found.ops:
        print(f"  {op.count:5}  {op.type:22} {op.gradient}")
    if found.off_path:
        print(f"  beside it, carrying no signal: {', '.join(found.off_path)}")
    print()
    facts = {
        "input": "; ".join(found.inputs),
        "outputs": ", ".join(found.outputs),
        "explained": f"{found.logit} ({found.classes or 'no'} classes, {found.labels or 'no'} labels)",
        "images": found.images,
        "pre-processing": found.preprocess,
        "default layer": f"{found.default_layer or 'none'}: {found.why_default_layer}",
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    shown = [layer for layer in found.layers if all_layers or layer.cut]
    print("\nlayers (cut: every path to the logit passes it):")
    width = 26 if any(layer.grid is not None for layer in shown) else 18
    for layer in shown:
        shape = " x ".join("?" if s is None else str(s) for s in layer.shape)
        shape += f" (grid {layer.grid})" if layer.grid is not None else ""
        marks = f"{'cut' if layer.cut else '':4} {layer.axes or '':5} {shape:{width}} {layer.op:20}"
        print(f"  {marks} {layer.name}{' (default)' if layer.name == found.default_layer else ''}")
    if len(shown) < len(found.layers):
        print(f"  and {len(found.layers) - len(shown)} that are not cuts: --all-layers")


def show_exported(written: Exported) -> None:
    """Print what an explained file takes and gives."""
    meta = written.meta
    at = f" at {meta['layer']}" if meta["layer"] else ""
    print(f"{written.path}: {meta['method']}{at} of {meta['target']}")
    print(f"  new outputs: {', '.join(written.outputs)}")
    if written.inputs:
        print(f"  new inputs: {', '.join(written.inputs)}")
    for note in meta["inexact"]:
        print(f"  not exact: {note}")
    passes = "once" if written.shares_forward else "twice"
    print(f"  original outputs: every bit as before; the forward pass runs {passes}")


def show_verification(measured: Verification | None) -> None:
    """Print what --verify measured."""
    if measured is None:
        return
    slope = "not checked: it is a surrogate, zero here, or not float32"
    if measured.gradient is not None:
        slope = f"{measured.gradient:.1e} relative error along itself against central differences"
    print(f"\nverified: {'yes' if measured.ok else 'NO'}")
    print(f"  forward: {measured.forward:.1e} relative difference from the file's own outputs")
    print(f"  gradient: {slope}")
