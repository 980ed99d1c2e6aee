"""Eight sound nets that the fuzzer breaks, chosen so that every pass of the package has work."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

Array = np.ndarray[Any, Any]

CONV = """
    c1 = Conv<pads = [1, 1, 1, 1], strides = [1, 1], dilations = [1, 1], kernel_shape = [3, 3]>(x, w1, b1)
    n1 = BatchNormalization<epsilon = 0.001>(c1, s, b1, b1, v)
    a1 = Relu(n1)
    c2 = Conv<auto_pad = "SAME_UPPER">(a1, w2)
    a2 = Add(c2, a1)
    p = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(a2)
    q = AveragePool<kernel_shape = [2, 2], pads = [0, 0, 1, 1], count_include_pad = 1>(p)
    h = HardSwish(q)
    g = GlobalAveragePool(h)
    f = Flatten<axis = 1>(g)
    z = Gemm<transB = 1, alpha = 0.5>(f, w3, b1)
    y = Softmax<axis = 1>(z)
"""
RESIZE = """
    scales = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>()
    r = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , scales)
    amounts = Constant<value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}>()
    p = Pad<mode = "reflect">(r, amounts)
    t = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]>(p, w1)
    starts = Constant<value = int64[2] {1, 1}>()
    ends = Constant<value = int64[2] {17, 17}>()
    axes = Constant<value = int64[2] {2, 3}>()
    steps = Constant<value = int64[2] {2, 2}>()
    s = Slice(t, starts, ends, axes, steps)
    a, b = Split<axis = 1, num_outputs = 2>(s)
    c = Concat<axis = 1>(a, b, a)
    l = LeakyRelu<alpha = 0.2>(c)
    d = Conv<strides = [2, 2]>(l, w2)
    y = Clip(d, lo, hi)
"""
ATTENTION = """
    c = Conv<strides = [4, 4]>(x, w1)
    t1 = Constant<value = int64[3] {1, 8, 4}>()
    r = Reshape(c, t1)
    e = Transpose<perm = [0, 2, 1]>(r)
    k = Concat<axis = 1>(cls, e)
    pe = Add(k, pos)
    n = LayerNormalization<axis = -1>(pe, g, b)
    qkv = MatMul(n, wq)
    t2 = Constant<value = int64[5] {1, 5, 3, 2, 4}>()
    h = Reshape(qkv, t2)
    hp = Transpose<perm = [2, 0, 3, 1, 4]>(h)
    i0 = Constant<value = int64 {0}>()
    i1 = Constant<value = int64 {1}>()
    i2 = Constant<value = int64 {2}>()
    q = Gather<axis = 0>(hp, i0)
    kk = Gather<axis = 0>(hp, i1)
    v = Gather<axis = 0>(hp, i2)
    kt = Transpose<perm = [0, 1, 3, 2]>(kk)
    qk = MatMul(q, kt)
    at = Softmax<axis = -1>(qk)
    o = MatMul(at, v)
    op = Transpose<perm = [0, 2, 1, 3]>(o)
    t3 = Constant<value = int64[3] {1, 5, 8}>()
    of = Reshape(op, t3)
    er = Erf(of)
    first = Gather<axis = 1>(er, i0)
    y = Gemm<transB = 1>(first, w2)
"""
SHAPES = """
    sh = Shape(x)
    i0 = Constant<value = int64[1] {0}>()
    i1 = Constant<value = int64[1] {1}>()
    six = Constant<value = int64[1] {6}>()
    minus = Constant<value = int64[1] {-1}>()
    n = Gather<axis = 0>(sh, i0)
    pool = GlobalMaxPool(x)
    t = Concat<axis = 0>(n, minus)
    f = Reshape(pool, t)
    m = MatMul(f, w)
    to = Concat<axis = 0>(n, six)
    ones = ConstantOfShape<value = float[1] {1.0}>(to)
    e = Expand(b, to)
    start = Constant<value = float {0.0}>()
    limit = Constant<value = float {6.0}>()
    one = Constant<value = float {1.0}>()
    range = Range(start, limit, one)
    reps = Constant<value = int64[2] {1, 1}>()
    tile = Tile(e, reps)
    a = Add(m, tile)
    k = Mul(a, range)
    u = Unsqueeze(k, i1)
    rm = ReduceMean<keepdims = 0>(u, i1)
    sq = Sub(rm, ones)
    cond = Greater(sq, one)
    y = Where(cond, sq, k)
"""
OLD = """
    p = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1], mode = "constant", value = 0.0>(x)
    c = Conv(p, w1)
    cl = Clip<min = 0.0, max = 6.0>(c)
    u = Upsample<mode = "nearest">(cl, sc)
    s = Slice<starts = [1, 1], ends = [9, 9], axes = [2, 3]>(u)
    d = Dropout<ratio = 0.5>(s)
    m = ReduceMean<axes = [2, 3], keepdims = 1>(d)
    q = Squeeze<axes = [2, 3]>(m)
    g = Gemm<transB = 1>(q, w2, b)
    y = Softmax<axis = 1>(g)
