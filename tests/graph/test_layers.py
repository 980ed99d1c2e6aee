"""Cuts, default layers, axis roles and the logit, on nets whose answer is plain to see."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnxplain.errors import ModelError, UnsupportedOpError
from onnxplain.graph.canonical import import_graph
from onnxplain.graph.graph import Graph, build


def graph_of(text: str, opset: int = 18, **weights: tuple[int, ...]) -> Graph:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    for name, shape in weights.items():
        array = np.ones(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return build(import_graph(model))


RESIDUAL = """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
    a = Conv <pads = [1,1,1,1]> (x, w1)  r = Relu (a)
    b = Conv <pads = [1,1,1,1]> (r, w2)  s = Add (r, b)  t = Relu (s)
    p = GlobalAveragePool (t)  f = Flatten (p)  z = Gemm (f, w3)  y = Softmax (z) }"""
SIZES = {"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 5)}


def test_a_residual_branch_is_not_a_cut() -> None:
    graph = graph_of(RESIDUAL, **SIZES)
    cuts = {layer.name for layer in graph.layers if layer.cut}
    assert cuts == {"a", "r", "s", "t", "p", "f"}


def test_default_layer_is_the_last_feature_map_before_weights() -> None:
    graph = graph_of(RESIDUAL, **SIZES)
    assert graph.default_layer is not None
    assert graph.default_layer.name == "t"
    assert "4 channels of 8 x 8" in graph.why_default_layer


def test_pooling_and_class_scores_are_passed_over() -> None:
    graph = graph_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
        a = Conv (x, w1)  r = Relu (a)  m = MaxPool <kernel_shape = [2, 2]> (r)
        c = Conv (m, w2)  q = Relu (c)  p = GlobalAveragePool (q)  y = Flatten (p) }""",
        w1=(4, 3, 3, 3),
        w2=(5, 4, 1, 1),
    )
    assert graph.default_layer is not None
    assert graph.default_layer.name == "r"


def test_without_feature_maps_the_reason_is_given() -> None:
    graph = graph_of("g (float[N, 6] x) => (float[N, 2] y) { y = Gemm (x, w) }", w=(6, 2))
    assert graph.default_layer is None
    assert "no feature maps" in graph.why_default_layer


def test_axes_are_followed_through_transposes() -> None:
    graph = graph_of(
        """g (float[N, 8, 8, 3] image) => (float[N, 5] y) {
        x = Transpose <perm = [0, 3, 1, 2]> (image)  a = Conv (x, w1)
        b = Transpose <perm = [0, 2, 3, 1]> (a)  r = Relu (b)
        axes = Constant <value = int64[2] {1, 2}> ()
        p = ReduceMean <keepdims = 0> (r, axes)  y = MatMul (p, w2) }""",
        w1=(4, 3, 3, 3),
        w2=(4, 5),
    )
    assert graph.source.axes == "NHWC"
    assert graph.default_layer is not None
    assert (graph.default_layer.name, graph.default_layer.axes) == ("r", "NHWC")
    assert (graph.default_layer.channels, graph.default_layer.size) == (4, (6, 6))


@pytest.mark.parametrize(
    ("tail", "stripped", "activation"),
    [
        ("y = Softmax (z)", ("Softmax",), "softmax"),
        ("y = LogSoftmax (z)", ("LogSoftmax",), "softmax"),
        ("y = Sigmoid (z)", ("Sigmoid",), "sigmoid"),
        ("s = Softmax (z)  y = Identity (s)", ("Softmax",), "softmax"),
        ("s = Softmax (z)  t = Constant <value = int64[2] {-1, 5}> ()  y = Reshape (s, t)",
         ("Softmax",), "softmax"),
    ],
)  # fmt: skip
def test_the_logit_is_found_before_the_squashing(
    tail: str, stripped: tuple[str, ...], activation: str
) -> None:
    graph = graph_of(
        f"g (float[N, 6] x) => (float[N, 5] y) {{ z = MatMul (x, w)  {tail} }}", w=(6, 5)
    )
    assert (graph.logit.tensor, graph.logit.stripped) == ("z", stripped)
    assert graph.logit.activation == activation


