"""Moments against NumPy on all rows at once, however they are cut and in whatever order they merge."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxplain.dataset import Moments


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 7), min_size=1, max_size=8).filter(any),
    st.floats(-1e4, 1e4),
)
def test_parts_merge_to_the_whole(seed: int, sizes: list[int], offset: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(offset, 1, (size, 3)) for size in sizes]
    rows = np.concatenate(parts)
    centred = rows - rows.mean(0)
    for order in (parts, parts[::-1]):
        found = reduce(Moments.merge, map(Moments.of, order))
        assert found.count == len(rows)
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.comoment, centred.T @ centred, rtol=1e-8, atol=1e-6)


def test_nothing_is_neutral() -> None:
    some, none = Moments.of(np.ones((2, 2))), Moments.of(np.ones((0, 2)))
    assert some.merge(none) is some and none.merge(some) is some
    assert none.merge(none).count == 0
