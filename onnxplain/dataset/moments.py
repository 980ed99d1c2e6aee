"""Counts, means and co-moments of vectors: statistics that merge, so that data of any size stream by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxplain.dataset.source import Array


@dataclass(frozen=True, eq=False)
class Moments:
    """Of n vectors [D]: how many, their mean [D], and the sum of (v - mean)(v - mean)' [D, D], float64."""

    count: Array
    mean: Array
    comoment: Array

    @classmethod
    def of(cls, rows: Array) -> Moments:
        """Return the moments of rows [n, D]; n may be 0."""
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(0) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean
        return cls(np.array(len(rows), np.int64), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of vectors (Chan, Golub & LeVeque, 1979, eq. 2.1)."""
        count = self.count + other.count
        if not other.count or not self.count:
            return self if not other.count else other
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        both = np.outer(step, step)
        both *= self.count * (other.count / count)
        both += self.comoment
        both += other.comoment
        return Moments(count, mean, both)
