"""Each measure against its formula, written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from onnxplain.errors import ConfigError, InputError
from onnxplain.metrics.likeness import centre_shift, rank_correlation, ssim, top_overlap

N, H, W = 5, 12, 17
ALL = (rank_correlation, top_overlap, ssim, centre_shift)


@pytest.fixture
def maps(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    a = rng.random((N, H, W))
    a[1] = np.round(a[1], 1)  # ties
    a[2][a[2] < 0.6] = 0
    return a, np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1)


def test_rank_correlation_is_scipys(maps: tuple[np.ndarray, np.ndarray]) -> None:
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*maps, strict=True)]
    assert rank_correlation(*maps) == pytest.approx(expected, abs=1e-12)


def test_ssim_is_the_windowed_formula(maps: tuple[np.ndarray, np.ndarray]) -> None:
    """Wang et al. 2004, position by position, with the 11 x 11 window written out."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    for a, b, found in zip(*maps, ssim(*maps), strict=True):
        pa, pb = (np.pad(m, 5, "symmetric") for m in (a, b))
        local = []
        for y in range(H):
            for x in range(W):
                u, v = pa[y : y + 11, x : x + 11], pb[y : y + 11, x : x + 11]
                mu, mv = (window * u).sum(), (window * v).sum()
                su, sv = (window * (u - mu) ** 2).sum(), (window * (v - mv) ** 2).sum()
                suv = (window * (u - mu) * (v - mv)).sum()
                local.append(
                    (2 * mu * mv + c1) * (2 * suv + c2) / ((mu**2 + mv**2 + c1) * (su + sv + c2))
                )
        assert found == pytest.approx(np.mean(local), abs=1e-9)


def test_top_overlap_counts_common_pixels(maps: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = maps[0][:1], maps[1][:1]
    k = round(0.1 * H * W)
    top = [set(np.argsort(-m.ravel())[:k].tolist()) for m in (a, b)]
    assert top_overlap(a, b, 0.1) == pytest.approx([len(top[0] & top[1]) / k])


def test_top_overlap_of_half_the_pixels_exchanged() -> None:
    a, b = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    a[0, 0, :2], b[0, 0, 1:3] = 1, 1
    assert top_overlap(a, b, 0.1) == pytest.approx([0.5])


def test_centre_shift_of_a_moved_point() -> None:
    a, b = np.zeros((1, 6, 8)), np.zeros((1, 6, 8))
    a[0, 1, 1], b[0, 4, 5] = 2, 7
    assert centre_shift(a, b) == pytest.approx([5 / 10])


@pytest.mark.parametrize("measure", ALL)
def test_rows_are_independent_and_the_same_map_is_alike(
    measure, maps: tuple[np.ndarray, np.ndarray]
) -> None:
    together = measure(*maps)
    alone = [measure(a[None], b[None])[0] for a, b in zip(*maps, strict=True)]
    assert together == pytest.approx(alone, abs=1e-12)
    best = 0 if measure is centre_shift else 1
    assert measure(maps[0], maps[0]) == pytest.approx([best] * N, abs=1e-9)
    assert measure(*maps) == pytest.approx(measure(*maps[::-1]), abs=1e-12)


@pytest.mark.parametrize("measure", ALL)
def test_constant_maps_are_alike_and_like_no_other(measure, rng: np.random.Generator) -> None:
    zero, other = np.zeros((1, 4, 4)), rng.random((1, 4, 4))
    alike, unlike = (0, 1) if measure is centre_shift else (1, 0)
    assert measure(zero, zero) == pytest.approx([alike])
    if measure is not ssim:  # it has its own answer, near 0
        assert measure(zero, other) == pytest.approx([unlike])
    assert np.isfinite(measure(zero, other)).all()


def test_bad_arguments_are_named(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=r"\[1, 4, 4\] and \[1, 4, 5\]"):
        ssim(np.zeros((1, 4, 4)), np.zeros((1, 4, 5)))
    with pytest.raises(ConfigError, match="share = 0"):
        top_overlap(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), 0)
