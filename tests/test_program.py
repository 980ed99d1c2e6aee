"""Programs: forward once, backward many; what is emitted; what is refused, and by which name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

import onnxplain as ox
from onnxplain.backward import VJP
from onnxplain.backward.split import Pair
from onnxplain.backward.variants import GUIDED, RESCALE
from onnxplain.errors import InputError, LayerError, UnsupportedOpError
from onnxplain.program import Program
from tests import nets

Array = np.ndarray[Any, Any]
SEQUENCE = "(float[N, 4, 6] x) => (float[N, 3] y)"
ATTENTION = """
    q = MatMul(x, wq)  qs = Reshape(q, split)  qt = Transpose<perm = [0, 2, 1, 3]>(qs)
    k = MatMul(x, wk)  ks = Reshape(k, split)  kt = Transpose<perm = [0, 2, 3, 1]>(ks)
    qm = Reshape(qt, merged)  km = Reshape(kt, merged_k)
    scores = MatMul(qm, km)  p = Softmax<axis = -1>(scores)  o = MatMul(p, qm)
    heads = Reshape(o, back)  f = Flatten(heads)  y = Gemm(f, w)
"""


def heads_net() -> onnx.ModelProto:
    """Return attention of two heads, which are merged into the image axis ("2N")."""
    targets = {
        "split": [0, 4, 2, 3],
        "merged": [-1, 4, 3],
        "merged_k": [-1, 3, 4],
        "back": [-1, 2, 4, 3],
    }
    weights: dict[str, Any] = {"wq": (6, 6), "wk": (6, 6), "w": (24, 3)}
    return nets.build(
        SEQUENCE, ATTENTION, **weights, **{k: np.array(v) for k, v in targets.items()}
    )


def images_second_net() -> onnx.ModelProto:
    """Return a net that computes on [4, N, 6]."""
    body = """
        t = Transpose<perm = [1, 0, 2]>(x)  h = MatMul(t, w1)  a = Tanh(h)
        m = Mul(a, t)  s = ReduceSum<keepdims = 0>(m, first)  y = Gemm(s, w)
    """
    return nets.build(SEQUENCE, body, w1=(6, 6), w=(6, 3), first=np.array([0]))


def one_image_net() -> onnx.ModelProto:
    """Return a net whose number of images cannot be freed: it sums over the only one."""
    body = """
        h = MatMul(x, w1)  a = Tanh(h)  s = ReduceSum(a, first)
        f = Reshape(s, shape)  y = Gemm(f, w)
    """
    constants = {"first": np.array([0]), "shape": np.array([1, 24])}
    head = SEQUENCE.replace("N", "1")
    return nets.build(head, body, w1=(6, 6), w=(24, 3), **constants)


NETS = {
    "convolutions": (nets.conv_net, "z", (3, 8, 8)),
    "heads in the image axis": (heads_net, "y", (4, 6)),
    "images on the second axis": (images_second_net, "y", (4, 6)),
    "one image only": (one_image_net, "y", (4, 6)),
}
every_net = pytest.mark.parametrize(("make", "output", "shape"), NETS.values(), ids=NETS)


def program_of(proto: onnx.ModelProto, output: str, wrt: str = "x", **more: Any) -> Program:
    return nets.load(proto).program((output,), (wrt,), **more)


def seeds_for(values: Array, count: int) -> Array:
    rng = np.random.default_rng(2)
    return rng.normal(size=(count, *values.shape[1:])).astype(np.float32)


# --- forward once, backward many -----------------------------------------------------------------------
@every_net
def test_fused_equals_forward_and_backward(make: Any, output: str, shape: tuple[int, ...]) -> None:
    program = program_of(make(), output)
    x = nets.images(1 if make is one_image_net else 3, shape)
    linearized = program.forward({"x": x})
    seed = seeds_for(linearized[output], len(x))
    fused = program.fused({"x": x}, {output: seed})
    separate = linearized.backward({output: seed})["x"]
    np.testing.assert_allclose(fused[output], linearized[output], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused["gradient(x)"], separate, rtol=1e-5, atol=1e-6)
    assert np.abs(separate).max() > 0


ROWS = {
    "rows of Gemm": "z = Gemm<transB = 1>(a, w)",
    "rows of Gemm with a bias": "z = Gemm<transB = 1, alpha = 0.5>(a, w, b)",
    "columns of Gemm": "z = Gemm(a, v)",
    "columns of MatMul": "m = MatMul(a, v) z = Add(m, b)",
    "turned weights": "t = Transpose<perm = [1, 0]>(w) z = MatMul(a, t)",
    "quantised weights": "d = DequantizeLinear(q, s) z = Gemm<transB = 1>(a, d, b)",
}


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("head", ROWS.values(), ids=ROWS)
def test_the_product_of_a_class_with_the_weights_is_one_of_their_rows(
    head: str, dtype: str
) -> None:
    rng, inputs = np.random.default_rng(1), "(float[N, 6] x) => (float[N, 3] z)"
    weights = {k: rng.normal(size=s) for k, s in (("w", (3, 6)), ("v", (6, 3)), ("b", 3))}
    weights = {k: v.astype(np.float32 if dtype == "float" else float) for k, v in weights.items()}
    if "DequantizeLinear" in head:
        dtype = "float"
        weights["b"] = weights["b"].astype(np.float32)
        weights["q"] = rng.integers(-128, 128, (3, 6)).astype(np.int8)
        weights["s"] = np.array(0.01, np.float32)
    body = f"a = Tanh(x) {head}"
    proto = nets.build(inputs.replace("float", dtype), body, **weights)
    program = program_of(proto, "z")
    written = onnx.load_from_string(program._each.fused(picked=True).model).graph.node
    backward = [n.op_type for n in written if n.name.startswith(("vjp", "picked"))]
    assert "Gather" in backward and not {"OneHot", "Gemm", "MatMul"} & set(backward)
    x = nets.images(4, (6,)).astype(np.dtype(dtype.replace("float", "float32")))
    seeds = np.eye(3, dtype=x.dtype)[[2, 0, 1, 2]]
    picked = program.fused({"x": x}, {"z": seeds})
    plain = program.fused({"x": x}, {"z": 2 * seeds})
    np.testing.assert_allclose(2 * picked["gradient(x)"], plain["gradient(x)"], rtol=1e-6)
    largest = program.fused({"x": x}, None)
    own = program.fused({"x": x}, {"z": np.eye(3, dtype=x.dtype)[picked["z"].argmax(1)]})
    np.testing.assert_array_equal(largest["gradient(x)"], own["gradient(x)"])


def test_several_outputs_have_no_largest_element() -> None:
    proto = nets.build("(float[N, 3] x) => (float[N, 2] y, float[N, 2] z)", "y = Gemm(x, w) z = Tanh(y)",
                       w=(3, 2))  # fmt: skip
    program = nets.load(proto).program(("y", "z"), ("x",))
    with pytest.raises(InputError, match="give a seed for each of y, z"):
        program.explain({"x": nets.images(2, (3,))}, None)


def test_an_element_of_a_map_may_be_the_seed() -> None:
    proto = nets.build(
        "(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] z)", "z = Conv(x, w)", w=(2, 3, 1, 1)
    )
    program, x = program_of(proto, "z"), nets.images(2, (3, 4, 4))
    seeds = np.zeros((2, 2, 4, 4), np.float32)
    seeds[0, 1, 2, 3] = seeds[1, 0, 0, 1] = 1
    found = program.fused({"x": x}, {"z": seeds})["gradient(x)"]
    expected = np.zeros_like(x)
    w = nets.weights_of(proto)["w"].numpy()[:, :, 0, 0]
    expected[0, :, 2, 3], expected[1, :, 0, 1] = w[1], w[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@every_net
def test_several_seeds_on_one_image_equal_one_run_each(
    make: Any, output: str, shape: tuple[int, ...]
) -> None:
    linearized = program_of(make(), output).forward({"x": nets.images(1, shape)})
    seeds = seeds_for(linearized[output], 5)
    together = linearized.backward({output: seeds})["x"]
    alone = [linearized.backward({output: seeds[i : i + 1]})["x"] for i in range(5)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


@every_net
def test_backward_is_linear_in_the_seed(make: Any, output: str, shape: tuple[int, ...]) -> None:
    linearized = program_of(make(), output).forward({"x": nets.images(1, shape)})
    a, b = seeds_for(linearized[output], 2)[:, None]
    at_a, at_b, at_both = (linearized.backward({output: s})["x"] for s in (a, b, 3 * a - b))
    np.testing.assert_allclose(at_both, 3 * at_a - at_b, rtol=1e-4, atol=1e-5)


def test_merged_heads_run_one_forward_of_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Residuals of 2N rows do not broadcast: the image is repeated, once per seed."""
    program = program_of(heads_net(), "y")
    linearized = program.forward({"x": nets.images(1, (4, 6))})
    with nets.counted_runs(monkeypatch) as rows:
        linearized.backward({"y": np.eye(3, dtype=np.float32)})
    assert rows[0] == 3 and len(rows) == 2


