"""Does the map stay where the picture hardly changes, and change where the model does? Float64 [n].

The class explained is that of the picture as it is.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from onnxplain.checks.seen import UNTRAINED, View
from onnxplain.errors import ConfigError
from onnxplain.executor import Array
from onnxplain.metrics.likeness import rank_correlation
from onnxplain.preprocess import fed, picture


def noise(v: View) -> Array:
    """Rank correlation with the map under Gaussian noise of `sigma` (white is 1), the same each run."""
    sigma, pixels = v.options["sigma"], v.pixels
    drawn = [
        np.random.default_rng(int(d)).normal(0, sigma, pixels.shape[1:])
        for d in v.seen.batch.digests
    ]
    return rank_correlation(
        v.maps(), v.maps(x=v.fed(pixels + drawn), what=f"with noise of {sigma:g}")
    )


def jpeg(v: View) -> Array:
    """Rank correlation with the map of the picture after JPEG compression of some `quality`."""
    v.pixels  # noqa: B018  (says so where there are none)
    spec, pre = v.model.spec, v.model.preprocess
    kept = np.stack([_compressed(p, v.options["quality"]) for p in picture(v.x, spec, pre)])
    return rank_correlation(
        v.maps(), v.maps(x=fed(kept, spec, pre), what=f"as JPEG of {v.options['quality']}")
    )


def shift(v: View) -> Array:
    """Rank correlation with the map of the picture moved right and down, where both see the same."""
    d = v.options["pixels"]
    h, w = v.size
    if d >= min(h, w):
        raise ConfigError(f"pixels = {d} moves a map of {h} x {w} out of sight")
    at = (1, 2) if v.model.spec.layout == "NHWC" or len(v.model.spec.shape) == 2 else (2, 3)
    moved = v.pixels
    for axis in at:
        index = np.maximum(np.arange(moved.shape[axis]) - d, 0)
        moved = moved.take(index, axis)
    found = v.maps(x=v.fed(moved), what=f"moved by {d}")
    return rank_correlation(v.maps()[:, : h - d, : w - d], found[:, d:, d:])


def untrained(v: View) -> Array:
    """How like the map is to that of the same network with shuffled weights: |rank correlation|."""
    return np.abs(rank_correlation(v.maps(), v.maps(UNTRAINED)))


def _compressed(pixels: Array, quality: int) -> Array:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))
