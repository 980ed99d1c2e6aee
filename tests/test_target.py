"""Targets: what is explained becomes one seed, whose product with the output is the score."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import torch

import onnxplain as ox
from onnxplain.errors import TargetError
from onnxplain.target import Classes, as_target, parse_target
from tests import nets

Array = np.ndarray[Any, Any]
LOGITS = np.float32([[0.5, 3, -1], [2, 2, 1], [-3, -2, -1]])
MAPS = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)  # e.g. a segmentation


def seed_of(values: Array, *places: Any) -> Array:
    """Return ones at `places`, an index expression each, per image."""
    seed = np.zeros(values.shape, np.float32)
    for place in places:
        seed[place] = 1
    return seed


# --- classes -------------------------------------------------------------------------------------------
def test_none_is_the_predicted_class_the_lowest_of_equals() -> None:
    seeds = as_target(None, 3).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, np.eye(3)[[1, 0, 2]])
    assert seeds.classes.tolist() == [1, 0, 2] and seeds.scores.tolist() == [3, 2, -1]


@pytest.mark.parametrize(("given", "index"), [(2, 2), (-1, 2), (-3, 0), (np.int64(1), 1)])
def test_one_class_for_all_images(given: Any, index: int) -> None:
    for target in (given, ox.Target(index=given)):
        seeds = as_target(target, 3).seeds(LOGITS)
        np.testing.assert_array_equal(seeds.seed, np.eye(3)[[index] * 3])
        assert seeds.classes.tolist() == [index] * 3
        assert seeds.scores.tolist() == LOGITS[:, index].tolist()


@pytest.mark.parametrize("kind", [list, tuple, np.array, np.uint8])
def test_one_class_per_image(kind: Any) -> None:
    seeds = as_target(kind([2, 0, 1]), 3).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, np.eye(3)[[2, 0, 1]])
    assert seeds.classes.tolist() == [2, 0, 1] and seeds.scores.tolist() == [-1, 2, -2]


def test_negative_classes_per_image_count_from_the_end() -> None:
    assert as_target([-1, 0, -2], 3).seeds(LOGITS).classes.tolist() == [2, 0, 1]


@pytest.mark.parametrize("target", [3, -4, [0, 1, 3], ox.Target(index=3), ox.Target.contrast(0, 3)])
def test_a_class_out_of_range_is_told_the_range(target: Any) -> None:
    with pytest.raises(
        TargetError, match=r"class -?\d does not exist: this model has 3 \(0\.\.2\)"
    ):
        as_target(target, 3).seeds(LOGITS)


@pytest.mark.parametrize("target", [[0, 1], [0, 1, 2, 0], np.zeros(0, int)])
def test_the_number_of_classes_must_be_that_of_the_images(target: Any) -> None:
    with pytest.raises(TargetError, match=rf"{len(target)} classes were given for 3 images"):
        as_target(target, 3)
    with pytest.raises(TargetError, match=rf"{len(target)} classes were given for 3 images"):
        Classes(np.asarray(target)).seeds(LOGITS)


@pytest.mark.parametrize(
    "target", ["cat", 1.5, [0.0, 1.0, 2.0], True, [[0], [1], [2]], {"index": 1}]
)
def test_anything_else_is_told_what_a_target_is(target: Any) -> None:
    with pytest.raises(TargetError, match=r"is not a class number, one class per image, or"):
        as_target(target, 3)


@pytest.mark.parametrize("index", [1.5, "cat", (0.5,), [1.0]])
def test_an_index_must_be_whole_numbers_or_slices(index: Any) -> None:
    with pytest.raises(TargetError, match="index"):
        ox.Target(index=index).seeds(LOGITS)


# --- contrasts -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [int, np.int64])
def test_contrast(kind: type) -> None:
    seeds = ox.Target.contrast(kind(0), kind(2)).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, [[1, 0, -1]] * 3)
    assert seeds.classes.tolist() == [-1] * 3 and seeds.scores.tolist() == [1.5, 1, -2]


def test_contrast_with_the_predicted_class() -> None:
    seeds = ox.Target(minus=0).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, [[-1, 1, 0], [0, 0, 0], [-1, 0, 1]])
    assert seeds.scores.tolist() == [2.5, 0, 2]


def test_contrast_with_the_mean_of_all_classes() -> None:
    seeds = ox.Target.contrast(1, "mean").seeds(LOGITS)
    np.testing.assert_allclose(seeds.scores, LOGITS[:, 1] - LOGITS.mean(1), atol=1e-6)
    assert seeds.classes.tolist() == [-1] * 3
    predicted = ox.Target(minus="mean").seeds(LOGITS)
    np.testing.assert_allclose(predicted.scores, LOGITS.max(1) - LOGITS.mean(1), atol=1e-6)


def test_the_mean_of_a_class_map_is_over_the_classes() -> None:
    found = ox.Target((2, slice(1, 4)), minus="mean").seeds(MAPS).scores
    margin = MAPS[:, 2] - MAPS.astype(np.float64).mean(1)
    np.testing.assert_allclose(found, margin[:, 1:4].sum((1, 2)), rtol=1e-5)
    weights = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    found = ox.Target(2, minus="mean", weights=weights).seeds(MAPS).scores
    np.testing.assert_allclose(found, (margin * weights).sum((1, 2)), rtol=1e-5)


def test_one_class_has_no_mean_to_differ_from() -> None:
    with pytest.raises(TargetError, match="0 minus the mean: there is but one class"):
        ox.Target.contrast(0, "mean").seeds(LOGITS[:, :1])
    with pytest.raises(TargetError, match="whole numbers"):
        ox.Target(0, minus="median")  # type: ignore[arg-type]


def test_a_contrast_is_linear() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    found = ox.gradient(model, x, ox.Target.contrast(3, 1))
    a, b = (ox.gradient(model, x, c) for c in (3, 1))
    np.testing.assert_allclose(found.values, a.values - b.values, atol=1e-6)
    np.testing.assert_allclose(found.scores, a.scores - b.scores, atol=1e-6)


# --- other outputs -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("index", "place"),
    [
        ((1, 2, 3), np.s_[:, 1, 2, 3]),
        ((-1, 0, -8), np.s_[:, 3, 0, 0]),
        (2, np.s_[:, 2]),
        ((2,), np.s_[:, 2]),
        ((1, slice(2, 4)), np.s_[:, 1, 2:4]),
        ((slice(None), 5, 7), np.s_[:, :, 5, 7]),
        ((np.int64(1), 2, 3), np.s_[:, 1, 2, 3]),
    ],
)
def test_elements_and_slices(index: Any, place: Any) -> None:
    seeds = ox.Target(index=index).seeds(MAPS)
    np.testing.assert_array_equal(seeds.seed, seed_of(MAPS, place))
    expected = MAPS[place].reshape(2, -1).astype(np.float64).sum(1)
    np.testing.assert_allclose(seeds.scores, expected)
    assert seeds.classes.tolist() == [-1, -1]


def test_none_is_the_largest_element_of_each_image() -> None:
    seeds = ox.Target().seeds(MAPS)
    np.testing.assert_array_equal(seeds.scores, MAPS.max((1, 2, 3)))
    np.testing.assert_array_equal(seeds.seed.sum((1, 2, 3)), [1, 1])
    assert seeds.classes.tolist() == [-1, -1]


@pytest.mark.parametrize("index", [4, (-5,), (0, 6), (0, 0, 8), (0, 0, 0, 0)])
def test_elements_out_of_range(index: Any) -> None:
    with pytest.raises(TargetError, match=r"index .* (lies outside|has more axes than)"):
        ox.Target(index=index).seeds(MAPS)


def test_a_slice_of_nothing_is_refused() -> None:
    with pytest.raises(TargetError, match="selects nothing"):
        ox.Target(index=(1, slice(6, 9))).seeds(MAPS)


def test_weights_multiply_what_is_selected() -> None:
    mask = np.zeros((6, 8))
    mask[1:3, 4] = [1, 0.5]
    seeds = ox.Target(index=2, weights=mask).seeds(MAPS)
    np.testing.assert_array_equal(seeds.seed[:, 2], np.float32([mask] * 2))
    assert not seeds.seed[:, [0, 1, 3]].any()
    np.testing.assert_allclose(seeds.scores, MAPS[:, 2, 1, 4] + 0.5 * MAPS[:, 2, 2, 4], rtol=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_weights_without_an_index_are_those_of_the_last_axes(axes: int) -> None:
    weights = np.random.default_rng(1).normal(size=MAPS.shape[-axes:]).astype(np.float32)
    seeds = ox.Target(weights=weights).seeds(MAPS)
    np.testing.assert_array_equal(seeds.seed, np.broadcast_to(weights, MAPS.shape))
    expected = (MAPS.astype(np.float64) * weights).sum((1, 2, 3))
    np.testing.assert_allclose(seeds.scores, expected, rtol=1e-6)
    assert seeds.classes.tolist() == [-1, -1]


def test_a_single_weight_turns_the_sign() -> None:
    seeds = ox.Target(index=1, weights=-1).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, [[0, -1, 0]] * 3)
    assert seeds.scores.tolist() == [-3, -2, 2] and seeds.classes.tolist() == [-1, -1, -1]


def test_weights_multiply_a_contrast_and_what_is_above() -> None:
    seeds = ox.Target(index=0, minus=2, weights=[1, 1, 3]).seeds(LOGITS)
    np.testing.assert_array_equal(seeds.seed, [[1, 0, -3]] * 3)
    seeds = ox.Target(weights=[2, 2, 5], above=0.4).seeds(LOGITS[:2])
    np.testing.assert_array_equal(seeds.seed, [[2, 2, 0], [2, 2, 5]])


@pytest.mark.parametrize(
    "weights", [np.ones((8, 6)), np.ones(6), np.ones((2, 6, 8)), [[1, 2]], np.ones((2, 4, 6, 8))]
)
def test_weights_of_another_shape(weights: Array) -> None:
    with pytest.raises(TargetError, match=r"weights .* do not fit an output of shape \(4, 6, 8\)"):
        ox.Target(index=2, weights=weights).seeds(MAPS)


@pytest.mark.parametrize("weights", ["ones", [0.0, 0], [1, np.nan], [1e300, 0], [1j], [None]])
def test_weights_must_be_numbers(weights: Any) -> None:
    with pytest.raises(TargetError, match="weights must be finite numbers, some of them not zero"):
        ox.Target(weights=weights)


@pytest.mark.parametrize("above", [np.nan, np.inf, "2", [1]])
def test_a_threshold_must_be_a_number(above: Any) -> None:
    with pytest.raises(TargetError, match="above must be a finite number"):
        ox.Target(index=0, above=above)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0, 0, 1, 1), slice(0, 6), slice(0, 8)),
        ((0.5, 0, 1, 0.5), slice(0, 3), slice(4, 8)),
        ((0.2, 0.4, 0.3, 0.6), slice(2, 4), slice(1, 3)),  # what it touches
        ((0.99, 0.99, 1, 1), slice(5, 6), slice(7, 8)),
    ],
)
def test_box(box: Any, rows: slice, columns: slice) -> None:
    """Left, top, right, bottom of an output of 6 rows and 8 columns."""
    seeds = ox.Target.box(3, box, (6, 8)).seeds(MAPS)
    np.testing.assert_array_equal(seeds.seed, seed_of(MAPS, np.s_[:, 3, rows, columns]))


@pytest.mark.parametrize("step", [7, 29, 57])
def test_a_box_of_whole_rows_takes_no_more(step: int) -> None:
    """Products such as 0.07 * 100 are not whole in floating point."""
    weights = ox.Target.box(0, (0, step / 100, 1, (step + 7) / 100), (100, 2)).weights
    assert weights is not None
    assert np.flatnonzero(weights[:, 0]).tolist() == list(range(step, step + 7))


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 2), (0, 0, 1)]
)
def test_box_without_area_or_outside(box: Any) -> None:
    with pytest.raises(
        TargetError, match=r"must be left, top, right, bottom in 0\.\.1 with an area"
    ):
        ox.Target.box(0, box, (6, 8))


# --- in a model ----------------------------------------------------------------------------------------
def test_segmentation_output() -> None:
    """A 1 x 1 convolution: the sum of a class over a mask has its weights there as gradient."""
    body = "y = Conv(x, w)"
    proto = nets.build("(float[N, 3, 6, 8] x) => (float[N, 4, 6, 8] y)", body, w=(4, 3, 1, 1))
    model, x = nets.load(proto), nets.images(2, (3, 6, 8))
    w = nets.weights_of(proto)["w"].numpy()[2, :, 0, 0]
    mask = np.random.default_rng(1).random((6, 8)).astype(np.float32)
    found = ox.gradient(model, x, ox.Target(index=2, weights=mask))
    expected = np.multiply.outer(w, mask)
    np.testing.assert_allclose(found.values, [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(found.scores, (x * expected).sum((1, 2, 3)), rtol=1e-5)


def test_outputs_and_layers_by_name() -> None:
    side = "mean = GlobalAveragePool(c1) m = Flatten(mean) side = Gemm(m, ws)"
    head = "(float[N, 3, 8, 8] x) => (float[N, 4] y, float[N, 5] side)"
    model = nets.load(nets.conv_net(head, nets.BODY + side, ws=(4, 5)))
    x = nets.images()
    values = model.fit(x)[0].values({"x": x}, ("z", "side", "c1"))
    for name, index, tensor in (("side", 4, "side"), ("y", 3, "z"), ("c1", (1, 2, 3), "c1")):
        found = ox.gradient(model, x, ox.Target(index=index, output=name))
        place = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        np.testing.assert_array_equal(found.scores, values[tensor][place])
        assert found.meta["explained"] == tensor
    assert (
        ox.saliency(model, x, ox.Target(index=1, output="side"), kind="active").meta[
            "classes_compared"
        ]
        == 5
    )
    with pytest.raises(TargetError, match="has no output 'sides'; it has y, side"):
        ox.gradient(model, x, ox.Target(index=0, output="sides"))


def test_an_output_without_a_row_per_image_is_no_target() -> None:
    """What NonMaxSuppression leaves has a row per box; the scores before it can be explained."""
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[N, 3] x) => (float[N, 3] y, int64[2, M] kept) {
        y = Mul (x, x)  kept = NonZero (y) }"""
    model = ox.load(onnx.parser.parse_model(text), device="cpu")
    x = np.float32([[1, -2, 3]])
    found = ox.gradient(model, x, ox.Target(1, output="y"))
    np.testing.assert_array_equal(found.values, [[0, -4, 0]])
    with pytest.raises(TargetError, match="output 'kept' has no row for each image; explain y"):
        ox.gradient(model, x, ox.Target(0, output="kept"))


