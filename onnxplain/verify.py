"""Check onnxplain's own work on a user's file: the forward against the original, the gradient against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.feeds import Feeds, input_spec
from onnxplain.methods.common import start
from onnxplain.methods.gradient import gradient
from onnxplain.model import Model
from onnxplain.program import Array

FORWARD_TOLERANCE = {
    "f2": 2e-3,
    "f4": 1e-4,
    "f8": 1e-4,
}  # float16: two steps; runtimes have several kernels
GRADIENT_TOLERANCE = 1e-2
STEPS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3)  # share of the input's norm


@dataclass(frozen=True)
class Verification:
    """What `verify` measured.

    `forward`: largest difference between the canonical graph's outputs and the original file's, relative to
    the largest output, and what is allowed in the outputs' precision. `gradient`: relative error of the slope
    along the gradient against central differences in float32, the best of several steps (kinks and rounding
    spoil single ones); None where no difference can confirm it: a surrogate, or zero at this input.
    """

    forward: float
    forward_allowed: float
    gradient: float | None

    @property
    def ok(self) -> bool:
        """Whether both are within what is allowed (`GRADIENT_TOLERANCE` for the gradient)."""
        return self.forward <= self.forward_allowed and (self.gradient or 0) <= GRADIENT_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {"ok": self.ok, **asdict(self)}


def verify(model: Model, seed: int = 0) -> Verification:
    """Run the original file and onnxplain's graphs on one noise image and compare.

    Raises ConfigError for a model that was not loaded from a path or has several inputs.
    """
    if model.path is None or len(model.graph.inputs) > 1:
        raise ConfigError(f"{model.name}: only a file with a single input can be verified")
    feeds = noise(model, seed)
    x = feeds[model.graph.source.name]
    original = model.executor.session(str(model.path)).run(feeds)
    names = [logit.output for logit in model.graph.logits]
    canonical = model.values(feeds, names)
    differences = [_relative(canonical[name], original[name]) for name in names]
    kinds = [original[name].dtype.str[1:] for name in names]
    allowed = max(FORWARD_TOLERANCE.get(kind, 1e-4) for kind in kinds)
    return Verification(max(differences), allowed, slope_error(model, x))


def noise(model: Model, seed: int) -> Feeds:
    """Return feeds for one image: smooth noise for the input explained, standard normal numbers elsewhere.

    Whole numbers are 0 and 1, which are indices, counts and flags to most models; a setting that all images
    share is 1.
    """
    rng = np.random.default_rng(seed)
    size = (64, 64)
    if model.preprocess.resize == "none" and model.spec.is_picture:
        size = model.preprocess.target_size(input_spec(model.graph.source, keep_open=False))
    feeds = {}
    for given in model.graph.inputs:
        shape = [1 if isinstance(s, str) else s for s in given.shape]
        if given == model.graph.source and model.spec.is_picture:
            drawn = model.read(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        elif not given.per_image:
            drawn = np.ones(shape)
        elif given.dtype.kind == "f":
            drawn = rng.normal(size=shape)
        else:
            drawn = rng.integers(0, 2, shape)
        feeds[given.name] = drawn.astype(given.dtype, copy=False)
    return feeds


def _relative(found: Array, expected: Array) -> float:
    scale = max(float(np.abs(expected.astype(np.float64)).max()), 1e-12)
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) / scale


def slope_error(model: Model, x: Array, target: object = None) -> float | None:
    """Return the relative error of the slope along the gradient at x [1, ...]; None: see `Verification`."""
    found = gradient(model, x, target)
    if found.meta["inexact"] or x.dtype != np.float32:
        return None
    norm = float(np.linalg.norm(found.values))
    if norm == 0:
        return None
    direction = found.values / norm
    job = start(model, x, target)
    seed = job.seeds().seed
    errors = []
    for step in STEPS:
        move = direction * np.float32(step * np.linalg.norm(x))
        length = float(np.linalg.norm(move))
        rise = job.scores(x + move, seed) - job.scores(x - move, seed)
        errors.append(abs(float(rise[0]) / (2 * length) - norm) / norm)
    return min(errors)
