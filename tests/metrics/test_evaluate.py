"""Methods x metrics x models over data: the numbers of single calls, in any pieces, resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.dataset import Run
from onnxplain.errors import ConfigError, InputError, OnnxplainError
from onnxplain.evaluate_files import check_outs, document, write
from onnxplain.methods.registry import explain
from onnxplain.metrics import METRICS, Answers, Case
from onnxplain.results.evaluation import Evaluation
from tests import nets

Array = np.ndarray[Any, Any]
METHODS = ("lift-cam", "positive")
NAMES = ("average-drop", "insertion", "channel_deletion", "weight_randomisation")


def model(seed: int = 0) -> ox.Model:
    return nets.load(nets.conv_net(seed=seed))


def assert_same(found: Evaluation, expected: Evaluation, rows: Any = slice(None)) -> None:
    np.testing.assert_allclose(found.values, expected.values[rows], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.present, expected.present[rows])
    np.testing.assert_array_equal(found.classes, expected.classes[rows])


def test_the_numbers_are_those_of_single_calls() -> None:
    x, one = nets.images(5), model()
    found = ox.evaluate(one, x, METHODS, NAMES)
    assert found.methods == ("lift_cam", "positive")
    assert found.metrics == tuple(name.replace("-", "_") for name in NAMES)
    assert found.better == ("down", "up", "up", "zero")
    answers = Answers(one, x)
    np.testing.assert_array_equal(found.classes[:, 0], answers.classes)
    for method in found.methods:
        case = Case.of(answers, lambda m, x, c, method=method: explain(m, x, method, c))
        for name in found.metrics:
            values = found.of(method, name)
            if METRICS[name].needs == "weights" and method == "positive":
                assert len(values) == 0
            else:
                np.testing.assert_allclose(values, METRICS[name].of(case), rtol=1e-5, atol=1e-7)
    assert (found.ms > 0).all() and (found.forward_ms > 0).all()
    ms, forwards = found.cost("lift_cam")
    assert ms == np.median(found.ms[:, 0, 0]) and forwards > 0


def test_pieces_and_workers_do_not_matter_and_order_goes_with_the_images() -> None:
    x = nets.images(7)
    expected = ox.evaluate(model(), x, METHODS, NAMES)
    for run in (Run(batch=2, workers=2), Run(batch=3, workers=1)):
        assert_same(ox.evaluate(model(), x, METHODS, NAMES, run), expected)
    order = [4, 0, 6, 1, 5, 2, 3]
    assert_same(ox.evaluate(model(), x[order], METHODS, NAMES), expected, order)


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    x, seen = nets.images(8), list[int]()

    def stop(done: int, _: int) -> None:
        seen.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    settings = {"batch": 2, "workers": 1, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        ox.evaluate(model(), x, METHODS, NAMES, Run(**settings, progress=stop))
    again: list[int] = []
    run = Run(**settings, progress=lambda done, _: again.append(done))
    found = ox.evaluate(model(), x, METHODS, NAMES, run)
    assert again[0] == 4 and again[-1] == 8
    assert_same(found, ox.evaluate(model(), x, METHODS, NAMES))
    other = Run(**settings, progress=lambda done, _: again.append(done))
    again.clear()
    ox.evaluate(model(), x, METHODS, NAMES[:1], other)
    assert again[0] == 0, "other metrics are another question"


def test_several_models_are_judged_on_the_same_images() -> None:
    x = nets.images(4)
    both = ox.evaluate([model(0), model(1)], x, METHODS, NAMES)
    assert both.models == ("the given ModelProto (1)", "the given ModelProto (2)")
    for m, seed in enumerate((0, 1)):
        alone = ox.evaluate(model(seed), x, METHODS, NAMES)
        np.testing.assert_allclose(both.values[:, m], alone.values[:, 0], rtol=1e-5, atol=1e-7)
    assert both.of("lift_cam", "insertion", both.models[1]).shape == (4,)


def test_labels_are_explained_where_asked_for_and_images_without_one_have_no_value() -> None:
    x = nets.images(4)
    found = ox.evaluate(model(), (x, np.array([3, 0, 2, 1])), METHODS, NAMES, classes="label")
    assert found.classes[:, 0].tolist() == [3, 0, 2, 1]
    none = ox.evaluate(model(), x, METHODS, NAMES, classes="label")
    assert not none.present.any() and (none.classes == -1).all()


def picture_net() -> ox.Model:
    """Takes 16 x 16 pictures; brightness of the left half against that of the right."""
    g = np.zeros((2, 3, 16, 16))
    g[0, :, :, :8], g[1, :, :, 8:] = 1, 1
    pre = {"preset": "unit", "resize": "short", "short": 16}
    return nets.load(nets.linear_net(g), preprocess=pre)


def test_boxes_lie_where_the_model_sees_them(tmp_path: Path) -> None:
    """A picture twice as wide as high, cropped to its middle: a box at the left edge is not seen at all."""
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.full((32, 64, 3), 99, np.uint8)).save(tmp_path / name)
    boxes = {
        "a.png": {"size": (64, 32), "boxes": [(16, 0, 32, 32)]},  # the left half of what is seen
        "b.png": {"size": (64, 32), "boxes": [(0, 0, 14, 32)]},
    }
    wanted = ("energy-inside", "iou", "pointing-game")
    found = ox.evaluate(picture_net(), tmp_path, ["positive"], wanted, boxes=boxes)
    assert [Path(n).name for n in found.images] == ["a.png", "b.png", "c.png"]
    assert found.present[:, 0, 0].all(1).tolist() == [True, False, False]
    np.testing.assert_allclose(found.values[0, 0, 0], [1, 1, 1])
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    assert_same(ox.evaluate(picture_net(), tmp_path, ["positive"], wanted, boxes=file), found)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', '{"a": {"size": [1, 2], "boxes": [[1]]}}'])
def test_boxes_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(
        InputError, match=r"boxes.json: (no annotations in it|holds no annotations)"
    ):
        ox.evaluate(model(), nets.images(), METHODS, ["iou"], boxes=file)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ["best-cam"]}, "method 'best-cam' is unknown"),
        ({"metrics": ["best"]}, "metric 'best' is unknown"),
        ({"methods": []}, "name one method or more"),
        ({"metrics": []}, "name one metric or more"),
        ({"classes": "true"}, "choose predicted or label"),
        ({"metrics": ["iou"]}, "iou need to know where the object is: give boxes"),
        ({"methods": ["gradient"], "metrics": ["shap-cosine"]}, "judge class activation maps"),
        ({"metrics": ["iou"], "boxes": "missing.json"}, "missing.json: cannot be read"),
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
    ],
)
def test_bad_settings_are_refused_in_a_line(wrong: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"methods": METHODS, "metrics": NAMES, **wrong}
    with pytest.raises(OnnxplainError, match=message):
        ox.evaluate(model(), nets.images(), **settings)


def test_files(tmp_path: Path) -> None:
    found = ox.evaluate(model(), nets.images(4), METHODS, NAMES)
    for name in ("e.csv", "e.json", "e.html"):
        assert write(found, tmp_path / name) == tmp_path / name
    rows = (tmp_path / "e.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 4 and rows[1].startswith(
        "the given ModelProto,lift_cam,average_drop,4,"
    )
    said = json.loads((tmp_path / "e.json").read_text())
    assert said == json.loads(json.dumps(document(found))) and len(said["rows"]) == 8
    assert said["rows"][0]["mean"] == found.of("lift_cam", "average_drop").mean()
    page = (tmp_path / "e.html").read_text()
    assert "average_drop ↓" in page and "100 max(0, Y - O) / Y" in page
    assert page.count("data:image/png") == 4, "a picture per metric"
    write(found, tmp_path / "record")
    assert Evaluation.load(tmp_path / "record") == found
    with pytest.raises(ConfigError, match=r"unknown suffix: choose \.csv"):
        check_outs([tmp_path / "e.xlsx"])
