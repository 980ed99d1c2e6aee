"""Every kind of check passes a model that is sound in that respect, and fails one that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.bundled import folder
from onnxplain.checks.kinds import KINDS
from onnxplain.checks.place import _pooling, likeness_to_others
from tests.checks.made import BODY, CENTRE, CORNER, EDGE, SIDE, bundled, checked, glass, pictures

SAMPLES = folder() / "samples"
# The mean of each picture divides: 0 / 0 where it is black.
NAN = """
    c = Conv(x, w)
    features = Relu(c)
    mean = GlobalAveragePool(features)
    flat0 = Flatten(mean)
    one = GlobalAveragePool(x)
    of = Flatten(one)
    flat = Div(flat0, of)
    logits = Gemm<transB = 1>(flat, v)
"""
CLIPPED = (
    BODY.replace("logits = ", "z = ")
    + """
    top = Constant<value_float = 0.1>()
    low = Constant<value_float = -9.0>()
    logits = Clip(z, low, top)
"""
)


@cache
def vgg(name: str = "vgg_cifar10.onnx") -> ox.Model:
    return bundled(name)


def int8() -> ox.Model:
    return vgg("vgg_cifar10_int8.onnx")


@cache
def random() -> ox.Model:
    return vgg().shuffled()


def noisy(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def board() -> np.ndarray:
    return (255 * (np.indices((SIDE, SIDE)).sum(0) % 2)).astype(np.uint8)[None]


def slope() -> np.ndarray:
    return np.broadcast_to(np.arange(SIDE, dtype=np.uint8) * 15, (1, SIDE, SIDE)).copy()


MIDDLE = [[0.3, 0.3, 0.7, 0.7]]
Case = Callable[[], tuple[Any, ...]]
# kind: (model, data, options) that passes; that fails
CASES: dict[str, tuple[Case, Case]] = {
    "accuracy": (
        lambda: (glass(), (pictures(CENTRE, CORNER), np.array([0, 0])), {"min": 1}),
        lambda: (glass(), (pictures(CENTRE, CORNER), np.array([0, 1])), {"min": 0.6}),
    ),
    "agreement": (
        lambda: (int8(), SAMPLES, {"min": 1, "reference": vgg()}),
        lambda: (random(), SAMPLES, {"min": 0.5, "reference": vgg()}),
    ),
    "logit-difference": (
        lambda: (int8(), SAMPLES, {"max": 0.05, "reference": vgg()}),
        lambda: (random(), SAMPLES, {"max": 0.05, "reference": vgg()}),
    ),
    **{
        kind: (
            lambda good=good, key=key: (int8(), SAMPLES, {key: good, "reference": vgg()}),
            lambda bad=bad, key=key: (random(), SAMPLES, {key: bad, "reference": vgg()}),
        )
        for kind, key, good, bad in (
            ("rank-correlation", "min", 0.99, 0.9),
            ("top-overlap", "min", 0.9, 0.9),
            ("ssim", "min", 0.99, 0.9),
            ("centre-shift", "max", 0.01, 0.01),
        )
    },
    "pointing-game": (
        lambda: (glass(), pictures(CENTRE), {"min": 1, "annotations": MIDDLE}),
        lambda: (glass(), pictures(CORNER), {"min": 1, "annotations": MIDDLE}),
    ),
    "energy-inside": (
        lambda: (glass(), pictures(CENTRE, base=0), {"min": 0.99, "annotations": MIDDLE}),
        lambda: (glass(), pictures(CORNER, base=0), {"min": 0.01, "annotations": MIDDLE}),
    ),
    "border-mass": (
        lambda: (glass(), pictures(CENTRE), {"max": 0.2}),
        lambda: (glass(), pictures(EDGE), {"max": 0.9}),
    ),
    "corner-mass": (
        lambda: (glass(), pictures(CENTRE, EDGE), {"max": 0.5}),
        lambda: (glass(), pictures(CORNER), {"max": 0.5}),
    ),
    "region-mass": (
        lambda: (glass(), pictures(CENTRE), {"max": 0.1, "box": [0, 0, 0.2, 0.2]}),
        lambda: (glass(), pictures(CORNER), {"max": 0.1, "box": [0, 0, 0.2, 0.2]}),
    ),
    "constant-maps": (
        lambda: (glass(), pictures(CENTRE, CORNER), {}),
        lambda: (glass(), pictures(CENTRE, None), {"max": 0.4}),
    ),
    "same-maps": (
        lambda: (glass(), pictures(CENTRE, CORNER, EDGE), {"max": 0.5}),
        lambda: (glass(), pictures(CENTRE, CENTRE, CENTRE), {"max": 0.9}),
    ),
    "noise-stability": (
        lambda: (glass(), slope(), {"sigma": 0.005, "min": 0.95}),
        lambda: (glass(), slope(), {"sigma": 0.5, "min": 0.95}),
    ),
    "jpeg-stability": (
        lambda: (glass(), slope(), {"quality": 95, "min": 0.95}),
        lambda: (glass(), noisy(), {"quality": 1, "min": 0.95}),
    ),
    "shift-stability": (
        lambda: (glass(), noisy(), {"min": 0.99}),
        lambda: (vgg(), SAMPLES, {"min": 0.99, "pixels": 3}),
    ),
    "shuffled-weights": (
        lambda: (vgg(), SAMPLES, {"max": 0.6}),
        lambda: (glass(), pictures(CENTRE), {"max": 0.6}),
    ),
    "lift-efficiency": (
        lambda: (vgg(), SAMPLES, {"max": 1e-4}),
        lambda: (int8(), SAMPLES, {"max": 1e-4}),
    ),
    "gap-residual": (
        lambda: (glass(), pictures(CENTRE), {"max": 1e-5}),
        lambda: (vgg(), SAMPLES, {"max": 0.05}),
    ),
    "gradient": (
        lambda: (vgg(), SAMPLES, {}),
        lambda: (vgg(), SAMPLES, {"max": 0}),
    ),
    "finite": (
        lambda: (glass(NAN), pictures(CENTRE, CORNER), {"method": "gradient"}),
        lambda: (glass(NAN), pictures(CENTRE, None, base=0), {}),
    ),
    "tied-logits": (
        lambda: (glass(), pictures(CENTRE), {}),
        lambda: (glass(v=((1, 0), (1, 0))), pictures(CENTRE), {}),
    ),
    "saturated-logits": (
        lambda: (glass(CLIPPED), pictures(CENTRE, CORNER), {}),
        lambda: (glass(CLIPPED), pictures(*[(slice(0, 8), slice(0, n)) for n in (9, 12, 15)]), {}),
    ),
    "dead-filters": (
        lambda: (glass(), pictures(CENTRE), {"max": 0}),
        lambda: (glass(w=((1,), (-1,))), pictures(CENTRE), {"max": 0.4}),
    ),
    "latency": (
        lambda: (glass(), pictures(CENTRE), {"max": 1e6, "repeats": 3}),
        lambda: (glass(), pictures(CENTRE), {"max": 0, "repeats": 3}),
    ),
}  # fmt: skip


def test_every_kind_has_a_case() -> None:
    assert CASES.keys() == KINDS.keys()


@pytest.mark.parametrize("good", [True, False], ids=["passes", "fails"])
@pytest.mark.parametrize("kind", CASES)
def test_kind(kind: str, good: bool, tmp_path: Path) -> None:
    model, data, options = CASES[kind][0 if good else 1]()
    options = dict(options)
    if "annotations" in options:
        boxes = {f"array[{i}]": options["annotations"] for i in range(9)}
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(boxes), encoding="utf-8")
        options["annotations"] = str(path)
    found = checked(kind, model, data, **options)
    assert found.status == ("passed" if good else "failed"), found.reason
    assert found.value is not None and found.threshold is not None
    side = found.value - found.threshold if found.key == "min" else found.threshold - found.value
    assert (side >= 0) is good
    asked = f"{100 * found.threshold:.4g}%" if KINDS[kind].share else f"{found.threshold:.4g}"
    assert (
        f"{'at least' if found.key == 'min' else 'at most'} {asked} was asked for" in found.reason
    )
    if not good and KINDS[kind].counts == "images" and not KINDS[kind].alone:
        assert found.worst and found.worst[0].png is not None
        assert found.worst[0].png.startswith(b"\x89PNG")


def test_worst_images_come_first() -> None:
    found = checked("corner-mass", glass(), pictures(CENTRE, CORNER, EDGE), max=0.9)
    assert [b.number for b in found.worst] == [1, 2, 0]
    values = [b.value for b in found.worst]
    assert values == sorted(values, reverse=True)
    shares = checked("constant-maps", glass(), pictures(CENTRE, None, EDGE, None), max=0.4)
    assert [b.number for b in shares.worst] == [1, 3]  # those that count against it, and no other
    assert shares.value == 0.5


def test_the_target_is_the_references_class() -> None:
    """A model that answers otherwise is compared by the map of the same class."""
    turned = glass(v=((0, 1), (1, 0)))
    found = checked("rank-correlation", turned, pictures(CENTRE), reference=glass(), min=0.99)
    assert found.ok


@pytest.mark.parametrize("kind", ["accuracy", "pointing-game", "gradient", "same-maps"])
def test_what_cannot_be_measured_is_not_run(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text('{"other": [[0, 0, 1, 1]]}', encoding="utf-8")
    options: dict[str, Any] = {
        "accuracy": {"min": 0},
        "pointing-game": {"min": 0, "annotations": str(path)},
        "gradient": {},
        "same-maps": {},
    }[kind]
    model = int8() if kind == "gradient" else glass()
    data = SAMPLES if kind == "gradient" else pictures(CENTRE)
    found = checked(kind, model, data, **options)
    assert found.status == "not run" and not found.ok
    assert found.reason in found.to_dict()["reason"]
    expected = {
        "accuracy": "the data need labels",
        "pointing-game": "none of 1 is annotated",
        "gradient": "surrogate",
        "same-maps": "two images",
    }[kind]
    assert expected in found.reason


def test_a_check_that_raises_leaves_the_others_alone() -> None:
    config = {"check": [{"kind": "accuracy", "min": 0.5}, {"kind": "finite"}]}
    report = ox.check(config, model=glass(), data=pictures(CENTRE))
    assert [r.status for r in report.results] == ["not run", "passed"]
    assert (report.passed, report.exit_code) == (False, 2)


def test_a_map_that_is_not_finite_is_found_image_by_image() -> None:
    """The square root of black has a finite value and an infinite slope."""
    rooted = glass(BODY.replace("features = Relu(c)", "features = Sqrt(c)"))
    pixels = pictures(CENTRE, None, CORNER, base=0)
    pixels[0] += 5  # no black pixel
    pixels[2] += 5
    found = checked("finite", rooted, pixels, method="gradient")
    assert [(b.number, b.value) for b in found.worst] == [(1, 1.0)]
    assert found.value == pytest.approx(1 / 3)


def test_likeness_to_others_is_the_mean_of_all_pairs(rng: np.random.Generator) -> None:
    rows = rng.random((6, 64))
    unit = rows - rows.mean(1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = np.corrcoef(rows)
    expected = (pairs.sum(1) - 1) / 5
    assert likeness_to_others(unit) == pytest.approx(expected)


@pytest.mark.parametrize("size", [5, 8, 20, 33])
def test_cells_take_means(size: int, rng: np.random.Generator) -> None:
    assert _pooling(size, 8).sum(1) == pytest.approx(np.ones(8))
    whole = rng.random(size)
    assert (_pooling(size, 8) @ whole).mean() == pytest.approx(whole.mean())


@pytest.mark.parametrize(
    ("kind", "key", "values"),
    [
        ("noise-stability", "sigma", (0.01, 0.4)),
        ("jpeg-stability", "quality", (95, 2)),
        ("shift-stability", "pixels", (1, 5)),
        ("top-overlap", "share", (0.1, 0.5)),
    ],
)
def test_two_checks_of_a_kind_look_at_their_own_maps(kind: str, key: str, values: Any) -> None:
    checks = [{"kind": kind, "name": f"{kind} {v}", key: v, "min": 0} for v in values]
    together = ox.check({"check": checks}, model=vgg(), reference=int8(), data=SAMPLES)
    alone = [ox.check({"check": [c]}, model=vgg(), reference=int8(), data=SAMPLES) for c in checks]
    found = [r.value for r in together.results]
    assert found == pytest.approx([a.results[0].value for a in alone])
    assert found[0] != found[1]
