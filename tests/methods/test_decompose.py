"""gAP: the invariants of a decomposition, on planted and random nets, against autograd in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.methods.chain import Chain
from onnxplain.methods.common import start
from onnxplain.methods.decompose import decompose, decompose_many
from onnxplain.methods.growing import WEIGHTS
from tests import nets

Array = np.ndarray[Any, Any]
LAYERS = ("features", "a1")  # of nets.conv_net, from top to bottom
SEEDS = ("path", "root", "max", "sum")
ALL = {"top_k": 9, "min_share": 0.0, "min_root_share": 0.0, "inhibitors": 9, "max_nodes": 1000}
UNBIASED = {f"b{i}": np.zeros(n, np.float32) for i, n in ((1, 4), (2, 5), (3, 6), (4, 4))}
POSITIVE = {
    k: np.abs(nets.drawn(np.random.default_rng(i), shape))
    for i, (k, shape) in enumerate(nets.WEIGHTS.items())
    if k.startswith("w")
}


def net(**changes: Any) -> onnx.ModelProto:
    """Return nets.conv_net with weights under which every class has supporting and inhibiting channels."""
    return nets.conv_net(seed=14, **changes)


def grown(proto: onnx.ModelProto, seed: str = "path", **options: Any) -> ox.Hierarchy:
    x = options.pop("x", nets.images(1))
    target = options.pop("target", 2)
    return decompose(nets.load(proto), x, target, LAYERS, seed=seed, **options)


def contributions(h: ox.Hierarchy, node: str = "root") -> dict[int, float]:
    return {h[e.child].channel: e.contribution for e in h.edges if e.parent == node}


# --- the same in torch, node by node -------------------------------------------------------------------
def torch_tree(proto: onnx.ModelProto, x: Array, target: int, top_k: int) -> dict[str, Any]:
    """Return id -> (contribution, residual or None) of the "path" tree, by one autograd call per node."""
    w = nets.weights_of(proto)
    a1 = F.relu(F.conv2d(torch.tensor(x, dtype=torch.float64), w["w1"], w["b1"], padding=1))
    features = F.relu(F.conv2d(a1, w["w2"], w["b2"], padding=1, stride=2))

    def upper(a: torch.Tensor) -> torch.Tensor:
        return F.relu(F.conv2d(a, w["w2"], w["b2"], padding=1, stride=2))

    segments: list[tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]] = [
        (lambda a: nets.torch_head(w, a), features),
        (upper, a1),
    ]
    seed = torch.zeros(1, nets.CLASSES, dtype=torch.float64)
    seed[0, target] = 1
    found: dict[str, Any] = {}
    frontier = [("root", seed, float((seed * nets.torch_head(w, features)).sum()))]
    found["root"] = [frontier[0][2], None]
    for segment, value in segments:
        below = []
        for name, s, decision in frontier:
            at = value.clone().requires_grad_()
            (g,) = torch.autograd.grad((s * segment(at)).sum(), at)
            c = (g * at).sum((2, 3))[0].detach().numpy()
            found[name][1] = decision - c.sum()
            shares = np.maximum(c, 0) / max(np.maximum(c, 0).sum(), 1e-30)
            for k in np.argsort(-c, kind="stable")[:top_k].tolist():
                if c[k] > 0 and shares[k] >= 0.02:
                    child = torch.zeros_like(g)
                    child[:, k] = g[:, k]
                    below.append((f"{name}/{k}", child, c[k]))
                    found[f"{name}/{k}"] = [c[k], None]
        frontier = below
    return found


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("target", range(nets.CLASSES))
def test_the_tree_is_autograd_s_node_by_node(target: int, top_k: int) -> None:
    proto = net()
    h = grown(proto, target=target, top_k=top_k, inhibitors=0)
    expected = torch_tree(proto, nets.images(1), target, top_k)
    assert set(h.graph) == set(expected)
    for node in h:
        contribution, residual = expected[node.id]
        assert node.contribution == pytest.approx(contribution, rel=1e-4, abs=1e-6)
        if residual is None:
            assert node.residual is None
        else:
            assert node.residual == pytest.approx(residual, rel=1e-4, abs=1e-5)


def test_an_nhwc_file_grows_the_same_tree() -> None:
    x = nets.images(1)
    twin_net = net(head="(float[N, 8, 8, 3] x) => (float[N, 4] y)", body=nets.nhwc(nets.BODY))
    ours, twin = grown(net()), grown(twin_net, x=x.transpose(0, 2, 3, 1).copy())
    channels = [(n.level, n.channel) for n in ours]
    # In the twin a1 comes first as channels-last, so names differ; evidence does not.
    assert [(n.level, n.channel) for n in twin] == channels
    for a, b in zip(ours, twin, strict=True):
        assert a.contribution == pytest.approx(b.contribution, rel=1e-4)
        assert a.peak == b.peak and a.box == b.box
        if a.map is not None and b.map is not None:
            np.testing.assert_allclose(a.map, b.map, rtol=1e-4, atol=1e-6)


# --- conservation --------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_without_biases_contributions_sum_to_the_decision(seed: str) -> None:
    h = grown(net(**UNBIASED), seed, **ALL)
    expanded = [n for n in h if n.residual is not None]
    assert len(expanded) > 3
    for node in expanded:
        assert node.residual == pytest.approx(0, abs=1e-5 * max(1, abs(node.decision)))
        total = sum(contributions(h, node.id).values())
        assert total == pytest.approx(node.decision, rel=1e-4, abs=1e-6)


def test_the_residual_is_the_share_of_the_biases() -> None:
    proto = net()
    w, x = nets.weights_of(proto), nets.images(1)
    features = nets.torch_features(w, nets.double(x)).detach()
    biases = [w[name].requires_grad_() for name in ("b3", "b4")]
    nets.torch_head(w, features)[0, 2].backward()
    expected = sum(float((b * b.grad).detach().sum()) for b in biases if b.grad is not None)
    assert abs(expected) > 0.1
    assert grown(proto).root.residual == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", ["path", "root"])
def test_a_full_tree_partitions_the_score(seed: str) -> None:
    """All weights and pixels positive: every channel supports, so with K = all nothing is left out."""
    proto = net(**(UNBIASED | POSITIVE))
    x = np.abs(nets.images(1))
    h = grown(proto, seed, x=x, **ALL)
    model = nets.load(proto)
    for level, layer in enumerate(LAYERS, 1):
        g = ox.gradient(model, x, 2, wrt=layer).values
        direct = (g * model.values({"x": x}, [layer])[layer]).sum((0, 2, 3))
        into = np.zeros_like(direct)
        for edge in h.edges:
            if h[edge.child].level == level:
                into[h[edge.child].channel] += edge.contribution
        np.testing.assert_allclose(into, direct, rtol=1e-4, atol=1e-6)
    assert sum(n.pixels.sum() for n in h.leaves if n.pixels is not None) == pytest.approx(
        h.root.decision, rel=1e-4
    )
    assert sum(n.root_share for n in h.level(2)) == pytest.approx(1, rel=1e-5)


def test_root_seeds_explain_what_one_whole_backward_pass_says() -> None:
    model, x = nets.load(net()), nets.images(1)
    h = decompose(model, x, 2, LAYERS, seed="root", top_k=5)
    for level, layer in enumerate(LAYERS, 1):
        g = ox.gradient(model, x, 2, wrt=layer).values
        maps = (g * model.values({"x": x}, [layer])[layer])[0]
        for node in h.level(level):
            np.testing.assert_allclose(node.map, maps[node.channel], rtol=1e-4, atol=1e-6)
            assert node.decision == pytest.approx(maps[node.channel].sum(), rel=1e-4, abs=1e-6)
    assert len({(n.level, n.channel) for n in h}) == len(h), "equal channels are one node"
    assert any(h.graph.in_degree(n.id) > 1 for n in h)


# --- linear heads --------------------------------------------------------------------------------------
LINEAR_BODY = """
    c = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    a = Relu(c)
    g = GlobalAveragePool(a)
    f = Flatten(g)
    z = Gemm<transB = 1>(f, w, b)
