"""Attention and rotary positions, written out by what the standard says they compute (ONNX operator text)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx.helper import np_dtype_to_tensor_dtype

from onnxplain.graph.emit import Emitter, Tensor
from onnxplain.graph.fusions import Rewrite, optional

Bias = Tensor | np.ndarray[Any, Any]


def _attention(op: Emitter, node: gs.Node) -> Tensor | None:
    """Softmax(Q K^T scale + bias) V; None for a cache with padding, whose lengths come with the images."""
    q, k, v = node.inputs[:3]
    if optional(node, 6) is not None or any(x.shape is None for x in (q, k, v)):
        return None
    flat = len(q.shape) == 3
    heads, groups = node.attrs.get("q_num_heads"), node.attrs.get("kv_num_heads")
    heads, groups = (heads, groups) if flat else (q.shape[1], k.shape[1])
    length, size = q.shape[-2], q.shape[2] // heads if flat else q.shape[3]
    if flat:
        q, k, v = (_parted(op, x, n) for x, n in ((q, heads), (k, groups), (v, groups)))
    past = optional(node, 4)
    before = 0 if past is None else past.shape[2]
    if past is not None:
        k, v = op.Concat(past, k, axis=2), op.Concat(node.inputs[5], v, axis=2)
    root = node.attrs.get("scale", size**-0.5) ** 0.5
    q = (
        op.Reshape(q, [0, groups, -1, size]) if heads != groups else q
    )  # heads of a group share k, v
    scores = op.MatMul(op.Mul(q, root), op.Transpose(op.Mul(k, root), perm=[0, 1, 3, 2]))
    scores = op.Reshape(scores, [0, heads, length, -1]) if heads != groups else scores
    if cap := node.attrs.get("softcap", 0.0):
        scores = op.Mul(op.Tanh(op.Div(scores, cap)), cap)
    keys = node.inputs[1].shape[-2] + before
    shares = _shares(op, node, scores, _allowed(node, length, keys, before))
    shares = op.Reshape(shares, [0, groups, -1, keys]) if heads != groups else shares
    y = op.MatMul(shares, v)
    y = op.Reshape(y, [0, heads, length, -1]) if heads != groups else y
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1]) if flat else y


def _parted(op: Emitter, x: Tensor, heads: int) -> Tensor:
    """Turn [N, length, heads * size] into [N, heads, length, size]."""
    return op.Transpose(op.Reshape(x, [0, 0, heads, -1]), perm=[0, 2, 1, 3])


def _allowed(node: gs.Node, length: int, keys: int, before: int) -> np.ndarray[Any, Any]:
    """Return which keys each query may see by its position, bool [length, keys]."""
    ahead = np.arange(keys) - np.arange(length)[:, None] - before
    left, right = (node.attrs.get(f"{side}_window_size", -1) for side in ("left", "right"))
    allowed = ahead <= 0 if node.attrs.get("is_causal", 0) else np.ones_like(ahead, bool)
    allowed &= (-ahead <= left) | (left < 0)
    return np.asarray(allowed & ((ahead <= right) | (right < 0)))


def _shares(op: Emitter, node: gs.Node, scores: Tensor, allowed: np.ndarray[Any, Any]) -> Tensor:
    """Softmax of scores and bias. A query that may see no key gets zeros, where Softmax would get NaN."""
    dtype, mask = node.inputs[0].dtype, optional(node, 3)
    bias: Any = None if allowed.all() else np.where(allowed, 0, -np.inf)
    if isinstance(mask, gs.Constant):
        given = _additive(mask.values, allowed.shape[1])
        bias = given if bias is None else bias + given
    elif mask is not None:
        given = op.Where(mask, 0.0, op.constant(-np.inf, dtype)) if mask.dtype == bool else mask
        missing = allowed.shape[1] - mask.shape[-1]
        if missing:
            sides = [0] * (2 * len(mask.shape) - 1) + [missing]
            given = op.Pad(given, sides, op.constant(-np.inf, dtype))
        bias = given if bias is None else op.Add(given, bias)
    blind: Any = None
    if isinstance(bias, np.ndarray):
        blind = np.isneginf(bias.max(-1, keepdims=True))
        bias = op.constant(np.where(blind, 0, bias), dtype)
        blind = op.constant(blind, bool) if blind.any() else None
    elif bias is not None:
        blind = op.IsInf(op.ReduceMax(bias, [-1], keepdims=1), detect_positive=0)
        bias = op.Where(blind, 0, bias)
    scores = scores if bias is None else op.Add(scores, bias)
    precise = node.attrs.get("softmax_precision")
    shares = op.Softmax(scores if precise is None else op.Cast(scores, to=precise), axis=-1)
    if precise is not None:
        shares = op.Cast(shares, to=int(np_dtype_to_tensor_dtype(np.dtype(dtype))), dtype=dtype)
    return shares if blind is None else op.Where(blind, 0, shares)


def _additive(mask: np.ndarray[Any, Any], keys: int) -> np.ndarray[Any, Any]:
    """Return a mask as what is added to the scores; keys behind its end are not seen."""
    added = np.where(mask, 0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
    sides = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
    return np.pad(added, sides, constant_values=-np.inf)


def _rotary_embedding(op: Emitter, node: gs.Node) -> Tensor | None:
    """Turn each pair (a, b) of features by an angle: (a cos - b sin, a sin + b cos)."""
    x, cos, sin = node.inputs[:3]
    if x.shape is None:
        return None
    flat, heads = len(x.shape) == 3, node.attrs.get("num_heads", 0)
    size = x.shape[2] // heads if flat else x.shape[3]
    turned = node.attrs.get("rotary_embedding_dim", 0) or size
    if (ids := optional(node, 3)) is not None:
        cos, sin = (op.Gather(t, ids) for t in (cos, sin))
    cos, sin = (op.Unsqueeze(t, [2 if flat else 1]) for t in (cos, sin))  # one for all heads
    x = op.Reshape(x, [0, 0, heads, -1]) if flat else x
    interleaved, half = node.attrs.get("interleaved", 0), turned // 2
    firsts = ([0], [turned], [3], [2]) if interleaved else ([0], [half], [3])
    seconds = ([1], [turned], [3], [2]) if interleaved else ([half], [turned], [3])
    a, b = op.Slice(x, *firsts), op.Slice(x, *seconds)
    pair = [op.Sub(op.Mul(a, cos), op.Mul(b, sin)), op.Add(op.Mul(a, sin), op.Mul(b, cos))]
    if interleaved:
        pairs = op.Concat(*(op.Unsqueeze(t, [4]) for t in pair), axis=4)
        pair = [op.Reshape(pairs, [0, 0, 0, turned])]
    rest = [op.Slice(x, [turned], [size], [3])] if turned < size else []
    y = op.Concat(*pair, *rest, axis=3)
    return op.Reshape(y, [0, 0, -1]) if flat else y


ATTENTION: dict[str, Rewrite] = {"Attention": _attention, "RotaryEmbedding": _rotary_embedding}
"""Operator -> the same in older operators, which have rules."""