def test_broadcast_seeds_run_no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    linearized = program_of(nets.conv_net(), "z").forward({"x": nets.images(1)})
    with nets.counted_runs(monkeypatch) as rows:
        linearized.backward({"z": np.eye(4, dtype=np.float32)})
    assert rows == [4]


def test_seeds_must_match_the_images() -> None:
    linearized = program_of(nets.conv_net(), "z").forward({"x": nets.images(3)})
    with pytest.raises(InputError, match="2 seeds for 3 images: give one seed each, or one image"):
        linearized.backward({"z": np.ones((2, 4), np.float32)})


def test_several_tensors_at_once() -> None:
    model, x, seed = nets.load(nets.conv_net()), nets.images(), seeds_for(np.empty((3, 4)), 3)
    both = model.program(("z",), ("features", "x")).forward({"x": x}).backward({"z": seed})
    for name in ("features", "x"):
        alone = model.program(("z",), (name,)).forward({"x": x}).backward({"z": seed})[name]
        np.testing.assert_allclose(both[name], alone, rtol=1e-5, atol=1e-6)


# --- the rest of the network ---------------------------------------------------------------------------
@pytest.mark.parametrize("layer", ["features", "pooled", "flat", "a3", "x"])
def test_tail_reproduces_the_logits(layer: str) -> None:
    program = program_of(nets.conv_net(), "z", layer)
    linearized = program.forward({"x": nets.images()})
    tail = program.tail({layer: linearized.values[layer]})
    np.testing.assert_allclose(tail["z"], linearized["z"], rtol=1e-6)


