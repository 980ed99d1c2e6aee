"""settings.py: strict about what it is told, lossless on the way through files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxplain.errors import ConfigError
from onnxplain.preprocess import PRESETS, Preprocess
from onnxplain.preprocess.values import RULES, Channels, Interpolation, Resize

finite = st.floats(-1e6, 1e6).filter(bool)
positive = st.floats(1e-6, 1e6)
sides = st.integers(1, 8192)


def one_of(literal) -> st.SearchStrategy[str]:
    return st.sampled_from(literal.__args__)


def triple(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(values) | st.tuples(values, values, values)


settings = st.builds(
    Preprocess,
    resize=one_of(Resize),
    short=st.none() | sides,
    size=st.none() | st.tuples(sides, sides),
    interpolation=one_of(Interpolation),
    scale=finite,
    mean=triple(finite),
    std=triple(positive),
    channels=one_of(Channels),
    source=st.just("file a.json"),
)


@given(settings)
def test_round_trip_through_json(pre) -> None:
    data = json.loads(json.dumps(pre.to_dict()))
    assert Preprocess.from_dict(data, pre.source) == pre


def test_every_setting_has_a_rule() -> None:
    assert set(RULES) == set(Preprocess().to_dict())


def test_files(tmp_path) -> None:
    (tmp_path / "a.toml").write_text(
        'preset = "imagenet"\nshort = 232\ninterpolation = "bicubic"\n'
    )
    (tmp_path / "a.json").write_text('{"preset": "imagenet", "short": 232, "labels": ["a"], ')
    with pytest.raises(ConfigError, match=r"a\.json: not valid JSON"):
        Preprocess.from_file(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(
        '{"preset": "imagenet", "short": 232, "interpolation": "bicubic", "labels": ["a"]}'
    )
    want = Preprocess.preset("imagenet", short=232, interpolation="bicubic").to_dict()
    for name in ("a.toml", "a.json"):
        pre = Preprocess.from_file(tmp_path / name)
        assert pre.to_dict() == want and pre.source == f"file {name}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale = = 1", "not valid TOML"),
        ("sise = 3", "unknown key 'sise'; allowed are preset, resize, short"),
        ("preset = 'imagnet'", "preset 'imagnet' is not one of imagenet, inception"),
        ("preset = 3", "preset 3 is not one of"),
        ("std = [0.1, 0, 0.1]", "std = .* must be one number above 0"),
        ("std = -1", "std = -1 must be"),
        ("mean = [1, 2]", "mean = .* list of 1 or 3"),
        ("mean = ['a']", "mean = .* finite number"),
        ("mean = nan", "mean = nan must be"),
        ("scale = 0", "scale = 0 must be a finite number, not 0"),
        ("scale = true", "scale = True must be"),
        ("scale = '1'", "scale = '1' must be"),
        ("size = [224, -1]", r"size = \[224, -1\] must be \[height, width\]"),
        ("size = [1, 2, 3]", "size = .* must be"),
        ("size = 1000000", "size = 1000000 must be"),
        ("short = 2.5", "short = 2.5 must be a whole number"),
        ("resize = 'crop'", "resize = 'crop' must be one of short, squash, fit, none"),
        ("channels = ['RGB']", "channels = .* must be one of RGB, BGR, L"),
        (
            "interpolation = 'cubic'",
            "interpolation = 'cubic' must be one of nearest, box, bilinear",
        ),
    ],
)
def test_mistakes_name_file_and_key(text, message, tmp_path) -> None:
    (tmp_path / "net.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"net\.toml: {message}"):
        Preprocess.from_file(tmp_path / "net.toml")


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="std"):
        Preprocess(std=(0.0,))
    with pytest.raises(ConfigError, match="scale"):
        Preprocess(scale=10**400)
    pre = Preprocess(mean=[1, 2, 3], size=32, scale=np.float32(0.5))
    assert pre.mean == (1.0, 2.0, 3.0) and pre.size == (32, 32) and type(pre.scale) is float
    assert hash(pre) == hash(Preprocess(mean=(1, 2, 3), size=(32, 32), scale=0.5))


def test_preset_overrides() -> None:
    pre = Preprocess.preset("caffe", resize="fit")
    assert pre.resize == "fit" and pre.mean == PRESETS["caffe"]["mean"]
    assert pre.source == "preset caffe"
    with pytest.raises(ConfigError, match="unknown key 'sizes'"):
        Preprocess.preset("caffe", sizes=3)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"scale": 1e999}', b'{"scale": NaN}']
)
def test_hostile_json(data, tmp_path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"a\.json"):
        Preprocess.from_file(tmp_path / "a.json")


def test_unreadable_or_unknown_files(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Preprocess.from_file(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"\.toml or \.json"):
        Preprocess.from_file(tmp_path / "a.yaml")
