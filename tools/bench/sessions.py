"""Plain onnxruntime: what everything is measured in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tools.bench.timing import Run


def plain(file: Path | bytes, threads: int) -> Any:
    """Return onnxruntime's own session of a file; its threads do not spin on when a run is over."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = file if isinstance(file, bytes) else str(file)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def forward(file: Path | bytes, x: np.ndarray, threads: int) -> Run:
    """Return the plain forward of a file."""
    session = plain(file, threads)
    (given,) = session.get_inputs()
    return lambda: session.run(None, {given.name: x})
