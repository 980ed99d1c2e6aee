"""The programs that put claims to the test, on the bundled network and a few pictures."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxplain import bundled
from tools.reproduce import common, hybrid


def photos(_: str, count: int) -> Any:
    return list(bundled.photos())[:count]


def pixels() -> Any:
    """Return 30 pictures that differ, and classes for them."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 255, (30, 32, 32, 3)).astype(np.uint8)
    return found, np.arange(30) % 10


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that runs a program on the bundled network and returns the page it wrote."""

    def run(name: str, *options: str) -> str:
        module, page = import_module(f"tools.reproduce.{name}"), tmp_path / "results.md"
        if hasattr(module, "pictures"):
            monkeypatch.setattr(module, "pictures", photos)
        args = [f"{name}.py", "--files", "bundled", "--write", str(page), *options]
        monkeypatch.setattr(sys, "argv", args)
        module.main()
        return page.read_text(encoding="utf-8")

    return run


def test_every_program_writes_its_table_and_a_verdict(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid, "cifar", lambda _: (pixels(), pixels()))
    options = {
        "shapley": ("--images", "2", "--permutations", "20", "--timed", "1"),
        "signed": ("--images", "2"),
        "hierarchies": ("--images", "2"),
        "hybrid": ("--images", "20", "--measured", "3"),
    }
    for count, (name, given) in enumerate(options.items(), 1):
        page = program(name, *given)
        section = page.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]
        assert "**vgg_cifar10.onnx (bundled)" in section and "### Verdict" in section
        assert f"python -m tools.reproduce.{name} --files bundled" in section
        assert "vgg_cifar10.onnx 0674f4304069" in section, "the model's hash"
        assert "nan" not in section
        assert page.count("### Verdict") == count and page.startswith("# The claims, measured")
    assert program("signed", "--images", "3").count("### Verdict") == len(options)


def test_lift_cam_against_others_on_one_network(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("tools.reproduce.cams")
    monkeypatch.setattr(module, "MODELS", (common.BUNDLED,))
    monkeypatch.setattr(module, "LOCALISED", ())
    page = program("cams", "--images", "3", "--slow", "2")
    assert "vgg_cifar10.onnx, images: 3" in page and "| score_cam |" in page
    assert "2 images, 6 maps: LIFT-CAM is significantly better than all others by none" in page


def test_sums_are_the_networks_own_shapley_values() -> None:
    """The quick way of a head is the slow way through the file; here that it sums to the rise."""
    from onnxplain.metrics import Answers
    from tools.reproduce.shapley import sampled

    model = common.load(common.BUNDLED)
    answers = Answers(model, model.read([bundled.photos()[0]]))
    halves = sampled(answers, 0, "any", 40)
    keep = np.array([np.ones(128), np.zeros(128)])
    layer = model.layer(None)
    a = model.values(answers.feeds, (layer.name,))[layer.name]
    whole, none = model.ablation(layer).run(a, keep)[:, answers.classes[0]]
    np.testing.assert_allclose(halves.sum(1), whole - none, rtol=1e-4)


def test_the_folder_of_the_cache_is_not_shown() -> None:
    given = ["--images", "3", "--cache", "/x", "--files", "a"]
    assert common.shown(given) == ["--images", "3", "--files", "a"]
