"""Resize in every mode, padding, and the shuffles between depth and space."""

import itertools

import numpy as np

from tests.backward.cases.equivalent import equivalent
from tests.backward.harness import Case

Sizes = tuple[int, ...]


def _resize(
    x: Sizes,
    scales: tuple[float, ...] = (),
    sizes: Sizes = (),
    opset: int = 18,
    **attrs: object,
) -> Case:
    """One node; `scales` or `sizes` for the axes behind the image axis, or for `axes`."""
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    name = f"Resize {x} by {scales or sizes} <{options}>"
    text = options.replace("'", '"')
    text = f"<{text}>" if text else ""
    if scales:
        full = scales if "axes" in attrs else (1, *scales)
        given = {"scales": np.array(full, np.float32)}
        return Case(
            name, f"y = Resize{text}(x, , scales)", {"x": x}, initializers=given, opset=opset
        )
    if "axes" in attrs:
        given = {"sizes": np.array(sizes, np.int64)}
        return Case(
            name, f"y = Resize{text}(x, , , sizes)", {"x": x}, initializers=given, opset=opset
        )
    # The form in which exporters write "size=": the image count is known at run time only.
    given = {"tail": np.array(sizes, np.int64)}
    body = f"""n = Shape<start = 0, end = 1>(x) sizes = Concat<axis = 0>(n, tail)
        y = Resize{text}(x, , , sizes)"""
    return Case(name, body, {"x": x}, initializers=given, opset=opset)


def _pad(x: Sizes, before: Sizes, after: Sizes, mode: str = "constant", opset: int = 18) -> Case:
    given = {"pads": np.array([0, *before, 0, *after], np.int64)}
    body = f'y = Pad<mode = "{mode}">(x, pads)'
    return Case(f"Pad {x} {before} {after} {mode}", body, {"x": x}, initializers=given, opset=opset)


_WHERE = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# To no ratio at which float32 and float64 round positions apart.
_RATIOS: list[dict[str, Sizes]] = [{"scales": (1, 2, 2)}, {"sizes": (1, 8, 2)}]

CASES = [
    *(
        _resize((1, 5, 5), **ratio, mode="'nearest'", coordinate_transformation_mode=f"'{where}'",
                nearest_mode=f"'{nearest}'")
        for where, nearest, ratio in itertools.product(_WHERE, _NEAREST, _RATIOS)
    ),
    *(
        _resize((1, 5, 5), **ratio, mode=f"'{mode}'", coordinate_transformation_mode=f"'{where}'")
        for mode, where, ratio in itertools.product(("linear", "cubic"), _WHERE, _RATIOS)
    ),
    _resize((2, 3, 4), (1, 3, 2)),  # nearest, whole factors
    _resize((2, 3, 4), sizes=(2, 6, 8)),
    _resize((2, 3, 4), sizes=(2, 5, 6), mode="'linear'"),
    *(
        _resize((2, 3, 4), sizes=(2, 1, 6), mode="'linear'", coordinate_transformation_mode=f"'{where}'")
        for where in ("pytorch_half_pixel", "align_corners")
    ),
    _resize((2, 3, 4), sizes=(2, 7, 2), mode="'cubic'", cubic_coeff_a=-0.5),
    _resize((1, 4, 5), (1, 1.6, 1.5), mode="'cubic'", exclude_outside=1),
    _resize((1, 4, 5), (1, 0.6, 0.5), mode="'cubic'", exclude_outside=1, cubic_coeff_a=-0.5),
    _resize((2, 3, 4), (2, 1.5), axes=[2, 3], mode="'linear'"),
    _resize((2, 3, 4), sizes=(5, 6), axes=[2, 3]),
    _resize((2, 3, 4), sizes=(6, 7), axes=[3, 2], mode="'linear'"),
    *(
        _resize((2, 3, 4), sizes=(6, 7), axes=[2, 3], mode="'linear'", keep_aspect_ratio_policy=f"'{policy}'")
        for policy in ("not_larger", "not_smaller")
    ),
    _resize((2, 5), (1, 2)),
    _resize((2, 5), (1, 1.7), mode="'linear'"),
    _resize((1, 2, 3, 2), (1, 2, 1.5, 2), mode="'linear'"),
    _resize((1, 2, 3, 2), (1, 2, 2, 2)),
    _resize((3, 2, 2), (2, 1, 1)),  # repeats channels
    _resize((3, 4, 1), (2, 1.5, 1), mode="'linear'"),  # NHWC
    Case("Upsample, opset 9", 'y = Upsample<mode = "nearest">(x, s)', {"x": (2, 2, 3)}, opset=9,
         initializers={"s": np.array([1, 1, 2, 3], np.float32)}),
    _pad((2, 3, 3), (0, 1, 2), (0, 2, 0)),
    _pad((2, 3, 3), (1, 0, 0), (2, 0, 0)),
    equivalent(_pad((2, 4, 4), (0, -1, 1), (0, 1, -2)), """from = Constant<value_ints = [1, 0]>()
        to = Constant<value_ints = [4, 2]>() axes = Constant<value_ints = [2, 3]>()
        rest = Slice(x, from, to, axes) sides = Constant<value_ints = [0, 0, 0, 1, 0, 0, 1, 0]>()
        y = Pad(rest, sides)"""),  # onnx.reference takes no negative pads
    _pad((2, 3, 3), (0, 0, 0), (0, 0, 0)),
    *(_pad((2, 3, 4), (0, 2, 1), (0, 1, 3), mode) for mode in ("reflect", "edge")),
    _pad((2, 3, 4), (0, 2, 1), (0, 1, 3), "wrap", opset=19),
    _pad((2, 5), (0, 2), (0, 0), "reflect"),
    Case("Pad, axes and value", "y = Pad(x, pads, value, axes)", {"x": (2, 3, 3)}, initializers={
        "pads": np.array([1, 0, 0, 2], np.int64), "value": np.array(0.5, np.float32),
        "axes": np.array([-1, 2], np.int64)}),
    *(Case(f"DepthToSpace {mode}", f'y = DepthToSpace<blocksize = 2, mode = "{mode}">(x)', {"x": (8, 2, 3)})
      for mode in ("DCR", "CRD")),
    Case("DepthToSpace", "y = DepthToSpace<blocksize = 3>(x)", {"x": (9, 1, 2)}),
    Case("SpaceToDepth", "y = SpaceToDepth<blocksize = 2>(x)", {"x": (2, 4, 6)}),
]  # fmt: skip