def test_the_logit_has_a_name_too() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    named = ox.gradient(model, x, ox.Target(index=2, output="z"))
    np.testing.assert_array_equal(named.values, ox.gradient(model, x, 2).values)


# --- embeddings ----------------------------------------------------------------------------------------
UNIT = "n = ReduceL2(z, last) y = Div(z, n)"
EMBEDDING = nets.BODY.replace("y = Softmax<axis = 1>(z)", "")


def embedder(unit: bool) -> ox.Model:
    """Return `conv_net` as an embedder of 4 numbers, of length 1 or of any."""
    if not unit:
        body = EMBEDDING.replace("z = Gemm", "y = Gemm")
        return nets.load(nets.conv_net(body=body))
    return nets.load(nets.conv_net(body=EMBEDDING + UNIT, last=np.array([1])))


def embeddings(x: torch.Tensor, unit: bool) -> torch.Tensor:
    z = nets.torch_logits(nets.weights_of(nets.conv_net()), x)
    return z / z.norm(dim=1, keepdim=True) if unit else z


@pytest.mark.parametrize("unit", [False, True])
def test_likeness_to_another_image_against_autograd(unit: bool) -> None:
    """With unit embeddings the score is the cosine."""
    model, x = embedder(unit), nets.images(4)
    target = ox.similar(model, x[3:])
    found = ox.gradient(model, x[:3], target)
    at = nets.double(x[:3])
    other = embeddings(torch.tensor(x[3:], dtype=torch.float64), unit)[0]
    score = embeddings(at, unit) @ (other / other.norm())
    (expected,) = torch.autograd.grad(score.sum(), at)
    np.testing.assert_allclose(found.scores, score.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-6)
    assert found.classes.tolist() == [-1] * 3 and found.meta["target"] == "similar to another image"
    if unit:
        cosine = torch.cosine_similarity(embeddings(at, False), other[None])
        np.testing.assert_allclose(found.scores, cosine.detach(), rtol=1e-5)


