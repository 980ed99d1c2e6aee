"""What became of an answer when the pixels that a map found were altered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxplain.errors import InputError
from onnxplain.results.maps import Map
from onnxplain.results.record import Record, axes
from onnxplain.results.records import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Occlusion(Record):
    """One image, its top pixels filled in F ways.

    Attributes:
        method: of the map; share: of the pixels that were asked for, `mask` [H, W] those that were altered.
        map: float32 [H, W] in 0..1.
        fills: F names of what the pixels became; images: [F, ...] the altered model inputs.
        classes: int64 [K], the explained class first, then the others by their logits; labels: their names.
        logits: float64 [K], before; observed, foretold: float64 [F, K], the changes of the logits as they
            came out, and to first order (gradient times change of the input).
        answers: int64 [F + 1], the answer (largest logit of all classes) before and after each fill;
            answer_labels: their names.
        confidence: float64 [F + 1], the probability of the explained class.
    """

    method: str
    share: float
    mask: Array = field(metadata=axes("H W", np.bool_))
    map: Map = field(metadata=axes("H W"))
    fills: tuple[str, ...]
    images: Array = field(metadata=axes("F ..."))
    classes: Array = field(metadata=axes("K", np.int64))
    labels: tuple[str, ...]
    logits: Array = field(metadata=axes("K", np.float64))
    observed: Array = field(metadata=axes("F K", np.float64))
    foretold: Array = field(metadata=axes("F K", np.float64))
    answers: Array = field(metadata=axes("A", np.int64))
    answer_labels: tuple[str, ...]
    confidence: Array = field(metadata=axes("A", np.float64))

    def _check(self) -> None:
        if len(self.fills) != len(self.observed) or len(self.answers) != len(self.fills) + 1:
            raise InputError("an Occlusion has a row per fill, and an answer more than fills")

    @property
    def margins(self) -> Array:
        """Logit of the explained class minus each other's, before: float64 [K - 1]."""
        found: Array = self.logits[0] - self.logits[1:]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pictures, JSON-able."""
        after = []
        for f, fill in enumerate(self.fills):
            observed, foretold = self.observed[f], self.foretold[f]
            after.append(
                {
                    "fill": fill,
                    "score": {
                        "before": float(self.logits[0]),
                        "observed_change": float(observed[0]),
                        "foretold_change": float(foretold[0]),
                    },
                    "margins": [
                        {
                            "class": int(c),
                            "label": label,
                            "before": float(before),
                            "observed_change": float(observed[0] - o),
                            "foretold_change": float(foretold[0] - p),
                        }
                        for c, label, before, o, p in zip(
                            self.classes[1:], self.labels[1:], self.margins, observed[1:], foretold[1:],
                            strict=True,
                        )
                    ],
                    "confidence": [float(self.confidence[0]), float(self.confidence[f + 1])],
                    "answer": [self.answer_labels[0], self.answer_labels[f + 1]],
                }
            )  # fmt: skip
        return {
            "method": self.method,
            "class": int(self.classes[0]),
            "label": self.labels[0],
            "share": self.share,
            "pixels": int(self.mask.sum()),
            "fills": after,
            "meta": dict(self.meta),
        }
