"""Normalisations over channels, groups, planes and windows of channels."""

from dataclasses import replace

import numpy as np

from tests.backward.cases.equivalent import equivalent
from tests.backward.harness import Case

Sizes = tuple[int, ...]


def _norm(op: str, x: Sizes, *parameters: Sizes, opset: int = 18, **attrs: object) -> Case:
    """One node with random positive parameters of the given shapes."""
    rng = np.random.default_rng(sum(x))
    given = {f"p{i}": rng.uniform(0.5, 2, s).astype(np.float32) for i, s in enumerate(parameters)}
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    label = f"{op} {x} {' '.join(map(str, parameters))} <{options}>"
    body = f"y = {op}{f'<{options}>' if options else ''}({', '.join(['x', *given])})"
    return Case(label, body, {"x": x}, initializers=given, opset=opset)


def _group(x: Sizes, groups: int, epsilon: float = 1e-5) -> Case:
    """Opset 21 computes in stash_type, single precision by default; the oracle needs double (11)."""
    n = x[0]
    case = _norm("GroupNormalization", x, (n,), (n,), opset=21, num_groups=groups, epsilon=epsilon)
    return equivalent(case, case.body.replace("<", "<stash_type = 11, "))


def _mean_variance(x: Sizes, axes: list[int]) -> Case:
    """onnx.reference runs it in single precision only."""
    return equivalent(
        _norm("MeanVarianceNormalization", x, axes=axes),
        f"""axes = Constant<value_ints = {axes}>() mean = ReduceMean(x, axes) d = Sub(x, mean)
        squares = Mul(d, d) variance = ReduceMean(squares, axes) s = Sqrt(variance) y = Div(d, s)""",
    )


def _sum_normalization(x: Sizes, axis: int) -> Case:
    """onnx.reference sums x itself instead of |x|."""
    return equivalent(
        _norm("LpNormalization", x, axis=axis, p=1),
        f"axes = Constant<value_ints = [{axis}]>() size = ReduceL1(x, axes) y = Div(x, size)",
    )


def _local_response(x: Sizes, **attrs: float) -> Case:
    """onnx.reference reads only as many channels as there are images: sum them by a band matrix."""
    full = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **attrs}
    apart = np.abs(np.subtract.outer(np.arange(x[0]), np.arange(x[0])))
    arrays = {
        "band": (apart <= full["size"] // 2) * full["alpha"] / full["size"],
        "bias": full["bias"],
        "beta": full["beta"],
    }
    case = replace(
        _norm("LRN", x, **attrs), initializers={k: np.float32(v) for k, v in arrays.items()}
    )
    return equivalent(
        case,
        """squares = Mul(x, x) last = Transpose<perm = [0, 2, 3, 1]>(squares)
        near = MatMul(last, band) sums = Transpose<perm = [0, 3, 1, 2]>(near)
        all = Add(sums, bias) power = Pow(all, beta) y = Div(x, power)""",
    )


CASES = [
    _norm("BatchNormalization", (3, 2, 2), *[(3,)] * 4),
    _norm("BatchNormalization", (5,), *[(5,)] * 4, epsilon=0.1),
    _norm("BatchNormalization", (2, 4), *[(2,)] * 4),
    _norm("BatchNormalization", (2, 2, 3, 2), *[(2,)] * 4),
    _norm("InstanceNormalization", (3, 3, 3), (3,), (3,)),
    _norm("InstanceNormalization", (2, 5), (2,), (2,), epsilon=0.1),
    _norm("InstanceNormalization", (2, 2, 3, 2), (2,), (2,)),
    _norm("LayerNormalization", (3, 4), (4,)),
    _norm("LayerNormalization", (3, 4), (4,), (4,), axis=-1, epsilon=0.1),
    _norm("LayerNormalization", (2, 3, 3), (3, 3), (3, 3), axis=2),
    _norm("LayerNormalization", (2, 3, 2), (2, 3, 2), (2, 3, 2), axis=1),
    _norm("LayerNormalization", (2, 3, 2), (2,), (3, 2), axis=-2),
    _norm("RMSNormalization", (3, 4), (4,), opset=23),
    _norm("RMSNormalization", (2, 3, 2), (3, 2), opset=23, axis=2, epsilon=0.1),
    _norm("GroupNormalization", (4, 2, 3), (2,), (2,), num_groups=2),
    _group((4, 2, 3), 2),
    _group((4, 3), 4, epsilon=0.1),
    _group((4, 2, 2), 1),
    _norm("LpNormalization", (3, 4)),
    *(_norm("LpNormalization", (3, 4), axis=axis, p=2) for axis in (1, 2, -2)),
    *(_sum_normalization((3, 4), axis) for axis in (1, 2, -2)),
    _mean_variance((3, 2, 4), [1, 2, 3]),
    _mean_variance((3, 2, 4), [2, 3]),
    _mean_variance((3, 5), [-1]),
    *(_local_response((5, 2, 2), size=size, alpha=0.7) for size in (1, 3, 5, 9)),
    _local_response((4, 2, 2), size=3, alpha=0.5, beta=0.5, bias=2.0),
    _local_response((4, 2, 2), size=3),
]  # fmt: skip