def test_likeness_against_finite_differences() -> None:
    model, x = embedder(unit=True), nets.images(2)
    found = ox.gradient(model, x[:1], ox.similar(model, x[1:])).values[0]
    other = embeddings(torch.tensor(x[1:], dtype=torch.float64), True)[0]
    rng, step = np.random.default_rng(0), 1e-6
    for _ in range(5):
        v = rng.normal(size=x[0].shape)
        ends = [embeddings(torch.tensor(x[:1] + s * step * v), True)[0] @ other for s in (1, -1)]
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert abs(slope - (found * v).sum()) < 1e-4 * np.linalg.norm(found) * np.linalg.norm(v)


def test_an_image_is_most_like_itself() -> None:
    model, x = embedder(unit=True), nets.images(6)
    for i in range(6):
        scores = ox.gradient(model, x, ox.similar(model, x[i])).scores
        assert scores.argmax() == i and scores[i] == pytest.approx(1, abs=1e-6)


def test_likeness_shares_out_among_channels() -> None:
    """LIFT-CAM of a linear target is complete: its weights sum to the rise of the score."""
    model, x = embedder(unit=False), nets.images(3)
    target = ox.similar(model, x[2:])
    found = ox.cam(model, x[:2], target, layer="features")
    program = model.program(("y",), ("features",))
    nothing = program.tail({"features": np.zeros((1, 5, 4, 4), np.float32)})["y"]
    rise = found.scores - (nothing * target.weights).sum()
    np.testing.assert_allclose(found.weights.sum(1), rise, rtol=1e-4, atol=1e-6)


