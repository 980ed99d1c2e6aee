"""Attention and rotary positions: operators that are written out, so gradients pass through all of it."""

import numpy as np

from tests.backward.harness import Case

Sizes = tuple[int, ...]
_FLAT = {"q": (3, 8), "k": (4, 4), "v": (4, 4)}
_HEADS = {"q": (2, 3, 2), "k": (2, 4, 2), "v": (2, 4, 3)}
_RNG = np.random.default_rng(6)
_BLIND = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)  # the second query sees no key


def _attend(name: str, more: str = "", shapes: dict[str, Sizes] = _HEADS, opset: int = 23,
            given: dict[str, np.ndarray] | None = None, **attrs: object) -> Case:  # fmt: skip
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    body = (
        f"y = Attention<{options}>(q, k, v{more})" if options else f"y = Attention(q, k, v{more})"
    )
    return Case(f"Attention, {name}", body, shapes, None, opset=opset, low=-1.5, high=1.5,
                initializers=given or {})  # fmt: skip


def _rotate(name: str, x: Sizes, width: int, **attrs: int) -> Case:
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    body = f"y = RotaryEmbedding{f'<{options}>' if options else ''}(x, cos, sin)"
    tables = {"cos": (3, width), "sin": (3, width)}
    return Case(f"RotaryEmbedding, {name}", body, {"x": x, **tables}, x, opset=23)


CASES = [
    _attend("heads"),
    _attend("heads, causal, capped, scaled", is_causal=1, softcap=1.5, scale=0.7),
    _attend("flat", shapes=_FLAT | {"k": (4, 8), "v": (4, 6)}, q_num_heads=2, kv_num_heads=2),
    _attend("flat, shared keys", shapes=_FLAT, q_num_heads=4, kv_num_heads=2),
    _attend("flat, shared keys, causal, capped", shapes=_FLAT, q_num_heads=4, kv_num_heads=2,
            is_causal=1, softcap=0.8),
    _attend("one key head", shapes=_HEADS | {"k": (1, 4, 2), "v": (1, 4, 3)}, is_causal=1),
    _attend("boolean mask, a row without keys", ", m", given={"m": _BLIND}),
    _attend("float mask", ", m", given={"m": _RNG.normal(size=(2, 3, 4)).astype(np.float32)}),
    _attend("float mask, causal", ", m", is_causal=1,
            given={"m": _RNG.normal(size=(3, 4)).astype(np.float32)}),
    _attend("computed float mask", ", m", {**_HEADS, "m": (1, 3, 4)}, is_causal=1),
    _attend("short computed mask", ", m", {**_HEADS, "m": (1, 3, 3)}, opset=24),
    Case("Attention, computed boolean mask", """t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
         b = Greater(s, zero) y = Attention<is_causal = 1>(q, k, v, b)""", _HEADS, None, opset=23,
         low=-1.5, high=1.5, initializers={"zero": np.array(0.1, np.float32)}),
    _attend("cache", ", , pk, pv", {**_HEADS, "pk": (2, 2, 2), "pv": (2, 2, 3)}, is_causal=1),
    _attend("window", opset=25, left_window_size=1, right_window_size=0),
    _attend("precise softmax", softmax_precision=11),
    _rotate("heads", (2, 3, 4), 2),
    _rotate("interleaved", (2, 3, 4), 2, interleaved=1),
    _rotate("flat, half of each head", (3, 16), 2, num_heads=2, rotary_embedding_dim=4),
    _rotate("flat, half of each head, interleaved", (3, 16), 2, num_heads=2, rotary_embedding_dim=4,
            interleaved=1),
    Case("RotaryEmbedding, positions", """n = Shape<start = 0, end = 1>(x) s = Concat<axis = 0>(n, three)
         at = Expand(i, s) y = RotaryEmbedding(x, cos, sin, at)""", {"x": (2, 3, 4)}, (2, 3, 4), opset=23,
         initializers={"three": np.array([3]), "i": np.array([[0, 2, 1]]),
                       "cos": _RNG.normal(size=(5, 2)).astype(np.float32),
                       "sin": _RNG.normal(size=(5, 2)).astype(np.float32)}),
]  # fmt: skip
