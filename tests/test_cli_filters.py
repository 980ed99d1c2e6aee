"""`onnxplain filters` and `onnxplain monitor`: what they print, what they write, and bad input."""

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
from onnxplain.results import Record
from tests import nets
from tests.dataset import made
from tests.test_cli import Ran, failed
from tests.test_cli import run as run  # the fixture


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write a model with its pre-processing, two more checkpoints, and a folder of pictures per class."""
    for i in range(3):
        proto = nets.build(nets.HEAD, nets.BODY, seed=i, **nets.WEIGHTS)
        onnx.save(proto, tmp_path / f"net{i}.onnx")
        (tmp_path / f"net{i}.onnxplain.toml").write_text(
            f'preset = "unit"\nlabels = {json.dumps(made.CLASSES)}\n'
        )
    made.by_class(tmp_path / "pictures")
    return tmp_path


def test_a_study(run: Callable[..., Ran], files: Path) -> None:
    ran = run("filters", "net0.onnx", "pictures")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].startswith("net0.onnx: 13 images of pictures, accuracy ")
    assert "13 images are few" in ran.out
    out = files / "onnxplain-filters"
    named = ran.out.split("written: ")[1].strip().split(", ")
    assert {Path(n).name for n in named} == {p.name for p in out.iterdir() if p.suffix != ".npz"}
    model = ox.load(files / "net0.onnx")
    exact = ox.filter_importance(model, files / "pictures")
    saved = Record.load(out, "importance")
    for mine, theirs in zip(saved.layers, exact.layers, strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(mine.per_class, theirs.per_class)
    with (out / "filters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 5
    for row in rows:
        effect = exact[row["layer"]].effect[int(row["filter"])]
        assert float(row["effect"]) == effect
    first = ox.filter_importance(model, files / "pictures", mode="first_order")
    assert float(rows[5]["first_order"]) == first["features"].effect[1]
    page = (out / "report.html").read_text()
    for layer in ("a1", "features"):
        assert f"<h2>{layer}</h2>" in page
    assert page.count("data:image/png;base64,") == len(list(out.glob("*.png"))) == 7
    with Image.open(out / "removal-2.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_json_has_the_summary_alone(run: Callable[..., Ran], files: Path) -> None:
    ran = run("filters", "net0.onnx", "pictures", "--json", "--no-curves", "--layer", "features")
    found = json.loads(ran.out)
    assert found["images"] == 13 and 0 <= found["accuracy"] <= 1
    (layer,) = found["layers"]
    assert layer["layer"] == "features" and layer["filters"] == nets.CHANNELS
    assert -1 <= layer["first order ~ exact"] <= 1 and layer["area between"] is None


def test_first_order_alone(run: Callable[..., Ran], files: Path) -> None:
    ran = run("filters", "net0.onnx", "pictures", "--mode", "first-order", "--base", "mean")
    assert ran.code == 0
    assert not list((files / "onnxplain-filters").glob("removal*"))
    saved = Record.load(files / "onnxplain-filters", "importance")
    assert saved.mode == "first_order" and saved.meta["base"] == "mean"  # type: ignore[attr-defined]


def test_a_second_run_answers_from_the_cache(
    run: Callable[..., Ran], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("filters", "net0.onnx", "pictures", "--json")
    with nets.counted_runs(monkeypatch) as rows:
        again = run("filters", "net0.onnx", "pictures", "--json", "--workers", "1", "--batch", "5")
    assert rows == [] and again.out == first.out


def test_without_matplotlib(
    run: Callable[..., Ran], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    ran = run("filters", "net0.onnx", "pictures")
    assert ran.code == 0 and "plots left out: they need matplotlib" in ran.out
    assert not list((files / "onnxplain-filters").glob("*.png"))
    assert "Plots are left out" in (files / "onnxplain-filters" / "report.html").read_text()


def test_what_is_skipped_is_said(run: Callable[..., Ran], files: Path) -> None:
    (files / "pictures" / "ant" / "x.png").write_bytes(b"no")
    (files / "pictures" / "cow").mkdir()
    (files / "pictures" / "cow" / "y.png").write_bytes(made.png(made.pixels()[0]))
    ran = run("filters", "net0.onnx", "pictures", "--json", "--no-curves")
    assert ran.code == 0
    assert ran.err.splitlines()[0].endswith("can be read; skipped") and "x.png" in ran.err
    assert "1 items skipped" in ran.err and "'cow' is no label" in ran.err
    assert json.loads(ran.out)["accuracy"] is None


def test_bad_input(run: Callable[..., Ran], files: Path) -> None:
    failed(run("filters", "net0.onnx", "nowhere"), "nowhere: no such file or folder")
    failed(run("filters", "net0.onnx", "pictures", "--layer", "no"), "no layer 'no'")
    failed(run("filters", "net0.onnx", "pictures", "--mode", "guess"), "mode 'guess'")
    failed(run("filters", "net0.onnx", "pictures", "--base", "one"), "base 'one'")
    failed(run("filters", "net0.onnx", "pictures", "--threshold", "7"), "threshold = 7")
    failed(run("filters", "net0.onnx", "pictures", "--engine", "cloud"), "engine 'cloud'")
    failed(run("filters", "net0.onnx", "pictures", "--workers", "0"), "workers = 0")
    (files / "taken").write_text("")
    failed(run("filters", "net0.onnx", "pictures", "--out", "taken"), "taken")


def test_monitoring(run: Callable[..., Ran], files: Path) -> None:
    nets_ = [f"net{i}.onnx" for i in range(3)]
    ran = run("monitor", *nets_, "--data", "pictures", "--layer", "a1", "--layer", "features")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "13 images of pictures"
    assert [line.split()[0] for line in lines[2:5]] == nets_
    out = files / "onnxplain-monitor"
    saved = Record.load(out, "monitoring")
    assert saved.names == tuple(nets_)  # type: ignore[attr-defined]
    with (out / "monitoring.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["checkpoint"], r["layer"]) for r in rows[:3]] == [
        ("net0.onnx", "a1"), ("net0.onnx", "features"), ("net1.onnx", "a1"),
    ]  # fmt: skip
    assert float(rows[1]["CKA to last"]) == saved.cka[1, 0, 2]  # type: ignore[attr-defined]
    assert rows[-1]["CKA to next"] == "" and float(rows[-1]["CKA to last"]) == pytest.approx(1)
    page = (out / "report.html").read_text()
    assert "flatters agreement" in page and page.count("data:image/png") == 4
    found = json.loads(run("monitor", *nets_, "--data", "pictures", "--json").out)
    assert [c["checkpoint"] for c in found["checkpoints"]] == nets_


def test_monitoring_bad_input(run: Callable[..., Ran], files: Path) -> None:
    failed(run("monitor", "net0.onnx", "--data", "pictures"), "two checkpoints or more")
    failed(run("monitor", "net0.onnx", "no.onnx", "--data", "pictures"), "no.onnx: no such file")
    failed(run("monitor", "net0.onnx", "net1.onnx", "--data", "nowhere"), "nowhere")
