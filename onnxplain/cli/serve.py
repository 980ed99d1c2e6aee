"""The command that serves the live page."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from onnxplain.cli.app import Device, Labels, ModelFile, Preprocessing, Threads, _load, app
from onnxplain.cli.text import show_guess


@app.command()
def serve(
    model: ModelFile,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than the default let others in.")
    ] = "127.0.0.1",
    labels: Labels = None,
    preprocess: Preprocessing = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Serve a web page to explore: drop a picture, choose what to explain it with."""
    from onnxplain.serve import serve as run

    loaded = _load(model, device, preprocess, labels, threads)
    show_guess(loaded)
    run(loaded, host, port)
    sys.stdout.flush()
    os._exit(0)  # at once: a step of a job may run for minutes, and nothing is half-written
