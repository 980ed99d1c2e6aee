"""Freeing the image count: three images at once give what the exported file gives one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxplain.graph import batch, shapes
from onnxplain.graph.canonical import import_graph
from onnxplain.graph.quantized import to_qdq
from tests.conftest import SHARED
from tests.nets import build

Array = np.ndarray[Any, Any]
IMAGES = 3
EXPORTS = sorted((SHARED / "data" / "exports").glob("*.onnx"))

# What exporters write for one image. {N} is the exported count, 1 or 2; weights are shapes to draw from.
PINNED_EXPORTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flatten by Reshape": (
        "(float[{N}, 2, 3, 4] x) => (float[{N}, 5] y) <int64[2] s = {{ {N}, 24 }}>",
        "f = Reshape(x, s) y = MatMul(f, w)",
        {"w": (24, 5)},
    ),
    "flatten by Reshape with a 0 for the count and -1 elsewhere": (
        "(float[{N}, 2, 3, 4] x) => (float[{N}, 5] y) <int64[2] s = {{ 0, -1 }}>",
        "f = Reshape(x, s) y = MatMul(f, w)",
        {"w": (24, 5)},
    ),
    "Flatten along other axes": (
        "(float[{N}, 2, 3, 4] x) => (float[{N}, 6, 2] y) <int64[3] s = {{ {N}, 6, 4 }}>",
        "f = Flatten<axis = 3>(x) g = MatMul(f, w) r = Reshape(g, t) y = Relu(r)",
        {"w": (4, 2), "t": "{N} 6 2"},
    ),
    "GroupNorm": (
        "(float[{N}, 6, 2, 2] x) => (float[{N}, 6, 2, 2] y) "
        "<int64[3] s = {{ {N}, 3, -1 }}, int64[4] t = {{ {N}, 6, 2, 2 }}>",
        "g = Reshape<allowzero = 1>(x, s) i = InstanceNormalization(g, a, b) y = Reshape(i, t)",
        {"a": (3,), "b": (3,)},
    ),
    "channel shuffle": (
        "(float[{N}, 6, 2, 2] x) => (float[{N}, 6, 2, 2] y) "
        "<int64[5] s = {{ {N}, 2, 3, 2, 2 }}, int64[4] t = {{ {N}, 6, 2, 2 }}>",
        "a = Reshape(x, s) b = Transpose<perm = [0, 2, 1, 3, 4]>(a) y = Reshape(b, t)",
        {},
    ),
    "class token and attention over tokens (ViT)": (
        "(float[{N}, 6, 2, 2] x) => (float[{N}, 4] y) <int64[3] s = {{ {N}, 6, 4 }}, "
        "int64[4] h = {{ {N}, 5, 2, 3 }}, int64[3] m = {{ {N}, 5, 6 }}, int64 zero = {{ 0 }}>",
        """r = Reshape(x, s) t = Transpose<perm = [0, 2, 1]>(r) c = Concat<axis = 1>(token, t)
        p = Add(c, position) q = Reshape(p, h) qh = Transpose<perm = [0, 2, 1, 3]>(q)
        k = Transpose<perm = [0, 2, 3, 1]>(q) a = MatMul(qh, k) w1 = Softmax<axis = -1>(a)
        o = MatMul(w1, qh) ot = Transpose<perm = [0, 2, 1, 3]>(o) om = Reshape(ot, m)
        first = Gather<axis = 1>(om, zero) y = MatMul(first, w)""",
        {"token": "same {N} 1 6", "position": (1, 5, 6), "w": (6, 4)},
    ),
    "sequence-first attention: heads and rows merged with the images (nn.MultiheadAttention)": (
        "(float[{N}, 6, 2, 2] x) => (float[{N}, 6] y) <int64[3] s = {{ {N}, 6, 4 }}, "
        "int64[3] h = {{ 4, {N2}, 3 }}, int64[2] rows = {{ {N4}, 6 }}, int64[3] u = {{ 4, {N}, 6 }}>",
        """r = Reshape(x, s) t = Transpose<perm = [2, 0, 1]>(r) q = Reshape(t, h)
        qh = Transpose<perm = [1, 0, 2]>(q) k = Transpose<perm = [1, 2, 0]>(q) a = MatMul(qh, k)
        w1 = Softmax<axis = -1>(a) o = MatMul(w1, qh) ot = Transpose<perm = [1, 0, 2]>(o)
        om = Reshape(ot, rows) g = Gemm(om, w, b) back = Reshape(g, u)
        y = ReduceMean<keepdims = 0>(back, axis)""",
        {"w": (6, 6), "b": (6,), "axis": np.array([0])},
    ),
    "window partition and its reverse (Swin)": (
        "(float[{N}, 4, 4, 3] x) => (float[{N}, 4, 4, 3] y) <int64[6] s = {{ {N}, 2, 2, 2, 2, 3 }}, "
        "int64[3] t = {{ {N4}, 4, 3 }}, int64[4] u = {{ {N}, 4, 4, 3 }}, "
        "int64[4] m = {{ {N}, 4, 4, 4 }}, int64[3] n = {{ {N4}, 4, 4 }}>",
        """a = Reshape(x, s) b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a) win = Reshape(b, t)
        k = Transpose<perm = [0, 2, 1]>(win) q = MatMul(win, k) qm = Reshape(q, m)
        masked = Add(qm, mask) qn = Reshape(masked, n) p = Softmax<axis = -1>(qn) o = MatMul(p, win)
        c = Reshape(o, s) d = Transpose<perm = [0, 1, 3, 2, 4, 5]>(c) y = Reshape(d, u)""",
        {"mask": (1, 4, 4, 4)},
    ),
    "mask expanded for every image": (
        "(float[{N}, 2, 2] x) => (float[{N}, 2, 2] y) <int64[3] s = {{ {N}, 2, 2 }}>",
        "e = Expand(x, s) y = Add(mask, e)",
        {"mask": "same {N} 2 2"},
    ),
    "initial state": (
        "(float[{N}, 4, 5] x) => (float[{N}, 3] y)",
        """t = Transpose<perm = [1, 0, 2]>(x) all, last = GRU<hidden_size = 3>(t, w, r, b, , state)
        y = Squeeze(last, axis)""",
        {
            "w": (1, 9, 5),
            "r": (1, 9, 3),
            "b": (1, 18),
            "state": "same 1 {N} 3",
            "axis": np.array([0]),
        },
    ),
    "Resize to sizes": (
        "(float[{N}, 2, 3, 3] x) => (float[{N}, 2, 5, 7] y) <int64[4] s = {{ {N}, 2, 5, 7 }}>",
        'y = Resize<mode = "linear">(x, , , s)',
        {},
    ),
    "elements of one image out of a flat tensor (as_strided)": (
        "(float[{N}, 2, 3] x) => (float[{N}, 3, 2] y) <int64[1] s = {{ -1 }}>",
        "flat = Reshape(x, s) y = Gather(flat, strided)",
        {"strided": "strided {N}"},
    ),
}


def weight(spec: Any, count: int) -> Any:
    """Spell out a weight that is written for the exported count."""
    if not isinstance(spec, str):
        return spec
    kind, *sizes = spec.format(N=count).split()
    if kind == "strided":
        per_image = np.array([[0, 3], [1, 4], [5, 2]])
        return np.arange(count)[:, None, None] * 6 + per_image
    if kind != "same":
        return np.array([int(kind), *map(int, sizes)])
    shape = [int(s) for s in sizes]
    once = np.random.default_rng(7).normal(size=[1 if s == count else s for s in shape])
    return np.ascontiguousarray(np.broadcast_to(once, shape), np.float32)


def exported(name: str, count: int) -> onnx.ModelProto:
    head, body, weights = PINNED_EXPORTS[name]
    filled = head.format(N=count, N2=2 * count, N4=4 * count)
    return build(filled, body, **{k: weight(v, count) for k, v in weights.items()})


def wanted(graph: gs.Graph) -> dict[str, tuple[int | str, ...]]:
    return {x.name: ("N", *x.shape[1:]) for x in graph.inputs}


def freed(proto: onnx.ModelProto) -> gs.Graph:
    graph = import_graph(proto)
    inputs = wanted(graph)
    to_qdq(graph)
    batch.free(graph, inputs)
    shapes.resolve(graph, inputs)
    return graph


def run(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def check_rows(proto: onnx.ModelProto) -> gs.Graph:
    """Assert that a batch through the freed graph equals the file on one image (or k equal ones)."""
    graph = freed(proto)
    rng = np.random.default_rng(2)
    (x,) = graph.inputs
    count = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    if np.dtype(x.dtype).kind == "f":
        images = rng.normal(size=(IMAGES, *x.shape[1:])).astype(x.dtype)
    else:
        images = rng.integers(0, 100, (IMAGES, *x.shape[1:])).astype(x.dtype)
    together = run(gs.export_onnx(graph), {x.name: images})
    single = [run(proto, {x.name: np.repeat(images[i : i + 1], count, 0)}) for i in range(IMAGES)]
    for k, batched in enumerate(together):
        rows = np.stack([one[k][0] for one in single])
        assert batched.shape == rows.shape
        assert np.ptp(rows) > 0
        np.testing.assert_allclose(batched, rows, rtol=1e-5, atol=1e-5 * np.abs(rows).max())
    return graph


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", PINNED_EXPORTS)
def test_a_pinned_export_takes_any_number_of_images(name: str, count: int) -> None:
    graph = check_rows(exported(name, count))
    assert graph.outputs[0].shape[0] == "N"


@pytest.mark.parametrize("path", EXPORTS, ids=[p.stem for p in EXPORTS])
def test_real_exports_take_any_number_of_images(path: Any) -> None:
    check_rows(onnx.load(path))


def test_a_constant_that_other_nodes_read_is_left_alone() -> None:
    proto = build(
        "(float[1, 2, 3] x) => (float[1, 6] y) <int64[2] s = { 1, 6 }>",
        "f = Reshape(x, s) c = Reshape(w, s) y = Mul(f, c)",
        w=(2, 3),
    )
    graph = check_rows(proto)
    target = next(n for n in graph.nodes if n.name.startswith("Reshape")).inputs[1]
    assert list(target.values) == [-1, 6]


def test_a_free_export_is_not_touched() -> None:
    proto = build(
        "(float[N, 2, 3] x) => (float[N, 6] y) <int64[2] s = { -1, 6 }, int64[2] e = { 1, 6 }>",
        "f = Reshape(x, s) y = Expand(f, e)",
    )
    graph = import_graph(proto)
    before = gs.export_onnx(graph).graph
    batch.free(graph, wanted(graph))
    after = gs.export_onnx(graph).graph
    assert list(after.node) == list(before.node)
    for a, b in zip(after.initializer, before.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_a_free_export_with_a_pinned_reshape_is_patched() -> None:
    check_rows(
        build("(float[N, 2, 3] x) => (float[1, 6] y) <int64[2] s = { 1, -1 }>", "y = Reshape(x, s)")
    )


def test_a_single_score_has_images_first() -> None:
    graph = check_rows(
        build(
            "(float[1, 3] x) => (float[1, 1] y) <int64[2] s = { 1, -1 }>",
            "m = MatMul(x, w) y = Reshape(m, s)",
            w=(3, 1),
        )
    )
    assert graph.outputs[0].shape == ["N", 1]


def test_squeeze_without_axes_keeps_the_axis_of_images() -> None:
    graph = freed(build("(float[1, 4, 1, 1] x) => (float[4] y)", "y = Squeeze(x)"))
    x = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    for count in (1, 3):
        (y,) = run(gs.export_onnx(graph), {"x": np.repeat(x, count, 0)})
        np.testing.assert_array_equal(y, np.repeat(x[:, :, 0, 0], count, 0))


def test_an_if_whose_condition_is_shape_arithmetic_is_followed() -> None:
    proto = build(
        "(float[1, 3, 1] x) => (float[1, 6] y) <int64 one = { 1 }, int64[1] axis = { 2 }, "
        "int64[1] two = { 2 }, int64[2] s = { 1, 6 }>",
        """shape = Shape(x) size = Gather(shape, two) is = Equal(size, one)
        q = If(is) <then_branch = yes () => (float[1, 3] a) { a = Squeeze(x, axis) },
                    else_branch = no () => (float[1, 3] b) { b = ReduceSum<keepdims = 0>(x, axis) }>
        c = Concat<axis = 0>(q, q) y = Reshape(c, s)""",
    )
    with pytest.raises(batch.Pinned, match="Concat"):  # two images in one row: truly pinned
        freed(proto)
    proto.graph.node[-2].attribute[0].i = 1
    check_rows(proto)


PINNING: dict[str, tuple[str, str]] = {
    "mean over the batch": ("m = ReduceMean(x, zero) y = Sub(x, m)", "ReduceMean"),
    "softmax over the batch": ("y = Softmax<axis = 0>(x)", "Softmax"),
    "product of images": ("t = Transpose<perm = [1, 0]>(x) m = MatMul(t, x) y = MatMul(x, m)", "MatMul"),
    "images in one row": ("t = Transpose<perm = [1, 0]>(x) c = Concat<axis = 1>(t, t) y = Neg(c)", "Concat"),
    "one image taken out": ("y = Gather(x, zero)", "Gather"),
    "output without an axis of images": ("t = Reshape(x, four) y = Relu(t)", "Relu"),
    "scatter into the exported image": ("y = ScatterND(x, at, v)", "ScatterND"),
    "per-tensor scale of the batch": (
        "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)",
        "ReduceM",
    ),
    "unknown operator": ("y = my.domain.Op(x)", "Op"),
    "data-dependent size": ("i = NonZero(x) y = Cast<to = 1>(i)", "NonZero"),
}  # fmt: skip


@pytest.mark.parametrize("case", PINNING)
def test_what_cannot_be_freed_names_the_node(case: str) -> None:
    body, op = PINNING[case]
    proto = build(
        "(float[1, 4] x) => (y) <int64[1] zero = { 0 }, int64[1] four = { 4 }>",
        body,
        at=np.array([[0, 1]]),
        v=np.array([5], np.float32),
    )
    proto.opset_import.add(domain="my.domain", version=1)
    with pytest.raises(batch.Pinned, match=op):
        freed(proto)


def test_rows_that_differ_between_the_exported_images_stay_pinned() -> None:
    proto = build("(float[2, 3] x) => (float[2, 3] y)", "y = Add(x, w)", w=(2, 3))
    with pytest.raises(batch.Pinned, match="differs between the exported images"):
        freed(proto)
