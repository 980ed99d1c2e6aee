"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from onnxplain.bundled import folder, model_path
from onnxplain.pytest_plugin import assert_explanations_match
from tests.checks.made import CENTRE, bundled, glass, pictures
from tests.conftest import ROOT

SAMPLES = folder() / "samples"
TESTS = f"""
from onnxplain.pytest_plugin import assert_explanations_match

FLOAT, INT8, SAMPLES = {str(model_path())!r}, {str(model_path("vgg_cifar10_int8.onnx"))!r}, {str(SAMPLES)!r}

def test_int8_explains_as_float(onnx_model):
    found = assert_explanations_match(onnx_model(FLOAT), onnx_model(INT8), SAMPLES, ssim=0.95)
    assert found.agreement == 1

def test_loaded_once(onnx_model):
    assert onnx_model(FLOAT) is onnx_model(FLOAT)
    assert onnx_model(FLOAT, device="cpu") is not onnx_model(FLOAT)

def test_drift_fails(onnx_model):
    assert_explanations_match(onnx_model(FLOAT), onnx_model(FLOAT).shuffled(), SAMPLES)
"""


def test_in_a_pytest_of_its_own(tmp_path: Path) -> None:
    """The plugin comes by its entry point where onnxplain is installed; here it is named."""
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "test_it.py",
    ]
    if "onnxplain.pytest_plugin" not in _installed():
        command += ["-p", "onnxplain.pytest_plugin"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ran.stdout and "1 failed" in ran.stdout, ran.stdout + ran.stderr
    assert "explanations differ: same class for" in ran.stdout
    assert "cat.jpg" in ran.stdout


def _installed() -> set[str]:
    from importlib.metadata import entry_points

    return {entry.value for entry in entry_points(group="pytest11")}


def test_the_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = import_module(project["entry-points"]["pytest11"]["onnxplain"])
    assert module.assert_explanations_match is assert_explanations_match


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"top_overlap": 0.9}, "median top_overlap"),
        ({"centre_shift": 0.001}, "median centre_shift .* at most 0.001"),
        ({"logit_difference": 0.001}, "median logit_difference"),
        ({"ssim": 0.99}, "median ssim .* at least 0.99"),
    ],
)
def test_each_measure_can_be_asked_for(asked: dict[str, float], says: str) -> None:
    a = bundled()
    with pytest.raises(AssertionError, match=says):
        assert_explanations_match(
            a, a.shuffled(), SAMPLES, agreement=0, rank_correlation=None, **asked
        )


def test_nothing_asked_for_is_no_failure() -> None:
    a = glass()
    found = assert_explanations_match(a, a, pictures(CENTRE))
    assert found.rank_correlation.tolist() == [1]
