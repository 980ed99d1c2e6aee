"""How close the coefficients of a class activation map are to the Shapley values of its channels.

weights and shap: [N, K], a row per image. Jung & Oh (ICCV 2021, arXiv 2102.05228) judge LIFT-CAM by how close
its coefficients are; the figures here are ours.
"""

from __future__ import annotations

import numpy as np

from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.metrics.likeness import rank_correlation


def shap_cosine(weights: Array, shap: Array) -> Array:
    """<w, s> / (|w| |s|). Up is better, -1..1; 0 where one of them is zero."""
    w, s = _pair(weights, shap)
    below = np.linalg.norm(w, axis=1) * np.linalg.norm(s, axis=1)
    found: Array = np.divide((w * s).sum(1), below, out=np.zeros_like(below), where=below > 0)
    return found


def shap_spearman(weights: Array, shap: Array) -> Array:
    """Spearman's rank correlation of w and s. Up is better, -1..1; constant ones: see `rank_correlation`."""
    w, s = _pair(weights, shap)
    return rank_correlation(w[:, None], s[:, None])


def shap_distance(weights: Array, shap: Array) -> Array:
    """|w - s| / |s|, as they are: coefficients of other units are far off. Down is better, 0 on.

    Where s is zero: 0 if w is too, else infinite.
    """
    w, s = _pair(weights, shap)
    away, length = np.linalg.norm(w - s, axis=1), np.linalg.norm(s, axis=1)
    zero = np.where(away > 0, np.inf, 0)
    return np.where(length > 0, away / np.where(length > 0, length, 1), zero)


def efficiency_residual(weights: Array, rise: Array) -> Array:
    """|sum_k w_k - rise| / |rise|, rise [N] = z(A) - z(0). Down is better, 0 on; 0 for Shapley values.

    Where the rise is zero: 0 if the weights sum to zero too, else infinite.
    """
    w = np.asarray(weights, np.float64)
    rise = np.asarray(rise, np.float64)
    if w.ndim != 2 or rise.shape != (len(w),) or not np.isfinite(w).all():
        raise InputError(
            f"weights {list(w.shape)} and rises {list(rise.shape)} must be [N, K], [N]"
        )
    away = np.abs(w.sum(1) - rise)
    zero = np.where(away > 0, np.inf, 0)
    return np.where(rise != 0, away / np.where(rise != 0, np.abs(rise), 1), zero)


def _pair(weights: Array, shap: Array) -> tuple[Array, Array]:
    w, s = np.asarray(weights, np.float64), np.asarray(shap, np.float64)
    if w.ndim != 2 or w.shape != s.shape or not w.size:
        raise InputError(
            f"weights {list(w.shape)} and Shapley values {list(s.shape)} must both be [N, K]"
        )
    if not (np.isfinite(w).all() and np.isfinite(s).all()):
        raise InputError("weights or Shapley values hold NaN or infinite numbers")
    return w, s
