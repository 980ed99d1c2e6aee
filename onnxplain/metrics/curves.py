"""Taking pixels away by importance, or putting them back: insertion, deletion and allegiance curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.executor import Array
from onnxplain.methods.common import whole
from onnxplain.metrics.case import Case
from onnxplain.metrics.fills import Fill, kept

STEPS = 20
"""Equal steps from the whole image to none of it. The papers take a step per row of pixels (224): the area
changes little, the time ten times."""
SHARES = (0, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of pixels taken away in allegiance curves (Llorente et al., 2023)."""


def ranks(maps: Array) -> Array:
    """Return the place of each pixel from the most important on, int [N, H, W]; equal ones in random order.

    The order is seeded and the same for all images: a constant map takes pixels away at random, where the
    order of rows would be a map of its own.
    """
    flat = -maps.reshape(len(maps), -1)
    shuffled = np.random.default_rng(0).permutation(flat.shape[1])
    found = np.empty(flat.shape, np.int32)
    for place, values in zip(found, flat, strict=True):
        order = shuffled[np.argsort(values[shuffled], kind="stable")]
        place[order] = np.arange(len(order), dtype=np.int32)
    return found.reshape(maps.shape)


def flipping_curve(
    case: Case, steps: int = STEPS, fill: Fill = "zero", insert: bool = False
) -> Array:
    """Return the probability of the class after each step, float64 [N, steps + 1].

    From the whole image the most important pixels become `fill`, in equal steps until none is left; with
    `insert` an image of nothing but `fill` gets them back. All steps of an image run together.
    Source: Petsiuk et al., BMVC 2018, arXiv 1806.07421; pixel flipping: Bach et al., 2015.
    """
    if not whole(steps, 1):
        raise ConfigError(f"a curve needs steps >= 1, got {steps!r}")
    key = ("flipping", steps, fill, insert)
    if key not in case.curves:
        answers, found = case.answers, np.empty((len(case.maps), steps + 1))
        for i, place in enumerate(ranks(case.maps)):
            counts = np.rint(np.linspace(0, place.size, steps + 1)).astype(place.dtype)

            def some(
                part: slice, i: int = i, place: Array = place, counts: Array = counts
            ) -> Array:
                taken = place < counts[part, None, None]
                return kept(answers, i, taken if insert else ~taken, fill)

            logits = answers.to_many(i, len(counts), some)
            found[i] = answers.probability(logits, int(answers.classes[i]))
        case.curves[key] = found
    return case.curves[key]


def insertion(case: Case, steps: int = STEPS, fill: Fill = "blur") -> Array:
    """Area under the insertion curve, the share of pixels from 0 to 1. Up is better, 0..1.

    A constant map inserts pixels in random order. Source: Petsiuk et al., 2018.
    """
    return area(flipping_curve(case, steps, fill, insert=True))


def deletion(case: Case, steps: int = STEPS, fill: Fill = "zero") -> Array:
    """Area under the deletion curve, the share of pixels from 0 to 1. Down is better, 0..1.

    `fill="impute"` is ROAD, most relevant first (Rong et al., 2022). Source: Petsiuk et al., 2018.
    """
    return area(flipping_curve(case, steps, fill))


def insertion_minus_deletion(case: Case, steps: int = STEPS) -> Array:
    """(insertion - deletion) / Y, Y = p_c(x): areas of curves that start, or end, at 1. Up is better.

    Near 0 for a random order; 0 where Y is 0. Source: ours, of Petsiuk et al.'s two areas.
    """
    difference, before = insertion(case, steps) - deletion(case, steps), case.answers.confidence
    found: Array = np.divide(difference, before, out=np.zeros_like(before), where=before > 0)
    return found


def allegiance_curve(case: Case, fill: Fill = "black") -> Array:
    """Return whether the answer stays when the top pixels become `fill`, bool [N, len(SHARES)].

    The pixels are those of `top_pixels`, all colours of them. The answer is the largest logit, whatever class
    the map is of. Source: Llorente, Boal & Sanchez-Ubeda, 2023, arXiv 2309.12913.
    """
    key = ("allegiance", fill)
    if key not in case.curves:
        answers, found = case.answers, np.empty((len(case.answers), len(SHARES)), bool)
        for i, m in enumerate(case.maps):
            taken = top_pixels(m, SHARES)

            def some(part: slice, i: int = i, taken: Array = taken) -> Array:
                return kept(answers, i, ~taken[part], fill)

            logits = answers.to_many(i, len(SHARES), some)
            found[i] = logits.argmax(1) == answers.logits[i].argmax()
        case.curves[key] = found
    return case.curves[key]


def top_pixels(m: Array, shares: Sequence[float]) -> Array:
    """Return which pixels of a map [H, W] are its top share p, bool [len(shares), H, W].

    With t the round(p n)-th largest of the n values, those with M > t and M != 0: fewer than p n where
    values are equal or a map marks fewer, and none of a map without values to tell apart. Source: as for
    `allegiance_curve`.
    """
    largest = np.sort(m, axis=None)[::-1]
    limits = largest[np.minimum(np.rint(np.array(shares) * m.size).astype(np.int64), m.size - 1)]
    found: Array = (m > limits[:, None, None]) & (m != 0)
    return found


def allegiance(case: Case, fill: Fill = "black") -> Array:
    """Area under the allegiance curve, p from 0 to 0.9. Down is better, 0..0.9.

    Its mean over images is the paper's AUC. A zero or constant map takes away nothing: 0.9.
    """
    return area(allegiance_curve(case, fill).astype(np.float64), np.array(SHARES, np.float64))


def area(curve: Array, at: Array | None = None) -> Array:
    """Return the area under curves [N, S] by the trapezoid rule; `at` [S], or equal steps from 0 to 1."""
    x = np.linspace(0, 1, curve.shape[1]) if at is None else at
    found: Array = ((curve[:, 1:] + curve[:, :-1]) / 2 * np.diff(x)).sum(1)
    return found
