"""Reductions over every choice of axes, and TopK."""

import numpy as np

from tests.backward.harness import Case

_OPS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd",
        "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip


def _reduce(op: str, axes: list[int], keep: int, y: tuple[int, ...], low: float = -1.0) -> Case:
    return Case(f"{op} over {axes}, keepdims {keep}", f"y = {op}<keepdims = {keep}>(x, a)",
                {"x": (2, 3, 2)}, y, low=low, initializers={"a": np.array(axes)})  # fmt: skip


def _choices(op: str, low: float = -1.0) -> list[Case]:
    return [
        _reduce(op, [2, 3], 1, (2, 1, 1), low),
        _reduce(op, [-1], 0, (2, 3), low),
        _reduce(op, [-3, -1], 0, (3,), low),
        _reduce(op, [1, 2, 3], 0, (), low),
    ]


_ROWS = np.array([[1.0, 0.0, 2.0, 1.0], [0.0, 3.0, 0.0, 1.0], [1.5, 1.0, -2.0, 1.0]], np.float32)

CASES = [
    *(case for op in _OPS for case in _choices(op)),
    *_choices("ReduceLogSum", low=0.1),
    Case("ReduceMean, opset 11", "y = ReduceMean<axes = [2, 3]>(x)", {"x": (2, 3, 2)}, (2, 1, 1),
         opset=11),
    Case("ReduceSum, nothing to reduce", "y = ReduceSum<noop_with_empty_axes = 1>(x)",
         {"x": (2, 3)}, (2, 3)),
    Case("ReduceMax, nothing to reduce", "y = ReduceMax<noop_with_empty_axes = 1>(x)",
         {"x": (2, 3)}, (2, 3)),
    Case("ReduceProd with zeros", "m = Mul(x, r) y = ReduceProd<keepdims = 0>(m, a)", {"x": (3, 4)},
         (3,), initializers={"r": _ROWS, "a": np.array([2])}),
    Case("global response", "s = ReduceL2(x, a) m = ReduceMean(s, b) d = Div(s, m) y = Mul(x, d)",
         {"x": (3, 2, 2)}, (3, 2, 2), low=0.1,
         initializers={"a": np.array([2, 3]), "b": np.array([1])}),
    Case("TopK", "y, i = TopK(x, k)", {"x": (6,)}, (3,), initializers={"k": np.array([3])}),
    Case("TopK, smallest, inner axis", "y, i = TopK<axis = 1, largest = 0>(x, k)", {"x": (4, 3)},
         (2, 3), initializers={"k": np.array([2])}),
]  # fmt: skip
