"""Arithmetic with every kind of broadcasting, selections, scans."""

import numpy as np

from tests.backward.harness import Case

_ROW = np.array([0.5, -1.5, 2.0], np.float32)
_STACK = np.array([0.7, 1.2], np.float32).reshape(2, 1, 1)


def _binary(op: str, low: float = -1.0, high: float = 1.0) -> list[Case]:
    """Both computed (equal shapes, one stretched, one without leading axes), then with constants."""
    body = f"y = {op}(a, b)"
    same = {"a": (2, 3), "b": (2, 3)}
    stretched = {"a": (1, 3), "b": (2, 1)}
    return [
        Case(f"{op}, equal shapes", body, same, (2, 3), low=low, high=high),
        Case(f"{op}, both stretched", body, stretched, (2, 3), low=low, high=high),
        Case(f"{op}, constant right", f"y = {op}(x, r)", {"x": (2, 3)}, (2, 3), low=low, high=high,
             initializers={"r": _ROW}),
        Case(f"{op}, constant left adds an axis",
             f"u = {op}(p, x) y = Transpose<perm = [1, 0, 2]>(u)", {"x": (3,)}, (2, 3), low=low,
             high=high, initializers={"p": _STACK}),
    ]  # fmt: skip


def _pow(name: str, exponent: float | int, low: float = -1.0, high: float = 1.0) -> Case:
    value = np.array(exponent)
    typed = value.astype(np.float32) if value.dtype.kind == "f" else value
    return Case(f"Pow, {name}", "y = Pow(x, p)", {"x": (2, 3)}, (2, 3), low=low, high=high,
                initializers={"p": typed})  # fmt: skip


def _n_ary(op: str, *shapes: tuple[int, ...]) -> Case:
    names = {f"x{i}": shape for i, shape in enumerate(shapes)}
    return Case(f"{op} of {len(shapes)}", f"y = {op}({', '.join(names)})", names, (2, 3))


CASES = [
    *_binary("Add"),
    *_binary("Sub"),
    *_binary("Mul"),
    *_binary("Div", 0.5, 2.0),
    *_binary("Pow", 0.3, 2.0),
    *_binary("Max"),
    *_binary("Min"),
    *(_n_ary(op, (2, 3)) for op in ("Sum", "Mean", "Max", "Min")),
    *(_n_ary(op, (2, 3), (1, 3), (2, 1)) for op in ("Sum", "Mean", "Max", "Min")),
    _pow("square of either sign", 2.0),
    _pow("cube of either sign", 3.0),
    _pow("whole exponent of integer type", 2),
    _pow("root", 0.5, 0.2, 2.0),
    _pow("inverse", -1.5, 0.2, 2.0),
    Case("Pow, exponent zero in places", "y = Pow(x, p)", {"x": (3,)}, (3,),
         initializers={"p": np.array([0, 1, 2], np.float32)}),
    Case("Div by negative", "y = Div(a, b)", {"a": (3,), "b": (3,)}, (3,), low=-2.0, high=-0.5),
    Case("fan-out", "a = Mul(x, x) b = Add(a, x) y = Sub(b, a)", {"x": (3,)}, (3,)),
    Case("x * x", "y = Mul(x, x)", {"x": (3,)}, (3,)),
    Case("Where, computed condition", "c = Greater(a, b) y = Where(c, a, b)",
         {"a": (2, 3), "b": (1, 3)}, (2, 3)),
    Case("Where, constant condition", "y = Where(c, a, b)", {"a": (2, 1), "b": (1, 3)}, (2, 3),
         initializers={"c": np.array([True, False, True])}),
    Case("Mod", "y = Mod<fmod = 1>(a, b)", {"a": (2, 3), "b": (2, 3)}, (2, 3), low=0.3, high=2.0),
    Case("Mod, constant divisor", "y = Mod<fmod = 1>(x, r)", {"x": (2, 3)}, (2, 3), low=-2.0,
         high=2.0, initializers={"r": np.array(0.7, np.float32)}),
    *(
        Case(f"CumSum{flags} over {axis}", f"y = CumSum{flags}(x, a)", {"x": (2, 3)}, (2, 3),
             initializers={"a": np.array(axis)})
        for flags in ("", "<exclusive = 1>", "<reverse = 1>", "<exclusive = 1, reverse = 1>")
        for axis in (1, -1)
    ),
    Case("Trilu, upper", "y = Trilu(x)", {"x": (2, 3, 3)}, (2, 3, 3)),
    Case("Trilu, lower, shifted", "y = Trilu<upper = 0>(x, k)", {"x": (2, 3)}, (2, 3),
         initializers={"k": np.array(1)}),
]  # fmt: skip