def test_likeness_refuses() -> None:
    model, x = embedder(unit=False), nets.images(2)
    with pytest.raises(TargetError, match="similar compares with one image, got 2"):
        ox.similar(model, x)
    with pytest.raises(TargetError, match="has no output 'face'; it has y"):
        ox.similar(model, x[:1], output="face")
    with pytest.raises(TargetError, match="some of them not zero"):
        ox.Target.similar(np.zeros(4))
    with pytest.raises(TargetError, match=r"weights of shape \(3,\) do not fit an output"):
        ox.gradient(model, x, ox.Target.similar(np.ones(3)))


# --- in words ------------------------------------------------------------------------------------------
LABELS = ["tabby", "Egyptian cat", "T-shirt", "jack-o'-lantern", "T", "shirt", "cat [Felis]"]


@pytest.mark.parametrize(
    ("text", "index", "minus", "output"),
    [
        ("281", 281, None, None),
        (" 7 ", 7, None, None),
        ("tabby", 0, None, None),
        ("T-shirt", 2, None, None),
        ("jack-o'-lantern", 3, None, None),
        ("cat [Felis]", 6, None, None),
        ("281-285", 281, 285, None),
        ("281 - 285", 281, 285, None),
        ("tabby - Egyptian cat", 0, 1, None),
        ("tabby-5", 0, 5, None),
        ("T-shirt - tabby", 2, 0, None),
        ("tabby-T-shirt", 0, 2, None),
        ("T - shirt", 4, 5, None),
        ("boxes[17,2]", (17, 2), None, "boxes"),
        ("a/b:0[ 1, -1 ]", (1, -1), None, "a/b:0"),
        ("[3]", (3,), None, None),
    ],
)
def test_parse_target(text: str, index: Any, minus: int | None, output: str | None) -> None:
    found = parse_target(text, LABELS)
    assert (found.index, found.minus, found.output) == (index, minus, output)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog", "is none of: a class number, a label, A-B, A-mean, or output"),
        ("", "is none of"),
        ("-1", "is none of"),
        ("1-", "is none of"),
        ("1-dog", "is none of"),
        ("1.5", "is none of"),
        ("²", "is none of"),
        ("1-²", "is none of"),
        ("boxes[]", r"'boxes\[\]': indices must be whole numbers or ranges, as in scores\[17,1\]"),
        ("boxes[a]", "indices must be whole numbers"),
        ("boxes[1:x]", "indices must be whole numbers"),
        ("boxes[1]>high", "indices must be whole numbers"),
        ("boxes]", "is none of"),
    ],
)
def test_parse_target_refuses(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_target(text, LABELS)


def test_without_labels_none_are_offered() -> None:
    with pytest.raises(TargetError, match="'tabby' is none of: a class number, A-B"):
        parse_target("tabby")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, "largest element"),
        (3, "3"),
        ([0, 1, 2], "one class per image"),
        (ox.Target.contrast(1, 2), "1 minus 2"),
        (ox.Target(index=(4, 0), output="boxes"), "[4, 0] of 'boxes'"),
        (ox.Target(index=(slice(None), 1), output="scores", above=2), "[:, 1] of 'scores' above 2"),
        (ox.Target.box(1, (0, 0, 1, 1), (2, 2)), "1 times 2 x 2 weights"),
        (ox.Target(weights=[1, 2, 3], output="e"), "everything of 'e' times 3 weights"),
        (ox.Target(index=0, weights=-1), "0 times -1"),
        (ox.Target.similar(np.ones(3), name="like a cat"), "like a cat"),
    ],
)
def test_words_for_titles(target: Any, words: str) -> None:
    assert str(as_target(target, 3)) == words


