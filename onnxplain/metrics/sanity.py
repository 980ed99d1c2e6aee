"""Sanity checks: a map must change with the weights of the model, and with the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxplain.errors import ConfigError, TargetError
from onnxplain.executor import Array
from onnxplain.metrics.case import Case, Explain
from onnxplain.metrics.likeness import rank_correlation

STAGES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the layers with weights, from the output down, that are randomised one after the other."""


def randomisation_curve(case: Case, stages: Sequence[float] = STAGES) -> Array:
    """Return the likeness of maps to those of a model with shuffled weights, float64 [N, len(stages)].

    Weights are permuted within each tensor, in a share of the layers counted from the output (cascading);
    likeness is Spearman's rank correlation of the pixels, 0 where one map is constant, 1 where both are.
    The class stays that of the model itself. Source: Adebayo et al., NeurIPS 2018, arXiv 1810.03292.
    """
    explain, found = _explain(case, "weight_randomisation"), []
    for share in stages:
        other = case.answers.model.shuffled(share)
        maps = explain(other, case.answers.feeds, case.answers.classes).heatmap()
        found.append(rank_correlation(case.maps, maps))
    return np.stack(found, axis=1)


def weight_randomisation(case: Case) -> Array:
    """Likeness to the map of a model whose weights are all shuffled. Towards 0 is better, -1..1.

    A map that stays the same shows the image, not what the model learned; so 1 where both maps are constant.
    Source: see `randomisation_curve`, which has the stages on the way there.
    """
    return randomisation_curve(case, (1.0,))[:, 0]


def label_randomisation(case: Case) -> Array:
    """Likeness to the map of another class, drawn at random. Down is better, -1..1.

    Spearman's rank correlation of the pixels, 0 where one map is constant, 1 where both are; the other
    class is (c + d) mod C with d drawn once, seeded. Source: Sixt et al., ICML 2020, arXiv 1912.09818
    (random logit).
    """
    explain, answers = _explain(case, "label_randomisation"), case.answers
    count = answers.logits.shape[1]
    if count < 2:
        raise TargetError(f"{answers.model.name} has one class: there is no other to compare with")
    other = (answers.classes + np.random.default_rng(0).integers(1, count)) % count
    return rank_correlation(case.maps, explain(answers.model, answers.feeds, other).heatmap())


def _explain(case: Case, name: str) -> Explain:
    if case.explain is None:
        raise ConfigError(f"{name} explains again: it needs the case's `explain`")
    return case.explain
