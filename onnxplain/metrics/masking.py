"""What the model makes of the image seen through its map: Average Drop and its relatives.

The names are those of Chattopadhay et al. (WACV 2018) and Jung & Oh (ICCV 2021); Y = p_c(x), O = p_c(x L),
D = p_c(x (1 - L)) with the map L in 0..1, and the other side of the product filled by `fill`: "zero" is the
product in model-input space, "black" the product of raw pixels. A mean over images is the figure that papers
print.
"""

from __future__ import annotations

import numpy as np

from onnxplain.executor import Array
from onnxplain.metrics.case import Case
from onnxplain.metrics.fills import Fill, kept


def average_drop(case: Case, fill: Fill = "zero") -> Array:
    """AD, percent: 100 max(0, Y - O) / Y. Down is better, 0..100.

    A zero map leaves only `fill`; a map of ones gives 0. Source: Chattopadhay et al., 2018, arXiv 1710.11063.
    """
    before = case.answers.confidence
    return 100 * _ratio(np.maximum(before - _seen(case, fill), 0), before)


def increase_in_confidence(case: Case, fill: Fill = "zero") -> Array:
    """IC, percent: 100 [O > Y]. Up is better, 0 or 100 per image. Source: Chattopadhay et al., 2018."""
    return 100.0 * (_seen(case, fill) > case.answers.confidence)


def average_drop_in_deletion(case: Case, fill: Fill = "zero") -> Array:
    """ADD, percent: 100 (Y - D) / Y, not clipped. Up is better, at most 100.

    A zero map takes nothing away: 0. Source: Jung & Oh, ICCV 2021, arXiv 2102.05228.
    """
    before = case.answers.confidence
    return 100 * _ratio(before - _seen(case, fill, without=True), before)


def _seen(case: Case, fill: Fill, without: bool = False) -> Array:
    """Return p_c of the image times its map, or times 1 - map: all images in one run; float64 [N]."""
    key = ("seen", fill, without)
    if key not in case.curves:
        answers, shares = case.answers, 1 - case.maps if without else case.maps
        versions = [kept(answers, i, shares[i : i + 1], fill) for i in range(len(answers))]
        logits = answers.to_each(np.concatenate(versions))
        case.curves[key] = answers.probability(logits, answers.classes)
    return case.curves[key]


def _ratio(above: Array, below: Array) -> Array:
    """Return above / below; 0 where the probability itself is 0: it cannot drop."""
    found: Array = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return found
