"""`onnxplain evaluate` and `onnxplain occlude` as users meet them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import onnxplain as ox
from onnxplain.metrics.occlude import occlude
from onnxplain.results import Record
from tests.test_cli import CAT, MODEL, Ran, failed
from tests.test_cli import run as run  # the fixture

PHOTOS = CAT.parent


def test_evaluate_prints_a_table_with_marks(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run(
        "evaluate", MODEL, PHOTOS, "--methods", "lift-cam,positive", "--metrics",
        "average-drop,shap-cosine", "--out", "e.csv", "--out", "e.html",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "vgg_cifar10.onnx, images: 3"
    columns = ["method", "average_drop", "↓", "shap_cosine", "↑", "ms/image", "forwards"]
    assert lines[1].split() == columns
    model = ox.load(MODEL)
    found = ox.evaluate(model, PHOTOS, ["lift_cam"], ["average_drop"])
    assert f"{found.values.mean():.1f} [" in lines[2] and " * " in lines[2]
    assert "–" in lines[3] and "paired sign-flip test" in lines[4]
    assert ran.err.splitlines() == ["written: e.csv", "written: e.html"]
    assert (tmp_path / "e.csv").read_text().count("\n") == 5
    assert "lift_cam" in (tmp_path / "e.html").read_text(encoding="utf-8")
    assert list((tmp_path / "onnxplain-cache").iterdir()), "kept for the next time"


def test_evaluate_json_has_all_in_numbers(run: Callable[..., Ran]) -> None:
    ran = run("evaluate", MODEL, PHOTOS, "--methods", "positive", "--metrics", "deletion", "--json")
    said = json.loads(ran.out)
    assert said["images"] == 3 and said["better"] == {"deletion": "down"}
    (row,) = said["rows"]
    assert row["method"] == "positive" and row["low"] <= row["mean"] <= row["high"]


def test_evaluate_says_what_it_left_out(run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(CAT.read_bytes())
    (folder / "b.jpg").write_bytes(b"no picture")
    ran = run("evaluate", MODEL, folder, "--methods", "positive", "--metrics", "sparseness")
    assert ran.code == 0 and "images: 1" in ran.out
    assert "b.jpg" in ran.err and "1 items skipped" in ran.err


def test_evaluate_refuses_in_a_line(run: Callable[..., Ran]) -> None:
    failed(run("evaluate", MODEL, PHOTOS, "--metrics", "magic"), "metric 'magic' is unknown")
    failed(run("evaluate", MODEL, "nowhere"), "nowhere: no such file or folder")
    failed(run("evaluate", MODEL, PHOTOS, "--out", "e.doc"), "--out e.doc: unknown suffix")
    failed(run("evaluate", MODEL, PHOTOS, "--metrics", "iou"), "give boxes")


def test_occlude_prints_draws_and_saves(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("occlude", MODEL, CAT, "--method", "positive", "--fill", "black,0.5", "--share", 0.2)
    assert ran.code == 0, ran.err
    model = ox.load(MODEL)
    found = occlude(model, model.read([CAT]), method="positive", share=0.2, fills=["black", 0.5])
    assert f"positive: {found.mask.sum()} pixels" in ran.out
    assert f"cat {found.observed[0, 0]:+.4g} (foretold {found.foretold[0, 0]:+.4g})" in ran.out
    assert f"0.5: {'still cat' if found.answers[2] == 3 else 'cat -> '}" in ran.out
    assert f"margin to {found.labels[1]}: {found.margins[0]:.4g}" in ran.out
    out = tmp_path / "onnxplain-out"
    names = sorted(p.name for p in out.iterdir())
    assert names == [f"cat.occluded.positive.{s}" for s in ("json", "npz", "png")]
    saved = Record.load(out, "cat.occluded.positive")
    np.testing.assert_allclose(saved.observed, found.observed, rtol=1e-4)
    with Image.open(out / "cat.occluded.positive.png") as page:
        assert min(page.size) > 400


def test_occlude_json(run: Callable[..., Ran]) -> None:
    ran = run("occlude", MODEL, CAT, "--target", "dog", "--fill", "0/0/1", "--json")
    (image,) = json.loads(ran.out)
    (found,) = image["occlusions"]
    assert found["label"] == "dog" and len(found["fills"]) == 1
    assert len(found["fills"][0]["margins"]) == 9


def test_occlude_reports_an_image_and_goes_on(run: Callable[..., Ran]) -> None:
    ran = run("occlude", MODEL, "gone.jpg", CAT)
    assert ran.code == 2 and "gone.jpg" in ran.err
    assert "active:" in ran.out


def test_occlude_refuses_in_a_line(run: Callable[..., Ran]) -> None:
    failed(run("occlude", MODEL, CAT, "--fill", "pink"), "fill 'pink' is unknown")
    failed(run("occlude", MODEL, CAT, "--share", 3), "share = 3.0 must be above 0")
    failed(run("occlude", MODEL, CAT, "--target", "unicorn"), "unicorn")
    failed(run("occlude", MODEL, CAT, "--target", "cat-dog"), "--target 'cat-dog' is not one class")
