"""sidecar.py: settings and labels beside a model or in its metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxplain.errors import ConfigError
from onnxplain.preprocess import Preprocess, find, find_labels, read_labels

IN_METADATA = {"onnxplain.preprocess": '{"preset": "unit"}', "onnxplain.labels": '["m", "n"]'}


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "net").mkdir()
    return tmp_path / "net" / "net.v2.onnx"


def beside(model: Path, text: str, suffix: str = "toml") -> Path:
    path = model.with_name(f"net.v2.onnxplain.{suffix}")
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_found(model) -> None:
    assert find(model, {}) is None and find(None, {}) is None
    assert find_labels(model, {}) is None and find_labels(None, {"names": ""}) is None


def test_file_before_metadata(model) -> None:
    assert find(model, IN_METADATA).source == "metadata_props['onnxplain.preprocess']"
    assert find(None, IN_METADATA).to_dict() == Preprocess.preset("unit").to_dict()
    assert find_labels(str(model), IN_METADATA) == ("m", "n")
    beside(model, 'preset = "caffe"\nlabels = ["cat", "Hündin"]')
    pre = find(model, IN_METADATA)
    assert pre.to_dict() == Preprocess.preset("caffe").to_dict()
    assert pre.source == "file net.v2.onnxplain.toml"
    assert find_labels(model, IN_METADATA) == ("cat", "Hündin")


def test_file_with_labels_only_leaves_the_rest_to_the_metadata(model) -> None:
    beside(model, '{"labels": ["a"]}', "json")
    assert find(model, IN_METADATA).source.startswith("metadata_props")
    assert find_labels(model, IN_METADATA) == ("a",)


def test_two_files_are_one_too_many(model) -> None:
    beside(model, "")
    beside(model, "{}", "json")
    for look in (find, find_labels):
        with pytest.raises(ConfigError, match="both exist"):
            look(model, {})


def test_label_file(model) -> None:
    beside(model, 'labels = "classes.txt"')
    with pytest.raises(ConfigError, match=r"classes\.txt: cannot be read"):
        find_labels(model, {})
    classes = model.with_name("classes.txt")
    classes.write_text("cat\r\n  dog \n\nснег\n\n", encoding="utf-8")
    assert find_labels(model, {}) == ("cat", "dog", "", "снег")
    classes.write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        find_labels(model, {})


def test_label_file_stays_in_the_folder(model) -> None:
    outside = model.parent.parent / "outside.txt"
    outside.write_text("secret")
    model.with_name("link.txt").symlink_to(outside)
    for name in ("../outside.txt", str(outside), "link.txt"):
        beside(model, f"labels = {json.dumps(name)}")
        with pytest.raises(ConfigError, match="outside the model's folder"):
            find_labels(model, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels = 3", "must be a list of strings"),
        ("labels = ['a', 1]", "must be a list of strings"),
        ("labels = []", "is empty"),
    ],
)
def test_broken_labels(text, message, model) -> None:
    beside(model, text)
    with pytest.raises(ConfigError, match=message):
        find_labels(model, {})


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, '{"size": "big"}'])
def test_broken_metadata(text) -> None:
    with pytest.raises(ConfigError, match=r"metadata_props\['onnxplain.preprocess'\]"):
        find(None, {"onnxplain.preprocess": text})


def test_broken_label_metadata() -> None:
    for text in ("{", '{"0": "a"}', "[]", "[1]"):
        with pytest.raises(ConfigError, match=r"metadata_props\['onnxplain.labels'\]"):
            find_labels(None, {"onnxplain.labels": text})


def test_ultralytics_names() -> None:
    assert find_labels(None, {"names": "{0: 'person', 1: \"driver's seat\"}"}) == (
        "person",
        "driver's seat",
    )


@pytest.mark.parametrize(
    "text",
    [
        *("Ada, Bob", "{}", "{1: 'a'}", "{0: 'a', 2: 'b'}", "{0: 3}", "[1]", "{[]: 1}", "print(1)"),
        *("(" * 10_000, "-" * 10_000 + "1", "{0: '" + "x" * 1_000_001 + "'}"),
    ],
)
def test_other_names_mean_something_else(text) -> None:
    assert find_labels(None, {"names": text}) is None


def test_label_file_named_by_the_user(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "deep" / "names.txt")
    for path in (tmp_path / "deep" / "names.txt", str(tmp_path / "link.txt")):
        assert read_labels(path) == ("cat", "dog")
    with pytest.raises(ConfigError, match=r"none\.txt: cannot be read"):
        read_labels(tmp_path / "none.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ConfigError, match=r"empty\.txt: is empty"):
        read_labels(tmp_path / "empty.txt")
