"""Every metric by name, with its direction and range: a new one is a row of `METRICS`.

Which rank methods and which need more than a map, as rows say:
    "maps"     nothing but the map (and the model)
    "values"   a method that can explain other images or models
    "weights"  a class activation map with a coefficient per channel
    "masks"    where the object is
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.methods.cam import cam
from onnxplain.metrics import coefficients
from onnxplain.metrics.case import Case
from onnxplain.metrics.channels import channel_deletion
from onnxplain.metrics.curves import allegiance, deletion, insertion, insertion_minus_deletion
from onnxplain.metrics.localise import energy_inside, iou, pointing_game
from onnxplain.metrics.masking import (
    average_drop,
    average_drop_in_deletion,
    increase_in_confidence,
)
from onnxplain.metrics.robust import max_sensitivity, relative_infidelity
from onnxplain.metrics.sanity import label_randomisation, weight_randomisation
from onnxplain.metrics.shape import complexity, sparseness
from onnxplain.results import Cam

Better = Literal["up", "down", "zero"]
Needs = Literal["maps", "values", "weights", "masks"]
PERMUTATIONS = 64


@dataclass(frozen=True)
class Metric:
    """One metric: `of` a case gives a number per image, float64 [N]; NaN where it has none.

    better: which way; "zero" is towards 0 from either side. low, high: its range.
    """

    of: Callable[[Case], Array]
    better: Better
    low: float
    high: float
    needs: Needs = "maps"

    @property
    def what(self) -> str:
        """The first line of the metric's description."""
        return (self.of.__doc__ or "").strip().splitlines()[0]


def _weights(case: Case) -> tuple[Array, Array, Array]:
    """Return a map's coefficients, sampled Shapley values of the same channels, and the rise of the score."""
    found = case.explanation
    if not isinstance(found, Cam) or found.weights is None:
        raise InputError("this metric needs the weights of a class activation map")
    kept, key = case.answers.kept, ("shap", found.layer)
    if key not in kept:
        kept[key] = cam(
            case.answers.model, case.answers.feeds, case.answers.classes, "shap_cam", found.layer,
            permutations=PERMUTATIONS,
        )  # fmt: skip
    shap = kept[key].weights
    assert shap is not None
    return found.weights, shap, shap.sum(1, dtype=np.float64)


def _shap_cosine(case: Case) -> Array:
    """Cosine of a map's coefficients and sampled Shapley values."""
    w, s, _ = _weights(case)
    return coefficients.shap_cosine(w, s)


def _shap_spearman(case: Case) -> Array:
    """Rank correlation of a map's coefficients and sampled Shapley values."""
    w, s, _ = _weights(case)
    return coefficients.shap_spearman(w, s)


def _shap_distance(case: Case) -> Array:
    """Distance of a map's coefficients from sampled Shapley values, relative to these."""
    w, s, _ = _weights(case)
    return coefficients.shap_distance(w, s)


def _efficiency_residual(case: Case) -> Array:
    """How far a map's coefficients are from summing to z(A) - z(0), relative to it."""
    w, _, rise = _weights(case)
    return coefficients.efficiency_residual(w, rise)


def _pointing_game(case: Case) -> Array:
    """Whether the map's highest value lies on the object."""
    return pointing_game(case.maps, _masks(case))


def _energy_inside(case: Case) -> Array:
    """Share of the map's mass that lies on the object."""
    return energy_inside(case.maps, _masks(case))


def _iou(case: Case) -> Array:
    """Intersection over union of the map's upper half with the object."""
    return iou(case.maps, _masks(case))


def _sparseness(case: Case) -> Array:
    """Gini index of the map."""
    return sparseness(case.maps)


def _complexity(case: Case) -> Array:
    """Entropy of the map."""
    return complexity(case.maps)


def _allegiance_black(case: Case) -> Array:
    """Area under the allegiance curve, top pixels blackened."""
    return allegiance(case, "black")


def _allegiance_white(case: Case) -> Array:
    """Area under the allegiance curve, top pixels whitened."""
    return allegiance(case, "white")


def _road(case: Case) -> Array:
    """Area under the deletion curve, pixels imputed (ROAD)."""
    return deletion(case, fill="impute")


def _masks(case: Case) -> Array:
    if case.masks is None:
        raise ConfigError("this metric needs to know where the object is: give boxes")
    return case.masks


METRICS: dict[str, Metric] = {
    "average_drop": Metric(average_drop, "down", 0, 100),
    "increase_in_confidence": Metric(increase_in_confidence, "up", 0, 100),
    "average_drop_in_deletion": Metric(average_drop_in_deletion, "up", -np.inf, 100),
    "insertion": Metric(insertion, "up", 0, 1),
    "deletion": Metric(deletion, "down", 0, 1),
    "insertion_minus_deletion": Metric(insertion_minus_deletion, "up", -np.inf, np.inf),
    "road": Metric(_road, "down", 0, 1),
    "allegiance_black": Metric(_allegiance_black, "down", 0, 0.9),
    "allegiance_white": Metric(_allegiance_white, "down", 0, 0.9),
    "infidelity": Metric(relative_infidelity, "down", 0, 1),
    "max_sensitivity": Metric(max_sensitivity, "down", 0, np.inf, "values"),
    "sparseness": Metric(_sparseness, "up", 0, 1),
    "complexity": Metric(_complexity, "down", 0, np.inf),
    "pointing_game": Metric(_pointing_game, "up", 0, 1, "masks"),
    "energy_inside": Metric(_energy_inside, "up", 0, 1, "masks"),
    "iou": Metric(_iou, "up", 0, 1, "masks"),
    "shap_cosine": Metric(_shap_cosine, "up", -1, 1, "weights"),
    "shap_spearman": Metric(_shap_spearman, "up", -1, 1, "weights"),
    "shap_distance": Metric(_shap_distance, "down", 0, np.inf, "weights"),
    "efficiency_residual": Metric(_efficiency_residual, "down", 0, np.inf, "weights"),
    "channel_deletion": Metric(channel_deletion, "up", -np.inf, np.inf, "weights"),
    "weight_randomisation": Metric(weight_randomisation, "zero", -1, 1, "values"),
    "label_randomisation": Metric(label_randomisation, "down", -1, 1, "values"),
}
DEFAULT = tuple(METRICS)[:5]


def metric_name(name: str) -> str:
    """Return the key of `METRICS` for a name with dashes or underscores; raises ConfigError."""
    key = name.strip().lower().replace("-", "_")
    if key not in METRICS:
        known = ", ".join(k.replace("_", "-") for k in METRICS)
        raise ConfigError(f"metric {name!r} is unknown; choose from {known}")
    return key
