"""Intervals and comparisons: against scipy, hand-made cases, and planted differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from onnxplain.errors import InputError
from onnxplain.metrics.statistics import holm, interval, paired, standings
from onnxplain.metrics.tables import NOTE, cell, long_table, tables
from onnxplain.results.evaluation import Evaluation

RNG = np.random.default_rng(0)


def evaluation(values: Any, present: Any = None, better: tuple[str, ...] = ("up",)) -> Evaluation:
    """Return an evaluation of values [N, E], one model and one metric."""
    values = np.asarray(values, float)[:, None, :, None]
    count, _, methods, _ = values.shape
    here = np.ones(values.shape, bool) if present is None else np.asarray(present)[:, None, :, None]
    return Evaluation(
        models=("net",), methods=tuple("abcd"[:methods]), metrics=("m",), better=better,
        images=tuple(map(str, range(count))), values=np.where(here, values, 0), present=here,
        classes=np.zeros((count, 1), np.int64), ms=np.full((count, 1, methods), 6.0),
        forward_ms=np.full((count, 1), 2.0),
    )  # fmt: skip


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(5).exponential(size=60)
    found = interval(values)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", vectorized=True, random_state=1
    ).confidence_interval
    assert found.mean == values.mean()
    np.testing.assert_allclose((found.low, found.high), theirs, atol=0.03)
    assert interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0)


def test_the_comparison_is_scipys_paired_permutation_test() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(size=30)
    for b in (a + rng.normal(0.3, 1, 30), a + rng.normal(1, 1, 30)):
        theirs = scipy.stats.permutation_test(
            (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples",
            n_resamples=9999, vectorized=True, random_state=1,
        ).pvalue  # fmt: skip
        assert paired(a, b) == pytest.approx(theirs, abs=0.02)
    assert paired(a, a) == 1


def test_all_signs_of_few_images_are_met() -> None:
    """Three images that all agree: 2 of 8 signs are as extreme."""
    assert paired(np.array([1.0, 2, 3]), np.zeros(3)) == pytest.approx(0.25, abs=0.02)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize("better", ["up", "down"])
def test_a_planted_difference_is_found_and_chance_is_not(better: str) -> None:
    base, sign = RNG.normal(size=80), 1 if better == "up" else -1
    noise = [0.1 * RNG.normal(size=80) for _ in range(3)]
    columns = (base + sign * 0.5 + noise[0], base + noise[1], base + sign * 0.5 + noise[2])
    a, b, c = standings(evaluation(np.stack(columns, 1), better=(better,)))
    assert a.best and c.best and not b.best
    assert b.p is not None and b.p < 0.001 and {a.p is None, c.p is None} == {True, False}


def test_nothing_is_best_by_a_metric_that_ranks_nobody() -> None:
    found = standings(evaluation(RNG.normal(size=(9, 2)), better=("zero",)))
    assert [s.best for s in found] == [False, False] and {s.p for s in found} == {None}


def test_methods_are_compared_where_both_have_a_value() -> None:
    values = np.stack([np.arange(10.0) + 5, np.arange(10.0), np.zeros(10)], 1)
    present = np.ones((10, 3), bool)
    present[5:, 1], present[:, 2] = False, False
    found = standings(evaluation(values, present))
    assert [s.images for s in found] == [10, 5, 0]
    assert found[2].interval is None and not found[2].best and cell(found[2]) == "–"
    assert evaluation(values, present).of("b", "m").tolist() == [0, 1, 2, 3, 4]


def test_tables_say_all_of_it() -> None:
    found = evaluation(np.stack([np.full(20, 2.0), np.full(20, 1.0)], 1))
    (table,) = tables(found)
    assert table.columns == ("method", "m ↑", "ms/image", "forwards")
    assert table.rows == (
        ("a", "2.00 [2.00, 2.00] *", 6.0, 3.0),
        ("b", "1.00 [1.00, 1.00]", 6.0, 3.0),
    )
    assert table.caption == "net, images: 20" and "significant" in NOTE
    lines = long_table(found).csv().splitlines()
    assert lines[0] == "model,method,metric,images,mean,low,high,p,best,ms,forwards"
    assert lines[1] == "net,a,m,20,2.0,2.0,2.0,,True,6.0,3.0"
    assert lines[2].startswith("net,b,m,20,1.0,1.0,1.0,0.0")


def test_values_and_names_must_agree() -> None:
    found = evaluation(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"\[images, models, methods, metrics\]"):
        Evaluation(**{**vars(found), "methods": ("a",)})


def test_saved_and_loaded_it_is_the_same(tmp_path: Any) -> None:
    found = evaluation(RNG.normal(size=(4, 3)))
    found.save(tmp_path)
    assert Evaluation.load(tmp_path) == found