def test_tail_of_a_layer_with_a_way_around_is_refused() -> None:
    body = nets.BODY.replace("z = Gemm", "z0 = Gemm")
    around = "fx = Flatten(x) zx = Gemm(fx, wx) z = Add(z0, zx) y = Softmax<axis = 1>(z)"
    body = body.replace("y = Softmax<axis = 1>(z)", around)
    program = program_of(nets.conv_net(body=body, wx=(192, 4)), "z", "features")
    with pytest.raises(LayerError, match=r"layer 'features' is not a cut: .*choose a layer that"):
        program.tail({"features": np.zeros((1, 5, 4, 4), np.float32)})


# --- programs are made once ----------------------------------------------------------------------------
def test_programs_are_cached_by_what_they_compute() -> None:
    model = nets.load(nets.conv_net())
    first = model.program(("z",), ("x",))
    assert model.program(["z"], ["x"], VJP) is first
    others = [
        model.program(("z",), ("features",)),
        model.program(("z",), ("x",), GUIDED),
        model.program(("features",), ("x",)),
    ]
    assert len({id(p) for p in (first, *others)}) == 4
    assert first._backward_session is first._backward_session


def test_residuals_come_from_the_forward_alone() -> None:
    """What the backward reads besides seeds is model input or made by the forward graph."""
    pair = program_of(nets.conv_net(), "z").pair
    forward, backward = (
        onnx.load_from_string(part().model) for part in (pair.forward, pair.backward)
    )
    assert [i.name for i in forward.graph.input] == ["x"]
    made = {y.name for y in forward.graph.output} | {"x"}
    assert set(pair.residuals) <= made
    assert {i.name for i in backward.graph.input} == {*pair.residuals, "seed(z)"}
    names = {y for node in forward.graph.node for y in node.output}
    assert not names & {y for node in backward.graph.node for y in node.output}


# --- what is emitted -----------------------------------------------------------------------------------
def with_shapes(pair: Pair, part: str) -> onnx.ModelProto:
    """Return a part of the pair; residuals, which only travel between two parts, get their shapes."""
    forward = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(pair.forward().model), True, True
    )
    if part == "forward":
        return forward
    model, inferred = (
        onnx.load_from_string(getattr(pair, part)().model),
        {y.name: y for y in forward.graph.output},
    )
    for value in model.graph.input:
        if not value.type.tensor_type.HasField("shape"):
            value.CopyFrom(inferred[value.name])
    return model


PARTS = ("forward", "backward", "fused", "tail")


@pytest.mark.parametrize(
    ("rules", "part"),
    [(r, p) for r in (VJP, RESCALE, GUIDED) for p in PARTS] + [(RESCALE, "reference")],
    ids=lambda v: getattr(v, "name", v),
)
def test_emitted_graphs_are_standard_models(part: str, rules: Any) -> None:
    pair = program_of(nets.conv_net(), "z", "features", rules=rules).pair
    model = with_shapes(pair, part)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}


# --- refusals name the op and the node -----------------------------------------------------------------
def named(proto: onnx.ModelProto, op: str, name: str, domain: str = "") -> onnx.ModelProto:
    """Name the node of type `op`, and put it into a domain."""
    (node,) = [n for n in proto.graph.node if n.op_type == op]
    node.name, node.domain = name, domain
    if domain:
        proto.opset_import.add(domain=domain, version=1)
    return proto


def test_op_without_a_rule() -> None:
    body = "d = Det(x) f = Reshape(d, s) y = Gemm(f, w)"
    proto = nets.build("(float[N, 4, 4] x) => (float[N, 3] y)", body, s=np.array([-1, 1]), w=(1, 3))
    message = (
        r"Det \(node 'volume'\) cannot be explained through: it has no .*; explain a tensor before"
    )
    with pytest.raises(UnsupportedOpError, match=message) as error:
        program_of(named(proto, "Det", "volume"), "y")
    assert (error.value.op, error.value.node) == ("Det", "volume")


