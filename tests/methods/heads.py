"""Heads a -> z for class activation maps, each as a whole net x -> z and alone; exact Shapley values.

The head alone, in float64 by tests/oracle.py, is the F of Jung & Oh (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import factorial
from typing import Any

import numpy as np
import onnx

from tests import nets
from tests.oracle import Oracle

Array = np.ndarray[Any, Any]
K, CLASSES = 6, 3
STEM = "s = Conv<pads = [1, 1, 1, 1]>(x, ws, bs) a = Relu(s)"
IN_X, IN_A = "(float[N, 3, 6, 6] x)", "(float[N, 6, 6, 6] a)"
GAP = "g = GlobalAveragePool(last) f = Flatten(g) z = Gemm<transB = 1>(f, w, b)"
_FC = {"w": (CLASSES, K), "b": (CLASSES,)}
_CONV = {"wc": (K, K, 3, 3), "bc": (K,)}
_MLP = {"w1": (8, 54), "b1": (8,), "w2": (7, 8), "b2": (7,), "w": (CLASSES, 7), "b": (CLASSES,)}
_ONE_HIDDEN = {"w1": (8, 54), "b1": (8,), "w": (CLASSES, 8), "b": (CLASSES,)}
_POSITIVE = np.linspace(0.5, 1.5, K).astype(np.float32)
_DENSE = "f = Flatten(p) h = Gemm<transB = 1>(f, w1, b1) r = Relu(h)"
_SQUEEZE = """m = GlobalAveragePool(c) d = Conv(m, wd, bd) e = Relu(d) u = Conv(e, wu, bu)"""
_SE = {"wd": (4, K, 1, 1), "bd": (4,), "wu": (K, 4, 1, 1), "bu": (K,)}


@dataclass(frozen=True)
class Head:
    """The rest of a net from `a` on: nodes, and weights as shapes to draw or as arrays."""

    body: str
    weights: dict[str, Any]
    opset: int = 20


LINEAR = {
    "gap, fc": Head(GAP.replace("last", "a"), _FC),
    "max pool, fc": Head(
        "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) f = Flatten(p) "
        "z = Gemm<transB = 1>(f, w, b)",
        {"w": (CLASSES, 54), "b": (CLASSES,)},
    ),
    "conv, gap, fc": Head(
        "last = Conv<pads = [1, 1, 1, 1]>(a, wc, bc)" + GAP, {**_CONV, **_FC}, opset=13
    ),
}
HEADS = {
    **LINEAR,
    "max pool, mlp": Head(
        "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)" + _DENSE
        + "i = Gemm<transB = 1>(r, w2, b2) q = Relu(i) z = Gemm<transB = 1>(q, w, b)", _MLP,
    ),
    "overlapping max pool, mlp": Head(
        "p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(a)" + _DENSE
        + "i = Gemm<transB = 1>(r, w2, b2) q = Relu(i) z = Gemm<transB = 1>(q, w, b)", _MLP,
    ),
    "overlapping max pools, conv between": Head(
        "p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)"
        "c = Conv<pads = [1, 1, 1, 1]>(p, wc, bc)"
        "last = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(c)" + GAP,
        {**_CONV, **_FC},
    ),
    "batch norm, relu, gap": Head(
        "n = BatchNormalization(a, gamma, beta, mean, variance) last = Relu(n)" + GAP,
        {"gamma": (K,), "beta": (K,), "mean": (K,), "variance": _POSITIVE, **_FC},
    ),
    "residual": Head(
        "c = Conv<pads = [1, 1, 1, 1]>(a, wc, bc) r = Relu(c)"
        "d = Conv<pads = [1, 1, 1, 1]>(r, wd, bd) e = Add(d, a) last = Relu(e)" + GAP,
        {**_CONV, "wd": (K, K, 3, 3), "bd": (K,), **_FC},
    ),
    "gelu": Head(
        "c = Conv<pads = [1, 1, 1, 1]>(a, wc, bc) last = Gelu(c)" + GAP, {**_CONV, **_FC}
    ),
    "squeeze-and-excitation, hard swish": Head(
        "c = Conv<pads = [1, 1, 1, 1]>(a, wc, bc)" + _SQUEEZE
        + "k = HardSigmoid<alpha = 0.1667>(u) v = Mul(c, k) last = HardSwish(v)" + GAP,
        {**_CONV, **_SE, **_FC},
    ),
    "squeeze-and-excitation, silu": Head(
        "c = Conv<pads = [1, 1, 1, 1]>(a, wc, bc)" + _SQUEEZE
        + "k = Sigmoid(u) v = Mul(k, c) o = Sigmoid(v) last = Mul(v, o)" + GAP,
        {**_CONV, **_SE, **_FC},
    ),
    "layer norm": Head(
        "t = Transpose<perm = [0, 2, 3, 1]>(a) n = LayerNormalization(t, gamma, beta)"
        "h = MatMul(n, w1) j = Gelu(h) q = ReduceMean<keepdims = 0>(j, axes)"
        "z = Gemm<transB = 1>(q, w, b)",
        {"gamma": (K,), "beta": (K,), "w1": (K, K), "axes": np.array([1, 2]), **_FC},
    ),
}  # fmt: skip
ONE_HIDDEN = {
    "max pool, one hidden": Head(
        "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)" + _DENSE
        + "z = Gemm<transB = 1>(r, w, b)", _ONE_HIDDEN,
    ),
    "conv, relu, gap": Head(
        "c = Conv<pads = [1, 1, 1, 1]>(a, wc, bc) last = Relu(c)" + GAP, {**_CONV, **_FC}
    ),
}  # fmt: skip


# --- building and asking -------------------------------------------------------------------------------
def protos(head: Head, seed: int = 0, tail: str = "", **changed: Array) -> list[onnx.ModelProto]:
    """Return the whole net and its head alone, with the same weights; `tail` nodes end the whole."""
    names = {"ws": (K, 3, 3, 3), "bs": (K,), **head.weights, **changed}
    out = "y" if tail else "z"
    whole = nets.build(
        f"{IN_X} => (float[N, {CLASSES}] {out})", STEM + head.body + tail, head.opset, seed, **names
    )
    alone = nets.build(f"{IN_A} => (float[N, {CLASSES}] z)", head.body, head.opset, seed, **names)
    return [whole, alone]


def pictures(count: int = 2, seed: int = 1) -> Array:
    return nets.images(count, (3, 6, 6), seed)


def score(oracle: Oracle, a: Array, target: int) -> Array:
    """Return F(a)[target] of each row, float64."""
    return oracle.run(a, ["z"])[0][:, target]


@cache
def subsets(channels: int) -> Array:
    """Return all on/off rows [2^K, K]; row r has channel k on iff bit K - 1 - k of r is set."""
    return np.array(list(product((0, 1), repeat=channels)), bool)


def exact_shap(oracle: Oracle, a: Array, target: int) -> Array:
    """Return the Shapley values of one image's maps a [K, h, w] by enumeration (METHODS eq. SHAP)."""
    k = len(a)
    on = subsets(k)
    value = score(oracle, on[:, :, None, None] * a.astype(np.float64), target)
    size = on.sum(1)
    weight = np.array([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)])
    found = np.zeros(k)
    for j in range(k):
        without = np.flatnonzero(~on[:, j])
        found[j] = (
            weight[size[without]] * (value[without + 2 ** (k - 1 - j)] - value[without])
        ).sum()
    return found


