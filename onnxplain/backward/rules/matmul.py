"""Products: Gemm, MatMul, Einsum. Either operand may depend on the image; none may mix images."""

from __future__ import annotations

import string

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context, Shape, unbroadcast
from onnxplain.backward.rules.shape import expand_like, plain_axis
from onnxplain.backward.table import VJP


@VJP.on("Gemm")
def gemm(c: Context, g: Tensor) -> list[Tensor | None]:
    """Differentiate alpha A' B' + beta C, where ' transposes as transA and transB say."""
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    ta, tb = (int(c.attr(name, 0) != 0) for name in ("transA", "transB"))
    (a, b), y = c.x[:2], c.y[0]

    def product(p: Tensor, q: Tensor, transp: int, transq: int) -> Tensor:
        return c.op.Gemm(p, q, alpha=alpha, transA=transp, transB=transq)

    gradients: list[Tensor | None] = [None] * len(c.x)
    if c.needs(0):
        plain_axis(c, 1, y)
        gradients[0] = product(b, g, tb, 1) if ta else product(g, b, 0, 1 - tb)
    if c.needs(1):
        plain_axis(c, 0, y)
        gradients[1] = product(g, a, 1, ta) if tb else product(a, g, 1 - ta, 0)
    if c.needs(2):
        gradients[2] = c.unbroadcast(c.op.Mul(g, beta), c.shape(y), c.x[2])
    return gradients


@VJP.on("MatMul")
def matmul(c: Context, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return g B^T and A^T g, summed over the stacks along which an operand was repeated.

    An operand with one axis counts as a row (left) or a column (right).
    """
    op, (a, b) = c.op, c.x
    (*_, m, k), (*_, n) = _matrix(c.shape(a), row=True), _matrix(c.shape(b), row=False)
    column, row = len(c.shape(b)) == 1, len(c.shape(a)) == 1
    if column:
        b, g = op.Unsqueeze(b, [1]), op.Unsqueeze(g, [-1])
    if row:
        a, g = op.Unsqueeze(a, [0]), op.Unsqueeze(g, [-2])
    stack = c.shape(c.y[0])[: len(c.shape(c.y[0])) - 2 + column + row]
    ga = gb = None
    if c.needs(0):
        _keeps_images(c, n)
        ga = op.MatMul(g, _swapped(c, b, c.x[1]))
        ga = unbroadcast(op, ga, (*stack, m, k), c.shape(c.x[0]))
    if c.needs(1):
        _keeps_images(c, m)
        gb = op.MatMul(_swapped(c, a, c.x[0]), g)
        gb = op.Squeeze(gb, [-1]) if column else gb
        gb = unbroadcast(op, gb, (*stack, k) if column else (*stack, k, n), c.shape(c.x[1]))
    return ga, gb


def _matrix(shape: Shape, row: bool) -> Shape:
    if len(shape) > 1:
        return shape
    return (1, *shape) if row else (*shape, 1)


def _swapped(c: Context, matrix: Tensor, operand: Tensor) -> Tensor:
    """Transpose the last two axes of `matrix`, which is `operand` with at least two axes."""
    rank = max(len(c.shape(operand)), 2)
    return c.op.Transpose(matrix, perm=[*range(rank - 2), rank - 1, rank - 2])


def _keeps_images(c: Context, size: int | str) -> None:
    if isinstance(size, str):
        raise c.refuse("it mixes the images of a batch")


@VJP.on("Einsum")
def einsum(c: Context, g: Tensor) -> list[Tensor | None]:
    """Contract the signal with the other operands, towards the labels of the one asked for."""
    terms, result = _labels(c)
    shapes = [c.shape(x) for x in c.x]
    sizes: dict[str, int | str] = {}
    for term, shape in zip(terms, shapes, strict=True):
        sizes |= {k: s for k, s in zip(term, shape, strict=True) if s != 1 or k not in sizes}
    gradients: list[Tensor | None] = []
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if not c.needs(i):
            gradients.append(None)
            continue
        others = [j for j in range(len(terms)) if j != i]
        factors = [result, *(terms[j] for j in others)]
        for label in set(term) ^ set("".join(factors)):
            _keeps_images(c, sizes[label])
        alone = [axis for axis, label in enumerate(term) if label not in "".join(factors)]
        kept = "".join(label for axis, label in enumerate(term) if axis not in alone)
        ga = c.op.Einsum(g, *(c.x[j] for j in others), equation=f"{','.join(factors)}->{kept}")
        if alone:  # summed away on its own: every element gets the same
            ga = expand_like(c, c.op.Unsqueeze(ga, alone), c.x[i])
        gradients.append(unbroadcast(c.op, ga, tuple(sizes[k] for k in term), shape))
    return gradients


def _labels(c: Context) -> tuple[list[str], str]:
    """Return the labels of each operand and of the result, "..." written out."""
    equation = str(c.attr("equation")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(c.x):
        raise c.refuse(f"its equation has {len(terms)} terms for {len(c.x)} inputs")
    spare = "".join(sorted(set(string.ascii_letters) - set(equation)))
    ranks = [len(c.shape(x)) - len(t) + 3 for x, t in zip(c.x, terms, strict=True) if "..." in t]
    dots = spare[: max(ranks, default=0)]
    named = zip(c.x, terms, strict=True)
    terms = [t.replace("...", _last(dots, len(c.shape(x)) - len(t) + 3)) for x, t in named]
    if not arrow:
        letters = sorted(k for k in set(left) - set(".,") if left.count(k) == 1)
        result = "..." * bool(dots) + "".join(letters)
    if any(len(set(t)) < len(t) for t in terms):
        raise c.refuse(f"{equation!r} repeats a label within one operand")
    return terms, result.replace("...", dots)


def _last(letters: str, count: int) -> str:
    return letters[len(letters) - count :] if count > 0 else ""
