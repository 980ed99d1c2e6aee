"""`onnxplain export`: what it prints and writes, and the ways it can be asked wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxplain as ox
from tests.embed.plain import error
from tests.embed.plain import run as run_file
from tests.test_cli import CAT, MODEL, Ran, failed
from tests.test_cli import run as run  # the fixture

Command = Callable[..., Ran]


def names(path: str) -> tuple[list[str], list[str]]:
    graph = onnx.load(path).graph
    return [i.name for i in graph.input], [o.name for o in graph.output]


def test_the_shortest_command(run: Command) -> None:
    ran = run("export", MODEL)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "explained.onnx: lift_cam at relu3_2 of largest element",
        "  new outputs: explanation, heatmap, explained_class",
        "  original outputs: every bit as before; the forward pass runs once",
    ]
    assert names("explained.onnx") == (
        ["image"],
        ["logits", "explanation", "heatmap", "explained_class"],
    )
    model = ox.load(MODEL, device="cpu")
    x = model.read([CAT])
    found = run_file(Path("explained.onnx"), {"image": x})
    assert error(found["explanation"], ox.cam(model, x).values) < 1e-5


def test_a_class_by_its_label(run: Command) -> None:
    ran = run(
        "export", MODEL, "--method", "positive", "--target", "dog", "-o", "dog.onnx", "--json"
    )
    said = json.loads(ran.out)
    assert said["path"] == "dog.onnx" and said["target"] == "5" and not said["shares_forward"]
    model = ox.load(MODEL, device="cpu")
    x = model.read([CAT])
    found = run_file(Path("dog.onnx"), {"image": x})
    assert error(found["explanation"], ox.saliency(model, x, 5).values) < 1e-5


def test_a_class_with_the_images(run: Command) -> None:
    ran = run("export", MODEL, "--target", "input", "--layer", "relu2_2", "--method", "grad-cam")
    assert "  new inputs: target_class" in ran.out.splitlines()
    model = ox.load(MODEL, device="cpu")
    x = model.read([CAT])
    found = run_file(Path("explained.onnx"), {"image": x, "target_class": np.array([7])})
    expected = ox.cam(model, x, 7, kind="grad_cam", layer="relu2_2").values
    assert error(found["explanation"], expected) < 1e-5


def test_backward_takes_seeds(run: Command) -> None:
    assert run("export", MODEL, "--backward", "-o", "vjp.onnx").code == 0
    assert names("vjp.onnx") == (["image", "seed"], ["logits", "explanation", "heatmap"])
    model = ox.load(MODEL, device="cpu")
    x, seed = model.read([CAT]), np.zeros((1, 10), np.float32)
    seed[0, [3, 5]] = 1, -1
    found = run_file(Path("vjp.onnx"), {"image": x, "seed": seed})
    expected = ox.gradient(model, x, ox.Target.contrast(3, 5)).values
    assert error(found["explanation"], expected) < 1e-5


def test_a_prefix_lets_a_second_explanation_in(run: Command) -> None:
    run("export", MODEL)
    failed(run("export", "explained.onnx", "-o", "two.onnx"), "'explanation' already", "prefix")
    ran = run(
        "export", "explained.onnx", "--prefix", "pixel.", "--method", "positive", "-o", "two.onnx"
    )
    assert ran.code == 0
    assert names("two.onnx")[1][-3:] == [
        "pixel.explanation",
        "pixel.heatmap",
        "pixel.explained_class",
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "score-cam"], "score-cam runs the model many times"),
        (["--method", "lime"], "method 'lime' is unknown"),
        (["--target", "unicorn"], "target 'unicorn' is none of"),
        (["--target", "99"], "class 99 does not exist"),
        (["--layer", "nowhere"], "no layer 'nowhere'"),
        (["--backward", "--method", "grad-cam"], "--backward takes neither --method nor --target"),
        (["-o", "."], "is not a regular file"),
    ],
)
def test_bad_questions(run: Command, options: list[str], says: str) -> None:
    failed(run("export", MODEL, *options), says)
    assert not list(Path().glob("*.onnx"))


def test_the_model_itself_is_refused_as_output(run: Command) -> None:
    failed(run("export", MODEL, "-o", MODEL), "is the model itself; name another file")
