"""Tokens: where their patches lie, through what transformers do with them, and whether they count."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxplain.graph.canonical import import_graph
from onnxplain.graph.graph import Graph, build
from tests import tokens

FLAT = "f = Reshape(c, to_flat) t = Transpose<perm = [0, 2, 1]>(f)"
AHEAD = f"{FLAT} n = Shape<end = 1>(x) s = Concat<axis = 0>(n, rest) e = Expand(extra, s)"
CLASS = f"{AHEAD} a = Concat<axis = 1>(e, t)"
MEAN = "m = ReduceMean<keepdims = 0>({}, one) z = MatMul(m, w)"


def graph_of(body: str) -> Graph:
    """Build x [N, 3, 8, 12] -> c [N, 6, 4, 6] -> z [N, 5]."""
    text = f"""<ir_version: 8, opset_import: ["": 18]>
        g (float[N, 3, 8, 12] x) => (float[N, 5] z) {{ c = Conv<strides = [2, 2]>(x, k) {body} }}"""
    model = parser.parse_model(text)
    arrays = {"k": (6, 3, 2, 2), "w": (6, 5), "extra": (1, 2, 6), "w24": (24, 24)}
    numbers = {
        "to_flat": [0, 6, -1], "one": [1], "rest": [2, 6], "zero": 0, "zeros": [0], "two": [2],
        "many": [2**31], "parts": [2, 24], "first": [0, 1], "mixed": [1, 2], "back": [0, 4, 6, 6],
        "rows": [0, 24, 6],
    }  # fmt: skip
    for name, shape in arrays.items():
        array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for name, value in numbers.items():
        array = np.array(value, np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return build(import_graph(model))


def grid_of(body: str, name: str) -> str | None:
    layer = graph_of(body).layer(name)
    assert layer is not None
    return None if layer.grid is None else f"{layer.axes} {layer.grid} from {layer.grid.before}"


@pytest.mark.parametrize(
    ("body", "name", "expected"),
    [
        (f"{FLAT} {MEAN.format('t')}", "f", "NCT 4x6 from 0"),
        (f"{FLAT} {MEAN.format('t')}", "t", "NTC 4x6 from 0"),
        (f"{CLASS} {MEAN.format('a')}", "a", "NTC 4x6 + 2 from 2"),
        (f"{AHEAD} a = Concat<axis = 1>(t, e) {MEAN.format('a')}", "a", "NTC 4x6 + 2 from 0"),
        (f"{AHEAD} a = Concat<axis = 1>(e, t, e) {MEAN.format('a')}", "a", "NTC 4x6 + 4 from 2"),
        (f"{CLASS} p = Slice(a, two, many, one) {MEAN.format('p')}", "p", "NTC 4x6 from 0"),
        (f"{CLASS} p = Slice(a, one, many, one) {MEAN.format('p')}", "p", "NTC 4x6 + 1 from 1"),
        (f"{CLASS} o, p = Split<axis = 1>(a, parts) {MEAN.format('p')}", "p", "NTC 4x6 from 0"),
        (f"{CLASS} o, p = Split<axis = 1>(a, parts) q = Concat<axis = 1>(o, p) "
         + MEAN.format("q"), "q", "NTC 4x6 + 2 from 2"),
        (f"{FLAT} d = Concat<axis = 2>(t, t) r = Relu(d) v = Slice(r, zeros, two, two) "
         + MEAN.format("t"), "t", "NTC 4x6 from 0"),
    ],
)  # fmt: skip
def test_tokens_are_followed(body: str, name: str, expected: str) -> None:
    assert grid_of(body, name) == expected


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (f"{CLASS} p = Slice(a, zeros, two, one) {MEAN.format('p')}", "p"),  # other tokens alone
        (f"{CLASS} p = Slice(a, zeros, many, one, two) {MEAN.format('p')}", "p"),  # every second
        (f"{FLAT} p = Slice(t, one, many, one) {MEAN.format('p')}", "p"),  # a patch is missing
        (f"{FLAT} r = MatMul(f, w24) p = Transpose<perm = [0, 2, 1]>(r) {MEAN.format('p')}", "p"),
        (f"{FLAT} a = Concat<axis = 1>(t, t, t) {MEAN.format('a')}", "a"),  # no others, but patches
    ],
)
def test_what_are_no_longer_the_same_tokens(body: str, name: str) -> None:
    """A mixture along the tokens (MLP-Mixer) is no patch of its own either."""
    assert grid_of(body, name) is None


def test_tokens_become_a_map_again() -> None:
    """Windows of a Swin transformer: [N, T, C] viewed as [N, H, W, C], merged, and back."""
    body = f"""{FLAT} v = Reshape(t, back) r = Relu(v) b = Reshape(r, rows) {MEAN.format("b")}"""
    graph = graph_of(body)
    layers = {name: graph.layer(name) for name in ("v", "r", "b")}
    assert [layer.axes for layer in layers.values() if layer] == ["NHWC", "NHWC", "NTC"]
    assert layers["b"] is not None and str(layers["b"].grid) == "4x6"
    assert layers["b"].grid is not None and layers["b"].grid.source == "r"


# --- which patches count -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tail", "counts"),
    [
        ("r = Gather<axis = 1>(a, zero) z = MatMul(r, w)", False),
        ("r = Gather<axis = 1>(a, first) z0 = ReduceMean<keepdims = 0>(r, one) z = MatMul(z0, w)", False),
        ("r = Gather<axis = 1>(a, mixed) z0 = ReduceMean<keepdims = 0>(r, one) z = MatMul(z0, w)", True),
        (f"p = Slice(a, zeros, one, one) {MEAN.format('p')}", False),
        (f"p = Slice(a, zeros, two, one) {MEAN.format('p')}", False),
        (f"p = Slice(a, one, many, one) {MEAN.format('p')}", True),
        (f"o, p = Split<axis = 1>(a, parts) {MEAN.format('o')}", False),
        (f"o, p = Split<axis = 1>(a, parts) {MEAN.format('p')}", True),
        (f"b = Relu(a) {MEAN.format('b')}", True),
    ],
)  # fmt: skip
def test_patches_count_where_the_logit_reads_them(tail: str, counts: bool) -> None:
    layer = graph_of(f"{CLASS} {tail}").layer("a")
    assert layer is not None and layer.patches_count is counts


@pytest.mark.parametrize(
    ("head", "layer", "reason"),
    [
        ("class", "t0", "the last patches (6 channels of 3 x 4) that every path from the input to the "
         "logit passes; 't1' is read at the class token alone"),
        ("mean", "n3", "the last patches (6 channels of 3 x 4) that every path from the input to the "
         "logit passes"),
    ],
)  # fmt: skip
def test_default_layer_of_a_vision_transformer(head: str, layer: str, reason: str) -> None:
    graph = build(import_graph(tokens.vit(head)))
    assert graph.default_layer is not None and graph.default_layer.name == layer
    assert graph.why_default_layer == reason


def test_tokens_are_no_levels_to_decompose_over() -> None:
    graph = build(import_graph(tokens.vit("mean")))
    assert [layer.name for layer in graph.levels] == ["patches"]