"""
INT8 = """
    s = Constant<value = float {0.05}>()
    zp = Constant<value = uint8 {128}>()
    zw = Constant<value = int8 {0}>()
    xq = QuantizeLinear(x, s, zp)
    wq = QuantizeLinear(w1, s, zw)
    cq = QLinearConv<pads = [1, 1, 1, 1]>(xq, s, zp, wq, s, zw, s, zp)
    mq = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(cq)
    f = DequantizeLinear(mq, s, zp)
    g = GlobalAveragePool(f)
    fl = Flatten(g)
    dq, ds, dz = DynamicQuantizeLinear(fl)
    w2q = QuantizeLinear(w2, s, zw)
    mi = MatMulInteger(dq, w2q, dz, zw)
    mf = Cast<to = 1>(mi)
    y = Mul(mf, ds)
"""
CONTROL = """
    t = Constant<value = bool {1}>()
    a = If (t) <then_branch = g1 () => (float[N, 6] o1) { m = MatMul(x, wide) o1 = MatMul(m, narrow) },
                else_branch = g2 () => (float[N, 6] o2) { o2 = Abs(x) }>
    b = If (flag) <then_branch = g3 () => (int64[1] o3) { o3 = Constant<value_ints = [1]>() },
                   else_branch = g4 () => (int64[1] o4) { o4 = Constant<value_ints = [2]>() }>
    c = Add(a, other)
    y = Einsum<equation = "ni,ij->nj">(c, w)
    k, i = TopK<axis = -1>(y, b)
"""
RNN = """
    t = Transpose<perm = [1, 0, 2]>(x)
    o, h, c = LSTM<hidden_size = 3>(t, w, r, b)
    zero = Constant<value = int64[1] {0}>()
    s = Squeeze(h, zero)
    ax = Constant<value = int64 {1}>()
    cs = CumSum(s, ax)
    d = Add(cs, x2)
    y = Softmax(d)
"""
# opset, inputs and outputs, body, shapes of the weights (or their values)
_NETS: dict[str, tuple[int, str, str, dict[str, tuple[int, ...] | Array]]] = {
    "conv": (
        18, "(float[N, 3, 8, 8] x) => (float[N, 4] y)", CONV,
        {"w1": (4, 3, 3, 3), "b1": (4,), "s": (4,), "v": np.ones(4, np.float32),
         "w2": (4, 4, 3, 3), "w3": (4, 4)},
    ),
    "resize": (
        18, "(float[N, 3, 8, 8] x) => (float[N, 5, h, w] y)", RESIZE,
        {"w1": (3, 4, 3, 3), "w2": (5, 6, 2, 2), "lo": np.array(-99, np.float32),
         "hi": np.array(99, np.float32)},
    ),
    "attention": (
        17, "(float[1, 3, 8, 8] x) => (float[1, 4] y)", ATTENTION,
        {"w1": (8, 3, 4, 4), "cls": (1, 1, 8), "pos": (1, 5, 8), "g": (8,), "b": (8,),
         "wq": (8, 24), "w2": (4, 8)},
    ),
    "shapes": (18, "(float[N, 3, H, W] x) => (float[N, 6] y)", SHAPES, {"w": (3, 6), "b": (1, 6)}),
    "old": (
        9, "(float[1, 3, 8, 8] x) => (float[1, 4] y)", OLD,
        {"w1": (4, 3, 3, 3), "w2": (4, 4), "b": (4,), "sc": np.array([1, 1, 2, 2], np.float32)},
    ),
    "int8": (
        18, "(float[N, 3, 8, 8] x) => (float[N, 4] y)", INT8, {"w1": (4, 3, 3, 3), "w2": (4, 4)}
    ),
    "control": (
        18, "(float[N, 6] x, bool flag, float[N, 6] other) => (float[N, 6] y, float[N, k] k)",
        CONTROL, {"w": (6, 6), "wide": (6, 200), "narrow": (200, 6)},
    ),
    "rnn": (
        14, "(float[1, 5, 4] x, float[1, 3] x2) => (float[1, 3] y)", RNN,
        {"w": (1, 12, 4), "r": (1, 12, 3), "b": (1, 24)},
    ),
}  # fmt: skip


def sound_nets() -> dict[str, onnx.ModelProto]:
    """Return the nets by name, with seeded weights."""
    found = {}
    for name, (opset, head, body, weights) in _NETS.items():
        text = f'<ir_version: 8, opset_import: ["": {opset}]> net {head} {{ {body} }}'
        found[name] = parser.parse_model(text)
        rng = np.random.default_rng(0)
        for weight, value in weights.items():
            drawn = rng.normal(size=value) if isinstance(value, tuple) else value
            array = np.asarray(drawn, np.float32)
            found[name].graph.initializer.append(numpy_helper.from_array(array, weight))
    return found
