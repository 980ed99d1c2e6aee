"""Receptive fields against impulses: onnxruntime runs the file on pictures that are zero but for one pixel.

All weights are positive, so that a position of a layer answers an impulse if and only if it sees the pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnxplain as ox
from onnxplain.graph.receptive import ReceptiveFields
from tests import nets

Array = np.ndarray[Any, Any]
SAME = "pads = [1, 1, 1, 1]"
W3, W1 = (4, 3, 3, 3), (4, 3, 1, 1)

# name: (nodes from x [N, 3, 15, 13] to a, weights)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("a = Conv(x, w)", {"w": W3}),
    "padded": (f"b = Conv<{SAME}>(x, w) a = Conv<{SAME}>(b, v)", {"w": W3, "v": (2, 4, 3, 3)}),
    "uneven": (
        "a = Conv<pads = [2, 0, 0, 1], strides = [3, 2]>(x, w)",
        {"w": (4, 3, 5, 2)},
    ),
    "dilated": (
        f"b = Conv<{SAME}, strides = [2, 2]>(x, w) a = Conv<dilations = [3, 2], pads = [3, 2, 3, 2]>(b, v)",
        {"w": W3, "v": (2, 4, 3, 3)},
    ),
    "grouped": (
        f"b = Conv(x, u) c = Conv<{SAME}, group = 4>(b, w) a = Relu(c)",
        {"u": W1, "w": (4, 1, 3, 3)},
    ),
    "ceil": (
        f"b = Conv<{SAME}>(x, w) "
        "a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(b)",
        {"w": W3},
    ),
    "average": (
        "b = AveragePool<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 1, 1, 0],"
        f"count_include_pad = 1>(x) a = Conv<{SAME}>(b, w)",
        {"w": W3},
    ),
    "auto_pad": (
        'b = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) '
        'a = MaxPool<auto_pad = "SAME_LOWER", kernel_shape = [2, 2], strides = [2, 2]>(b)',
        {"w": W3},
    ),
    "pad": (
        "b = Pad(x, p, , k) a = Conv<strides = [2, 2]>(b, w)",
        {"w": W3, "p": np.array([2, 0, 3, 1]), "k": np.array([2, 3])},
    ),
    "cropped": (
        "b = Pad(x, p) a = Conv(b, w)",
        {"w": W3, "p": np.array([0, 0, -2, 1, 0, 0, 1, -3])},
    ),
    "reflected": (
        'b = Pad<mode = "reflect">(x, p) a = Conv(b, w)',
        {"w": W3, "p": np.array([0, 0, 2, 3, 0, 0, 1, 2])},
    ),
    "residual": (
        f"b = Conv<{SAME}, strides = [2, 2]>(x, w) c = Conv<{SAME}>(b, v) d = Conv<strides = [2, 2]>(x, u)"
        "a = Add(c, d)",
        {"w": W3, "v": (4, 4, 3, 3), "u": W1},
    ),
    "branches": (
        f"b = Conv<{SAME}>(x, w) c = Conv<pads = [0, 3, 0, 3]>(x, v) d = Conv<pads = [2, 0, 2, 0]>(x, u)"
        "a = Concat<axis = 1>(b, c, d)",
        {"w": W3, "v": (2, 3, 1, 7), "u": (2, 3, 5, 1)},
    ),
    "split": (
        f"b = Conv(x, w) c, d = Split<axis = 1>(b, s) e = Conv<{SAME}>(c, v) f = Relu(d)"
        "a = Concat<axis = 1>(f, e)",
        {"w": W1, "s": np.array([2, 2]), "v": (2, 2, 3, 3)},
    ),
    "half": (  # only the part that is used counts
        f"b = Conv(x, u) c = Conv<pads = [3, 3, 3, 3]>(x, w) d = Concat<axis = 1>(b, c)"
        "e = Slice(d, from, to, axes) f = Relu(e)"
        f"a = Conv<{SAME}>(f, v)",
        {
            "w": (4, 3, 7, 7), "u": W1, "v": (2, 4, 3, 3),
            "from": np.array([0]), "to": np.array([4]), "axes": np.array([1]),
        },
    ),
    "shuffle": (
        f"b = Conv<{SAME}, strides = [2, 2]>(x, w) c = Reshape(b, s) d = Transpose<perm = [0, 2, 1, 3, 4]>(c)"
        f"e = Reshape(d, t) a = Conv<{SAME}, group = 2>(e, v)",
        {
            "w": W3, "v": (2, 2, 3, 3),
            "s": np.array([-1, 2, 2, 8, 7]), "t": np.array([-1, 4, 8, 7]),
        },
    ),
    "gate": (
        f"b = Conv<{SAME}>(x, w) m = GlobalAveragePool(b) g = Conv(m, v) h = Sigmoid(g) a = Mul(b, h)",
        {"w": W3, "v": (4, 4, 1, 1)},
    ),
    "spatial_attention": (
        f"b = Conv<{SAME}>(x, w) m = ReduceMean<keepdims = 1>(b, one) g = Conv<{SAME}>(m, v)"
        "a = Add(b, g)",
        {"w": W3, "v": (1, 1, 3, 3), "one": np.array([1])},
    ),
    "nhwc": (
        f"b = Conv<{SAME}, strides = [2, 1]>(x, w) c = Transpose<perm = [0, 2, 3, 1]>(b) d = MatMul(c, m)"
        f"e = Relu(d) f = Transpose<perm = [0, 3, 1, 2]>(e) a = Conv<{SAME}>(f, v)",
        {"w": W3, "m": (4, 5), "v": (2, 5, 3, 3)},
    ),
    "turned": (
        f"b = Transpose<perm = [0, 1, 3, 2]>(x) a = Conv<{SAME}, strides = [2, 1]>(b, w)",
        {"w": W3},
    ),
    "up": (
        "b = ConvTranspose<strides = [2, 3], pads = [1, 0, 1, 1], output_padding = [1, 2]>(x, w)"
        f"a = Conv<{SAME}>(b, v)",
        {"w": (3, 4, 3, 4), "v": (2, 4, 3, 3)},
    ),
    "up_sparsely": (
        "b = ConvTranspose<strides = [3, 3], dilations = [2, 1]>(x, w) a = Relu(b)",
        {"w": (3, 4, 2, 2)},
    ),
    "nearest": (
        f'b = Conv<strides = [3, 3]>(x, w) c = Resize<mode = "nearest">(b, , , size) a = Conv<{SAME}>(c, v)',
        {"w": W3, "v": (2, 4, 3, 3), "size": np.array([1, 4, 9, 11])},
    ),
    "asymmetric": (
        'a = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
        "(x, , scales)",
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "linear": (
        'b = Resize<mode = "linear">(x, , , size) a = Relu(b)',
        {"size": np.array([1, 3, 30, 7])},
    ),
    "aligned": (
        'b = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , , size)'
        "a = Relu(b)",
        {"size": np.array([1, 3, 22, 9])},
    ),
    "cubic": (
        'a = Resize<mode = "cubic">(x, , , size)',
        {"size": np.array([1, 3, 20, 31])},
    ),
    "shrunk": ("b = Slice(x, from, to, axes, steps) a = Conv(b, w)", {
        "w": W3, "from": np.array([1, -1]), "to": np.array([14, -14]), "axes": np.array([2, 3]),
        "steps": np.array([2, -1]),
    }),
    "gathered": (
        f"b = Gather<axis = 2>(x, rows) a = Conv<{SAME}>(b, w)",
        {"w": W3, "rows": np.array([3, 7, 8, -1])},
    ),
}  # fmt: skip
# The same from x [N, 3, 16, 12].
EVEN_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "space_to_depth": (
        f"b = SpaceToDepth<blocksize = 2>(x) a = Conv<{SAME}>(b, w)", {"w": (4, 12, 3, 3)}
    ),
    "depth_to_space": (
        f"b = Conv(x, w) c = DepthToSpace<blocksize = 2>(b) a = Conv<{SAME}>(c, v)",
        {"w": W1, "v": (2, 1, 3, 3)},
    ),
    "focus": (
        "b = Slice(x, s00, end, axes, two) c = Slice(x, s10, end, axes, two)"
        "d = Slice(x, s01, end, axes, two) e = Slice(x, s11, end, axes, two)"
        f"f = Concat<axis = 1>(b, c, d, e) a = Conv<{SAME}>(f, w)",
        {
            "w": (4, 12, 3, 3), "axes": np.array([2, 3]), "two": np.array([2, 2]),
            "end": np.array([1 << 40, 1 << 40]),
            **{f"s{i}{j}": np.array([i, j]) for i in (0, 1) for j in (0, 1)},
        },
    ),
    "pixel_unshuffle": (
        "b = Reshape(x, s) c = Transpose<perm = [0, 1, 3, 5, 2, 4]>(b) d = Reshape(c, t) a = Conv(d, w)",
        {
            "w": (4, 12, 3, 3), "s": np.array([-1, 3, 8, 2, 6, 2]), "t": np.array([-1, 12, 8, 6]),
        },
    ),
}  # fmt: skip


def built(body: str, weights: dict[str, Any], size: tuple[int, int]) -> onnx.ModelProto:
    """Return the net x -> a -> its mean, with positive weights."""
    positive = {
        k: w if isinstance(w, np.ndarray) else 0.1 + np.abs(nets.drawn(np.random.default_rng(0), w))
        for k, w in weights.items()
    }
    typed = {k: w.astype(np.float32) if w.dtype == np.float64 else w for k, w in positive.items()}
    end = "mean = GlobalAveragePool(a) z = Flatten(mean)"
    head = f"(float[N, 3, {size[0]}, {size[1]}] x) => (float[N, k] z)"
    return nets.build(head, f"{body} {end}", **typed)


def footprints(proto: onnx.ModelProto, size: tuple[int, int], name: str = "a") -> Array:
    """Return which pixels each position answers, [P, H, W], by running the file on impulses."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = []
    for pixel in range(size[0] * size[1]):
        x = np.zeros((1, 3, size[0] * size[1]), np.float32)
        x[:, :, pixel] = 1
        found = session.run([name], {"x": x.reshape(1, 3, *size)})[0][0]
        answers.append(np.abs(found).max(0).reshape(-1))
    masks: Array = 1e-6 * np.max(answers) < np.array(answers).T  # less is rounding
    return masks.reshape(-1, *size)


