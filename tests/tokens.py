"""A small vision transformer as onnx.parser text, and its parts in torch (float64)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from tests import nets

Array = np.ndarray[Any, Any]
GRID, WIDTH, CLASSES = (3, 4), 6, 4
BY_CONV = "patches = Conv<strides = [2, 2]>(x, wp, bp) flat = Reshape(patches, to_flat)"
# The same numbers without a convolution: which token is which patch cannot be followed.
BY_HAND = """cut = Reshape(x, to_cut) order = Transpose<perm = [0, 2, 4, 1, 3, 5]>(cut)
    lines = Reshape(order, to_lines) rows0 = MatMul(lines, wl) rows = Add(rows0, bp)"""
BLOCK = """
    t0 = Add(all, places)
    n1 = LayerNormalization(t0, g1, h1)
    q = MatMul(n1, wq) k = MatMul(n1, wk) v = MatMul(n1, wv)
    kt = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, kt) a = Softmax(s) mixed = MatMul(a, v)
    t1 = Add(t0, mixed)
    n2 = LayerNormalization(t1, g2, h2) u = MatMul(n2, w1) e = Gelu(u) d = MatMul(e, w2)
    t2 = Add(t1, d)
    n3 = LayerNormalization(t2, g3, h3)
"""
HEADS = {"class": "r = Gather<axis = 1>(n3, zero)", "mean": "r = ReduceMean<keepdims = 0>(n3, one)"}


def vit(
    head: str = "class", others: int = 1, first: bool = True, by_hand: bool = False, **changes: Any
) -> onnx.ModelProto:
    """Return x [N, 3, 6, 8] -> 3 x 4 patches and `others` tokens before (or after) them -> z [N, 4]."""
    rng = np.random.default_rng(3)
    square = {name: nets.drawn(rng, (WIDTH, WIDTH)) for name in ("wq", "wk", "wv")}
    scales = {name: rng.normal(1, 0.3, WIDTH).astype(np.float32) for name in ("g1", "g2", "g3")}
    shifts = {name: rng.normal(0, 0.3, WIDTH).astype(np.float32) for name in ("h1", "h2", "h3")}
    weights: dict[str, Any] = {
        "wp": nets.drawn(rng, (WIDTH, 3, 2, 2)), "bp": nets.drawn(rng, (WIDTH,)), **square, **scales,
        **shifts, "w1": nets.drawn(rng, (WIDTH, 8)), "w2": nets.drawn(rng, (8, WIDTH)),
        "w": nets.drawn(rng, (WIDTH, CLASSES)), "places": nets.drawn(rng, (1, 12 + others, WIDTH)),
        "extra": nets.drawn(rng, (1, others, WIDTH)),
    } | changes  # fmt: skip
    weights["wl"] = np.ascontiguousarray(weights["wp"].reshape(WIDTH, 12).T)
    constants = {
        "to_flat": [0, WIDTH, -1], "to_cut": [0, 3, 3, 2, 4, 2], "to_lines": [0, 12, 12], "zero": 0,
        "one": [1], "rest": [others, WIDTH],
    }  # fmt: skip
    stem = BY_HAND if by_hand else f"{BY_CONV} rows = Transpose<perm = [0, 2, 1]>(flat)"
    order = "c, rows" if first else "rows, c"
    joined = f"""n = Shape<start = 0, end = 1>(x) to_c = Concat<axis = 0>(n, rest)
        c = Expand(extra, to_c) all = Concat<axis = 1>({order})"""
    joined = joined if others else "all = Identity(rows)"
    body = f"{stem} {joined} {BLOCK} {HEADS[head]} z = MatMul(r, w)"
    arrays = {name: np.array(value, np.int64) for name, value in constants.items()}
    return nets.build(
        f"(float[N, 3, 6, 8] x) => (float[N, {CLASSES}] z)", body, 20, **weights, **arrays
    )


def torch_tokens(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return t0 of a network whose other tokens come first."""
    rows = F.conv2d(x, w["wp"], w["bp"], stride=2).flatten(2).transpose(1, 2)
    return torch.cat([w["extra"].expand(len(x), -1, -1), rows], 1) + w["places"]


def torch_head(
    w: dict[str, torch.Tensor], tokens: torch.Tensor, layer: str, head: str
) -> torch.Tensor:
    """Return the logits from the values of t0 or n3."""
    if layer == "t0":
        n1 = _norm(w, tokens, 1)
        a = (n1 @ w["wq"] @ (n1 @ w["wk"]).transpose(1, 2)).softmax(-1)
        tokens = tokens + a @ (n1 @ w["wv"])
        tokens = tokens + F.gelu(_norm(w, tokens, 2) @ w["w1"]) @ w["w2"]
        tokens = _norm(w, tokens, 3)
    return (tokens[:, 0] if head == "class" else tokens.mean(1)) @ w["w"]


def _norm(w: dict[str, torch.Tensor], t: torch.Tensor, i: int) -> torch.Tensor:
    return F.layer_norm(t, (WIDTH,), w[f"g{i}"], w[f"h{i}"])
