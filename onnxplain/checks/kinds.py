"""Every kind of check: what it measures, and what is asked of it. A new one is a function and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from onnxplain.checks import agree, place, sound, stable
from onnxplain.checks.options import Option, box, number, whole
from onnxplain.checks.seen import View
from onnxplain.executor import Array

Statistic = Literal["mean", "median", "worst"]
Better = Literal["high", "low"]


@dataclass(frozen=True)
class Kind:
    """One kind of check.

    Attributes:
        measure: a batch -> a number per image, NaN where it does not apply; or, with `across`, a row each.
        says: what the value is, after "the mean of": in words, for reports.
        better: whether high values are good (`min` is the threshold's key) or low ones (`max`).
        threshold: by default; None where the user must say.
        limits: between which thresholds lie.
        statistic: how the numbers of all images become one.
        needs: "reference", "annotations", "untrained".
        options: the keys of its own.
        across: the rows of all images -> a number per image, or one each of something else.
        merge: how the rows of two batches become one; they are listed by default.
        first: measures only so many images, the first ones, unless `images` says otherwise: it is slow.
        alone: it is measured after the pass on the first image, with nothing beside it.
        share: the value is a share of images, to be shown as percents.
        counts: what there is a number for, if not for each image.
    """

    measure: Callable[[View], Array]
    says: str
    better: Better
    threshold: float | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    statistic: Statistic = "mean"
    needs: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    across: Callable[[Array], Array] | None = None
    merge: Callable[[Array, Array], Array] = lambda a, b: np.concatenate([a, b])
    first: int | None = None
    alone: bool = False
    share: bool = False
    counts: str = "images"

    @property
    def key(self) -> str:
        """The key of the threshold."""
        return "min" if self.better == "high" else "max"


_ANY = (0.0, np.inf)
_CORRELATION = (-1.0, 1.0)

KINDS: dict[str, Kind] = {
    # against labels and a reference
    "accuracy": Kind(agree.accuracy, "images predicted as labelled", "high", share=True),
    "agreement": Kind(
        agree.agreement, "images for which both files predict the same class", "high", 0.99,
        needs="reference", share=True,
    ),
    "logit-difference": Kind(
        agree.logit_difference, "largest difference of a logit, in spreads of the reference's logits",
        "low", 0.1, _ANY, needs="reference",
    ),
    "rank-correlation": Kind(
        agree.rank_correlation, "rank correlation of the two files' maps", "high", 0.9, _CORRELATION,
        "median", "reference",
    ),
    "top-overlap": Kind(
        agree.top_overlap, "overlap of the two maps' hottest pixels", "high", 0.8, statistic="median",
        needs="reference", options={"share": Option(0.1, number(0, 1))},
    ),
    "ssim": Kind(
        agree.ssim, "structural similarity of the two maps", "high", 0.9, _CORRELATION, "median", "reference"
    ),
    "centre-shift": Kind(
        agree.centre_shift, "shift of the map's centre of mass, in diagonals", "low", 0.05,
        statistic="median", needs="reference",
    ),
    # right for the right reason
    "pointing-game": Kind(
        place.pointing_game, "images whose hottest pixel is on the object", "high", needs="annotations",
        share=True,
    ),
    "energy-inside": Kind(
        place.energy_in_object, "share of the map's mass on the object", "high", needs="annotations"
    ),
    # shortcuts
    "border-mass": Kind(
        place.border_mass, "share of the map's mass along the borders", "low", 0.6,
        options={"width": Option(0.1, number(0, 0.5))},
    ),
    "corner-mass": Kind(
        place.corner_mass, "share of the map's mass in a single corner", "low", 0.5,
        options={"size": Option(0.25, number(0, 0.5))},
    ),
    "region-mass": Kind(
        place.region_mass, "share of the map's mass in the region", "low", options={"box": Option(None, box)}
    ),
    "constant-maps": Kind(place.constant, "images with a map without contrast", "low", 0.01, share=True),
    "same-maps": Kind(
        place.cells, "correlation of a map with those of other images", "low", 0.9, _CORRELATION,
        across=place.likeness_to_others,
    ),
    # stability
    "noise-stability": Kind(
        stable.noise, "rank correlation with the map under noise", "high", 0.7, _CORRELATION, "median",
        options={"sigma": Option(0.02, number(0, 1))},
    ),
    "jpeg-stability": Kind(
        stable.jpeg, "rank correlation with the map of the JPEG", "high", 0.7, _CORRELATION, "median",
        options={"quality": Option(75, whole(1, 100))},
    ),
    "shift-stability": Kind(
        stable.shift, "rank correlation with the map of the shifted picture", "high", 0.5, _CORRELATION,
        "median", options={"pixels": Option(1, whole(1, 1000))},
    ),
    # sanity
    "shuffled-weights": Kind(
        stable.untrained, "likeness of the map to that of the network with shuffled weights", "low", 0.5,
        needs="untrained",
    ),
    "lift-efficiency": Kind(
        sound.lift_efficiency, "part of the score that LIFT-CAM's weights miss", "low", 1e-3,
        statistic="worst",
    ),
    "gap-residual": Kind(
        sound.gap_residual, "part of the score that no channel carries", "low", limits=_ANY,
        statistic="median", first=8,
    ),
    "gradient": Kind(
        sound.gradient_error, "error of the gradient against finite differences", "low", 1e-2, _ANY,
        "median", first=8,
    ),
    # numerical health
    "finite": Kind(
        sound.broken_numbers, "images with NaN or infinity in logits or map", "low", 0.0, share=True
    ),
    "tied-logits": Kind(
        sound.tied, "images for which several classes share the highest logit", "low", 0.0, share=True
    ),
    "saturated-logits": Kind(
        sound.top_logit, "images whose highest logit is the highest of all images'", "low", 0.01,
        across=sound.at_ceiling, share=True,
    ),
    "dead-filters": Kind(
        sound.extremes, "filters that never change", "low", 0.1, across=sound.dead, merge=np.maximum,
        share=True, counts="filters",
    ),
    "latency": Kind(
        sound.latency, "time of an explanation, in forward passes", "low", None, _ANY, alone=True,
        options={"repeats": Option(15, whole(3, 1000))},
    ),
}  # fmt: skip


def settings_of(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a check: those given, the others by default."""
    return {name: given.get(name, option.default) for name, option in kind.options.items()}
