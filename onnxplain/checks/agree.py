"""Measures of a model against its labels, and against a reference: one number per image, float64 [n]."""

from __future__ import annotations

import numpy as np

from onnxplain.checks.seen import MODEL, REFERENCE, View, numbers
from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.metrics import likeness


def accuracy(v: View) -> Array:
    """Whether the predicted class is the label."""
    return numbers(v.prediction().classes == v.labels)


def agreement(v: View) -> Array:
    """Whether both predict the same class."""
    return numbers(v.prediction().classes == v.prediction(REFERENCE).classes)


def logit_difference(v: View) -> Array:
    """The largest difference of a logit, as a share of the spread (max - min) of the reference's [ours]."""
    mine, other = (v.prediction(r).logits.astype(np.float64) for r in (MODEL, REFERENCE))
    if mine.shape != other.shape:
        raise InputError(f"the models have {mine.shape[1]} and {other.shape[1]} classes")
    spread = np.ptp(other, axis=1)
    difference = np.abs(mine - other).max(1)
    found: Array = np.divide(difference, spread, out=1.0 * (difference > 0), where=spread > 0)
    return found


def rank_correlation(v: View) -> Array:
    """Spearman's correlation of both maps."""
    return likeness.rank_correlation(v.maps(), v.maps(REFERENCE))


def top_overlap(v: View) -> Array:
    """The share of the hottest pixels that both maps have in common."""
    return likeness.top_overlap(v.maps(), v.maps(REFERENCE), v.options["share"])


def ssim(v: View) -> Array:
    """The structural similarity of both maps."""
    return likeness.ssim(v.maps(), v.maps(REFERENCE))


def centre_shift(v: View) -> Array:
    """How far the centre of mass of the map moves, in diagonals."""
    return likeness.centre_shift(v.maps(), v.maps(REFERENCE))
