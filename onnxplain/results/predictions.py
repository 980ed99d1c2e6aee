"""What the layers of a network already predict: for images, and over a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import InputError, LayerError
from onnxplain.results.record import Record, axes
from onnxplain.results.records import Ranked, probabilities

Array = NDArray[Any]
Mode = Literal["readout", "masked", "keep"]

POOR = 0.5
"""A held-out R2 below it is called poor: less than half of what the logits do is in the features."""


def decided(logits: Array) -> NDArray[np.int64]:
    """Return what logits [..., C] decide: the highest class; of one class alone whether (1) or not (0)."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(np.int64)
    highest: NDArray[np.int64] = logits.argmax(-1).astype(np.int64)
    return highest


def depths(agrees: Array) -> NDArray[np.int64]:
    """Return the first layer [N] from which agreement [L, N] with the decision stays; L where it does not."""
    stays = np.logical_and.accumulate(agrees[::-1])
    first: NDArray[np.int64] = len(agrees) - stays.sum(0, dtype=np.int64)
    return first


def entropies(p: Array, activation: str) -> NDArray[np.float64]:
    """Return the entropy [...] of probabilities [..., C], nats; of independent classes the sum of theirs."""
    if activation == "sigmoid":
        p = np.stack([p, 1 - p])
    surprise = -p * np.log(np.where(p > 0, p, 1))
    total: NDArray[np.float64] = surprise.sum(-1)
    return total.sum(0) if activation == "sigmoid" else total


