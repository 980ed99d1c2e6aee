"""Gemm, MatMul, Einsum; images on the leading axis, on another, and merged with heads."""

import numpy as np

from tests.backward.harness import Case


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _gemm(name: str, call: str, w: tuple[int, ...], c: tuple[int, ...] | None = None) -> Case:
    arrays = {"w": _weights(*w)} | ({} if c is None else {"c": _weights(*c)})
    return Case(f"Gemm, {name}", call, {"x": (4,)}, (3,), initializers=arrays)


def _matmul(name: str, a: tuple[int, ...], b: tuple[int, ...], y: tuple[int, ...]) -> Case:
    return Case(f"MatMul, {name}", "y = MatMul(a, b)", {"a": a, "b": b}, y)


def _const(
    name: str, call: str, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]
) -> Case:
    return Case(f"MatMul, {name}", call, {"x": x}, y, initializers={"w": _weights(*w)})


def _einsum(equation: str, y: tuple[int, ...], **inputs: tuple[int, ...]) -> Case:
    call = f'y = Einsum<equation = "{equation}">({", ".join(inputs)})'
    return Case(f"Einsum {equation}", call, inputs, y)


_HEADS = """
    q = Reshape(a, s) k = Reshape(b, t)
    l = MatMul(q, k) p = Softmax(l) o = MatMul(p, q) y = Reshape(o, r)
"""
_TURNED = "t = Transpose<perm = [1, 0]>(x) u = MatMul(w, t) y = Transpose<perm = [1, 0]>(u)"

CASES = [
    _gemm("plain", "y = Gemm(x, w)", (4, 3)),
    _gemm("linear layer", "y = Gemm<transB = 1>(x, w, c)", (3, 4), (3,)),
    _gemm("scaled", "y = Gemm<alpha = 0.5, beta = 2.0>(x, w, c)", (4, 3), (1, 3)),
    _gemm("transposed left", "t = Transpose(x) y = Gemm<transA = 1>(t, w)", (4, 3)),
    _gemm("both transposed", "t = Transpose(x) y = Gemm<transA = 1, transB = 1>(t, w)", (3, 4)),
    Case("Gemm, C computed", "y = Gemm<beta = 0.5, transB = 1>(x, w, c)",
         {"x": (4,), "c": (1,)}, (3,), initializers={"w": _weights(3, 4)}),
    _matmul("stacks", (2, 3, 4), (2, 4, 2), (2, 3, 2)),
    _matmul("right stack stretched", (2, 3, 4), (1, 4, 2), (2, 3, 2)),
    _matmul("left stack stretched", (1, 3, 4), (2, 4, 2), (2, 3, 2)),
    _const("weights", "y = MatMul(x, w)", (3, 4), (4, 2), (3, 2)),
    _const("rows are images", "y = MatMul(x, w)", (4,), (4, 2), (2,)),
    _const("weights left", "y = MatMul(w, x)", (3, 4), (2, 3), (2, 4)),
    _const("weights stacked", "y = MatMul(x, w)", (1, 3, 4), (2, 4, 2), (2, 3, 2)),
    _const("weights add a stack",
           "u = MatMul(x, w) y = Transpose<perm = [1, 0, 2, 3]>(u)", (3, 4), (2, 1, 4, 2), (2, 3, 2)),
    _const("vector right", "y = MatMul(x, w)", (3, 4), (4,), (3,)),
    _const("vector left", "y = MatMul(w, x)", (4, 3), (4,), (3,)),
    _const("columns are images", _TURNED, (4,), (3, 4), (3,)),
    Case("attention, heads merged into images", _HEADS, {"a": (3, 4), "b": (3, 4)}, (3, 4),
         initializers={"s": np.array([-1, 3, 2]), "t": np.array([-1, 2, 3]),
                       "r": np.array([-1, 3, 4])}),
    _einsum("nij,njk->nik", (3, 2), a=(3, 4), b=(4, 2)),
    _einsum("nij,nkj->nik", (3, 2), a=(3, 4), b=(2, 4)),
    _einsum("nhqd,nhkd->nhqk", (2, 3, 2), a=(2, 3, 2), b=(2, 2, 2)),
    _einsum("nij->nji", (3, 2), a=(2, 3)),
    _einsum("nij->ni", (2,), a=(2, 3)),
    _einsum("bij", (2, 3), a=(2, 3)),
    _einsum("ni,nj,nk->nkij", (2, 3, 2), a=(3,), b=(2,), c=(2,)),
    _einsum("nij,njk -> ni", (3,), a=(3, 4), b=(4, 2)),
    _einsum("...ij,...jk->...ik", (2, 3, 2), a=(2, 3, 4), b=(2, 4, 2)),
    _einsum("...ij,...jk", (2, 3, 2), a=(2, 3, 4), b=(1, 4, 2)),
    # onnxruntime would round x to 8 bits as well: executor.py forbids it
    Case("MatMul, int8 weights", "w = DequantizeLinear(q, s) y = MatMul(x, w)", {"x": (64,)}, (10,),
         opset=19, tolerance=1e-5, initializers={"q": (40 * _weights(64, 10)).astype(np.int8),
                                       "s": np.array(0.01, np.float32)}),
    Case("Einsum, weights", 'y = Einsum<equation = "nchw,dc->ndhw">(x, w)', {"x": (3, 2, 2)},
         (2, 2, 2), initializers={"w": _weights(2, 3)}),
]  # fmt: skip
