"""Pooling in 1-D to 3-D: overlapping, padded, dilated, with windows that hang over the end."""

from tests.backward.cases.equivalent import equivalent
from tests.backward.harness import Case

Sizes = tuple[int, ...]


def _pool(op: str, x: Sizes, kernel: Sizes = (), opset: int = 18, **attrs: object) -> Case:
    """One node; attributes are written as onnx.parser text."""
    given = {"kernel_shape": list(kernel), **attrs} if kernel else attrs
    options = ", ".join(f"{k} = {v}" for k, v in given.items()).replace("'", '"')
    body = f"y = {op}{f'<{options}>' if options else ''}(x)"
    return Case(f"{op} {x} <{options}>", body, {"x": x}, opset=opset)


def _padded(case: Case, plain: str, pads: list[int], low: float) -> Case:
    """The same with `low` written into the padding: onnx.reference errs on some windows there."""
    return equivalent(
        case,
        f"""pads = Constant<value_ints = {pads}>() axes = Constant<value_ints = [2, 3]>()
        l = Constant<value_float = {low}>() low = CastLike(l, x) padded = Pad(x, pads, low, axes)
        y = {plain}(padded)""",
    )


def _global_norm(x: Sizes, axes: str, power: int = 2, **attrs: object) -> Case:
    return equivalent(
        _pool("GlobalLpPool", x, **attrs),
        f"""axes = Constant<value_ints = [{axes}]>()
        p = Constant<value_int = {power}>() a = Abs(x) powers = Pow(a, p) sum = ReduceSum(powers, axes)
        q = CastLike(p, x) root = Reciprocal(q) y = Pow(sum, root)""",
    )


def _global_max(x: Sizes, axes: str) -> Case:
    """onnx.reference returns a wrong shape unless x has four axes."""
    return equivalent(
        _pool("GlobalMaxPool", x),
        f"axes = Constant<value_ints = [{axes}]>() y = ReduceMax(x, axes)",
    )


_GRIDS: list[tuple[Sizes, Sizes, dict[str, object]]] = [
    ((2, 4, 4), (2, 2), {"strides": [2, 2]}),
    ((2, 5, 5), (2, 2), {"strides": [2, 2]}),
    ((1, 5, 7), (2, 3), {"strides": [2, 3]}),
    ((2, 5, 5), (3, 3), {"strides": [2, 2]}),
    ((2, 4, 5), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 4, 4), (3, 3), {"strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ((1, 6, 6), (3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ((1, 6, 5), (2, 3), {"strides": [3, 2], "pads": [1, 0, 0, 2]}),
    ((2, 4, 4), (4, 4), {}),
    ((1, 5, 6), (3, 3), {"auto_pad": "'SAME_UPPER'", "strides": [2, 2]}),
    ((1, 5, 6), (2, 2), {"auto_pad": "'VALID'", "strides": [2, 2]}),
    ((2, 7), (3,), {"strides": [2], "pads": [1, 1]}),
    ((2, 3, 4, 2), (2, 2, 2), {}),
    ((1, 4, 4, 3), (2, 2, 2), {"strides": [2, 2, 1], "pads": [0, 0, 1, 0, 0, 0]}),
]
# Windows that hang over the end.
_CEIL: list[tuple[Sizes, Sizes, dict[str, object]]] = [
    ((2, 5, 5), (2, 2), {"strides": [2, 2]}),
    ((1, 6, 6), (3, 3), {"strides": [2, 2]}),
    ((1, 6, 7), (3, 3), {"strides": [3, 2], "pads": [1, 1, 1, 1]}),
    ((2, 6), (3,), {"strides": [2]}),
    ((1, 3, 4, 3), (2, 2, 2), {"strides": [2, 2, 2]}),
]
_DILATED: list[tuple[Sizes, Sizes, dict[str, object]]] = [
    ((2, 5, 5), (2, 2), {"dilations": [2, 2]}),
    ((1, 6, 7), (3, 2), {"dilations": [2, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 8), (3,), {"dilations": [2], "strides": [2]}),
    ((1, 4, 3, 3), (2, 2, 2), {"dilations": [2, 1, 2]}),
]

CASES = [
    *(_pool("MaxPool", x, k, **a) for x, k, a in _GRIDS + _DILATED),
    *(_pool("MaxPool", x, k, ceil_mode=1, **a) for x, k, a in _CEIL),
    _pool("MaxPool", (2, 4, 4), (2, 2), storage_order=1),
    _pool("GlobalMaxPool", (3, 3, 4)),
    _global_max((2, 5), "2"),
    _global_max((2, 2, 3, 2), "2, 3, 4"),
    _padded(_pool("MaxPool", (2, 4, 4), (3, 2), pads=[0, 0, 2, 1]), "MaxPool<kernel_shape = [3, 2]>",
            [0, 0, 2, 1], -9),
    _padded(_pool("MaxPool", (1, 5, 6), (2, 2), auto_pad="'SAME_LOWER'", strides=[2, 2]),
            "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>", [1, 0, 0, 0], -9),
    *(_pool("AveragePool", x, k, **a) for x, k, a in _GRIDS),
    _pool("AveragePool", (1, 5, 6), (2, 2), auto_pad="'SAME_LOWER'", strides=[2, 2]),
    *(_pool("AveragePool", x, k, count_include_pad=1, **a) for x, k, a in _GRIDS if "pads" in a),
    *(_pool("AveragePool", x, k, opset=19, **a) for x, k, a in _DILATED),
    *(_pool("AveragePool", x, k, ceil_mode=1, opset=19, **a) for x, k, a in _CEIL),
    _pool("AveragePool", (1, 6, 7), (3, 3), opset=19, ceil_mode=1, count_include_pad=1,
          strides=[3, 2], pads=[1, 1, 1, 1]),
    _pool("GlobalAveragePool", (3, 3, 4)),
    _pool("GlobalAveragePool", (2, 5)),
    _pool("GlobalAveragePool", (2, 2, 3, 2)),
    *(_pool("LpPool", x, k, p=p, **a) for p in (1, 2, 3) for x, k, a in _GRIDS[3:6]),
    _pool("LpPool", (1, 5, 5), (3, 3)),
    # onnx.reference takes a partial window for a whole one
    _padded(_pool("LpPool", (2, 5, 5), (2, 2), ceil_mode=1, strides=[2, 2]),
            "LpPool<kernel_shape = [2, 2], strides = [2, 2]>", [0, 0, 1, 1], 0),
    _padded(_pool("LpPool", (1, 6, 6), (3, 3), ceil_mode=1, strides=[2, 2]),
            "LpPool<kernel_shape = [3, 3], strides = [2, 2]>", [0, 0, 1, 1], 0),
    *(_pool("LpPool", x, k, **a) for x, k, a in _DILATED[:2]),
    *(_global_norm((2, 3, 3), "2, 3", p, p=p) for p in (1, 2, 3)),
    _global_norm((2, 3, 3), "2, 3"),
    _global_norm((2, 5), "2", 3, p=3),
]  # fmt: skip