def closeness_net(hidden: int, seed: int) -> list[onnx.ModelProto]:
    """Return a net of 10 maps [4, 4], MaxPool and `hidden` ReLU layers, whole and its head alone."""
    pool = "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) f = Flatten(p)"
    shapes, nodes, last, size = {}, [pool], "f", 40
    for i in range(hidden):
        nodes.append(f"h{i} = Gemm<transB = 1>({last}, w{i}, b{i}) r{i} = Relu(h{i})")
        shapes |= {f"w{i}": (16, size), f"b{i}": (16,)}
        last, size = f"r{i}", 16
    body = " ".join([*nodes, f"z = Gemm<transB = 1>({last}, w, b)"])
    shapes |= {"ws": (10, 3, 3, 3), "bs": (10,), "w": (5, 16), "b": (5,)}
    rng = np.random.default_rng(seed)
    drawn = {k: nets.drawn(rng, s) * (0.3 if len(s) == 1 else 1) for k, s in shapes.items()}
    drawn = {k: v.astype(np.float32) for k, v in drawn.items()}
    whole = nets.build("(float[N, 3, 4, 4] x) => (float[N, 5] z)", f"{STEM} {body}", **drawn)
    alone = nets.build("(float[N, 10, 4, 4] a) => (float[N, 5] z)", body, **drawn)
    return [whole, alone]