def hulls(masks: Array) -> Array:
    """Return the box around each mask."""
    boxes = []
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    return np.array(boxes)


def fields(model: ox.Model, name: str, axes: str = "NCHW") -> Array:
    """Return the receptive field of every position of a layer."""
    layer = model.layer(name)
    assert layer.size is not None
    positions = np.indices(layer.size).reshape(2, -1).T
    return ReceptiveFields(model.graph.nodes, "x", axes, layer).boxes(positions)


@pytest.mark.parametrize("name", [*CASES, *EVEN_CASES])
def test_the_box_is_the_hull_of_what_answers(name: str) -> None:
    body, weights = (CASES | EVEN_CASES)[name]
    size = (15, 13) if name in CASES else (16, 12)
    proto = built(body, weights, size)
    expected = footprints(proto, size)
    boxes = fields(nets.load(proto), "a")
    seeing = expected.any((1, 2))
    assert seeing.sum() > 5
    np.testing.assert_array_equal(boxes[seeing], hulls(expected[seeing]))
    assert len(np.unique(boxes, axis=0)) > 1, "the whole picture everywhere says nothing"


def test_what_sees_padding_alone_gets_the_whole_picture() -> None:
    weights = {"w": W1, "p": np.array([0, 0, 2, 2, 0, 0, 2, 2])}
    proto = built("b = Pad(x, p) a = Conv(b, w)", weights, (15, 13))
    boxes = fields(nets.load(proto), "a").reshape(19, 17, 4)
    assert boxes[0, 5].tolist() == boxes[5, 16].tolist() == [0, 0, 15, 13]
    assert boxes[2, 2].tolist() == [0, 0, 1, 1]