@dataclass(frozen=True, eq=False, kw_only=True)
class Readouts(Record):
    """A linear readout per layer, from its mean features to the model's own logits: zhat = phi W + b.

    Attributes:
        layers: L names, from input to output.
        weights: W of each layer, float64 [K, C].
        means: the mean features of each layer over the references, float64 [K].
        biases: b of each layer, float64 [L, C].
        r2: of each layer on references held out, all classes together; None where that says nothing (fewer
            than two held out, or logits that never change).
        images: references fitted to. held_out: references kept for r2.
        ridges: of each layer, relative to the mean variance of a feature.
    """

    layers: tuple[str, ...]
    weights: tuple[Array, ...]
    means: tuple[Array, ...]
    biases: Array = field(metadata=axes("L C", np.float64))
    r2: tuple[float | None, ...]
    images: int
    held_out: int
    ridges: tuple[float, ...]

    def _check(self) -> None:
        count, classes = self.biases.shape
        if not len(self.layers) == len(self.weights) == len(self.means) == len(self.r2) == count:
            raise InputError(f"Readouts: {count} biases, but not as much of everything else")
        for name, w, mean in zip(self.layers, self.weights, self.means, strict=True):
            if w.shape != (*mean.shape, classes) or not (np.isfinite(w).all() and mean.ndim == 1):
                raise InputError(f"Readouts: weights {list(w.shape)} of {name!r} do not fit")
        if not all(type(r2) in (float, type(None)) for r2 in self.r2):
            raise InputError(f"Readouts: r2 {self.r2} are not numbers")

    def of(self, layer: str) -> tuple[Array, Array]:
        """Return W [K, C] and b [C] of a layer; raises LayerError for one that was not fitted."""
        at = self.place(layer)
        return self.weights[at], self.biases[at]

    def place(self, layer: str) -> int:
        """Return where a layer is among `layers`; raises LayerError."""
        if layer not in self.layers:
            raise LayerError(f"no readout of layer {layer!r} was fitted: fit them with that layer")
        return self.layers.index(layer)

    def mean_of(self, layer: str) -> Array:
        """Return the mean features [K] of a layer; raises LayerError for one that was not fitted."""
        return self.means[self.place(layer)]

    def digest(self) -> str:
        """Return a hash of all that predictions depend on."""
        found = hashlib.sha256(repr((self.layers, self.meta.get("sha256"))).encode())
        for array in (*self.weights, *self.means, self.biases):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerPredictions(Record):
    """What L layers predict for N images, beside what the model predicts in the end.

    Attributes:
        layers: L names, from input to output.
        mode: "readout" (a linear readout of the layer), "masked" (the model, shown only what the layer
            responds to), or "keep" (the rest of the model, with the layer's strongest filters alone).
        logits: float64 [L, N, C], what each layer predicts. final: float64 [N, C], the model's own.
        decision: int64 [N], what the model decides (of one class alone whether, 1, or not, 0).
        classes: int64 [N], the class that is explained.
        maps: per layer float32 [N, h, w], or None for a layer without positions. "readout": the heat map
            H = sum_k W[k, class] A_k, signed, whose mean over positions is the logit less `biases` (of
            tokens, where all are patches); "masked": the mask in 0..1 at the input's size.
        evidence: "readout": per layer W[k, class] phi_k, float32 [N, K]; else none.
        biases: "readout": float64 [L, N], b[class]; else None.
        kept: "keep": per layer which filters are kept, bool [N, K]; else none.
        r2: "readout": of each layer on held-out references, see `Readouts`; else none.
        activation: how logits become probabilities. labels: C class names, or None.
    """

    layers: tuple[str, ...]
    mode: Mode
    logits: Array = field(metadata=axes("L N C", np.float64))
    final: Array = field(metadata=axes("N C", np.float64))
    decision: Array = field(metadata=axes("N", np.int64))
    classes: Array = field(metadata=axes("N", np.int64))
    maps: tuple[Array | None, ...]
    evidence: tuple[Array, ...] = ()
    biases: Array | None = field(default=None, metadata=axes("L N", np.float64))
    kept: tuple[Array, ...] = ()
    r2: tuple[float | None, ...] = ()
    activation: Literal["softmax", "sigmoid"] = "softmax"
    labels: tuple[str, ...] | None = None

    def _check(self) -> None:
        count = len(self.layers)
        if len(self.logits) != count or len(self.maps) != count:
            raise InputError(f"LayerPredictions: {count} layers, but not as many logits or maps")

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities [L, N, C] in [0, 1]."""
        return probabilities(self.logits, self.activation)

    @property
    def p(self) -> NDArray[np.float64]:
        """The probability [L, N] of the explained class."""
        return self._of_class(self.probabilities)

    @property
    def final_p(self) -> NDArray[np.float64]:
        """The probability [N] that the model itself gives to the explained class."""
        p: NDArray[np.float64] = self._of_class(probabilities(self.final, self.activation))
        return p

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The rank [L, N] of the explained class, 1 for the highest logit; equal ones rank alike."""
        higher = self.logits > self._of_class(self.logits)[..., None]
        ranks: NDArray[np.int64] = 1 + higher.sum(-1, dtype=np.int64)
        return ranks

    @property
    def margins(self) -> NDArray[np.float64]:
        """By how much [L, N] the logit of the explained class exceeds the highest other; alone, it itself."""
        mine = self._of_class(self.logits)
        if self.logits.shape[-1] == 1:
            return mine
        others = self.logits.copy()
        others[:, np.arange(len(self.classes)), self.classes] = -np.inf
        margins: NDArray[np.float64] = mine - others.max(-1)
        return margins

    @property
    def entropies(self) -> NDArray[np.float64]:
        """The entropy [L, N] of the prediction, nats."""
        return entropies(self.probabilities, self.activation)

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """Whether each layer [L, N] decides as the model does in the end."""
        return np.equal(decided(self.logits), self.decision)

    @property
    def depth(self) -> NDArray[np.int64]:
        """The decision depth [N]: the first layer from which the decision stays; L where it does not."""
        return depths(self.agrees)

    def top(self, layer: int, image: int = 0, k: int = 5) -> list[Ranked]:
        """Return the k (at most C) highest classes that a layer, by its place, predicts for an image."""
        z, p = self.logits[layer, image], self.probabilities[layer, image]
        order = np.argsort(-z, kind="stable")[:k].tolist()
        return [Ranked(c, self.label(c), float(p[c]), float(z[c])) for c in order]

    def top_filters(self, layer: int, image: int = 0, k: int = 5) -> list[tuple[int, float]]:
        """Return the k filters of a layer whose evidence is strongest, for or against, with it.

        None where the mode has no evidence.
        """
        if not self.evidence:
            return []
        found = self.evidence[layer][image]
        return [(int(c), float(found[c])) for c in np.argsort(-np.abs(found), kind="stable")[:k]]

    def poor(self, layer: int) -> bool:
        """Whether held-out references say that a layer's readout is poor, or say nothing."""
        return bool(self.r2) and ((r2 := self.r2[layer]) is None or r2 < POOR)

    def label(self, index: int) -> str:
        """Return the name of a class, its index as text when there are no labels."""
        return str(index) if self.labels is None else self.labels[index]

    def _of_class(self, values: Array) -> NDArray[np.float64]:
        """Return [..., N, C] at the explained class of each image, [..., N]."""
        rows: NDArray[np.float64] = values[..., np.arange(len(self.classes)), self.classes]
        return rows


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerAgreement(Record):
    """What the readouts of L layers predict over a data set, beside what the model predicts in the end.

    Attributes:
        layers: L names, from input to output.
        agreement: float64 [L], share of images for which a layer decides as the model does.
        p: float64 [L], mean probability of the class that the model predicts.
        entropy: float64 [L], mean, nats.
        depth: int64 [D], D = L + 1: number of images by decision depth; the last: no layer holds it.
        accuracy: float64 [L], share of labelled images that a layer gets right; None without labels.
        final_accuracy: that of the model itself. depth_correct: int64 [D], those of the labelled images in
            `depth_labelled` [D] that the model gets right.
        r2: of each layer's readout on its held-out references.
        images, labelled: how many there were.
    """

    layers: tuple[str, ...]
    agreement: Array = field(metadata=axes("L", np.float64))
    p: Array = field(metadata=axes("L", np.float64))
    entropy: Array = field(metadata=axes("L", np.float64))
    depth: Array = field(metadata=axes("D", np.int64))
    accuracy: Array | None = field(default=None, metadata=axes("L", np.float64))
    final_accuracy: float | None = None
    depth_correct: Array | None = field(default=None, metadata=axes("D", np.int64))
    depth_labelled: Array | None = field(default=None, metadata=axes("D", np.int64))
    r2: tuple[float | None, ...]
    images: int
    labelled: int

    @property
    def median_depth(self) -> int:
        """The decision depth that half of the images do not exceed."""
        return int(np.searchsorted(np.cumsum(self.depth), self.images / 2))


def shown_r2(r2: Sequence[float | None], layer: int) -> str:
    """Return a layer's held-out R2 as text: "0.87", "0.12 poor", "unknown"; "" where there are none."""
    if not r2:
        return ""
    value = r2[layer]
    if value is None:
        return "unknown"
    return f"{value:.2f}{' poor' if value < POOR else ''}"
