"""The records: what was predicted, and maps that say why. All are batches of N images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import ConfigError, InputError
from onnxplain.results.maps import Map, bilinear, minmax
from onnxplain.results.record import Record, axes

Array = NDArray[Any]


def probabilities(logits: Array, activation: str) -> NDArray[np.float64]:
    """Return what logits [..., C] say, in [0, 1]: softmax over the classes, or each one's sigmoid."""
    z = logits.astype(np.float64)
    if activation == "sigmoid":
        sigmoid: NDArray[np.float64] = np.exp(-np.logaddexp(0, -z))
        return sigmoid
    e = np.exp(z - z.max(-1, keepdims=True))
    softmax: NDArray[np.float64] = e / e.sum(-1, keepdims=True)
    return softmax


class Ranked(NamedTuple):
    """One class of a ranking; `label` is the index as text when the model has no labels."""

    class_index: int
    label: str
    probability: float
    logit: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Record):
    """What the model answers.

    Attributes:
        logits: float32 [N, C], before Softmax or Sigmoid.
        activation: how logits become probabilities; "sigmoid" judges each class by itself.
        labels: C class names in class order, or None.
    """

    logits: Array = field(metadata=axes("N C"))
    activation: Literal["softmax", "sigmoid"] = "softmax"
    labels: tuple[str, ...] | None = None

    def _check(self) -> None:
        if self.activation not in ("softmax", "sigmoid"):
            raise ConfigError(f"activation {self.activation!r} is not 'softmax' or 'sigmoid'")
        if self.labels is not None and len(self.labels) != self.logits.shape[1]:
            raise InputError(
                f"there are {len(self.labels)} labels for {self.logits.shape[1]} classes: give one "
                "per class, in class order"
            )

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities [N, C] in [0, 1], computed in float64 without overflow."""
        return probabilities(self.logits, self.activation)

    @property
    def classes(self) -> NDArray[np.int64]:
        """The predicted class [N]: the highest logit, among equals the lowest index."""
        highest: NDArray[np.int64] = self.logits.argmax(1).astype(np.int64)
        return highest

    @property
    def ties(self) -> NDArray[np.int64]:
        """Number of classes [N] that share the highest logit; 1 is the healthy case."""
        sharing: NDArray[np.bool_] = self.logits == self.logits.max(1, keepdims=True)
        counts: NDArray[np.int64] = sharing.sum(1, dtype=np.int64)
        return counts

    @property
    def warning(self) -> str | None:
        """A sentence about tied logits, or None: argmax guesses where quantised outputs clip."""
        tied = int((self.ties > 1).sum())
        if not tied:
            return None
        return (
            f"{tied} of {len(self.logits)} images: up to {self.ties.max()} classes share the "
            "highest logit (a saturated output?); the lowest index is taken: better name a target"
        )

    def top(self, k: int = 5) -> list[list[Ranked]]:
        """Return for every image its k (at most C) highest classes, best first, ties by index."""
        if k < 1:
            raise ConfigError(f"top k = {k} must be at least 1")
        probabilities = self.probabilities
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        return [
            [
                Ranked(c, self.label(c), float(probabilities[i, c]), float(self.logits[i, c]))
                for c in row
            ]
            for i, row in enumerate(order.tolist())
        ]

    def label(self, index: int) -> str:
        """Return the name of a class, its index as text when there are no labels."""
        return str(index) if self.labels is None else self.labels[index]


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation(Record):
    """What all explanations share.

    Attributes:
        classes: int64 [N], the explained class; -1 where the target is not a class.
        scores: float32 [N], the explained quantity's value (for a class: its logit).
    """

    classes: Array = field(metadata=axes("N", np.int64))
    scores: Array = field(metadata=axes("N"))

    def heatmap(self) -> Map:
        """Return pictures of the explanation, float32 [N, H, W] in [0, 1]."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution(Explanation):
    """Signed values of the shape of what they are about, e.g. a gradient.

    Attributes:
        values: float32 [N, ...].
        channel_axis: the axis of the channels in `values`, None when there is none.
    """

    values: Array = field(metadata=axes("N ..."))
    channel_axis: int | None = None

    def _check(self) -> None:
        axis = self.channel_axis
        if axis is not None and not 1 <= axis < self.values.ndim:
            raise InputError(f"channel_axis {axis} is not an axis of {self.values.shape}")

    def heatmap(self) -> Map:
        """Return max over channels of |values|, min-max per image; a constant map gives zeros.

        Raises:
            InputError: without the channels, `values` is not [N, H, W].
        """
        magnitude = np.abs(self.values)
        if self.channel_axis is not None:
            magnitude = magnitude.max(self.channel_axis)
        if magnitude.ndim != 3:
            raise InputError(
                f"values {list(self.values.shape)} have no height and width to draw: use .values"
            )
        return minmax(magnitude)


@dataclass(frozen=True, eq=False, kw_only=True)
class Saliency(Explanation):
    """A saliency map per image.

    Attributes:
        values: float32 [N, H, W], >= 0.
        kind: which part of the gradient it shows ("positive", "active", ...).
    """

    values: Array = field(metadata=axes("N H W"))
    kind: str

    def _check(self) -> None:
        if self.values.size and self.values.min() < 0:
            raise InputError(f"Saliency.values must not be negative, got {self.values.min()}")

    def heatmap(self) -> Map:
        """Return the values min-max scaled per image; a constant map gives zeros."""
        return minmax(self.values)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cam(Explanation):
    """A class activation map per image.

    Attributes:
        values: float32 [N, h, w], signed, in the layer's resolution.
        weights: float32 [N, K], the coefficient of each channel; None where there is not one each.
        kind: the method ("lift_cam", ...).
        layer: name of the layer.
        size: (H, W) of the model's input, pixels.
    """

    values: Array = field(metadata=axes("N h w"))
    weights: Array | None = field(default=None, metadata=axes("N K"))
    kind: str
    layer: str
    size: tuple[int, int]

    def heatmap(self) -> Map:
        """Return ReLU, bilinear to `size`, min-max per image [N, H, W]; constant gives zeros.

        The order of Jung & Oh (ICCV 2021), authors' code; zeros for a constant map are ours.
        """
        return minmax(bilinear(np.maximum(self.values, 0), self.size))
