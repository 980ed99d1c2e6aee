"""Moving elements around."""

import numpy as np

from tests.backward.harness import Case


def _case(name: str, body: str, x: tuple[int, ...], y: tuple[int, ...], **arrays: object) -> Case:
    constants = {k: np.asarray(v) for k, v in arrays.items()}
    return Case(name, body, {"x": x}, y, initializers=constants)


def _slice(
    name: str, starts: list[int], ends: list[int], y: tuple[int, ...], **more: object
) -> Case:
    inputs = "s, e, axes" + (", steps" if "steps" in more else "") if "axes" in more else "s, e"
    return _case(f"Slice, {name}", f"y = Slice(x, {inputs})", (5, 6), y, s=starts, e=ends, **more)


def _split(name: str, body: str, x: tuple[int, ...], y: tuple[int, ...], sizes: list[int]) -> Case:
    return _case(f"Split, {name}", body, x, y, s=sizes)


def _turned(name: str, body: str, x: tuple[int, ...], y: tuple[int, ...], **at: object) -> Case:
    """Put the images last, so that indices run over axes in front of them."""
    there = f"t = Transpose<perm = {[*range(1, len(x) + 1), 0]}>(x)"
    back = f"y = Transpose<perm = {[len(y), *range(len(y))]}>(u)"
    return _case(name, f"{there} {body} {back}", x, y, **at)


_FAR = np.iinfo(np.int64).max

