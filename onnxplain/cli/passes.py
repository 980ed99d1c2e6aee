"""Options that all commands share which pass over a data set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxplain.cli.text import bar

if TYPE_CHECKING:
    from onnxplain.dataset import Run

DataSet = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder of pictures (or of a sub-folder per class, or of shards), a list (.csv, .json, "
        ".jsonl), .npz, .tar or .parquet.",
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", help="local (threads), or ray (a cluster's workers).")
]
Workers = Annotated[
    int | None, typer.Option(help="Threads or actors; by default one per core, or per GPU.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster; default: that of RAY_ADDRESS, or one on this machine."),
]
BatchSize = Annotated[int, typer.Option("--batch", help="Images of one piece of work.")]
Cache = Annotated[
    Path,
    typer.Option(
        help="Folder that keeps what was found: an interrupted run goes on, a finished one answers at once."
    ),
]
CACHE = Path("onnxplain-cache")


@contextmanager
def running(
    what: str,
    engine: str,
    workers: int | None,
    address: str | None,
    batch: int,
    cache: Path,
) -> Iterator[Run]:
    """Yield how to run passes, with a bar on a terminal."""
    from onnxplain.dataset import Run

    with bar(what) as told:
        yield Run(engine, workers, address, batch, cache, told)  # type: ignore[arg-type]


def show_data(meta: dict[str, object]) -> None:
    """Say on stderr which items were skipped, and why labels are not used, if so."""
    if meta["skipped"]:
        for _, reason in meta["skipped_first"]:  # type: ignore[attr-defined]
            print(f"onnxplain: {reason}; skipped", file=sys.stderr)
        print(f"onnxplain: {meta['skipped']} items skipped", file=sys.stderr)
    if meta["labels_note"]:
        print(f"onnxplain: {meta['labels_note']}", file=sys.stderr)