def test_a_picture_with_channels_last() -> None:
    proto = nets.nhwc_net()
    twin = fields(nets.load(nets.conv_net()), "features")
    np.testing.assert_array_equal(fields(nets.load(proto), "features", "NHWC"), twin)
    assert len(np.unique(twin, axis=0)) == 16


def test_tokens_are_where_their_patches_are() -> None:
    body = """
        p = Conv<strides = [4, 4]>(x, w)
        f = Reshape(p, flat)
        t = Transpose<perm = [0, 2, 1]>(f)
        a = MatMul(t, m)
        r = ReduceMean<keepdims = 0>(a, one)
        z = Relu(r)
    """
    weights = {"flat": np.array([0, 5, -1]), "one": np.array([1]), "w": (5, 3, 4, 4), "m": (5, 6)}
    model = nets.load(nets.build("(float[N, 3, 16, 12] x) => (float[N, 6] z)", body, **weights))
    boxes = fields(model, "a")
    rows, columns = np.indices((4, 3)).reshape(2, -1) * 4
    np.testing.assert_array_equal(boxes, np.stack([rows, columns, rows + 4, columns + 4], 1))


@pytest.mark.parametrize("layer", ["late", "mixed"])
def test_behind_a_global_statistic_or_unknown_op_lies_the_whole_picture(layer: str) -> None:
    body = """
        b = Conv(x, w)
        m = GlobalAveragePool(b)
        late = Sigmoid(m)
        e = Expand(late, shape)
        up = Add(e, b)
        s = CumSum(up, axis)
        mixed = Relu(s)
        p = GlobalAveragePool(mixed)
        z = Flatten(p)
    """
    weights = {"w": W1, "shape": np.array([1, 4, 6, 6]), "axis": np.array(2)}
    model = nets.load(nets.build("(float[N, 3, 6, 6] x) => (float[N, 4] z)", body, **weights))
    assert (fields(model, layer) == [0, 0, 6, 6]).all()
