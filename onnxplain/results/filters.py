"""What is known of the filters (channels) of some layers over a data set: statistics as records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.results.record import Record, axes

Array = NDArray[Any]
CONSTANT = 1e-7
"""A feature whose standard deviation is below this share of its size varies by rounding alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureCorrelation(Record):
    """How the features of some layers vary together over N images. A feature is a channel's mean phi.

    D is the number of all their channels, in the order of `layers`, and of the logits behind them.

    Attributes:
        layers: the layers' names, from input to output.
        channels: the number of channels of each.
        correlation: float64 [D, D], Pearson's r; 0 for constant features, 1 on the diagonal.
        mean: float64 [D].
        deviation: float64 [D], standard deviations (of the population).
        images: N.
    """

    layers: tuple[str, ...]
    channels: tuple[int, ...]
    correlation: Array = field(metadata=axes("D D", np.float64))
    mean: Array = field(metadata=axes("D", np.float64))
    deviation: Array = field(metadata=axes("D", np.float64))
    images: int

    def _check(self) -> None:
        if len(self.layers) != len(self.channels) or sum(self.channels) >= len(self.mean):
            raise InputError(f"{len(self.mean)} features are not those of {self.channels} channels")

    def within(self, layer: str) -> Array:
        """Return R [K, K] between the channels of a layer; raises LayerError for one not looked at."""
        return self.between(layer, layer)

    def between(self, a: str, b: str) -> Array:
        """Return R [K_a, K_b] between the channels of two layers."""
        block: Array = self.correlation[self.of(a), self.of(b)]
        return block

    def with_logits(self, layer: str) -> Array:
        """Return R [K, C] between a layer's channels and the logits."""
        block: Array = self.correlation[self.of(layer), sum(self.channels) :]
        return block

    def dead(self, layer: str) -> NDArray[np.bool_]:
        """Return which channels [K] are the same in all images."""
        of = self.of(layer)
        dead: NDArray[np.bool_] = self.deviation[of] <= CONSTANT * np.abs(self.mean[of])
        return dead

    def redundancy(self, layer: str) -> Array:
        """Return each channel's largest |r| with another channel of its layer, [K]; 0 for a single one."""
        r = np.abs(self.within(layer))
        np.fill_diagonal(r, 0)
        largest: Array = r.max(1)
        return largest

    def groups(self, layer: str, threshold: float = 0.9) -> tuple[tuple[int, ...], ...]:
        """Return the channels that go together: average-linkage clusters at distance 1 - |r|.

        Groups of a mean |r| of at least `threshold`, the largest first; channels by themselves are none.
        Raises ConfigError for a threshold that is not in 0..1.
        """
        from scipy.cluster.hierarchy import fcluster

        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold = {threshold!r} must be in 0..1")
        tree = self._tree(layer)
        if tree is None:
            return ()
        of = fcluster(tree, 1 - threshold + 1e-9, "distance")
        found = [tuple(np.flatnonzero(of == i).tolist()) for i in np.unique(of)]
        return tuple(sorted((g for g in found if len(g) > 1), key=lambda g: (-len(g), g)))

    def order(self, layer: str) -> Array:
        """Return the channels [K] in an order that puts those beside each other that go together."""
        from scipy.cluster.hierarchy import leaves_list

        tree = self._tree(layer)
        count = self.channels[self.layers.index(layer)]
        return np.arange(count) if tree is None else np.asarray(leaves_list(tree))

    @property
    def cka(self) -> Array:
        """Linear CKA [L, L] between the layers (Kornblith et al., 2019, arXiv 1905.00414, eq. 3)."""
        covariance = self.correlation * np.outer(self.deviation, self.deviation)
        blocks = [self.of(layer) for layer in self.layers]
        shared = np.array([[np.sum(np.square(covariance[a, b])) for b in blocks] for a in blocks])
        return cka_of(shared)

    def _tree(self, layer: str) -> Array | None:
        """Return the linkage of a layer's channels; None for a single one."""
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        distance = np.clip(1 - np.abs(self.within(layer)), 0, 1)
        if len(distance) < 2:
            return None
        np.fill_diagonal(distance, 0)
        tree: Array = linkage(squareform(distance, checks=False), "average")
        return tree

    def of(self, layer: str) -> slice:
        """Return where a layer's channels lie among the D features; raises LayerError."""
        if layer not in self.layers:
            raise LayerError(
                f"layer {layer!r} was not looked at; there are {', '.join(self.layers)}"
            )
        at = self.layers.index(layer)
        begin = sum(self.channels[:at])
        return slice(begin, begin + self.channels[at])


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerImportance(Record):
    """What a layer's filters, or groups of them, are worth: the mean over images of what goes without them.

    Attributes:
        layer: its name.
        effect: float64 [K], mean of z_c - z_c without the filter, c each image's predicted class; logits.
        per_class: float64 [K, C], the same over the images predicted as each class; 0 where there are none.
        counts: int64 [C], how many images are predicted as each class.
        probability: float64 [K], mean of p_c - p_c without; None in first order.
        flips: float64 [K] in 0..1, share of images whose predicted class changes; None in first order.
        accuracy: float64 [K], accuracy lost, in -1..1; None without labels, or in first order.
        base: float64 [K], what replaced each channel.
        groups: the channels of each row, where rows are groups; else empty.
    """

    layer: str
    effect: Array = field(metadata=axes("K", np.float64))
    per_class: Array = field(metadata=axes("K C", np.float64))
    counts: Array = field(metadata=axes("C", np.int64))
    probability: Array | None = field(default=None, metadata=axes("K", np.float64))
    flips: Array | None = field(default=None, metadata=axes("K", np.float64))
    accuracy: Array | None = field(default=None, metadata=axes("K", np.float64))
    base: Array = field(metadata=axes("B", np.float64))
    groups: tuple[tuple[int, ...], ...] = ()

    def ranking(self) -> NDArray[np.int64]:
        """Return the rows [K] by effect, the most important first, equal ones by number."""
        order: NDArray[np.int64] = np.argsort(-self.effect, kind="stable")
        return order


