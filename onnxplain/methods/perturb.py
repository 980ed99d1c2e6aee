"""CAM weights by perturbation: Score-CAM, Ablation-CAM, sampled Shapley values. Forward runs only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.executor import Array
from onnxplain.methods.common import whole
from onnxplain.methods.maps import Found, from_channels_first
from onnxplain.results import bilinear, minmax
from onnxplain.target import scores

RUNS = 32
"""Perturbed copies of a layer, or masks of an image, that are made at once."""

_OPTIONS = {"shap_cam": {"permutations": (64, 1), "seed": (0, 0)}}  # default and least value


def check_options(kind: str, options: dict[str, object]) -> dict[str, int]:
    """Return the options of a CAM with defaults filled in; raises ConfigError for what it does not take."""
    known = _OPTIONS.get(kind, {})
    for name, value in options.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ConfigError(f"{kind} has no option {name!r}; it takes {takes}")
        if not whole(value, known[name][1]):
            least = known[name][1]
            raise ConfigError(f"{kind}: {name} must be a whole number >= {least}, got {value!r}")
    given = {name: int(value) for name, value in options.items()}  # type: ignore[call-overload]
    return {name: default for name, (default, _) in known.items()} | given


def score(f: Found) -> Array:
    """softmax_k( z(x * H_k) - z(0) ), H_k the up-sampled map scaled to 0..1 (Wang et al., 2020, alg. 1)."""
    source = f.job.model.graph.source
    axes = source.axes or ""
    height, width = (int(source.shape[axes.index(a)]) for a in "HW")
    weights = np.zeros(f.A.shape[:2])
    for i in range(len(f.A)):
        feeds = f.job.model.rows(f.feeds, [i])
        x = feeds[source.name]
        raised = []
        for maps in _chunks(f.A[i]):
            masks = minmax(bilinear(maps, (height, width)))
            shape = [{"N": len(masks), "C": 1, "H": height, "W": width}[a] for a in axes]
            masked = x * masks.reshape(shape).astype(x.dtype)
            raised.append(_run_input(f, i, {**feeds, source.name: masked}))
        raised_by = np.concatenate(raised) - _run_input(
            f, i, {**feeds, source.name: np.zeros_like(x)}
        )
        exp = np.exp(raised_by - raised_by.max())
        weights[i] = exp / exp.sum()
    return weights[:, :, None, None]


def ablation(f: Found) -> Array:
    """(z - z without k) / z, by running the rest of the network on A with map k set to zero (eq. 3)."""
    weights = np.zeros(f.A.shape[:2])
    for i, a in enumerate(f.A):
        whole = f.seeds.scores[i]
        keep = ~np.eye(len(a), dtype=bool)
        without = _run_rest(f, i, keep)
        weights[i] = (whole - without) / whole if whole != 0 else 0
    return weights[:, :, None, None]


def shapley(f: Found) -> Array:
    """Mean marginal difference over random orders of the maps, in antithetic pairs [ours]; seeded.

    Every single order is efficient: its differences sum to z(A) - z(0).
    """
    rng = np.random.default_rng(f.options["seed"])
    count, channels = f.options["permutations"], f.A.shape[1]
    half = [rng.permutation(channels) for _ in range((count + 1) // 2)]
    orders = [order for o in half for order in (o, o[::-1])][:count]
    weights = np.zeros(f.A.shape[:2])
    for i in range(len(f.A)):
        for order in orders:
            # Row j keeps the first j maps of this order.
            present = np.zeros((channels + 1, channels), bool)
            present[:, order] = np.tri(channels + 1, channels, -1, dtype=bool)
            weights[i, order] += np.diff(_run_rest(f, i, present))
    return (weights / len(orders))[:, :, None, None]


def _run_rest(f: Found, i: int, present: Array) -> Array:
    """Return the score of image i with only the maps marked in `present` [runs, K]."""
    rest = f.job.model.ablation(f.layer, f.job.output)
    a = from_channels_first(f.A[i : i + 1], f.layer).astype(f.job.model.dtype_of(f.layer.name))
    beside = f.job.model.rows(f.feeds, [i]) if rest.beside else None
    return _scores(f, i, rest.run(a, present, feeds=beside))


def _run_input(f: Found, i: int, feeds: dict[str, Array]) -> Array:
    """Return the score of several versions of image i's input."""
    model = f.job.model
    name = model.graph.source.name
    same = model.versions(feeds, [0] * len(feeds[name]), {name: feeds[name]})
    batches = model.batches(same)
    parts = [model.values(rows, (f.job.output,))[f.job.output] for rows in batches]
    return _scores(f, i, np.concatenate(parts))


def _scores(f: Found, i: int, values: Array) -> Array:
    return scores(np.broadcast_to(f.seeds.seed[i : i + 1], values.shape), values)


def _chunks(rows: Array) -> Iterator[Array]:
    for begin in range(0, len(rows), RUNS):
        yield rows[begin : begin + RUNS]