def test_a_relu_at_the_end_is_not_stripped() -> None:
    graph = graph_of(
        "g (float[N, 6] x) => (float[N, 5] y) { z = MatMul (x, w) y = Relu (z) }", w=(6, 5)
    )
    assert (graph.logit.tensor, graph.logit.stripped) == ("y", ())


def test_maps_of_one_pixel_become_rows() -> None:
    graph = graph_of(
        """g (float[N, 3, 4, 4] x) => (float[N, 5, 1, 1] y) {
        a = Conv (x, w)  p = GlobalAveragePool (a)  y = Softmax <axis = 1> (p) }""",
        opset=11,
        w=(5, 3, 3, 3),
    )
    tensor = graph.nodes.tensors()[graph.logit.tensor]
    assert tuple(tensor.shape) == ("N", 5)


def test_the_scores_are_preferred_among_several_outputs() -> None:
    graph = graph_of(
        """g (float[N, 6] x) => (float[N, 4, 4] boxes, float[N, 5] scores) {
        b = MatMul (x, wb)  t = Constant <value = int64[3] {-1, 4, 4}> ()  boxes = Reshape (b, t)
        z = MatMul (x, w)  scores = Softmax (z) }""",
        w=(6, 5),
        wb=(6, 16),
    )
    assert [logit.output for logit in graph.logits] == ["scores", "boxes"]


def test_an_output_behind_argmax_names_the_cutting_op() -> None:
    text = """g (float[N, 6] x) => (int64[N] y) {
        z = MatMul (x, w)  y = ArgMax <axis = 1, keepdims = 0> (z) }"""
    with pytest.raises(UnsupportedOpError, match="ArgMax"):
        graph_of(text, w=(6, 5))


def test_open_sizes_are_filled_and_said() -> None:
    text = """g (float[N, 3, H, W] x) => (float[N, 5, 1, 1] y) {
        a = Conv (x, w)  y = GlobalAveragePool (a) }"""
    graph = graph_of(text, w=(5, 3, 3, 3))
    assert graph.source.shape == ("N", 3, 224, 224)
    assert graph.source.open_size
    with pytest.raises(ModelError, match="leaves sizes open"):
        graph_of("g (float[N, T, 7] x) => (float[N, T, 7] y) { y = Relu (x) }")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cuts_equal_removal_by_brute_force(data: st.DataObject) -> None:
    """A tensor is a cut exactly if removing it leaves no path from input to logit."""
    count = data.draw(st.integers(2, 7))
    parents = [
        data.draw(st.lists(st.integers(0, i), min_size=1, max_size=2, unique=True))
        for i in range(count)
    ]
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    nodes = " ".join(
        f"{names[i + 1]} = Sum ({', '.join(names[p] for p in parents[i])})" for i in range(count)
    )
    graph = graph_of(f"g (float[N, 3] x) => (float[N, 3] y) {{ {nodes} }}")
    edges = {(names[p], names[i + 1]) for i in range(count) for p in parents[i]}
    for layer in graph.layers:
        assert layer.cut == (not _reaches(edges, layer.name, len(names))), (nodes, layer.name)


def _reaches(edges: set[tuple[str, str]], without: str, length: int) -> bool:
    reached = {"x"}
    for _, (a, b) in itertools.product(range(length), sorted(edges)):
        if a in reached and b != without:
            reached.add(b)
    return "y" in reached


def test_an_output_without_a_row_per_image_is_refused() -> None:
    """Two rows for one image would be read as two images."""
    text = """g (float[N, 3] x) => (float[M, 3] y) {
        r = Constant <value = int64[2] {2, 1}> ()  y = Tile (x, r) }"""
    with pytest.raises(ModelError, match=r"'y' of shape \[2, 3\] has no row for each image"):
        graph_of(text)
