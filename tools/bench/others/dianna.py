"""DIANNA: black boxes only. It makes a session per batch from a file; a function may keep one.

KernelSHAP takes a file only, and fills a map for every class pixel by pixel.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import dianna
import numpy as np

from tools.bench.sessions import forward, plain
from tools.bench.timing import Run

NAME = f"DIANNA {dianna.__version__}"


def fast(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return the forward alone."""
    return {"forward": forward(path, x, threads)}


def slow(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return RISE, LIME and KernelSHAP of the predicted class."""
    session = plain(path, threads)
    (given,) = session.get_inputs()

    def kept(images: np.ndarray) -> Any:
        return session.run(None, {given.name: images})[0]

    labels, file = [int(kept(x).argmax())], str(path)
    tell = partial(dianna.explain_image, input_image=x[0], labels=labels)
    return {
        "RISE, 1000 masks and 900 to choose p_keep (default)": partial(tell, file, method="RISE"),
        "RISE, 1000 masks": partial(tell, file, method="RISE", p_keep=0.5),
        "RISE, 1000 masks, function that keeps a session": partial(
            tell, kept, method="RISE", p_keep=0.5
        ),
        "LIME, 1000 samples (default 5000)": partial(tell, file, method="LIME", num_samples=1000),
        "KernelSHAP, 200 samples": partial(tell, file, method="KernelSHAP", nsamples=200),
    }
