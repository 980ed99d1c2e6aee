"""What is written: JUnit as CI systems read it, JSON, Markdown, a page; all of it or nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import onnxplain as ox
from onnxplain.checks import Report, Result, outputs, save_baseline
from onnxplain.checks.junit import junit
from onnxplain.checks.markdown import markdown
from onnxplain.checks.report import Bad
from onnxplain.errors import CheckFailed, ConfigError, OutputError
from tests.checks.made import CENTRE, CORNER, EDGE, glass, pictures

HOSTILE = '<img src=x onerror=alert(1)> | ]]> & "quoted"\x1b[31m\n## `x`'
META = {
    "config": "checks.toml", "model": "net.onnx", "sha256": "00ff", "data": "pictures", "images": 3,
    "skipped": 0, "seconds": 1.25,
}  # fmt: skip


def report(name: str = "ssim") -> Report:
    bad = (Bad(2, "c.png" if name == "ssim" else HOSTILE, 0.25, b"\x89PNG"), Bad(0, "a.png", 0.5))
    return Report(
        (
            Result("finite", "finite", "passed", "0% of 3 images", 0.0, 0.0, "max", "mean", 3),
            Result(
                name, "ssim", "failed", f"median {name}", 0.4, 0.9, "min", "median", 3, 0.95, bad
            ),
            Result("gradient", "gradient", "not run", "a surrogate", None, 0.01, "max"),
        ),
        META,
    )


def test_junit_is_what_ci_systems_read() -> None:
    """The shape of Ant's and Jenkins' schema: counts that add up, one case per check, one outcome each."""
    root = ET.fromstring(junit(report()))
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    for element in (root, suite):
        counts = {k: element.attrib[k] for k in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"}
        assert float(element.attrib["time"]) == 1.25
    assert suite.attrib["name"] == "checks.toml"
    cases = suite.findall("testcase")
    assert [c.attrib["name"] for c in cases] == ["finite", "ssim", "gradient"]
    assert {c.attrib["classname"] for c in cases} == {"onnxplain.net_onnx"}
    assert all(float(c.attrib["time"]) == 0 for c in cases)
    outcomes = [[e.tag for e in c] for c in cases]
    assert outcomes == [["system-out"], ["failure"], ["error"]]
    failure = cases[1][0]
    assert failure.attrib == {"message": "median ssim", "type": "ssim"}
    assert failure.text is not None and "c.png: 0.25" in failure.text
    assert {p.attrib["name"] for p in suite.iter("property")} >= {"model", "sha256", "data"}


def test_json_says_its_schema_and_everything() -> None:
    found = json.loads(json.dumps(report().to_dict(), allow_nan=False))
    assert (found["onnxplain_check"], found["passed"], found["exit_code"]) == (1, False, 1)
    assert (
        found["model"] == "net.onnx" and found["verdict"] == "FAILED: 1 passed, 1 failed, 1 not run"
    )
    assert [c["ok"] for c in found["checks"]] == [True, False, False]
    assert found["checks"][1]["worst"][0] == {"number": 2, "image": "c.png", "value": 0.25}


def test_markdown_is_a_table_and_the_worst() -> None:
    lines = markdown(report()).splitlines()
    assert lines[0] == "### onnxplain: FAILED: 1 passed, 1 failed, 1 not run"
    assert "| ❌ | ssim | 0.4 | min 0.9 | median ssim |" in lines
    assert "| ⚠️ | gradient | – | max 0.01 | a surrogate |" in lines
    assert "**ssim**, worst: c.png (0.25), a.png (0.5)" in lines


class _Seen(HTMLParser):
    """Notes the tags of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_names_are_shown_and_nothing_else(tmp_path: Path) -> None:
    hostile = report(HOSTILE)
    hostile = replace(hostile, meta={**META, "model": HOSTILE, "data": HOSTILE})
    written = outputs.write(hostile, tmp_path)
    root = ET.fromstring(written["junit.xml"].read_text(encoding="utf-8"))
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert root.findall(".//testcase")[1].attrib["name"] == shown
    page = _Seen(written["report.html"].read_text(encoding="utf-8"))
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == 1 and str(images[0]["src"]).startswith("data:image/png;base64,")
    assert not any(a.startswith("on") for _, found in page.tags for a in found)
    assert "<img src=x onerror=alert(1)>" in page.words
    table = written["summary.md"].read_text(encoding="utf-8")
    assert "<img" not in table and "\x1b" not in table
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 4  # its head, and one for each check
    assert json.loads(written["report.json"].read_text(encoding="utf-8"))["model"] == HOSTILE


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs.write(report(), tmp_path)
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")

    def interrupted(_: Report) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "junit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outputs.write(report(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="file"):
        outputs.write(report(), tmp_path / "file")


def test_verdicts() -> None:
    passed, failed, missing = report().results
    expected = {
        (passed,): (True, 0),
        (passed, failed): (False, 1),
        (passed, missing): (False, 2),
        (failed, missing): (False, 1),
        (): (False, 2),
    }
    for results, (ok, code) in expected.items():
        found = Report(results, META)
        assert (found.passed, found.exit_code) == (ok, code)
        if ok:
            found.raise_for_failure()
            continue
        with pytest.raises(CheckFailed) as caught:
            found.raise_for_failure()
        assert all(r.reason in str(caught.value) for r in results if not r.ok)
    assert report()["ssim"].value == 0.4


# --- baselines ------------------------------------------------------------------------------------------
def corner(part: tuple[slice, slice], **more: object) -> Report:
    config = {"check": [{"kind": "corner-mass", **more}]}
    return ox.check(config, model=glass(), data=pictures(part, base=100))


def test_a_baseline_allows_only_so_much_worse(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    first = corner(EDGE, max=0.9)
    save_baseline(first, path)
    config = {"check": [{"kind": "corner-mass", "worse_by": 0.01}]}

    def against(part: tuple[slice, slice], **more: object) -> Result:
        given = {"check": [{**config["check"][0], **more}]}
        data = pictures(part, base=100)
        return ox.check(given, model=glass(), data=data, baseline=path).results[0]

    same, worse = against(EDGE), against(CORNER)
    assert same.ok and same.baseline == first.results[0].value
    assert same.threshold == pytest.approx(same.baseline + 0.01)
    assert worse.status == "failed" and "the baseline's" in worse.reason
    # the stricter of both counts
    assert against(EDGE, max=0.0).status == "failed"
    assert against(CORNER, max=0.99).status == "failed"


def test_without_a_baseline_a_comparison_is_not_run(tmp_path: Path) -> None:
    (found,) = corner(CENTRE, worse_by=0.1).results
    assert found.status == "not run" and "no baseline was given" in found.reason
    path = tmp_path / "b.json"
    path.write_text('{"onnxplain_check": 1, "checks": []}', encoding="utf-8")
    config = {"check": [{"kind": "corner-mass", "worse_by": 0.1}], "baseline": str(path)}
    (found,) = ox.check(config, model=glass(), data=pictures(CENTRE)).results
    assert found.status == "not run" and "no such check" in found.reason


def test_only_what_passed_becomes_a_baseline(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="not written, as the checks FAILED"):
        save_baseline(corner(CORNER, max=0.01), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"onnxplain_check": 9}', '{"onnxplain_check": 1}']
)
def test_what_is_no_baseline(text: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(text, encoding="utf-8")
    config = {"check": [{"kind": "finite"}], "baseline": str(path)}
    with pytest.raises(ConfigError, match=r"baseline: .*b\.json"):
        ox.check(config, model=glass(), data=pictures(CENTRE))
