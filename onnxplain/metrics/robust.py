"""Do maps foretell what changes of the image do, and do they stay when it hardly changes?"""

from __future__ import annotations

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.methods.common import whole
from onnxplain.metrics.answers import Answers
from onnxplain.metrics.case import Case
from onnxplain.metrics.fills import Fill, kept

SAMPLES = 64
RADIUS = 0.02
NEIGHBOURS = 10


def infidelity(answers: Answers, values: Array, changes: Array, normalize: bool = False) -> Array:
    """Mean over changes I of (<I, values> - (z_c(x) - z_c(x - I)))^2, float64 [N]. Down is better, 0 on.

    values: attributions of the shape of the input, [N, ...]; changes: [S, ...], the same for all images, in
    model input. normalize: scale the values of each image by the one factor that fits best. A zero map
    foretells no change at all: the mean square of the changes of the score. Source: Yeh et al., NeurIPS
    2019, arXiv 1901.09392, def. 2.1.
    """
    x = answers.x
    if values.shape != x.shape or changes.shape[1:] != x.shape[1:] or not len(changes):
        raise InputError(
            f"values {list(values.shape)} and changes {list(changes.shape)} must have the shape of the "
            f"input, {list(x.shape)}"
        )
    flat = changes.reshape(len(changes), -1).astype(np.float64)
    foretold = values.reshape(len(values), -1).astype(np.float64) @ flat.T
    if not np.isfinite(foretold).all():
        raise InputError("values or changes hold NaN or infinite numbers")
    seen = np.stack([_drops(answers, i, x[i] - changes) for i in range(len(x))])
    if normalize:
        foretold *= _best_factor(foretold, seen)
    found: Array = np.square(foretold - seen).mean(1)
    return found


def relative_infidelity(case: Case, samples: int = SAMPLES, fill: Fill = "zero") -> Array:
    """What the map leaves unexplained of the effects of taking squares away. Down is better, 0..1.

    For random squares, a side of 1/8 to 1/2 of the image, that become `fill`: the fall of z_c against the
    sum of the map in the square, times the one factor that fits an image best. 1 - (explained share of the
    mean square); 1 for a zero map, 0 where nothing changes the score. Source: Yeh et al., 2019, def. 2.1
    with square removal, on the scale of 0 to 1 [ours].
    """
    squares = _squares(samples, case.answers.size)
    foretold = np.einsum("nhw,shw->ns", case.maps, squares)
    drops = [_taken(case.answers, i, squares, fill) for i in range(len(case.maps))]
    seen = np.stack(drops)
    left = np.square(_best_factor(foretold, seen) * foretold - seen).mean(1)
    whole_ = np.square(seen).mean(1)
    found: Array = np.divide(left, whole_, out=np.zeros_like(left), where=whole_ > 0)
    return np.clip(found, 0, 1)


def max_sensitivity(
    case: Case, radius: float = RADIUS, samples: int = NEIGHBOURS, changes: Array | None = None
) -> Array:
    """Largest |E(x + d) - E(x)| / |E(x)| over changes d of the image, float64 [N]. Down is better, 0 on.

    E are the signed values of the method, |.| the root of the sum of squares (1 where E(x) is zero). d is
    uniform within `radius` times the range of each image, the same for all images up to that factor;
    `changes` [S, ...] in model input replaces them. All copies are explained together. Source: Yeh et al.,
    2019, def. 3.2 (as captum draws it).
    """
    if case.explain is None or case.explanation is None:
        raise ConfigError("max_sensitivity explains other images: it needs the case's `explain`")
    answers, x = case.answers, case.answers.x
    if x.dtype.kind != "f":
        raise InputError(
            f"{answers.model.name} takes {x.dtype}: nothing lies between two pixels for max_sensitivity"
        )
    spread = radius * np.ptp(x.reshape(len(x), -1), axis=1)
    if changes is None:
        rng = np.random.default_rng(0)
        changes, scale = rng.uniform(-1, 1, (samples, *x.shape[1:])), spread
    else:
        scale = np.ones(len(x))
    here = _rows(case.explanation)
    length = np.linalg.norm(here, axis=1)
    largest = np.zeros(len(x))
    for change in changes:
        step = change * scale.reshape(-1, *[1] * (x.ndim - 1))
        feeds = {**answers.feeds, answers.source.name: (x + step).astype(x.dtype)}
        there = _rows(case.explain(answers.model, feeds, answers.classes))
        moved = np.linalg.norm(there - here, axis=1)
        largest = np.maximum(largest, moved / np.where(length > 0, length, 1))
    return largest


def _rows(explanation: object) -> Array:
    values: Array = explanation.values  # type: ignore[attr-defined]
    return values.reshape(len(values), -1).astype(np.float64)


def _drops(answers: Answers, i: int, versions: Array) -> Array:
    """Return z_c(x) - z_c(version) of image i, float64 [m]."""
    c = answers.classes[i]
    versions = versions.astype(answers.x.dtype)
    logits = answers.to_many(i, len(versions), lambda part: versions[part])
    found: Array = answers.logits[i, c] - logits[:, c]
    return found


def _taken(answers: Answers, i: int, squares: Array, fill: Fill) -> Array:
    """Return how much z_c of image i falls when each square becomes `fill`."""
    c = answers.classes[i]
    logits = answers.to_many(i, len(squares), lambda part: kept(answers, i, ~squares[part], fill))
    found: Array = answers.logits[i, c] - logits[:, c]
    return found


def _squares(count: int, size: tuple[int, int]) -> Array:
    """Return random squares, bool [count, H, W], seeded."""
    if not whole(count, 1):
        raise ConfigError(f"samples must be a whole number >= 1, got {count!r}")
    rng, (height, width) = np.random.default_rng(0), size
    short, found = min(size), np.zeros((count, *size), bool)
    for square in found:
        side = int(rng.integers(max(1, short // 8), max(1, short // 2) + 1))
        top, left = (int(rng.integers(0, n - side + 1)) for n in (height, width))
        square[top : top + side, left : left + side] = True
    return found


def _best_factor(foretold: Array, seen: Array) -> Array:
    """Return beta [N, 1] that makes beta foretold closest to what was seen; 0 where nothing is foretold."""
    above = (foretold * seen).sum(1, keepdims=True)
    below = np.square(foretold).sum(1, keepdims=True)
    found: Array = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found
