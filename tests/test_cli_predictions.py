"""`onnxplain predictions`: what it prints and writes, and every kind of bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.render import plots
from onnxplain.results import LayerAgreement, LayerPredictions, Readouts, Record
from tests import nets
from tests.methods.readable import BODY, gap_net
from tests.test_cli import CAT, MODEL, Ran, failed, run  # noqa: F401  (a fixture)

Command = Callable[..., Ran]
HORSE = CAT.parent / "horse.jpg"
LAYERS = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu_fc1", "relu_fc2"]


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """Return 80 pictures with classes: crops of the samples, of all sizes."""
    rng = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in (CAT, HORSE, CAT.parent / "rocket.jpg")]
    images = []
    for i in range(80):
        photo = photos[i % 3]
        side = int(rng.integers(40, min(photo.size)))
        left, top = (int(rng.integers(0, n - side)) for n in photo.size)
        crop = photo.crop((left, top, left + side, top + side)).resize((32, 32))
        images.append(np.asarray(crop))
    path = tmp_path / "references.npz"
    np.savez(path, images=np.stack(images), labels=np.array([3, 7, 0] * 27)[:80])
    return path


def test_without_references_the_picture_is_masked(run: Command, tmp_path: Path) -> None:  # noqa: F811
    ran = run("predictions", MODEL, CAT, "--out", "out")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert "cat 9" in lines[1]
    assert [line.split()[-1] for line in lines[3:9]] == LAYERS[:6]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cat.layers.csv", "cat.layers.json", "cat.layers.npz", "cat.layers.png", "cat.trajectory.png",
        "predictions.html",
    ]  # fmt: skip
    record = LayerPredictions.load(tmp_path / "out", "cat.layers")
    assert record.mode == "masked" and record.layers == tuple(LAYERS[:6])
    page = (tmp_path / "out" / "predictions.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2 and "cat.jpg: cat 9" in page
    with Image.open(tmp_path / "out" / "cat.layers.png") as sheet:
        assert sheet.size[0] > 3 * 360


def test_with_references_readouts_are_fitted_kept_and_used_again(
    run: Command,  # noqa: F811
    references: Path,
    tmp_path: Path,
) -> None:
    ran = run("predictions", MODEL, CAT, HORSE, "--references", references, "--out", "out")
    assert ran.code == 0, ran.err
    assert "readouts.json" in ran.out and "R2" in ran.out
    readouts = Readouts.load(tmp_path / "out", "readouts")
    assert readouts.layers == tuple(LAYERS) and readouts.images + readouts.held_out == 80
    first = LayerPredictions.load(tmp_path / "out", "cat.layers")
    with (tmp_path / "out" / "cat.layers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [*LAYERS, "the model"]
    assert float(rows[4]["p(cat)"]) == pytest.approx(first.p[4, 0])
    assert [row["agrees"] for row in rows[:8]] == ["yes" if a else "no" for a in first.agrees[:, 0]]
    again = run(
        "predictions", MODEL, CAT, "--readouts", "out/readouts.json", "--out", "two", "--json"
    )
    (found,) = json.loads(again.out)["images"]
    assert [layer["p"] for layer in found["layers"]] == pytest.approx(first.p[:, 0].tolist())
    assert [layer["layer"] for layer in found["layers"]] == LAYERS
    assert found["decision_depth"] == first.depth[0] and found["mode"] == "readout"
    assert found["layers"][7]["top_filters"][0]["channel"] == first.top_filters(7)[0][0]


def test_a_data_set_is_counted(run: Command, references: Path, tmp_path: Path) -> None:  # noqa: F811
    ran = run(
        "predictions", MODEL, "--references", references, "--data", references, "--out", "out"
    )
    assert ran.code == 0, ran.err
    assert "references.npz: 80 images, 80 labelled" in ran.out
    assert "half of the images are decided by" in ran.out
    found = LayerAgreement.load(tmp_path / "out", "agreement")
    assert found.images == 80 and found.agreement[-1] > 0.9
    with (tmp_path / "out" / "agreement.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["agreement"]) for r in rows[:-1]] == pytest.approx(found.agreement.tolist())
    assert sum(int(r["images decided from here"]) for r in rows) == 80
    for name in ("agreement.png", "depth.png", "predictions.html"):
        assert (tmp_path / "out" / name).is_file()
    ran = run(
        "predictions", MODEL, "--readouts", "out/readouts.json", "--data", references, "--json"
    )
    facts = json.loads(ran.out)["agreement"]
    assert facts["final_accuracy"] == pytest.approx(found.final_accuracy)
    assert [layer["decided_here"] for layer in facts["layers"]] == found.depth[:-1].tolist()


def test_keep_and_its_share(run: Command, tmp_path: Path) -> None:  # noqa: F811
    ran = run(
        "predictions", MODEL, CAT, "--mode", "keep", "--keep", "1.0", "--layer", "relu2_2", "--json"
    )
    (found,) = json.loads(ran.out)["images"]
    (layer,) = found["layers"]
    assert layer["p"] == pytest.approx(found["top"][0]["probability"], rel=1e-5)
    assert found["decided_from"] == "relu2_2"
    ran = run(
        "predictions", MODEL, CAT, "--mode", "keep", "--keep", "3", "--layer", "relu2_2", "--json"
    )
    record = LayerPredictions.load(tmp_path / "onnxplain-out", "cat.layers")
    assert record.kept[0].sum() == 3


def test_another_class(run: Command) -> None:  # noqa: F811
    ran = run("predictions", MODEL, CAT, "--target", "dog", "--json")
    (found,) = json.loads(ran.out)["images"]
    assert (found["class"], found["label"]) == (5, "dog")


def test_without_matplotlib_the_rest_is_written(
    run: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    references: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    ran = run("predictions", MODEL, CAT, "--references", references, "--data", references)
    assert ran.code == 0
    assert (
        "no plots over the layers: they need matplotlib: pip install 'onnxplain[plot]'" in ran.err
    )
    names = {p.name for p in (tmp_path / "onnxplain-out").iterdir()}
    assert {"cat.layers.png", "agreement.csv", "predictions.html"} <= names
    assert not names & {"cat.trajectory.png", "agreement.png", "depth.png"}


def test_models_that_take_no_pictures(run: Command, tmp_path: Path) -> None:  # noqa: F811
    """Eight channels: nothing is drawn, the rest is written."""
    onnx.save(gap_net("(float[N, 8, 8, 8] x) => (float[N, 4] y)", w1=(4, 8, 3, 3)), "odd.onnx")
    np.save("one.npy", nets.images(1, (8, 8, 8)))
    ran = run("predictions", "odd.onnx", "one.npy")
    assert ran.code == 0, ran.err
    names = {p.name for p in (tmp_path / "onnxplain-out").iterdir()}
    assert "one.layers.json" in names and "one.layers.png" not in names


def test_a_file_of_several_images(run: Command, tmp_path: Path) -> None:  # noqa: F811
    onnx.save(gap_net(), "net.onnx")
    np.save("three.npy", nets.images(3))
    ran = run("predictions", "net.onnx", "three.npy")
    assert ran.code == 0 and "the first of 3 images in the file" in ran.out, ran.err
    assert LayerPredictions.load(tmp_path / "onnxplain-out", "three.layers").p.shape == (2, 3)


def test_a_model_of_several_inputs(run: Command) -> None:  # noqa: F811
    body = "h = Add(x, m) " + BODY.replace("(x, w1", "(h, w1")
    onnx.save(
        gap_net("(float[N, 3, 8, 8] x, float[N, 1, 8, 8] m) => (float[N, 4] y)", body), "two.onnx"
    )
    np.savez("both.npz", x=nets.images(1), m=nets.images(1, (1, 8, 8)))
    ran = run("predictions", "two.onnx", "both.npz")
    assert ran.code == 0, ran.err
    np.save("x.npy", nets.images(1))
    failed(run("predictions", "two.onnx", "both.npz", "--references", "x.npy"), "m is missing")


def test_an_unreadable_image_is_reported_and_the_others_go_on(
    run: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    ran = run("predictions", MODEL, "missing.jpg", CAT)
    assert ran.code == 2 and "missing.jpg" in ran.err and "Traceback" not in ran.err
    assert (tmp_path / "onnxplain-out" / "cat.layers.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one image or more, or --data"),
        (["--data", "d.npz"], "--data needs --references"),
        ([CAT, "--mode", "magic"], "mode 'magic' is unknown"),
        ([CAT, "--mode", "readout"], "needs references"),
        ([CAT, "--keep", "lots"], "neither a number of filters nor a share"),
        ([CAT, "--mode", "keep", "--keep", "7.5"], "keep = 7.5 is neither"),
        ([CAT, "--baseline", "black"], "no baseline 'black'"),
        ([CAT, "--target", "cat-dog"], "is not one class"),
        ([CAT, "--target", "cow"], "target 'cow' is none of"),
        ([CAT, "--layer", "relu9"], "no layer 'relu9'"),
        ([CAT, "--references", "nowhere"], "nowhere: no such file or folder"),
        ([CAT, "--readouts", "nowhere.json"], "nowhere.json: cannot be read"),
        ([CAT, "--readouts", "readouts.txt"], "is a .json file with its .npz"),
        ([CAT, "--references", "a", "--readouts", "b.json"], "not both"),
    ],
)
def test_wrong_questions_get_a_short_answer(run: Command, arguments: list, says: str) -> None:  # noqa: F811
    failed(run("predictions", MODEL, *arguments), says)


def test_readouts_of_another_model_are_refused(run: Command, references: Path) -> None:  # noqa: F811
    run("predictions", MODEL, CAT, "--references", references)
    other = MODEL.with_name("vgg_cifar10_int8.onnx")
    ran = run("predictions", other, CAT, "--readouts", "onnxplain-out/readouts.json")
    failed(ran, "fitted to another model (vgg_cifar10.onnx)")


def test_other_pre_processing_than_the_readouts_had_is_said(run: Command, references: Path) -> None:  # noqa: F811
    run("predictions", MODEL, CAT, "--references", references)
    ran = run(
        "predictions",
        MODEL,
        CAT,
        "--readouts",
        "onnxplain-out/readouts.json",
        "--preprocess",
        "unit",
    )
    assert ran.code == 0 and "images were pre-processed otherwise then" in ran.err


def test_evidence_beside_importance(run: Command, references: Path, tmp_path: Path) -> None:  # noqa: F811
    model = ox.load(MODEL, device="cpu")
    worth = ox.filter_importance(model, references, ["relu3_1", "relu3_2"], "first_order")
    worth.save(tmp_path, "worth")
    ran = run(
        "predictions",
        MODEL,
        CAT,
        "--references",
        references,
        "--importance",
        "worth.json",
        "--json",
    )
    (found,) = json.loads(ran.out)["images"]
    record = Record.load(tmp_path / "onnxplain-out", "cat.layers")
    expected = ox.hybrid_view(record, worth)  # type: ignore[arg-type]
    assert [h["layer"] for h in found["hybrid"]] == ["relu3_1", "relu3_2"]
    for mine, theirs in zip(found["hybrid"], expected.layers, strict=True):
        assert mine["agreement"] == theirs.agreement and tuple(mine["unusual"]) == theirs.unusual
    page = (tmp_path / "onnxplain-out" / "predictions.html").read_text()
    assert "Evidence of filters beside their importance" in page
    shown = run("predictions", MODEL, CAT, "--references", references, "--importance", "worth.json")
    assert "relu3_2: evidence ~ importance " in shown.out
    failed(run("predictions", MODEL, CAT, "--importance", "worth.json"), "give references")
    failed(
        run("predictions", MODEL, CAT, "--references", references, "--importance", "no.json"),
        "no.json",
    )
