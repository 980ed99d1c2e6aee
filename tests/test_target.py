"""Targets: what is explained becomes one seed, whose product with the output is the score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


def test_region_weighs_every_position() -> None:
    region = np.zeros((6, 8))
    region[1:3, 4] = [1, 0.5]
    seeds = ox.Target(index=2, region=region).seeds(MAPS)
    np.testing.assert_array_equal(seeds.seed[:, 2], np.float32([region] * 2))
    assert not seeds.seed[:, [0, 1, 3]].any()
    np.testing.assert_allclose(seeds.scores, MAPS[:, 2, 1, 4] + 0.5 * MAPS[:, 2, 2, 4], rtol=1e-6)


@pytest.mark.parametrize("region", [np.ones((8, 6)), np.ones(8), np.ones((2, 6, 8)), [[1, 2]]])
def test_region_of_another_size(region: Array) -> None:
    with pytest.raises(TargetError, match=r"does not fit an output of shape \(4, 6, 8\)"):
        ox.Target(index=2, region=region).seeds(MAPS)


def test_logits_have_no_regions() -> None:
    with pytest.raises(TargetError, match="does not fit an output"):
        ox.Target(index=2, region=np.ones((3, 3))).seeds(LOGITS)


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
    region = ox.Target.box(0, (0, step / 100, 1, (step + 7) / 100), (100, 2)).region
    assert region is not None
    assert np.flatnonzero(region[:, 0]).tolist() == list(range(step, step + 7))


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
    """A 1 x 1 convolution: the sum of a class over a region has its weights there as gradient."""
    body = "y = Conv(x, w)"
    proto = nets.build("(float[N, 3, 6, 8] x) => (float[N, 4, 6, 8] y)", body, w=(4, 3, 1, 1))
    model, x = nets.load(proto), nets.images(2, (3, 6, 8))
    w = nets.weights_of(proto)["w"].numpy()[2, :, 0, 0]
    region = np.random.default_rng(1).random((6, 8)).astype(np.float32)
    found = ox.gradient(model, x, ox.Target(index=2, region=region))
    expected = np.multiply.outer(w, region)
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


def test_the_logit_has_a_name_too() -> None:
    model, x = nets.load(nets.conv_net()), nets.images()
    named = ox.gradient(model, x, ox.Target(index=2, output="z"))
    np.testing.assert_array_equal(named.values, ox.gradient(model, x, 2).values)


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
        ("dog", "is none of: a class number, a label, A-B, or output"),
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
        (ox.Target.box(1, (0, 0, 1, 1), (2, 2)), "1 over a region"),
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
    with pytest.raises(TargetError, match=r"nothing that .* selects is above 9 in every image"):
        ox.Target(index=(slice(None), 1), above=9).seeds(np.zeros((2, 3, 2), np.float32))
