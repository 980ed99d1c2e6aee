"""Convolutions: 1-D to 3-D, grouped, dilated, every remainder of stride and padding."""

import numpy as np

from tests.backward.cases.equivalent import equivalent
from tests.backward.harness import Case

Sizes = tuple[int, ...]


def _convolution(op: str, x: Sizes, w: Sizes, bias: int = 0, **attrs: object) -> Case:
    """One node with weights of shape `w`; attributes are written as onnx.parser text."""
    rng = np.random.default_rng(len(x) + sum(w))
    given = {"w": rng.normal(size=w).astype(np.float32)}
    if bias:
        given["b"] = rng.normal(size=bias).astype(np.float32)
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    name = f"{op} {x} by {w}" + (f" <{options}>" if options else "")
    body = f"y = {op}{f'<{options}>' if options else ''}(x, {', '.join(given)})".replace("'", '"')
    return Case(name, body, {"x": x}, initializers=given)


def _conv(x: Sizes, w: Sizes, bias: int = 0, **attrs: object) -> Case:
    return _convolution("Conv", x, w, bias, **attrs)


def _transpose(x: Sizes, w: Sizes, bias: int = 0, **attrs: object) -> Case:
    return _convolution("ConvTranspose", x, w, bias, **attrs)


def _output_shape(n: int, before: int) -> Case:
    """onnx.reference does not derive pads from output_shape: cut [n, 6] out of the whole (9 x 7)."""
    case = _transpose((1, 4, 3), (1, 2, 3, 3), strides=[2, 2], output_shape=[n, 6])
    return equivalent(
        case,
        f"""whole = ConvTranspose<strides = [2, 2]>(x, w)
        from = Constant<value_ints = [{before}, 1]>() to = Constant<value_ints = [{before + n}, 7]>()
        axes = Constant<value_ints = [2, 3]>() y = Slice(whole, from, to, axes)""",
    )


# onnx.reference fails on grouped ConvTranspose with several channels per group.
_BY_GROUP = """xa, xb = Split<axis = 1, num_outputs = 2>(x) wa, wb = Split<axis = 0, num_outputs = 2>(w)
    ya = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(xa, wa)
    yb = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(xb, wb) y = Concat<axis = 1>(ya, yb)"""

_WEIGHTS = np.random.default_rng(0).integers(-128, 127, (3, 2, 3, 3)).astype(np.int8)
_QUANTISED = {
    "w": _WEIGHTS,
    "s": np.array([0.01, 0.02, 0.005], np.float32),
    "z": np.array([0, 3, -7], np.int8),
}

