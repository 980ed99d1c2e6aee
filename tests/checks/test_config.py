"""Every mistake in a file of checks is one message, with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.bundled import folder, model_path
from onnxplain.checks.config import read_plan
from onnxplain.checks.lines import line_of
from onnxplain.errors import ConfigError, InputError
from tests.checks.made import CENTRE, glass, pictures

GOOD = f"""\
# checks of the bundled network
model = "{model_path()}"
data = "{folder() / "samples"}"
method = "lift-cam"

[[check]]
kind = "finite"

[[check]]
name = "in the corner"
kind = "region-mass"
box = [
  0.0, 0.0,
  0.2, 0.2,
]
max = 0.3
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "checks.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, GOOD), {})
    assert [g.name for g in plan.gates] == ["finite", "in the corner"]
    assert plan.settings[1].options == {"box": [0, 0, 0.2, 0.2]}
    assert plan.gates[1].threshold == 0.3 and plan.gates[0].threshold == 0


MISTAKES = {
    "unknown key": ('max = 0.3', 'maxx = 0.3', 16, "unknown key 'maxx' (did you mean 'max'?)"),
    "unknown key at the top": ('method =', 'methods =', 4, "unknown key 'methods' (did you mean 'method'?)"),
    "unknown kind": ('kind = "finite"', 'kind = "finit"', 7, "'finit' is unknown (did you mean 'finite'?)"),
    "no kind": ('kind = "finite"', 'max = 0', 6, "a check without kind"),
    "wrong type": ("max = 0.3", 'max = "0.3"', 16, "max must be a number, not '0.3'"),
    "a truth value is no number": ("max = 0.3", "max = true", 16, "max must be a number, not True"),
    "threshold out of range": ("max = 0.3", "max = 1.5", 16, "max must be from 0 to 1, not 1.5"),
    "not a number": ("max = 0.3", "max = nan", 16, "max must be from 0 to 1, not nan"),
    "the wrong side": ("max = 0.3", "min = 0.3", 16, "region-mass has no min: give max"),
    "no threshold": ("max = 0.3", "", 9, "region-mass needs max (or worse_by"),
    "an option out of range": ("  0.2, 0.2", "  0.2, 2.2", 12, "box must be [left, top, right, bottom]"),
    "statistic": ("max = 0.3", 'max = 0.3\nstatistic = "modus"', 17, "statistic 'modus' is unknown"),
    "images": ("max = 0.3", "max = 0.3\nimages = 0", 17, "images must be at least 1"),
    "method": ('"lift-cam"', '"lift-scam"', 4, "method 'lift-scam' is unknown"),
    "missing model": (model_path().name, "missing.onnx", 2, "missing.onnx: no such file"),
    "missing data": ("/samples", "/nothing", 3, "nothing: no such file"),
    "model of another type": (f'"{model_path()}"', "7", 2, "model must be a text, not 7"),
    "no model": ("model =", "# model =", None, "'model' is missing"),
    "reference wanted": ('kind = "finite"', 'kind = "ssim"', 6, "ssim needs 'reference'"),
    "annotations wanted": ('kind = "finite"', 'kind = "pointing-game"\nmin = 1', 6, "needs 'annotations'"),
    "two of one name": ("in the corner", "finite", 9, "a second check is called 'finite'"),
    "one bracket": ("[[check]]\nkind", "[check]\nkind", None, ""),
    "no TOML": ("max = 0.3", "max = ", 16, "Invalid value"),
    "preprocess": ("method =", 'preprocess = "imgnet"\nmethod =', 4, "imgnet: no such file, nor one of"),
    "device": ("method =", 'device = "tpu"\nmethod =', 4, "device 'tpu' is unknown"),
    "a missing baseline": ("method =", 'baseline = "b.json"\nmethod =', 4, "b.json: no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_line(name: str, tmp_path: Path) -> None:
    old, new, line, says = MISTAKES[name]
    path = written(tmp_path, changed(old, new))
    with pytest.raises(ConfigError) as caught:
        ox.check(path)
    (message,) = str(caught.value).splitlines()
    at = f"{path}:{line}: " if line is not None else f"{path}"
    assert message.startswith(at), message
    assert says in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = changed("max = 0.3", "max = 3").replace('"finite"', '"fine"').replace("data =", "date =")
    with pytest.raises(ConfigError) as caught:
        ox.check(written(tmp_path, text))
    lines = [m.partition(".toml")[2].partition(" ")[0] for m in str(caught.value).splitlines()]
    assert lines == [":3:", ":", ":7:", ":16:"]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.onnx", b"", "model.onnx: is empty"),
        ("model.onnx", b"\x00rubbish", "is not an ONNX model"),
    ],
)
def test_a_model_that_cannot_be_loaded(
    file: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    path = written(tmp_path, changed(str(model_path()), file))
    with pytest.raises(ConfigError, match=f"checks.toml:2: model: .*{says}"):
        ox.check(path)


def test_empty_data(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    path = written(tmp_path, changed(str(folder() / "samples"), "none"))
    with pytest.raises(ConfigError, match=r"checks.toml:3: data: .*none: no files"):
        ox.check(path)


def test_data_that_cannot_be_read_are_no_pass(tmp_path: Path) -> None:
    data = tmp_path / "pictures"
    data.mkdir()
    for name in ("cat.jpg", "horse.jpg"):
        (data / name).write_bytes((folder() / "samples" / name).read_bytes())
    (data / "broken.jpg").write_bytes(b"\xff\xd8rubbish")
    path = written(tmp_path, changed(str(folder() / "samples"), "pictures"))
    with pytest.raises(InputError, match=r"checks.toml:3: data: 1 items cannot be used, 0 may"):
        ox.check(path)
    allowed = ox.check(written(tmp_path, "skipped = 1\n" + path.read_text(encoding="utf-8")))
    assert allowed.passed and allowed.meta["skipped"] == 1


def test_an_unknown_layer_has_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, changed("method =", 'layer = "relu9"\nmethod ='))
    with pytest.raises(ConfigError, match=r"checks.toml:4: layer: .* has no layer 'relu9'"):
        ox.check(path)


@pytest.mark.parametrize(
    "document",
    ["[]", "{}", '{"a.jpg": [[0, 0, 2, 1]]}', '{"a.jpg": [[0.5, 0, 0.1, 1]]}', "rubbish"],
)
def test_annotations_that_are_none(document: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(document, encoding="utf-8")
    text = changed("method =", 'annotations = "boxes.json"\nmethod =')
    with pytest.raises(ConfigError, match=r"checks.toml:4: annotations: .*annotations"):
        ox.check(written(tmp_path, text))


def test_a_mapping_will_do_and_says_so() -> None:
    with pytest.raises(ConfigError, match="checks: unknown key 'kinds'"):
        ox.check({"check": [{"kinds": "finite"}]}, model=glass(), data=pictures(CENTRE))
    assert ox.check({"check": [{"kind": "finite"}]}, model=glass(), data=pictures(CENTRE)).passed


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    np.savez(tmp_path / "here" / "x.npz", images=np.zeros((2, 32, 32, 3), np.uint8))
    path = written(tmp_path / "here", changed(str(folder() / "samples"), "x.npz"))
    monkeypatch.chdir(tmp_path)
    assert ox.check(path).meta["images"] == 2


@pytest.mark.parametrize("text", ["", "x", "\xff\xfe", "a" * (1 << 16)])
def test_what_is_no_file_of_checks(text: str, tmp_path: Path) -> None:
    path = tmp_path / "checks.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"checks\.toml"):
        ox.check(path)
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read"):
        ox.check(tmp_path / "no.toml")


def test_lines_of_keys_tables_and_what_is_missing() -> None:
    text = 'a = 1\nb = """\nc = 2\n"""\n\n# d = 3\nd = [\n 1,\n]\n[[t]]\nx = 1\n[[t]]\n  x = 2\n'
    found = {
        p: line_of(text, p) for p in (("a",), ("b",), ("d",), ("t", 0), ("t", 1), ("t", 1, "x"))
    }
    assert list(found.values()) == [1, 2, 7, 10, 12, 13]
    assert line_of(text, ("t", 1, "missing")) == 12
    assert line_of(text, ("c",)) == 1


def test_an_unknown_layer_of_a_single_check_has_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, changed("max = 0.3", 'max = 0.3\nlayer = "relu9"'))
    with pytest.raises(ConfigError, match=r"checks.toml:17: layer: .* has no layer 'relu9'"):
        ox.check(path)


def test_a_reference_with_other_classes_answers_another_question(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reference: has 2 classes, the model 10"):
        ox.check(written(tmp_path, GOOD), reference=glass())


def test_what_the_caller_gives_has_no_line(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"checks.toml: model: no.onnx: no such file"):
        ox.check(path, model="no.onnx")
    with pytest.raises(ConfigError, match=r"checks.toml: baseline: .*no.json: cannot be read"):
        ox.check(path, baseline="no.json")