CASES = [
    _case("Reshape", "y = Reshape(x, s)", (2, 6), (3, 4), s=[-1, 3, 4]),
    _case("Reshape, zeros copy", "y = Reshape(x, s)", (2, 6), (12,), s=[0, -1]),
    _case("Reshape, merged and back", "m = Reshape(x, s) r = Relu(m) y = Reshape(r, t)", (4, 3),
          (4, 3), s=[-1, 3], t=[-1, 4, 3]),
    _case("Flatten", "y = Flatten(x)", (2, 3), (6,)),
    _case("Flatten, later axis", "f = Flatten<axis = 2>(x) y = Reshape(f, t)", (2, 3), (2, 3),
          t=[-1, 2, 3]),
    _case("Squeeze", "y = Squeeze(x, a)", (1, 3, 1), (3,), a=[1, -1]),
    _case("Unsqueeze", "y = Unsqueeze(x, a)", (3, 2), (1, 3, 2, 1), a=[1, -1]),
    _case("Transpose", "y = Transpose<perm = [0, 2, 3, 1]>(x)", (2, 3, 2), (3, 2, 2)),
    _case("Transpose, images move", "t = Transpose(x) r = Relu(t) y = Transpose(r)", (2, 3), (2, 3)),
    _case("Expand", "y = Expand(x, s)", (1, 3), (2, 3), s=[1, 2, 1]),
    _case("Expand, new axis", "e = Expand(x, s) y = Transpose<perm = [1, 0, 2]>(e)", (3,), (2, 3),
          s=[2, 1, 3]),
    _case("Tile", "y = Tile(x, r)", (2, 3), (6, 3), r=[1, 3, 1]),
    _case("Tile, two axes", "y = Tile(x, r)", (2, 3), (4, 9), r=[1, 2, 3]),
    _case("Tile, once", "y = Tile(x, r)", (2, 3), (2, 3), r=[1, 1, 1]),
    Case("Concat", "y = Concat<axis = 1>(a, b)", {"a": (2, 3), "b": (1, 3)}, (3, 3)),
    Case("Concat, last axis", "y = Concat<axis = -1>(a, b, a)", {"a": (2, 2), "b": (2, 1)}, (2, 5)),
    _case("Concat of one", "y = Concat<axis = 1>(x)", (3,), (3,)),
    _case("Concat with itself mixed", "r = Relu(x) y = Concat<axis = 1>(r, x)", (3,), (6,)),
    _split("all used", "a, b, c = Split<axis = 1>(x, s) m = Mul(a, b) y = Mul(m, c)", (6,), (2,),
           [2, 2, 2]),
    _split("first unused", "a, b, c = Split<axis = 2>(x, s) y = Sum(b, c)", (2, 7), (2, 3),
           [1, 3, 3]),
    _split("middle unused", "a, b, c = Split<axis = -1>(x, s) y = Mul(a, c)", (5,), (2,), [2, 1, 2]),
    _split("one used", "a, b = Split<axis = 1>(x, s) y = Relu(b)", (5,), (3,), [2, 3]),
    _case("Split, equal parts", "a, b = Split<axis = 1, num_outputs = 2>(x) y = Mul(a, b)", (6,),
          (3,)),
    _case("Split, uneven parts", "a, b = Split<axis = 1, num_outputs = 2>(x) y = Relu(b)", (5,),
          (2,)),
    _slice("all axes", [0, 1, 2], [_FAR, 4, 5], (3, 3)),
    _slice("from the end", [-3], [_FAR], (5, 3), axes=[2]),
    _slice("two axes", [1, 0], [4, -1], (3, 5), axes=[1, 2]),
    _slice("every second", [0], [_FAR], (5, 3), axes=[-1], steps=[2]),
    _slice("every third from one", [1], [6], (5, 2), axes=[2], steps=[3]),
    _slice("turned round", [-1], [-_FAR], (5, 6), axes=[2], steps=[-1]),
    _slice("down by two", [4, -1], [0, -_FAR], (2, 2), axes=[1, 2], steps=[-2, -3]),
    _slice("space to depth", [0, 1], [_FAR, _FAR], (3, 3), axes=[1, 2], steps=[2, 2]),
    _case("Gather", "y = Gather<axis = 2>(x, i)", (2, 5), (2, 3), i=[4, 0, 2]),
    _case("Gather, one", "y = Gather<axis = 1>(x, i)", (4, 3), (3,), i=-1),
    _case("Gather, run", "y = Gather<axis = 1>(x, i)", (5,), (3,), i=[1, 2, 3]),
    _case("Gather, repeated", "y = Gather<axis = 1>(x, i)", (3, 2), (5, 2), i=[0, 2, 0, 0, 2]),
    _case("Gather, table", "y = Gather<axis = 1>(x, i)", (4, 2), (2, 3, 2), i=[[0, 3, 0], [1, 1, -1]]),
    _case("GatherElements, computed", "m = Neg(x) v, i = TopK(m, k) y = GatherElements<axis = 1>(x, i)",
          (5,), (3,), k=[3]),
    Case("ScatterElements, computed", "v, i = TopK(a, k) y = ScatterElements<axis = 1>(a, i, b)",
         {"a": (5,), "b": (2,)}, (5,), initializers={"k": np.array([2])}),
    Case("ScatterElements, add",
         """v, i = TopK<axis = -1>(a, k) y = ScatterElements<axis = 2, reduction = "add">(a, i, b)""",
         {"a": (2, 5), "b": (2, 2)}, (2, 5), initializers={"k": np.array([2])}),
    _turned("GatherND", "u = GatherND(t, i)", (4, 3), (3, 3), i=[[0], [2], [2]]),
    _turned("GatherND, two axes", "u = GatherND(t, i)", (4, 3, 2), (2, 2), i=[[0, 1], [-1, 2]]),
    _turned("ScatterND", "r = GatherND(t, j) m = Neg(r) u = ScatterND(t, i, m)", (4, 3), (4, 3),
            i=[[1], [3]], j=[[0], [1]]),
    _turned("ScatterND, add",
            """r = GatherND(t, j) m = Neg(r) u = ScatterND<reduction = "add">(t, i, m)""",
            (4, 3), (4, 3), i=[[1], [1]], j=[[0], [1]]),
    _turned("ReverseSequence", "u = ReverseSequence<batch_axis = 0, time_axis = 1>(t, l)", (3, 4),
            (3, 4), l=[1, 4, 2]),
    Case("ReverseSequence, each image its own", """k = ArgMax<axis = 1, keepdims = 0>(x)
         m = ReduceMax<keepdims = 0>(k, a) l = Add(m, a)
         y = ReverseSequence<batch_axis = 0, time_axis = 1>(x, l)""", {"x": (4, 2)}, (4, 2),
         initializers={"a": np.array([1])}),
    _case("CenterCropPad", "y = CenterCropPad<axes = [1, -1]>(x, s)", (5, 4), (2, 7), s=[2, 7]),
    _case("CenterCropPad, odd", "y = CenterCropPad<axes = [1, 2]>(x, s)", (2, 5), (5, 4), s=[5, 4]),
    _case("Compress", "y = Compress<axis = 1>(x, s)", (4, 2), (2, 2), s=[True, False, False, True]),
    _case("Identity", "y = Identity(x)", (3,), (3,)),
    _case("Dropout", "y, m = Dropout(x)", (3,), (3,)),
]  # fmt: skip