def test_ranges_and_thresholds_as_typed() -> None:
    """What a detector's user types: all anchors whose second score is above 2."""
    target = parse_target("scores[:,1]>2")
    assert (target.output, target.above) == ("scores", 2.0)
    values = np.array([[[9, 1], [0, 3], [0, 2.5]], [[0, 5], [0, 0], [0, 0]]], np.float32)
    seeds = target.seeds(values)
    expected = [[[0, 0], [0, 1], [0, 1]], [[0, 1], [0, 0], [0, 0]]]
    np.testing.assert_array_equal(seeds.seed, expected)
    assert seeds.scores.tolist() == [5.5, 5.0]
    assert parse_target("scores[1:3,0]").index == (slice(1, 3), 0)


def test_a_threshold_that_nothing_passes_is_refused() -> None:
    with pytest.raises(
        TargetError, match=r"target \[:, 1\] above 9: in some image nothing is above 9"
    ):
        ox.Target(index=(slice(None), 1), above=9).seeds(np.zeros((2, 3, 2), np.float32))


# --- docs ----------------------------------------------------------------------------------------------
def test_the_examples_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent
    monkeypatch.chdir(root)
    found = doctest.testfile(str(root / "docs" / "targets.md"), module_relative=False)
    assert found.failed == 0 and found.attempted > 20
