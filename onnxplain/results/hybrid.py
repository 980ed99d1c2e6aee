"""Local evidence beside global importance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.results.record import Record, axes

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class HybridLayer(Record):
    """One layer of a `HybridView`.

    Attributes:
        layer: its name.
        local: float64 [K], evidence of each filter for the explained class in this image, logits.
        effect: float64 [K], importance of each filter over the data set, logits.
        agreement: Spearman's rho of |local| and effect; None where one of them is constant.
        unusual: filters with much evidence here that are worth little over the data set.
    """

    layer: str
    local: Array = field(metadata=axes("K", np.float64))
    effect: Array = field(metadata=axes("K", np.float64))
    agreement: float | None
    unusual: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class HybridView(Record):
    """What filters say of one image, beside what they are worth over a data set, for several layers."""

    layers: tuple[HybridLayer, ...]
