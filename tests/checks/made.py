"""A net whose map is the picture itself, so that tests decide where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain.bundled import model_path
from onnxplain.checks import Result, check
from tests.nets import build, load

SIDE = 16
BODY = """
    c = Conv(x, w)
    features = Relu(c)
    mean = GlobalAveragePool(features)
    flat = Flatten(mean)
    logits = Gemm<transB = 1>(flat, v)
"""
HEAD = f"(float[N,1,{SIDE},{SIDE}] x) => (float[N,2] logits)"
UNIT = {"preset": "unit"}


def glass(body: str = BODY, w: Any = ((1,), (0.5,)), v: Any = ((1, 0), (0, 1))) -> ox.Model:
    """Return a net of two channels, both the picture's brightness; class 0 wins."""
    weights = np.array(w, np.float32).reshape(2, 1, 1, 1)
    proto = build(HEAD, body, w=weights, v=np.array(v, np.float32))
    return load(proto, preprocess=UNIT, labels=["bright", "half"])


def pictures(*lit: tuple[slice, slice] | None, base: int = 10) -> np.ndarray:
    """Return grey pictures uint8 [n, 16, 16], dark but for a lit part each."""
    found = np.full((len(lit), SIDE, SIDE), base, np.uint8)
    for picture, part in zip(found, lit, strict=True):
        if part is not None:
            picture[part] = 250
    return found


CENTRE = (slice(6, 10), slice(6, 10))
CORNER = (slice(0, 3), slice(0, 3))
EDGE = (slice(0, SIDE), slice(0, 1))


def bundled(name: str = "vgg_cifar10.onnx") -> ox.Model:
    """Return a bundled network."""
    return ox.load(model_path(name), device="cpu", threads=1)


def checked(kind: str, model: Any, data: Any, **options: Any) -> Result:
    """Return the result of a single check; a reference or annotations are among the options."""
    top = {k: options.pop(k) for k in ("annotations", "target", "method") if k in options}
    reference = options.pop("reference", None)
    config = {**top, "check": [{"kind": kind, **options}]}
    return check(config, model=model, reference=reference, data=data).results[0]
