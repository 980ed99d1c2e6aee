"""How sure is a mean over images, and is one method really better than another?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxplain.executor import Array
from onnxplain.results.evaluation import Evaluation

RESAMPLES = 2000
FLIPS = 9999
LEVEL = 0.05
"""Differences are called significant below it, after Holm's correction."""


class Interval(NamedTuple):
    """A mean over images with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Standing(NamedTuple):
    """Where a method stands among the others by one metric, on one model.

    Attributes:
        model, method, metric: names.
        images: how many have a value.
        interval: the mean over them; None where there is none.
        p: of being as good as the best method, Holm-corrected; None for the best, or without a comparison.
        best: whether no method is significantly better.
    """

    model: str
    method: str
    metric: str
    images: int
    interval: Interval | None
    p: float | None
    best: bool


def interval(values: Array) -> Interval:
    """Return the mean of [n] and the percentile bootstrap interval of 95 % over 2,000 resamples, seeded.

    Source: Efron & Tibshirani, 1993, ch. 13.
    """
    rng, n = np.random.default_rng(0), len(values)
    drawn = values[rng.integers(0, n, (RESAMPLES, n))].mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def paired(a: Array, b: Array) -> float:
    """Return p of the mean of a - b under random changes of sign, two-sided, seeded, in 0..1.

    The same images were judged by both, so differences are compared, not means. Source: Fisher's sign-flip
    permutation test with 9,999 draws.
    """
    difference = a - b
    if not difference.any():
        return 1.0
    rng, found = np.random.default_rng(0), abs(difference.mean())
    signs = rng.integers(0, 2, (FLIPS, len(difference)), dtype=np.int8) * 2 - 1
    drawn = np.abs(signs @ difference) / len(difference)
    return float((1 + (drawn >= found * (1 - 1e-12)).sum()) / (FLIPS + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in their order."""
    order, count = np.argsort(values, kind="stable"), len(values)
    corrected, largest = [0.0] * count, 0.0
    for place, i in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (count - place) * values[i]))
        corrected[i] = largest
    return corrected


def standings(found: Evaluation) -> tuple[Standing, ...]:
    """Compare, per model and metric, every method with the best one on the images that both have."""
    return tuple(
        standing
        for m, model in enumerate(found.models)
        for k in range(len(found.metrics))
        for standing in _standings(found, model, m, k)
    )


def _standings(found: Evaluation, model: str, m: int, k: int) -> list[Standing]:
    values, present = found.values[:, m, :, k], found.present[:, m, :, k]
    known = [e for e in range(len(found.methods)) if present[:, e].any()]
    intervals = {e: interval(values[present[:, e], e]) for e in known}
    better, p = found.better[k], dict[int, float]()
    best: int | None = None
    if known and better != "zero":  # near 0 by chance is no merit: such a metric ranks nobody
        best = min(known, key=lambda e: intervals[e].mean * (-1 if better == "up" else 1))
        rivals = [e for e in known if e != best]
        both = {e: present[:, e] & present[:, best] for e in rivals}
        tested = holm([_p(values, e, best, both[e]) for e in rivals])
        p = dict(zip(rivals, tested, strict=True))
    return [
        Standing(
            model, method, found.metrics[k], int(present[:, e].sum()), intervals.get(e), p.get(e),
            best is not None and e in intervals and p.get(e, 1.0) >= LEVEL,
        )
        for e, method in enumerate(found.methods)
    ]  # fmt: skip


def _p(values: Array, a: int, b: int, both: Array) -> float:
    return paired(values[both, a], values[both, b]) if both.any() else 1.0
