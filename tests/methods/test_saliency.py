"""Signed saliency: the paper's worked example, its invariants, and a brute force over all classes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.errors import ConfigError, InputError, TargetError
from onnxplain.methods.saliency import Kind
from tests import nets

KINDS = get_args(Kind)
Array = np.ndarray[Any, Any]


def by_definition(kind: str, g: Array, classes: Array) -> Array:
    """Return the map of each image from all gradients g [C, N, k, H, W], as METHODS writes it down."""
    maps = []
    for n, c in enumerate(classes):
        mine, others = g[c, n], np.delete(g[:, n], c, axis=0)
        kept = {
            "absolute": abs(mine),
            "positive": np.clip(mine, 0, None),
            "negative": np.clip(-mine, 0, None),
            "active": np.where((mine > others).all(0), abs(mine), 0),
            "inactive": np.where((mine < others).all(0), abs(mine), 0),
        }
        maps.append(kept[kind].max(0))
    return np.stack(maps)


def grey_net(classes: int = 2, **changes: Any) -> Any:
    """Return `conv_net` for one channel, where pixels are elements."""
    head = f"(float[N, 1, 8, 8] x) => (float[N, {classes}] y)"
    return nets.conv_net(
        head, **{"w1": (4, 1, 3, 3), "w4": (classes, 6), "b4": (classes,)} | changes
    )


# --- numbers -------------------------------------------------------------------------------------------
# Three classes, two channels (rows), two pixels; the third channel says nothing.
EXAMPLE = np.array([
    [[0.5, -0.2], [-0.4, 0.1], [0, 0]],
    [[0.3, 0.1], [-0.6, -0.3], [0, 0]],
    [[-0.1, -0.1], [-0.5, 0.2], [0, 0]],
], np.float32).reshape(3, 3, 1, 2)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("absolute", [0.5, 0.2]),
        ("positive", [0.5, 0.1]),
        ("negative", [0.4, 0.2]),
        ("active", [0.5, 0.0]),
        ("inactive", [0.0, 0.2]),
    ],
)
def test_worked_example(kind: Any, expected: list[float]) -> None:
    model = nets.load(nets.linear_net(EXAMPLE, bias=np.array([9, 0, 0])), preprocess="unit")
    found = ox.saliency(model, np.ones((1, 3, 1, 2), np.float32), kind=kind)
    assert found.classes.tolist() == [0]
    np.testing.assert_array_equal(found.values, np.float32([[expected]]))


@pytest.mark.parametrize("kind", KINDS)
def test_linear_model_in_closed_form(kind: Any) -> None:
    """Its gradients are its weights, to the bit, wherever they are taken."""
    gradients = np.random.default_rng(4).normal(size=(6, 3, 4, 5)).astype(np.float32)
    model = nets.load(nets.linear_net(gradients))
    x = nets.images(3, (3, 4, 5))
    found = ox.saliency(model, x, kind=kind, space="input")
    z = x.reshape(3, -1) @ gradients.reshape(6, -1).T
    assert found.classes.tolist() == z.argmax(1).tolist()
    expected = by_definition(kind, np.repeat(gradients[:, None], 3, 1), found.classes)
    np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [None, 2, [3, 0, 1]], ids=["predicted", "one", "each"])
def test_conv_net_by_definition(kind: Any, target: Any) -> None:
    proto, x = nets.conv_net(), nets.images()
    found = ox.saliency(nets.load(proto), x, target, kind=kind, space="input")
    explained = nets.load(proto).predict(x).classes if target is None else np.resize(target, 3)
    assert found.classes.tolist() == explained.tolist()
    expected = by_definition(kind, nets.jacobian(proto, x), explained)
    assert expected.max() > 0
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["active", "inactive"])
def test_ten_classes_cost_one_forward_and_ten_seeds(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = nets.conv_net("(float[N, 3, 8, 8] x) => (float[N, 10] y)", w4=(10, 6), b4=(10,))
    model, x = nets.load(proto), nets.images(1)
    with nets.counted_runs(monkeypatch) as rows:
        found = ox.saliency(model, x, kind=kind, space="input")
    assert rows == [1, 4, 4, 2], "an image forward, then seeds backward"
    expected = by_definition(kind, nets.jacobian(proto, x), found.classes)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.meta["classes_compared"] == 10


# --- invariants ----------------------------------------------------------------------------------------
def test_absolute_is_the_larger_of_positive_and_negative() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    absolute, positive, negative = (
        ox.saliency(model, x, kind=kind).values for kind in ("absolute", "positive", "negative")
    )
    np.testing.assert_array_equal(absolute, np.maximum(positive, negative))


@pytest.mark.parametrize("pair", [("positive", "negative"), ("active", "inactive")])
def test_opposite_masks_are_disjoint(pair: tuple[Any, Any]) -> None:
    model, x = nets.load(grey_net(classes=5)), nets.images(3, (1, 8, 8))
    one, other = (ox.saliency(model, x, kind=kind).values > 0 for kind in pair)
    assert one.any() and other.any() and not (one & other).any()


def test_two_classes_are_active_inactive_or_tied() -> None:
    proto, x = grey_net(classes=2), nets.images(3, (1, 8, 8))
    model = nets.load(proto)
    active, inactive, absolute = (
        ox.saliency(model, x, kind=kind).values for kind in ("active", "inactive", "absolute")
    )
    g = nets.jacobian(proto, x)[:, :, 0]
    expected = np.where(
        g[0] != g[1], absolute, 0
    )  # from one run; a backward of two seeds rounds otherwise
    np.testing.assert_allclose(active + inactive, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal((active + inactive) > 0, expected > 0)


@pytest.mark.parametrize("pair", [("positive", "negative"), ("active", "inactive")])
def test_negating_all_logits_swaps_opposites(pair: tuple[Any, Any]) -> None:
    proto, x = nets.conv_net(), nets.images()
    last = {k: v.numpy().astype(np.float32) for k, v in nets.weights_of(proto).items()}
    negated = nets.load(nets.conv_net(w4=-last["w4"], b4=-last["b4"]))
    model, held = nets.load(proto), [0, 1, 2]
    for kind, opposite in (pair, pair[::-1]):
        np.testing.assert_array_equal(
            ox.saliency(negated, x, held, kind=kind).values,
            ox.saliency(model, x, held, kind=opposite).values,
        )


@pytest.mark.parametrize("kind", ["active", "inactive"])
def test_what_raises_every_class_alike_keeps_the_masks(kind: Any) -> None:
    x = nets.images(3, (1, 8, 8))
    shift = "flat_x = Flatten(x) s = Gemm(flat_x, shift) z = Add(z0, s)"
    body = nets.BODY.replace("z = Gemm", "z0 = Gemm").replace("y = Soft", f"{shift} y = Soft")
    plain = ox.saliency(nets.load(grey_net(4)), x, 1, kind=kind).values
    shifted = ox.saliency(nets.load(grey_net(4, body=body, shift=(64, 1))), x, 1, kind=kind).values
    assert not np.allclose(plain, shifted)
    np.testing.assert_array_equal(plain > 0, shifted > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_all_logits_keeps_the_pictures(kind: Any) -> None:
    proto, x = nets.conv_net(), nets.images()
    last = {k: v.numpy().astype(np.float32) for k, v in nets.weights_of(proto).items()}
    scaled = nets.load(nets.conv_net(w4=4 * last["w4"], b4=4 * last["b4"]))  # 4: exact in float
    one, four = (ox.saliency(m, x, kind=kind) for m in (nets.load(proto), scaled))
    np.testing.assert_array_equal(four.values, 4 * one.values)
    np.testing.assert_array_equal(four.heatmap(), one.heatmap())
    assert one.heatmap().min() == 0 and one.heatmap().max() == 1


def test_constant_map_draws_as_zeros() -> None:
    model = nets.load(nets.linear_net(np.full((2, 3, 4, 4), 0.25)))
    positive, negative = (
        ox.saliency(model, nets.images(2, (3, 4, 4)), 0, kind=kind)
        for kind in ("positive", "negative")
    )
    np.testing.assert_array_equal(positive.values, np.full((2, 4, 4), np.float32(0.25)))
    for found in (positive, negative):
        np.testing.assert_array_equal(found.heatmap(), np.zeros((2, 4, 4), np.float32))


# --- spaces and layouts --------------------------------------------------------------------------------
def test_pixel_space_carries_the_normalisation_through() -> None:
    """The input is (pixel - mean) / std, so that a colour with a small std weighs more per pixel."""
    proto, x, std = nets.conv_net(), nets.images(), np.array([2.0, 0.5, 0.125])
    settings = {"scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": std.tolist()}
    model = nets.load(proto, preprocess=settings)
    g, classes = nets.jacobian(proto, x), model.predict(x).classes
    for space, gradients in (("pixel", g / std.reshape(3, 1, 1)), ("input", g), ("auto", None)):
        found = ox.saliency(model, x, kind="active", space=space)
        assert found.meta["space"] == ("input" if space == "input" else "pixel")
        per_pixel = g / std.reshape(3, 1, 1) if gradients is None else gradients
        expected = by_definition("active", per_pixel, classes)
        np.testing.assert_allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_equals_channels_first(kind: Any) -> None:
    x = nets.images()
    first = ox.saliency(nets.load(nets.conv_net()), x, kind=kind)
    last = ox.saliency(nets.load(nets.nhwc_net()), x.transpose(0, 2, 3, 1), kind=kind)
    np.testing.assert_allclose(last.values, first.values, atol=1e-7)


def test_contrast_of_two_classes() -> None:
    proto, x = nets.conv_net(), nets.images()
    found = ox.saliency(nets.load(proto), x, ox.Target.contrast(2, 0), space="input")
    g = nets.jacobian(proto, x)
    np.testing.assert_allclose(found.values, np.clip(g[2] - g[0], 0, None).max(1), atol=1e-6)


# --- more than twenty classes --------------------------------------------------------------------------
def test_auto_compares_with_the_highest_logits_and_says_so() -> None:
    gradients = np.random.default_rng(5).normal(size=(25, 3, 4, 4)).astype(np.float32)
    model, x = nets.load(nets.linear_net(gradients)), nets.images(1, (3, 4, 4))
    auto, every = (
        ox.saliency(model, x, kind="active", classes=c, space="input") for c in ("auto", "all")
    )
    assert (auto.meta["classes_compared"], every.meta["classes_compared"]) == (20, 25)
    highest = np.argsort(-model.predict(x).logits[0])[:20]
    expected = by_definition("active", gradients[highest, None], np.array([0]))
    np.testing.assert_array_equal(auto.values, expected)
    expected = by_definition("active", gradients[:, None], every.classes)
    np.testing.assert_array_equal(every.values, expected)
    assert not np.array_equal(auto.values, every.values)


def test_auto_compares_all_of_twenty_classes() -> None:
    gradients = np.random.default_rng(6).normal(size=(20, 3, 4, 4)).astype(np.float32)
    model, x = nets.load(nets.linear_net(gradients)), nets.images(2, (3, 4, 4))
    auto = ox.saliency(model, x, target=7, kind="inactive")
    assert auto.meta["classes_compared"] == 20
    assert auto == ox.saliency(model, x, target=7, kind="inactive", classes="all")


def test_seeds_run_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = np.random.default_rng(7).normal(size=(70, 3, 4, 4)).astype(np.float32)
    model, x = nets.load(nets.linear_net(gradients)), nets.images(1, (3, 4, 4))
    with nets.counted_runs(monkeypatch) as rows:
        found = ox.saliency(model, x, kind="active", classes="all", space="input")
    assert rows == [1, *[4] * 17, 2]
    expected = by_definition("active", gradients[:, None], found.classes)
    np.testing.assert_array_equal(found.values, expected)


def test_attention_takes_seeds_one_by_one() -> None:
    head, body = (
        "(float[N, 3, 8, 8] x) => (float[N, 4] z)",
        """
        k = Constant<value_ints = [0, 3, 64]>()
        t = Reshape(x, k)
        u = Transpose<perm = [0, 2, 1]>(t)
        p = MatMul(t, u)
        m = ReduceMean<keepdims = 0>(p, axis)
        z = MatMul(m, w)
    """,
    )
    model = nets.load(nets.build(head, body, axis=np.array([1]), w=(3, 4)))
    assert model.graph.attends and model.seeds_at_once == 1
    assert nets.load(nets.conv_net()).seeds_at_once == 4


# --- refusals ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["active", "inactive"])
def test_a_single_class_has_nothing_to_compare_with(kind: Any) -> None:
    model = nets.load(nets.linear_net(np.ones((1, 3, 4, 4))))
    with pytest.raises(TargetError, match="only one"):
        ox.saliency(model, nets.images(1, (3, 4, 4)), kind=kind)
    assert ox.saliency(model, nets.images(1, (3, 4, 4)), kind="positive").values.max() == 1


def test_active_needs_a_class() -> None:
    with pytest.raises(TargetError, match="active saliency compares classes: give a class"):
        ox.saliency(
            nets.load(nets.conv_net()), nets.images(), ox.Target.contrast(1, 0), kind="active"
        )


@pytest.mark.parametrize("option", ["kind", "classes", "space"])
def test_a_typo_is_told_the_choices(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"saliency {option} 'postive' is unknown: choose \w+, "):
        ox.saliency(nets.load(nets.conv_net()), nets.images(), **{option: "postive"})


def test_tabular_input_is_refused_with_the_way_out() -> None:
    model = nets.load(nets.build("(float[N, 5] x) => (float[N, 3] y)", "y = Gemm(x, w)", w=(5, 3)))
    with pytest.raises(InputError, match=r"is not a picture; use onnxplain\.gradient"):
        ox.saliency(model, np.ones((1, 5), np.float32))
