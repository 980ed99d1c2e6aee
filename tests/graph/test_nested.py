"""Concats that begin alike: the same numbers from fewer sums, and signals only where they belong."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.graph.nested import nest
from tests import nets

HEAD = "(float[N, 3, 6, 6] x) => (float[N, 2] z)"
LAYERS = 5


def dense_net() -> onnx.ModelProto:
    """Return a block of layers that each read all those before."""
    body, parts = [], ["x"]
    for i in range(LAYERS):
        body.append(f"c{i} = Concat<axis = 1>({', '.join(parts)})" if i else "c0 = Identity(x)")
        body.append(f"p{i} = Conv<pads = [1, 1, 1, 1]>(c{i}, w{i}) r{i} = Relu(p{i})")
        parts.append(f"r{i}")
    body.append(f"all = Concat<axis = 1>({', '.join(parts)})")
    body.append("pooled = GlobalAveragePool(all) flat = Flatten(pooled) z = Gemm(flat, v)")
    weights = {f"w{i}": (2, 3 + 2 * i, 3, 3) for i in range(LAYERS)}
    return nets.build(HEAD, " ".join(body), v=(3 + 2 * LAYERS, 2), **weights)


def in_torch(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
    """Return z; `given` takes the place of c2 where c2 is read, and nowhere else."""
    w, parts = nets.weights_of(dense_net()), [x]
    for i in range(LAYERS):
        read = torch.cat(parts, 1) if given is None or i != 2 else given
        parts.append(F.relu(F.conv2d(read, w[f"w{i}"], padding=1)))
    return torch.cat(parts, 1).mean((2, 3)) @ w["v"]


def test_a_block_has_a_sum_for_each_layer() -> None:
    model, x = nets.load(dense_net()), nets.images(2, (3, 6, 6))
    program = model.program(("z",), ("x",))
    written = onnx.load_from_string(program._each.fused().model).graph.node
    ops = Counter(n.op_type for n in written if n.name.startswith("vjp"))
    assert ops["Split"] == LAYERS and ops["Add"] == LAYERS
    at = nets.double(x)
    (expected,) = torch.autograd.grad(in_torch(at)[:, 1].sum(), at)
    found = ox.gradient(model, x, 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(found.scores, in_torch(at).detach()[:, 1], rtol=1e-5)


def test_the_signal_at_a_concat_is_that_of_what_reads_it() -> None:
    """Its parts go on to later layers, too, but not through it."""
    model, x = nets.load(dense_net()), nets.images(2, (3, 6, 6))
    w, at = nets.weights_of(dense_net()), torch.tensor(x, dtype=torch.float64)
    parts = [at]
    for i in range(2):
        parts.append(F.relu(F.conv2d(torch.cat(parts, 1), w[f"w{i}"], padding=1)))
    c2 = torch.cat(parts, 1).requires_grad_()
    (expected,) = torch.autograd.grad(in_torch(at, c2)[:, 1].sum(), c2)
    found = ox.gradient(model, x, 1, wrt="c2")
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert expected.abs().max() > 1e-3 and not model.layer("c2").cut


@pytest.mark.parametrize(
    ("second", "kept", "inputs"),
    [
        ("Concat<axis = 1>(x, y, x)", "", ["a", "x"]),
        ("Concat<axis = 1>(x, y, y, x)", "", ["a", "y", "x"]),
        ("Concat<axis = 1>(x, y, x)", "a", ["x", "y", "x"]),
        ("Concat<axis = 2>(x, y, x)", "", ["x", "y", "x"]),
        ("Concat<axis = 1>(y, x, x)", "", ["y", "x", "x"]),
        ("Concat<axis = 1>(x, y)", "", ["x", "y"]),
    ],
)
def test_only_a_whole_beginning_is_taken(second: str, kept: str, inputs: list[str]) -> None:
    head = "(float[2, 3, 4] x, float[2, 3, 4] y) => (float[A, B, C] a, float[D, E, F] b)"
    graph = gs.import_onnx(nets.build(head, f"a = Concat<axis = 1>(x, y) b = {second}"))
    nest(graph, [kept])
    assert [x.name for x in graph.nodes[1].inputs] == inputs


def test_the_longest_beginning_is_taken() -> None:
    head = "(float[2, 3] x) => (float[A, B] c)"
    body = (
        "a = Concat<axis = 1>(x, x) b = Concat<axis = 1>(x, x, x) c = Concat<axis = 1>(x, x, x, x)"
    )
    graph = gs.import_onnx(nets.build(head, body))
    nest(graph, [])
    assert [[x.name for x in n.inputs] for n in graph.nodes] == [["x", "x"], ["a", "x"], ["b", "x"]]