"""


def linear_head() -> onnx.ModelProto:
    head = "(float[N, 3, 6, 6] x) => (float[N, 3] z)"
    return nets.build(head, LINEAR_BODY, w1=(5, 3, 3, 3), b1=(5,), w=(3, 5), b=(3,))


@pytest.mark.parametrize("weight", ["signed", "mean"])
def test_a_linear_head_has_the_closed_form_of_cam(weight: Any) -> None:
    proto, x = linear_head(), nets.images(1, (3, 6, 6))
    model = nets.load(proto)
    h = decompose(model, x, 1, ["a"], weight=weight, **ALL)
    a = model.values({"x": x}, ["a"])["a"][0]
    w = nets.weights_of(proto)["w"].numpy()[1]
    for k, c in contributions(h).items():
        assert c == pytest.approx(w[k] * a[k].mean(), rel=1e-4)
    maps = sum(n.map for n in h.level(1) if n.map is not None)
    np.testing.assert_allclose(maps, (w[:, None, None] * a).sum(0) / 36, rtol=1e-4, atol=1e-6)
    assert h.root.residual == pytest.approx(float(nets.weights_of(proto)["b"][1]), rel=1e-4)


def test_positive_weights_take_the_positive_gradients_alone() -> None:
    model, x = nets.load(net()), nets.images(1)
    h = decompose(model, x, 2, LAYERS[:1], weight="positive", **ALL)
    g = ox.gradient(model, x, 2, wrt="features").values
    maps = (np.maximum(g, 0) * model.values({"x": x}, ["features"])["features"])[0]
    for node in h.level(1):
        np.testing.assert_allclose(node.map, maps[node.channel], rtol=1e-4, atol=1e-6)


def test_zeroing_a_channel_changes_a_linear_decision_by_its_contribution() -> None:
    model, x = nets.load(linear_head()), nets.images(1, (3, 6, 6))
    tail = model.program(("z",), ("a",)).tail
    a = model.values({"x": x}, ["a"])["a"]
    for k, c in contributions(decompose(model, x, 0, ["a"], **ALL)).items():
        without = a.copy()
        without[:, k] = 0
        change = tail({"a": without})["z"][0, 0] - tail({"a": a})["z"][0, 0]
        assert change == pytest.approx(-c, rel=1e-4, abs=1e-6)


def test_a_contrast_is_the_difference_of_two_trees() -> None:
    a, b = grown(net(), target=1, **ALL), grown(net(), target=3, **ALL)
    both = contributions(grown(net(), target=ox.Target.contrast(1, 3), **ALL))
    assert len(both) == nets.CHANNELS
    for k, c in both.items():
        expected = contributions(a).get(k, 0.0) - contributions(b).get(k, 0.0)
        assert c == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_scaling_the_logit_scales_contributions_and_keeps_shares() -> None:
    w4, b4 = (nets.weights_of(net())[n].numpy().astype(np.float32) for n in ("w4", "b4"))
    one, three = grown(net()), grown(net(w4=3 * w4, b4=3 * b4))
    assert list(one.graph) == list(three.graph)
    for a, b in zip(one, three, strict=True):
        assert b.contribution == pytest.approx(3 * a.contribution, rel=1e-4)
        assert b.share == pytest.approx(a.share, rel=1e-4, abs=1e-7)


# --- selection -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_more_children_extend_the_list(seed: str) -> None:
    few, more = grown(net(), seed, top_k=2), grown(net(), seed, top_k=3)

    def supporting(h: ox.Hierarchy, node: str) -> list[int]:
        return [k for k, c in contributions(h, node).items() if c > 0]

    assert supporting(few, "root") == supporting(more, "root")[:2]
    for node in few.level(1):
        if not node.inhibits:
            assert supporting(few, node.id) == supporting(more, node.id)[:2]


def test_children_are_ordered_and_shares_add_up() -> None:
    h = grown(net(), **ALL)
    for node in h:
        if node.residual is None:
            continue
        found = [e for e in h.edges if e.parent == node.id]
        positive = [e for e in found if e.contribution > 0]
        assert [e.contribution for e in positive] == sorted(
            (e.contribution for e in positive), reverse=True
        )
        assert node.coverage == pytest.approx(sum(e.share for e in positive))
        assert sum(abs(e.signed) for e in found) == pytest.approx(1, rel=1e-5)
        assert all(e.share == 0 for e in found if e.contribution < 0)


@pytest.mark.parametrize("cut", ["w4", "w3"])
def test_a_channel_without_influence_is_never_a_child(cut: str) -> None:
    """Channel 1 of `features` reaches nothing: its four columns of w3 are zero; or no weight at all."""
    w = nets.weights_of(net())[cut].numpy().astype(np.float32)
    if cut == "w3":
        w[:, 4:8] = 0
        h = grown(net(w3=w), **ALL)
        assert 1 not in contributions(h) and len(contributions(h)) > 1
    else:
        h = grown(net(w4=0 * w), **ALL)
        assert len(h) == 1 and h.root.coverage == 0
        assert h.root.residual == pytest.approx(h.root.decision)


def test_a_dead_channel_is_never_a_child() -> None:
    h = grown(net(b2=np.array([0, -100, 0, 0, 0], np.float32)), **ALL)
    assert 1 not in contributions(h) and len(contributions(h)) > 1


def test_equal_channels_go_by_their_index() -> None:
    w1, w2 = np.ones((4, 3, 3, 3), np.float32), np.ones((5, 4, 3, 3), np.float32)
    w3 = np.ones((6, 20), np.float32)
    h = grown(
        net(w1=w1, w2=w2, w3=w3, w4=np.ones((4, 6), np.float32), **UNBIASED),
        x=np.ones((1, 3, 8, 8), np.float32),
    )
    assert [n.channel for n in h.children("root")] == [0, 1, 2]
    assert [n.channel for n in h.children("root/1")] == [0, 1, 2]


def test_max_nodes_keeps_the_largest_contributions() -> None:
    full = grown(net(), top_k=4, inhibitors=0)
    second = sorted((n.contribution for n in full.level(2)), reverse=True)
    room = len(full.level(1)) + 1 + 3
    h = grown(net(), top_k=4, inhibitors=0, max_nodes=room)
    assert len(h) == room
    assert sorted((n.contribution for n in h.level(2)), reverse=True) == second[:3]


def test_weak_nodes_are_not_expanded() -> None:
    h = grown(net(), min_root_share=0.3, min_share=0.0)
    for node in h.level(1):
        if not node.inhibits:
            assert (node.residual is not None) == (node.share >= 0.3)


def test_inhibitors_are_the_most_negative_and_have_no_children() -> None:
    every, two = grown(net(), **ALL), grown(net(), inhibitors=2)
    negative = sorted(c for c in contributions(every).values() if c < 0)
    assert len(negative) >= 2
    found = [n for n in two.level(1) if n.inhibits]
    assert sorted(n.contribution for n in found) == pytest.approx(negative[:2])
    assert all(n.residual is None and not two.children(n.id) for n in found)


# --- the planted net -----------------------------------------------------------------------------------
def planted() -> tuple[onnx.ModelProto, Array]:
    """Edge filters 2 (vertical) and 3 (horizontal) -> corner filter 1 where both meet -> class 2."""
    w1 = np.zeros((4, 1, 3, 3), np.float32)
    w1[2, 0, :, 0], w1[2, 0, :, 2] = -1, 1
    w1[3, 0, 0, :], w1[3, 0, 2, :] = -1, 1
    w1[0, 0, 1, 1], w1[1, 0, 1, 1] = -1, -1
    w2 = np.zeros((5, 4, 1, 1), np.float32)
    w2[1, 2], w2[1, 3] = 1, 1
    w2[0, 0], w2[2, 1] = 1, 1
    w = np.zeros((3, 5), np.float32)
    w[2, 1], w[0, 0], w[1, 2] = 1, 1, 1
    body = """
        c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, zero4)
        edges = Relu(c1)
        c2 = Conv(edges, w2, corner)
        corners = Relu(c2)
        m = GlobalMaxPool(corners)
        f = Flatten(m)
        z = Gemm<transB = 1>(f, w, zero3)
    """
    weights = {"zero4": np.zeros(4, np.float32), "zero3": np.zeros(3, np.float32)}
    corner = np.array([0, -3.5, 0, 0, 0], np.float32)
    head = "(float[N, 1, 9, 9] x) => (float[N, 3] z)"
    x = np.zeros((1, 1, 9, 9), np.float32)
    x[0, 0, 4:, 4:] = 1  # a bright quadrant: one corner at (4, 4)
    return nets.build(head, body, w1=w1, w2=w2, w=w, corner=corner, **weights), x


@pytest.mark.parametrize("seed", SEEDS)
def test_a_planted_path_is_found(seed: Any) -> None:
    proto, x = planted()
    h = decompose(nets.load(proto), x, None, ["corners", "edges"], seed=seed)
    assert h.root.channel == 2
    assert [n.channel for n in h.level(1)] == [1]
    assert {n.channel for n in h.level(2)} == {2, 3}
    (corner,) = h.level(1)
    assert corner.peak is not None and all(3 <= p <= 4 for p in corner.peak)
    assert corner.residual == pytest.approx(-3.5 * (1 if seed != "sum" else (corner.map > 0).sum()))


def test_one_position_s_evidence_lies_in_its_receptive_field() -> None:
    h = grown(net(), "max", top_k=4)
    checked = 0
    for node in h.leaves:
        if node.pixels is None or node.box is None:
            continue
        top, left, bottom, right = node.box
        inside = node.pixels[top:bottom, left:right]
        assert np.count_nonzero(inside) == np.count_nonzero(node.pixels)
        checked += int(inside.any() and inside.size < node.pixels.size)
    assert checked >= 3


# --- how it runs ---------------------------------------------------------------------------------------
def test_one_forward_and_one_batched_backward_per_level(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nets.load(net()), nets.images(1)
    with nets.counted_runs(monkeypatch) as rows:
        h = decompose(model, x, 2, LAYERS, top_k=2, inhibitors=0)
    parents = [1, len(h.level(1))]
    assert rows == [1, 1, 1, *parents, len(h.leaves)], (
        "three segments, two levels, the leaves' pixels"
    )


def test_a_batch_of_seeds_is_that_many_single_ones() -> None:
    model, x = nets.load(net()), nets.images(1)
    chain = Chain(start(model, x, 2), [model.layer(n) for n in LAYERS], pixels=True)
    seeds = nets.images(6, chain.activation(1).shape, seed=3)
    together = chain.pull(1, seeds, WEIGHTS["signed"])
    for i in range(6):
        alone = chain.pull(1, seeds[i : i + 1], WEIGHTS["signed"])
        np.testing.assert_allclose(together.planes([i], [2]), alone.planes([0], [2]), rtol=1e-6)
        np.testing.assert_allclose(together.contributions[i], alone.contributions[0], rtol=1e-6)
    low = nets.images(40, chain.activation(2).shape, seed=4)
    pixels = chain.pixels(low)
    np.testing.assert_allclose(pixels[35], chain.pixels(low[35:36])[0], rtol=1e-5, atol=1e-7)


def test_pixels_of_leaves_at_several_levels() -> None:
    """A leaf that stopped early is pulled down through the levels below it."""
    model, x = nets.load(net()), nets.images(1)
    h = decompose(model, x, 2, LAYERS, min_root_share=0.3, min_share=0.0)
    early = [n for n in h.leaves if n.level == 1]
    assert early and any(n.level == 2 for n in h.leaves)
    for node in early:
        g = ox.gradient(model, x, 2, wrt="features").values
        seed = np.zeros_like(g)
        seed[:, node.channel] = g[:, node.channel]
        program = model.program(("features",), ("x",))
        expected = program.forward({"x": x}).backward({"features": seed})["x"] * x
        np.testing.assert_allclose(node.pixels, expected.sum(1)[0], rtol=1e-4, atol=1e-6)


def test_many_images_are_decomposed_one_by_one() -> None:
    model, x = nets.load(net()), nets.images(3)
    classes = np.array([0, 2, 1])
    many = list(decompose_many(model, x, classes, layers=LAYERS))
    for i, h in enumerate(many):
        alone = decompose(model, x[i : i + 1], int(classes[i]), LAYERS)
        assert list(h.graph) == list(alone.graph) and nx.utils.graphs_equal(
            nx.DiGraph(h.graph.edges), nx.DiGraph(alone.graph.edges)
        )
        assert h.root.decision == alone.root.decision


def test_a_vector_layer_is_a_level_too() -> None:
    model, x = nets.load(net()), nets.images(1)
    h = decompose(model, x, 2, ["a3", *LAYERS], **ALL)
    w4 = nets.weights_of(net())["w4"].numpy()[2]
    a3 = model.values({"x": x}, ["a3"])["a3"][0]
    for k, c in contributions(h).items():
        assert c == pytest.approx(w4[k] * a3[k], rel=1e-4)
    assert h.level(1)[0].box == (0, 0, 8, 8)


def test_default_layers_are_the_last_cut_of_each_resolution() -> None:
    h = decompose(nets.load(net()), nets.images(1), 2)
    assert h.layers == LAYERS
    assert decompose(nets.load(net()), nets.images(1), 2, depth=1).layers == LAYERS[:1]


def test_inputs_are_left_as_they_were_and_meta_says_how() -> None:
    x = nets.images(1)
    before = x.copy()
    h = grown(net(), x=x)
    np.testing.assert_array_equal(x, before)
    assert h.meta["method"] == "decompose" and h.meta["seed"] == "path"
    assert h.meta["shapes"] == [[5, 4, 4], [4, 8, 8]]
    assert h.root.layer == "z", "the logit, not the probability"


def test_against_the_mean_every_contribution_is_that_of_the_class_minus_the_classes_mean() -> None:
    h = grown(net(), target=ox.Target.contrast(2, "mean"), **ALL)
    found = contributions(h)
    classes = [grown(net(), target=c, **ALL) for c in range(nets.CLASSES)]
    each = np.array([[contributions(x).get(k, 0.0) for k in range(5)] for x in classes])
    expected = each[2] - each.mean(0)
    np.testing.assert_allclose([found.get(k, 0.0) for k in range(5)], expected, atol=1e-6)
    scores = np.array([x.root.decision for x in classes])
    assert h.root.decision == pytest.approx(scores[2] - scores.mean(), rel=1e-5)
    assert h.meta["label"] == "2 minus the mean"


@pytest.mark.parametrize("pixels", [False, True])
def test_progress_is_told_before_and_after_every_level(pixels: bool) -> None:
    told: list[tuple[int, int]] = []
    grown(net(), pixels=pixels, progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_what_progress_raises_ends_the_work() -> None:
    def stop(done: int, of: int) -> None:
        if done == 1:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        grown(net(), progress=stop)


# --- what is refused -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seed": "paths"}, ConfigError, "path, root, max, sum"),
        ({"weight": "cam"}, ConfigError, "signed, positive, mean"),
        ({"top_k": 0}, ConfigError, "top_k"),
        ({"top_k": 1.5}, ConfigError, "top_k"),
        ({"max_nodes": 0}, ConfigError, "max_nodes"),
        ({"inhibitors": -1}, ConfigError, "inhibitors"),
        ({"min_share": 2}, ConfigError, "min_share"),
        ({"min_root_share": float("nan")}, ConfigError, "min_root_share"),
        ({"depth": 0}, ConfigError, "depth"),
        ({"layers": []}, LayerError, "one layer"),
        ({"layers": ["a1", "a1"]}, LayerError, "once"),
        ({"layers": ["nowhere"]}, LayerError, "nowhere"),
        ({"target": 99}, ox.OnnxplainError, "99"),
        ({"x": nets.images(2)}, InputError, "decompose_many"),
    ],
)
def test_bad_options_are_refused_in_words(options: dict[str, Any], error: Any, words: str) -> None:
    given = {"x": nets.images(1), "target": 2, "layers": LAYERS} | options
    with pytest.raises(error, match=words):
        decompose(nets.load(net()), given.pop("x"), **given)


def test_a_layer_that_is_no_cut_is_refused() -> None:
    body = """
        c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
        a1 = Relu(c1)
        c2 = Conv<pads = [1, 1, 1, 1]>(a1, w2, b2)
        sum = Add(a1, c2)
        g = GlobalAveragePool(sum)
        f = Flatten(g)
        z = Gemm<transB = 1>(f, w, b)
    """
    head = "(float[N, 3, 8, 8] x) => (float[N, 3] z)"
    proto = nets.build(
        head, body, w1=(4, 3, 3, 3), b1=(4,), w2=(4, 4, 3, 3), b2=(4,), w=(3, 4), b=(3,)
    )
    with pytest.raises(LayerError, match="c2"):
        decompose(nets.load(proto), nets.images(1), 0, ["c2"])


def test_an_input_of_five_channels_has_no_picture() -> None:
    head = "(float[N, 5, 8, 8] x) => (float[N, 3] z)"
    proto = nets.build(head, LINEAR_BODY, w1=(4, 5, 3, 3), b1=(4,), w=(3, 4), b=(3,))
    h = decompose(nets.load(proto), nets.images(1, (5, 8, 8)), 0)
    assert h.image is None and len(h) > 1