@dataclass(frozen=True, eq=False, kw_only=True)
class FilterImportance(Record):
    """The importance of the filters of some layers.

    Attributes:
        layers: one `LayerImportance` each.
        mode: "exact" (each filter replaced, the rest of the network run) or "first_order".
        images: the number of images.
        labelled: how many of them have a class in the data.
        right: share of these that the model predicts right; None where there are none.
    """

    layers: tuple[LayerImportance, ...]
    mode: str
    images: int
    labelled: int = 0
    right: float | None = None

    def __getitem__(self, layer: str) -> LayerImportance:
        """Return the importance of a layer's filters; raises LayerError for one not looked at."""
        for found in self.layers:
            if found.layer == layer:
                return found
        known = ", ".join(found.layer for found in self.layers)
        raise LayerError(f"layer {layer!r} was not looked at; there are {known}")


@dataclass(frozen=True, eq=False, kw_only=True)
class RemovalCurves(Record):
    """What is left of the predictions when more and more filters of a layer are replaced.

    Attributes:
        layer: its name.
        removed: int64 [S], how many filters are replaced, from 0 to all.
        score: float64 [3, S], mean logit of the class predicted with all filters: the most important first,
            the least important first, in random order (mean over orders).
        probability: float64 [3, S], mean probability of that class.
        agreement: float64 [3, S] in 0..1, share of images that keep their predicted class.
        accuracy: float64 [3, S] in 0..1; None without labels.
        orders: number of random orders.
    """

    layer: str
    removed: Array = field(metadata=axes("S", np.int64))
    score: Array = field(metadata=axes("O S", np.float64))
    probability: Array = field(metadata=axes("O S", np.float64))
    agreement: Array = field(metadata=axes("O S", np.float64))
    accuracy: Array | None = field(default=None, metadata=axes("O S", np.float64))
    orders: int

    ORDERS = ("most important first", "least important first", "random")

    def areas(self, curve: Array | None = None) -> Array:
        """Return the area under each of three curves [3], over the share of filters removed.

        curve: one of the attributes, [3, S]; None is `agreement`, whose areas lie in 0..1.
        """
        from scipy.integrate import trapezoid

        curve = self.agreement if curve is None else curve
        areas: Array = trapezoid(curve, self.removed / self.removed[-1], axis=1)
        return areas

    @property
    def area_between(self) -> float:
        """The area between the agreement with the least and with the most important removed first, -1..1.

        0 where the order tells nothing about predictions.
        """
        best, worst, _ = self.areas()
        return float(worst - best)


def cka_of(shared: Array) -> Array:
    """Return linear CKA [..., L, L] from squared Frobenius norms of cross-covariances; 0 for constants."""
    own = np.sqrt(np.diagonal(shared, axis1=-2, axis2=-1))
    below = own[..., :, None] * own[..., None, :]
    cka: Array = np.divide(shared, below, out=np.zeros_like(shared), where=below > 0)
    return cka


def spearman(a: Array, b: Array) -> float | None:
    """Return Spearman's rank correlation in -1..1; None where one of the two is constant."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(a), rankdata(b)])
    if (ranks.std(1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])
