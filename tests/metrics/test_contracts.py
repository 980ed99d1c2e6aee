"""What every metric promises, a row each in ROWS: a new metric joins by having one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, OnnxplainError
from onnxplain.methods.registry import explain
from onnxplain.metrics import METRICS, Answers, Case
from onnxplain.metrics.registry import metric_name
from tests import nets

Array = np.ndarray[Any, Any]
SIDE = 8


@dataclass(frozen=True)
class Row:
    """Values at a zero map, a constant one and one of a single pixel; None: whatever, but finite.

    refuses: the error of a case that lacks what the metric needs.
    """

    zero: float | None = None
    constant: float | None = None
    pixel: float | None = None
    refuses: type[OnnxplainError] | None = None


N = SIDE * SIDE
ROWS = {
    "average_drop": Row(),
    "increase_in_confidence": Row(),
    "average_drop_in_deletion": Row(zero=0),
    "insertion": Row(),
    "deletion": Row(),
    "insertion_minus_deletion": Row(),
    "road": Row(),
    "allegiance_black": Row(zero=0.9, constant=0.9),
    "allegiance_white": Row(zero=0.9, constant=0.9),
    "infidelity": Row(zero=1),
    "max_sensitivity": Row(refuses=ConfigError),
    "sparseness": Row(zero=0, constant=0, pixel=1 - 1 / N),
    "complexity": Row(zero=np.log(N), constant=np.log(N), pixel=0),
    "pointing_game": Row(zero=0, constant=0, pixel=1, refuses=ConfigError),
    "energy_inside": Row(zero=np.nan, constant=4 / N, pixel=1, refuses=ConfigError),
    "iou": Row(zero=0, constant=4 / N, pixel=1 / 4, refuses=ConfigError),
    "shap_cosine": Row(refuses=InputError),
    "shap_spearman": Row(refuses=InputError),
    "shap_distance": Row(refuses=InputError),
    "efficiency_residual": Row(refuses=InputError),
    "channel_deletion": Row(refuses=InputError),
    "weight_randomisation": Row(refuses=ConfigError),
    "label_randomisation": Row(refuses=ConfigError),
}
every = pytest.mark.parametrize("name", METRICS)
of_maps = pytest.mark.parametrize(
    "name", [name for name, m in METRICS.items() if m.needs in ("maps", "masks")]
)


@cache
def model() -> ox.Model:
    return nets.load(nets.conv_net())


def explained(one: ox.Model, x: Any, classes: Array) -> Any:
    return explain(one, x, "lift_cam", classes)


def masks(count: int) -> Array:
    """A square of four pixels, the one of `one_pixel` among them."""
    found = np.zeros((count, SIDE, SIDE), bool)
    found[:, 2:4, 5:7] = True
    return found


def case(x: Array, classes: Any = None) -> Case:
    return Case.of(Answers(model(), x, classes), explained, masks(len(x)))


def flat(x: Array, value: float) -> Array:
    return np.full((len(x), SIDE, SIDE), value)


def one_pixel(x: Array) -> Array:
    maps = flat(x, 0)
    maps[:, 3, 5] = 1
    return maps


def test_every_metric_has_a_row_here() -> None:
    assert set(ROWS) == set(METRICS)


@every
def test_a_number_per_image_in_the_range_that_is_said(name: str) -> None:
    judged = case(nets.images(4))
    metric, found = METRICS[name], METRICS[name].of(judged)
    assert found.shape == (4,) and found.dtype == np.float64
    found = found[judged.maps.any((1, 2))]  # not all of these maps are above zero anywhere
    assert len(found) >= 2 and np.isfinite(found).all()
    assert (found >= metric.low - 1e-9).all() and (found <= metric.high + 1e-9).all()
    assert metric.better in ("up", "down", "zero") and len(metric.what) > 10


@every
def test_a_row_of_a_batch_equals_a_batch_of_one_wherever_it_stands(name: str) -> None:
    x, classes, order = nets.images(5), np.array([0, 1, 2, 3, 1]), [3, 0, 4, 2, 1]
    found = METRICS[name].of(case(x, classes))
    np.testing.assert_allclose(
        METRICS[name].of(case(x[order], classes[order])), found[order], rtol=1e-4, atol=1e-6
    )
    one = METRICS[name].of(case(x[2:3], classes[2:3]))
    np.testing.assert_allclose(one, found[2:3], rtol=1e-4, atol=1e-6)


@every
def test_what_is_judged_stays_as_it_is_and_results_repeat(name: str) -> None:
    x = nets.images()
    kept = x.copy()
    x.flags.writeable = False
    judged = case(x)
    maps = judged.maps.copy()
    first, second = METRICS[name].of(judged), METRICS[name].of(case(x))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(judged.maps, maps)


@pytest.mark.parametrize("which", ["zero", "constant", "pixel"])
@of_maps
def test_degenerate_maps_have_defined_values(name: str, which: str) -> None:
    x = nets.images()
    maps = {"zero": flat(x, 0), "constant": flat(x, 0.5), "pixel": one_pixel(x)}[which]
    found = METRICS[name].of(Case(Answers(model(), x), maps, masks=masks(len(x))))
    expected = getattr(ROWS[name], which)
    if expected is None:
        assert np.isfinite(found).all()
    else:
        np.testing.assert_allclose(found, np.full(len(x), expected), atol=1e-6)


@pytest.mark.parametrize(
    "name", [name for name, m in METRICS.items() if m.needs in ("values", "weights")]
)
def test_explanations_of_a_dead_layer_have_defined_values(name: str) -> None:
    """All activations are zero, so are maps, weights and Shapley values."""
    dead = nets.load(nets.conv_net(b2=np.full(nets.CHANNELS, -1e6, np.float32)))
    judged = Case.of(Answers(dead, nets.images()), explained)
    assert not judged.maps.any()
    expected = {"weight_randomisation": 1, "label_randomisation": 1, "shap_spearman": 1}
    np.testing.assert_array_equal(METRICS[name].of(judged), np.full(3, expected.get(name, 0)))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.refuses])
def test_a_case_that_lacks_what_is_needed_is_refused(name: str) -> None:
    x, refuses = nets.images(), ROWS[name].refuses
    assert refuses is not None
    with pytest.raises(refuses, match=r"needs?|explains again"):
        METRICS[name].of(Case(Answers(model(), x), flat(x, 0.5)))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((3, 4, 4)), "do not lie over images"),
        (np.zeros((2, SIDE, SIDE)), "do not lie over images"),
        (np.full((3, SIDE, SIDE), np.nan), "NaN"),
        (np.full((3, SIDE, SIDE), 2.0), "must lie in 0..1"),
        (np.full((3, SIDE, SIDE), -0.1), "must lie in 0..1"),
        (np.zeros((3, SIDE)), r"must be numbers \[N, H, W\]"),
        (np.full((3, SIDE, SIDE), "a"), "must be numbers"),
    ],
)
def test_maps_that_are_none_are_refused(maps: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Case(Answers(model(), nets.images()), maps)


def test_the_files_own_layout_does_not_matter() -> None:
    x = nets.images()
    twin = nets.load(nets.nhwc_net())
    other = Answers(twin, np.moveaxis(x, 1, -1).copy())
    for name, metric in METRICS.items():
        if metric.needs != "maps":
            continue
        mine = case(x)
        theirs = replace(mine, answers=other, explanation=None)
        found, expected = metric.of(theirs), metric.of(mine)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_names_with_dashes_will_do_and_unknown_ones_list_the_known() -> None:
    assert metric_name(" Average-Drop ") == "average_drop"
    with pytest.raises(ConfigError, match="'fid' is unknown; choose from average-drop, "):
        metric_name("fid")
