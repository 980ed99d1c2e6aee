"""`onnxplain check` and `onnxplain compare`: exit codes, files, and what is printed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxplain.bundled import folder, model_path
from tests.test_cli import Ran
from tests.test_cli import run as run  # the fixture

SAMPLES = folder() / "samples"
FLOAT, INT8 = model_path(), model_path("vgg_cifar10_int8.onnx")
FILES = ["junit.xml", "report.html", "report.json", "summary.md"]
GATES = f"""
model = "{INT8}"
reference = "{FLOAT}"
data = "{SAMPLES}"
[[check]]
kind = "agreement"
[[check]]
kind = "ssim"
min = MIN
"""


def config(least: float = 0.9, more: str = "") -> Path:
    path = Path("checks.toml")
    path.write_text(GATES.replace("MIN", str(least)) + more, encoding="utf-8")
    return path


def test_all_passed_is_0(run: Callable[..., Ran]) -> None:
    ran = run("check", config())
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split() == ["check", "result", "value", "asked"]
    assert "passed: 2 passed" in ran.out
    assert sorted(p.name for p in Path("onnxplain-check").iterdir()) == FILES


def test_a_failure_is_1_and_says_why(run: Callable[..., Ran]) -> None:
    ran = run("check", config(0.9999), "--out", "out")
    assert ran.code == 1
    assert "ssim failed: median structural similarity of the two maps: 0.99" in ran.out
    assert "at least 0.9999 was asked for" in ran.out
    assert "FAILED: 1 passed, 1 failed" in ran.out
    saved = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert (saved["exit_code"], saved["passed"]) == (1, False)
    root = ET.parse("out/junit.xml").getroot()
    assert root.attrib["failures"] == "1"


@pytest.mark.parametrize(
    ("least", "more", "says"),
    [
        (0.9, '[[check]]\nkind = "gradient"', "COULD NOT RUN: 2 passed, 1 not run"),
        (0.9999, '[[check]]\nkind = "gradient"', "FAILED: 1 passed, 1 failed, 1 not run"),
    ],
)
def test_what_could_not_run_is_no_pass(
    least: float, more: str, says: str, run: Callable[..., Ran]
) -> None:
    ran = run("check", config(least, more))
    assert ran.code == (2 if least == 0.9 else 1)
    assert says in ran.out


def test_a_mistake_is_2_and_leaves_no_report(run: Callable[..., Ran]) -> None:
    assert run("check", config()).code == 0
    ran = run("check", config(more="worst = 3\n[[check]]\nkind = 'sim'"))
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "onnxplain: checks.toml:10: unknown key 'worst' (did you mean 'worse_by'?)",
        "checks.toml:12: kind 'sim' is unknown (did you mean 'ssim'?): choose "
        + ran.err.partition("choose ")[2].strip(),
    ]
    assert not any(Path("onnxplain-check").iterdir())  # that of the run before is gone too


def test_other_files_than_the_configs(run: Callable[..., Ran]) -> None:
    ran = run("check", config(0.9999), "--model", FLOAT, "--data", SAMPLES / "cat.jpg", "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["images"], found["model"]) == (1, "vgg_cifar10.onnx")


def test_baselines(run: Callable[..., Ran]) -> None:
    assert run("check", config(), "--save-baseline", "base.json").code == 0
    saved = json.loads(Path("base.json").read_text(encoding="utf-8"))
    assert saved["passed"]
    ran = run("check", config(0.9999), "--save-baseline", "worse.json")
    assert ran.code == 1 and "worse.json: not written" in ran.err
    assert not Path("worse.json").exists()
    compared = GATES.replace("min = MIN", "worse_by = 0.001")
    Path("checks.toml").write_text(compared, encoding="utf-8")
    assert run("check", "checks.toml").code == 2
    assert run("check", "checks.toml", "--baseline", "base.json").code == 0


def test_an_interrupted_run_leaves_no_report(tmp_path: Path) -> None:
    """Ctrl-C in the midst of a long pass; a report of an earlier run is gone as well."""
    slow = tmp_path / "checks.toml"
    text = GATES.replace("MIN", "0.5") + '\n[[check]]\nkind = "gradient"\nimages = 100000\n'
    slow.write_text(text.replace(str(INT8), str(FLOAT)), encoding="utf-8")
    listing = tmp_path / "many.csv"
    listing.write_text("file\n" + f"{SAMPLES / 'cat.jpg'}\n" * 20000, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("{}", encoding="utf-8")
    command = [sys.executable, "-m", "onnxplain", "check", slow, "--data", listing, "--out", out]
    process = subprocess.Popen(
        [*map(str, command), "--cache", str(tmp_path / "cache"), "--batch", "8"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "cache").exists() and time.monotonic() < deadline:
        time.sleep(0.2)  # until the pass has kept something
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


def test_compare_prints_and_writes(run: Callable[..., Ran]) -> None:
    ran = run("compare", FLOAT, INT8, SAMPLES, "--out", "out")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("100.0% of 3 images: both predict the same class")
    assert "rank correlation" in ran.out and "cat.jpg" in ran.out
    assert "20 hold the same in both, 0 under another name" in ran.out
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "compare.csv", "compare.html", "comparison.json", "comparison.npz",
    ]  # fmt: skip
    rows = list(csv.reader(Path("out/compare.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 4 and rows[0][:2] == ["image", "A predicts"]
    page = Path("out/compare.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 3 and "relu3_2" in page


def test_compare_as_json(run: Callable[..., Ran]) -> None:
    ran = run("compare", FLOAT, INT8, SAMPLES, "--method", "positive", "--json")
    found = json.loads(ran.out)
    ranks = [i["rank_correlation"] for i in found["images"]]
    assert ranks == sorted(ranks) and len(ranks) == 3


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nothing.onnx", INT8, SAMPLES), "nothing.onnx: no such file"),
        ((FLOAT, INT8, "nowhere"), "nowhere: no such file"),
        ((FLOAT, INT8, SAMPLES, "--method", "magic"), "method 'magic' is unknown"),
        ((FLOAT, INT8, SAMPLES, "--layer", "relu9"), "no layer 'relu9'"),
        ((FLOAT, INT8, SAMPLES, "--target", "99"), "class 99 does not exist"),
    ],
)
def test_compare_says_what_is_wrong(
    args: tuple[object, ...], says: str, run: Callable[..., Ran]
) -> None:
    ran = run("compare", *args)
    assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err