CASES = [
    # stride 1
    _conv((2, 4, 5), (3, 2, 3, 3), 3, pads=[1, 1, 1, 1]),
    _conv((2, 4, 5), (3, 2, 1, 1)),
    _conv((2, 4, 4), (1, 2, 4, 4)),
    _conv((2, 4, 4), (3, 2, 2, 3), pads=[0, 1, 1, 1]),
    _conv((2, 5, 5), (3, 2, 3, 3), pads=[2, 2, 2, 2], dilations=[2, 2]),
    _conv((1, 6, 6), (2, 1, 2, 3), dilations=[3, 2]),
    _conv((2, 3, 3), (2, 2, 1, 1), pads=[1, 1, 1, 1]),  # pads beyond the kernel's reach
    _conv((2, 3, 3), (2, 2, 2, 2), pads=[3, 0, 0, 2]),
    _conv((4, 3, 4), (6, 2, 3, 3), 6, pads=[1, 1, 1, 1], group=2),
    _conv((4, 3, 3), (4, 1, 3, 3), pads=[1, 1, 1, 1], group=4),
    _conv((3, 3, 3), (6, 1, 2, 2), group=3),
    # other strides: every remainder behind the last window
    *(_conv((1, n, 5), (2, 1, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]) for n in (4, 5)),
    *(_conv((1, n, 4), (2, 1, 2, 2), strides=[3, 3]) for n in (5, 6, 7)),
    *(_conv((1, n, 4), (2, 1, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2]) for n in (4, 5)),
    *(_conv((1, n, 4), (2, 1, 3, 3), pads=[2, 1, 0, 3], strides=[2, 3]) for n in (5, 6, 7)),
    _conv((2, 4, 5), (3, 2, 1, 1), 3, strides=[2, 2]),
    _conv((1, 5, 7), (2, 1, 1, 2), strides=[3, 4]),  # strides beyond the kernel
    _conv((1, 3, 3), (2, 1, 2, 2), pads=[3, 3, 3, 3], strides=[2, 2]),
    _conv((1, 7, 6), (2, 1, 3, 2), pads=[2, 1, 2, 1], strides=[2, 3], dilations=[2, 2]),
    _conv((1, 4, 6), (2, 1, 3, 3), pads=[1, 1, 1, 1], strides=[1, 2]),
    _conv((4, 4, 3), (6, 2, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], group=2),
    _conv((3, 4, 4), (3, 1, 3, 3), 3, pads=[1, 1, 1, 1], strides=[2, 2], group=3),
    _conv((3, 4, 4), (6, 1, 2, 2), strides=[2, 2], group=3),
    # automatic padding, 1-D and 3-D
    _conv((1, 5, 6), (2, 1, 3, 3), auto_pad="'SAME_UPPER'", strides=[2, 2]),
    _conv((1, 5, 6), (2, 1, 2, 2), auto_pad="'SAME_LOWER'", strides=[2, 2]),
    _conv((1, 5, 6), (2, 1, 3, 3), auto_pad="'VALID'", strides=[2, 2]),
    _conv((2, 7), (3, 2, 3), 3, pads=[1, 1]),
    _conv((2, 8), (4, 1, 3), pads=[0, 2], strides=[3], group=2),
    _conv((2, 3, 3, 2), (2, 2, 2, 2, 2), pads=[1, 0, 0, 1, 1, 0]),
    _conv((2, 3, 4, 2), (2, 1, 3, 3, 1), pads=[1, 1, 0, 1, 1, 0], strides=[2, 2, 1], group=2),
    Case("Conv, quantised weights", """f = DequantizeLinear<axis = 0>(w, s, z)
         y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, f)""",
         {"x": (2, 4, 4)}, initializers=_QUANTISED, opset=21),
    # transposed
    _transpose((2, 3, 3), (2, 3, 2, 2), 3, strides=[2, 2]),
    _transpose((2, 3, 3), (2, 2, 3, 3)),
    _transpose((2, 3, 4), (2, 1, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1]),
    _transpose((1, 3, 3), (1, 2, 3, 2), pads=[0, 1, 2, 0], strides=[2, 3], output_padding=[1, 2]),
    _transpose((2, 3, 3), (2, 1, 2, 2), strides=[3, 3]),
    _transpose((1, 3, 4), (1, 2, 3, 3), pads=[2, 2, 2, 2], dilations=[2, 2]),
    _transpose((3, 3, 3), (3, 1, 2, 2), strides=[2, 2], group=3),
    equivalent(_transpose((4, 3, 2), (4, 2, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], group=2),
               _BY_GROUP),
    *(_output_shape(n, before) for n, before in ((9, 0), (8, 1), (7, 1), (6, 2))),
    _transpose((2, 5), (2, 3, 3), pads=[1, 1], strides=[2], output_padding=[1]),
    _transpose((2, 2, 3, 2), (2, 2, 2, 2, 2), strides=[2, 1, 2]),
    _transpose((1, 3, 3), (1, 2, 3, 3), auto_pad="'SAME_UPPER'", strides=[2, 2]),
    _transpose((1, 3, 3), (1, 2, 3, 3), auto_pad="'SAME_LOWER'", strides=[2, 2]),
]  # fmt: skip
