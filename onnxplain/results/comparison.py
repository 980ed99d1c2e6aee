"""Two files beside each other: what they predict and how they explain it, image by image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.results.record import Record, axes

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Record):
    """Drift from file A to file B, per image; both explain the class that A predicts.

    Attributes:
        names: N names of images.
        numbers: int64 [N], their places in the data.
        classes_a, classes_b: int64 [N], what each predicts; None where they do not classify.
        labels: names of the classes, A's; None where there are none.
        logit_difference: float32 [N], largest difference of a logit, in spreads of A's logits; None too.
        rank_correlation: float32 [N], Spearman's, of both heat maps, in -1..1.
        top_overlap: float32 [N], common share of the hottest tenth of the pixels.
        ssim: float32 [N], structural similarity, in -1..1.
        centre_shift: float32 [N], shift of the centre of mass, in diagonals.
        layers: the layers of both that hold the same: {"a", "b", "similarity"} each, from input to output.
    """

    names: tuple[str, ...]
    numbers: Array = field(metadata=axes("N", np.int64))
    classes_a: Array | None = field(default=None, metadata=axes("N", np.int64))
    classes_b: Array | None = field(default=None, metadata=axes("N", np.int64))
    labels: tuple[str, ...] | None = None
    logit_difference: Array | None = field(default=None, metadata=axes("N"))
    rank_correlation: Array = field(metadata=axes("N"))
    top_overlap: Array = field(metadata=axes("N"))
    ssim: Array = field(metadata=axes("N"))
    centre_shift: Array = field(metadata=axes("N"))
    layers: tuple[dict[str, Any], ...] = ()

    def predicted(self, i: int) -> tuple[str | None, str | None]:
        """Return what A and B predict for image i, by label; None where they do not classify."""
        found = (None if c is None else int(c[i]) for c in (self.classes_a, self.classes_b))
        a, b = (None if c is None else self.labels[c] if self.labels else str(c) for c in found)
        return a, b

    @property
    def same(self) -> NDArray[np.bool_]:
        """Whether both predict the same class [N]; True where they do not classify."""
        if self.classes_a is None or self.classes_b is None:
            return np.ones(len(self.names), bool)
        return np.asarray(self.classes_a == self.classes_b)

    @property
    def agreement(self) -> float:
        """The share of images for which both predict the same class."""
        return float(self.same.mean())

    @property
    def verdict(self) -> str:
        """How often both predict the same class, in words."""
        count = f"{len(self.names)} images"
        if self.classes_a is None:
            return f"{count}; the files predict no classes"
        return f"{self.agreement:.1%} of {count}: both predict the same class"

    @property
    def order(self) -> NDArray[np.int64]:
        """The images, worst first: the least rank correlation."""
        return np.argsort(self.rank_correlation, kind="stable").astype(np.int64)

    @property
    def measures(self) -> dict[str, Array]:
        """The measures by name [N each]."""
        found = (
            {"logit_difference": self.logit_difference} if self.logit_difference is not None else {}
        )
        names = ("rank_correlation", "top_overlap", "ssim", "centre_shift")
        return found | {name: getattr(self, name) for name in names}

    def summary(self) -> dict[str, dict[str, float]]:
        """Return median, mean and worst of each measure."""
        high = ("rank_correlation", "top_overlap", "ssim")
        return {
            name: {
                "median": float(np.median(v)),
                "mean": float(v.mean()),
                "worst": float(v.min() if name in high else v.max()),
            }
            for name, v in self.measures.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data: overall, the layers, and each image, worst first."""
        images = [
            {
                "image": self.names[i],
                "predicted": self.predicted(i),
                "same": bool(self.same[i]),
                **{name: float(v[i]) for name, v in self.measures.items()},
            }
            for i in self.order.tolist()
        ]
        layers = [dict(pair) for pair in self.layers]
        overall = {"agreement": self.agreement, "summary": self.summary(), "layers": layers}
        return {**overall, "images": images}
