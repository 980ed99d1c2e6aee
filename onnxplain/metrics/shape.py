"""How much a map singles out, whatever it is of: sparseness and complexity."""

from __future__ import annotations

import numpy as np

from onnxplain.executor import Array
from onnxplain.metrics.case import checked_maps


def sparseness(maps: Array) -> Array:
    """Gini index of the values of maps [N, H, W]: 1 - 2 sum_k v_(k) / sum(v) (n - k + 1/2) / n, v ascending.

    Up is sparser, 0 (constant) to 1 - 1/n (one pixel); a zero map counts as constant. Source: Hurley &
    Rickard, 2009; as a metric of explanations Chalasani et al., ICML 2020, arXiv 1810.06583.
    """
    values = np.sort(checked_maps(maps).reshape(len(maps), -1), axis=1)
    n = values.shape[1]
    weights = (n - np.arange(1, n + 1) + 0.5) / n
    total = values.sum(1)
    return np.where(total > 0, 1 - 2 * (values @ weights) / np.where(total > 0, total, 1), 0.0)


def complexity(maps: Array) -> Array:
    """Entropy of the values of maps [N, H, W] as shares: -sum_i q_i ln q_i, q = v / sum(v).

    Down is simpler, 0 (one pixel) to ln n (constant); a zero map counts as constant. Source: Bhatt et al.,
    IJCAI 2020, arXiv 2005.00631, eq. 4.
    """
    values = checked_maps(maps).reshape(len(maps), -1)
    total = values.sum(1, keepdims=True)
    shares = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[1])
    found: Array = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    return found + 0.0  # no -0.0