def test_op_of_another_domain() -> None:
    proto = nets.build("(float[N, 4] x) => (float[N, 4] y)", "h = Swirl(x) y = Relu(h)")
    message = r"Swirl \(node 'odd'\) .*: it belongs to the domain 'acme'; export with standard"
    with pytest.raises(UnsupportedOpError, match=message):
        program_of(named(proto, "Swirl", "odd", "acme"), "y")


def test_argmax_is_named_as_what_cuts_the_gradient() -> None:
    body = "h = Gemm(x, w) i = ArgMax<axis = 1>(h) y = Cast<to = 1>(i)"
    proto = nets.build("(float[N, 4] x) => (float[N, 1] y)", body, w=(4, 3))
    message = r"ArgMax \(node 'decide'\) .*: its result has no gradient; explain a tensor before it"
    with pytest.raises(UnsupportedOpError, match=message):
        program_of(named(proto, "ArgMax", "decide"), "y")


BRANCHES = """
    h = Gemm(x, w1)
    r = If(c)<then_branch = yes () => (float[N, 4] t) { t = Relu(h) },
              else_branch = no () => (float[N, 4] e) { e = Tanh(h) }>
    y = Gemm(r, w2)
"""


@pytest.mark.parametrize("condition", [True, False])
def test_if_with_a_constant_condition_is_the_branch_taken(condition: bool) -> None:
    proto = nets.build(
        "(float[N, 4] x) => (float[N, 3] y)", BRANCHES, c=np.array(condition), w1=(4, 4), w2=(4, 3)
    )
    w, x = nets.weights_of(proto), nets.images(5, (4,))
    at = nets.double(x)
    hidden = at @ w["w1"]
    logits = (torch.relu(hidden) if condition else torch.tanh(hidden)) @ w["w2"]
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), at)
    np.testing.assert_allclose(ox.gradient(nets.load(proto), x, 1).values, expected, atol=1e-6)


def test_if_that_depends_on_the_input_is_refused_by_name() -> None:
    body = "total = ReduceSum<keepdims = 0>(x) c = Greater(total, zero)" + BRANCHES
    zero = np.array(0, np.float32)
    proto = nets.build("(float[N, 4] x) => (float[N, 3] y)", body, zero=zero, w1=(4, 4), w2=(4, 3))
    message = r"If \(node 'fork'\) .*: control flow that depends on the input; export the branch"
    with pytest.raises(UnsupportedOpError, match=message):
        program_of(named(proto, "If", "fork"), "y")


# --- other floats --------------------------------------------------------------------------------------
def in_type(proto: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """Return a copy with every float as another type."""
    copy, dtype = onnx.ModelProto(), onnx.helper.tensor_dtype_to_np_dtype(kind)
    copy.CopyFrom(proto)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = kind
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    return copy


def test_half_precision_has_the_gradient_of_its_float_twin() -> None:
    half, twin = (nets.load(in_type(nets.conv_net(), k)) for k in (TensorProto.FLOAT16, 1))
    x = nets.images()
    found, expected = (ox.gradient(m, x, 2).values for m in (half, twin))
    assert half.graph.source.dtype == np.float16 and found.dtype == np.float32
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    assert not np.array_equal(found, found.astype(np.float16)), "the backward computes in float32"


@pytest.mark.parametrize("method", [ox.gradient, ox.smooth_grad, ox.integrated_gradients])
def test_double_precision(method: Any) -> None:
    body = "h = Gemm(x, a) t = Tanh(h) y = Gemm(t, b)"
    proto = nets.build("(float[N, 6] x) => (float[N, 3] y)", body, a=(6, 5), b=(5, 3))
    found, expected = (
        method(nets.load(in_type(proto, kind)), nets.images(2, (6,)), 1)
        for kind in (TensorProto.DOUBLE, TensorProto.FLOAT)
    )
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_double_precision_is_kept_in_the_program() -> None:
    body = "h = Gemm(x, a) t = Tanh(h) y = Gemm(t, b)"
    proto = nets.build("(float[N, 6] x) => (float[N, 3] y)", body, a=(6, 5), b=(5, 3))
    w, x = nets.weights_of(proto), nets.images(2, (6,)).astype(np.float64)
    at = nets.double(x)
    logits = torch.tanh(at @ w["a"]) @ w["b"]
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), at)
    linearized = program_of(in_type(proto, TensorProto.DOUBLE), "y").forward({"x": x})
    found = linearized.backward({"y": np.tile(np.eye(3)[1], (2, 1))})["x"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)
