"""Reading between pixels: GridSample, AffineGrid, RoiAlign, DeformConv; and what undoes windows."""

import itertools

import numpy as np

from tests.backward.harness import Case

Sizes = tuple[int, ...]


def _grid(mode: str, padding: str, aligned: int, opset: int = 20, **inputs: Sizes) -> Case:
    """The grid reaches beyond the picture, except where onnxruntime's cubic is not PyTorch's."""
    inputs = inputs or {"x": (2, 3, 4), "grid": (2, 3, 2)}
    reach = 0.95 if mode.endswith("cubic") else 1.7
    options = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {aligned}'
    flows = "" if mode != "nearest" else "h = Mul(x, x)"  # nothing flows to the grid
    body = f"{flows} y = GridSample<{options}>({'h' if flows else 'x'}, grid)"
    return Case(
        f"GridSample {inputs} <{options}>", body, inputs, opset=opset, low=-reach, high=reach
    )


def _deformed(name: str, groups: int, parts: int, out: Sizes, **attrs: object) -> Case:
    inputs = {"x": (4, 5, 4), "offset": (parts * 8, *out), "mask": (parts * 4, *out)}
    options = ", ".join(f"{k} = {v}" for k, v in attrs.items())
    options = f"group = {groups}, offset_group = {parts}" + ", " * bool(options) + options
    rng = np.random.default_rng(3)
    arrays = {"w": rng.normal(size=(4, 4 // groups, 2, 2)), "b": rng.normal(size=4)}
    body = f"y = DeformConv<{options}>(x, w, offset, b, mask)"
    return Case(f"DeformConv, {name}", body, inputs, (4, *out), opset=22,
                low=-1.3, high=1.3,
                initializers={k: v.astype(np.float32) for k, v in arrays.items()})  # fmt: skip


def _affine(sizes: Sizes, aligned: int) -> Case:
    rank = len(sizes)
    body = f"""n = Shape<start = 0, end = 1>(x) size = Concat<axis = 0>(n, rest)
               y = AffineGrid<align_corners = {aligned}>(x, size)"""
    return Case(f"AffineGrid {sizes}, align_corners {aligned}", body, {"x": (rank, rank + 1)},
                (*sizes, rank), opset=20, initializers={"rest": np.array([3, *sizes])})  # fmt: skip


def _boxes(name: str, scale: float = 1.0, **attrs: object) -> Case:
    """Boxes inside, over the edge, far beyond it, and narrower than a pixel."""
    options = "".join(f", {k} = {v}" for k, v in attrs.items())
    boxes = [[0.3, 1, 5, 6.2], [-2, -3, 15, 20], [2, 2, 2.4, 5], [4, 5, 7.6, 7.9]]
    body = f"""r = RoiAlign<output_height = 2, output_width = 3, spatial_scale = {scale}{options}>
               (x, boxes, images) y = Reshape(r, one)"""
    given = {
        "one": np.array([1, -1]),
        "boxes": np.array(boxes, np.float32),
        "images": np.zeros(4, np.int64),
    }
    return Case(f"RoiAlign, {name}", body, {"x": (2, 7, 6)}, (48,), pinned=True, initializers=given)


_MODES = (("linear", 20), ("nearest", 20), ("cubic", 20), ("bilinear", 16), ("bicubic", 16))

CASES = [
    *(
        _grid(mode, padding, aligned, opset)
        for (mode, opset), padding, aligned in itertools.product(
            _MODES, ("zeros", "border", "reflection"), (0, 1)
        )
    ),
    *(_grid("linear", padding, 0, x=(2, 2, 3, 2), grid=(1, 2, 2, 3))
      for padding in ("zeros", "border", "reflection")),
    Case("GridSample, one grid for all", """n = Shape<start = 0, end = 1>(x) s = Concat<axis = 0>(n, rest)
         g = Expand(grid, s) y = GridSample<padding_mode = "border">(x, g)""", {"x": (2, 3, 4)},
         (2, 3, 2), opset=20, initializers={
             "rest": np.array([3, 2, 2]),
             "grid": np.linspace(-1.2, 1.1, 12, dtype=np.float32).reshape(1, 3, 2, 2)}),
    *(_affine(sizes, aligned) for sizes in ((3, 4), (2, 3, 2)) for aligned in (0, 1)),
    _deformed("plain", 1, 1, (4, 3)),
    _deformed("groups", 2, 1, (4, 3)),
    _deformed("groups of offsets", 1, 2, (2, 2), strides=[2, 2], pads=[0, 1, 1, 1]),
    _deformed("both, dilated", 4, 2, (3, 2), dilations=[2, 2]),
    Case("DeformConv without mask", "y = DeformConv(x, w, offset)",
         {"x": (2, 4, 4), "offset": (8, 3, 3)}, (1, 3, 3), opset=22,
         initializers={"w": np.linspace(-1, 2, 8, dtype=np.float32).reshape(1, 2, 2, 2)}),
    _boxes("two samples", sampling_ratio=2),
    _boxes("as many samples as pixels"),
    _boxes("whole pixels", 0.9, coordinate_transformation_mode='"output_half_pixel"'),
    _boxes("whole pixels, three samples", 0.9, sampling_ratio=3,
           coordinate_transformation_mode='"output_half_pixel"'),
    Case("MaxUnpool", """p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) e = Exp(p)
         y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(e, i)""", {"x": (2, 4, 6)}, (2, 4, 6),
         pinned=True),
    Case("Col2Im", "y = Col2Im(x, size, block)", {"x": (8, 6)}, (2, 3, 4),
         initializers={"size": np.array([3, 4]), "block": np.array([2, 2])}),
    Case("Col2Im, strides and pads",
         "y = Col2Im<strides = [2, 1], pads = [1, 0, 1, 0], dilations = [1, 2]>(x, size, block)",
         {"x": (12, 6)}, (2, 5, 4), initializers={"size": np.array([5, 4]), "block": np.array([3, 2])}),
    Case("Col2Im of a line", "y = Col2Im<strides = [2]>(x, size, block)", {"x": (6, 3)}, (2, 7),
         initializers={"size": np.array([7]), "block": np.array([3])}),
]  # fmt: skip
