"""What is known of several checkpoints of one training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.results.record import Record, axes

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Monitoring(Record):
    """M checkpoints over the same images, L layers.

    Attributes:
        names: of the checkpoints, in order.
        layers: names, from input to output.
        accuracy: float64 [M] in 0..1; None without labels.
        redundancy: float64 [M, L] in 0..1, mean over channels of the largest |r| with another one.
        dead: float64 [M, L] in 0..1, share of channels that are the same in all images.
        cka: float64 [L, M, M] in 0..1, linear CKA of a layer's features between checkpoints.
        effects: per layer float64 [M, K], importance of filters to first order, logits.
        ranks: float64 [L, M, M] in -1..1, Spearman's rho of these effects between checkpoints.
        agreement: float64 [M, L] in 0..1, share of images for which a layer's readout decides as the model.
        depth: int64 [M, D], D = L + 1: number of images by decision depth; the last: no layer holds it.
        images: how many there were.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]
    accuracy: Array | None = field(default=None, metadata=axes("M", np.float64))
    redundancy: Array = field(metadata=axes("M L", np.float64))
    dead: Array = field(metadata=axes("M L", np.float64))
    cka: Array = field(metadata=axes("L M M", np.float64))
    effects: tuple[Array, ...]
    ranks: Array = field(metadata=axes("L M M", np.float64))
    agreement: Array = field(metadata=axes("M L", np.float64))
    depth: Array = field(metadata=axes("M D", np.int64))
    images: int

    @property
    def mean_depth(self) -> Array:
        """The mean decision depth [M]: the number of layers before the decision stays what it is."""
        mean: Array = self.depth @ np.arange(self.depth.shape[1]) / self.images
        return mean
