"""The generic record: one canonical form, lossless files, clear errors on anything else."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxplain.errors import ConfigError, InputError, OutputError
from onnxplain.results import Cam, Record, Saliency, axes


@dataclass(frozen=True, eq=False, kw_only=True)
class Anything(Record):
    """Takes every kind of value that a record may hold."""

    value: Any = None
    grid: Any = field(default=None, metadata=axes("N c"))
    more: Any = field(default=None, metadata=axes("N c ..."))
    counts: Any = field(default=None, metadata=axes("N", np.int64))


arrays = hnp.arrays(
    st.sampled_from(["?", "i1", "u2", "i8", "f2", "f4", "f8", ">f4", "U3"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=9)
plain = st.none() | st.booleans() | numbers | texts
keys = texts.filter(lambda key: not key.startswith("$"))
values = st.recursive(
    plain | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(value=values, meta=st.dictionaries(keys, values, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_round_trip(value, meta, tmp_path) -> None:
    inner = Anything(value=value)
    record = Anything(value=(inner, value), meta=meta)
    record.save(tmp_path)
    loaded = Anything.load(tmp_path)
    assert loaded == record
    loaded.save(tmp_path, "again")
    first, again = (json.loads((tmp_path / f"{s}.json").read_text()) for s in ("anything", "again"))
    assert first == again  # the arrays' digest included


def test_equality_sees_every_difference() -> None:
    base = {"a": 1, "b": (np.zeros(2), "x")}
    assert Anything(value=base) == Anything(value=base)
    for other in (
        {"a": 1.0, "b": (np.zeros(2), "x")},
        {"a": 1, "b": (np.zeros(2), "y")},
        {"a": 1, "b": (np.zeros(2, "f4"), "x")},
        {"a": 1, "b": (np.array([0.0, 1e-300]), "x")},
        {"a": 1, "b": (np.zeros(2),)},
        {"a": 1},
    ):
        assert Anything(value=base) != Anything(value=other)
    assert Anything() != Record() and Anything() != 3


def test_values_take_one_form() -> None:
    record = Anything(value=[np.float32(0.5), np.int8(3), Path("a") / "b", [True, np.str_("s")]])
    assert record.value == (0.5, 3, "a/b", (True, "s"))
    assert [type(v) for v in record.value] == [float, int, str, tuple]


def test_arrays_are_read_only_copies() -> None:
    mine = np.arange(6.0).reshape(2, 3)
    record = Anything(grid=mine, value={"deep": [mine]})
    for held in (record.grid, record.value["deep"][0]):
        with pytest.raises(ValueError, match="read-only"):
            held[0, 0] = 1
    mine[0, 0] = 99
    assert record.grid[0, 0] == 0 and record.value["deep"][0][0, 0] == 0
    with pytest.raises(FrozenInstanceError):
        record.value = 1
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_view_is_not_trusted_to_stay() -> None:
    mine = np.arange(4.0)
    view = mine[:]
    view.flags.writeable = False
    record = Anything(value=view)
    mine[0] = 99
    assert record.value[0] == 0


@pytest.mark.parametrize(
    "value",
    [
        *({1: 2}, {"$array": "x"}, {1, 2}, object(), float("nan"), [float("inf")], 1j),
        *(np.array([None]), np.zeros(2, complex), np.datetime64("2020-01-01")),
    ],
)
def test_what_cannot_be_stored_is_refused_at_once(value) -> None:
    with pytest.raises(TypeError, match=r"Anything\.value"):
        Anything(value=value)


def test_shapes_agree_by_letter() -> None:
    record = Anything(grid=np.zeros((2, 3)), more=np.zeros((2, 3, 4, 5)), counts=[1, 2])
    assert record.grid.dtype == np.float32 and record.counts.dtype == np.int64
    assert Anything(grid=np.zeros((0, 3)), counts=np.zeros(0, int)).grid.shape == (0, 3)
    for bad in (
        {"grid": np.zeros((2, 3)), "counts": [1]},
        {"grid": np.zeros((2, 3)), "more": np.zeros((2, 4))},
        {"grid": np.zeros(3)},
        {"grid": np.zeros((2, 3, 1))},
        {"more": np.zeros(2)},
        {"more": np.zeros((2, 3, 0))},
        {"grid": np.zeros((2, 0))},
    ):
        with pytest.raises(InputError, match=r"must be \[N"):
            Anything(**bad)


def test_types_and_numbers_are_checked() -> None:
    with pytest.raises(InputError, match=r"Anything\.counts must be int64, got float64"):
        Anything(counts=[0.5])
    with pytest.raises(InputError, match=r"Anything\.grid must be float32, got <U1"):
        Anything(grid=[["a"]])
    with pytest.raises(InputError, match=r"Anything\.grid: 2 of 4 numbers are NaN or infinite"):
        Anything(grid=[[np.nan, 1], [1e300, 2]])


def test_one_name_one_type() -> None:
    with pytest.raises(TypeError, match="record type Cam already"):
        type("Cam", (Record,), {})


# --- files ----------------------------------------------------------------------------------------


def saved(folder: Path, **changes: Any) -> Path:
    """Save a record and alter its JSON."""
    path = Anything(grid=np.ones((2, 3)), value={"a": 1}).save(folder)
    document = json.loads(path.read_text())
    for key, value in changes.items():
        at = document
        *way, last = key.split("__")
        for step in way:
            at = at["$record" if step == "record" else step]
        at.update({"$record" if last == "record" else last: value})
    path.write_text(json.dumps(document))
    return path


def test_names_and_bytes(tmp_path) -> None:
    record = Anything(grid=np.ones((2, 3)), value={"file": np.ones(1), "allow_pickle": np.ones(2)})
    assert record.save(tmp_path / "a") == tmp_path / "a" / "anything.json"
    record.save(tmp_path / "b", "cat.v2")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["cat.v2.json", "cat.v2.npz"]
    for suffix in (".json", ".npz"):
        first = (tmp_path / "a" / f"anything{suffix}").read_bytes()
        assert first == (tmp_path / "b" / f"cat.v2{suffix}").read_bytes()
    with np.load(tmp_path / "b" / "cat.v2.npz") as arrays:
        np.testing.assert_array_equal(arrays["grid"], np.ones((2, 3)))


def test_any_type_by_record_load(tmp_path) -> None:
    record = Anything(value=3)
    record.save(tmp_path, "x")
    assert Record.load(tmp_path, "x") == record
    with pytest.raises(InputError, match=r"x\.json: holds a Anything, not a Cam"):
        Cam.load(tmp_path, "x")


@pytest.mark.parametrize("stem", ["../x", "a/b", "..", "/etc/x"])
def test_a_stem_is_a_plain_name(stem, tmp_path) -> None:
    with pytest.raises(ConfigError, match="not a plain file name"):
        Anything().save(tmp_path, stem)
    with pytest.raises(ConfigError, match="not a plain file name"):
        Anything.load(tmp_path, stem)


def test_missing_files(tmp_path) -> None:
    with pytest.raises(InputError, match=r"anything\.json: cannot be read: No such file"):
        Anything.load(tmp_path)
    saved(tmp_path)
    (tmp_path / "anything.npz").unlink()
    with pytest.raises(InputError, match=r"anything\.npz: cannot be read: No such file"):
        Anything.load(tmp_path)


def test_not_writable(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Anything().save(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnxplain_schema": 2}, "schema 2, this version reads 1"),
        ({"onnxplain_schema": None}, "not a result that onnxplain saved"),
        ({"arrays_sha256": "0"}, r"anything\.npz is damaged or belongs to another"),
        ({"record__type": "Nothing"}, "record type 'Nothing' is not known"),
        ({"record__type": ["Cam"]}, "damaged or altered"),
        ({"record__fields": {}}, "has other fields in this version: counts, grid"),
        ({"record__fields": ["counts", "grid", "meta", "more", "value"]}, "damaged or altered"),
        ({"record__fields__extra": 1}, "other fields in this version: extra"),
        ({"record__fields__grid": {"$array": "no"}}, "damaged or altered: KeyError"),
        ({"record__fields__grid": {"$array": [1]}}, "damaged or altered"),
        ({"record__fields__grid": [[1, 2], [3]]}, "damaged or altered"),
        ({"record__fields__grid": [1, 2]}, r"Anything\.grid must be \[N, c\]"),
        ({"record__fields__value": {"$other": 1}}, "damaged or altered"),
        ({"record__fields__value": float("nan")}, "damaged or altered"),
        ({"record": 3}, "damaged or altered"),
    ],
)
def test_altered_files(changes, message, tmp_path) -> None:
    saved(tmp_path, **changes)
    with pytest.raises(InputError, match=rf"anything\.json: .*{message}"):
        Anything.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000, "\udcff"])
def test_not_our_json(text, tmp_path) -> None:
    (tmp_path / "anything.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"anything\.json"):
        Anything.load(tmp_path)


def test_nested_too_deep(tmp_path) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    saved(tmp_path, record__fields__value=deep)
    with pytest.raises(InputError, match="damaged or altered: RecursionError"):
        Anything.load(tmp_path)


def test_a_mix_of_two_saves_is_noticed(tmp_path) -> None:
    """As after a crash between the two files of a second save."""
    saved(tmp_path)
    Anything(grid=np.zeros((2, 3))).save(tmp_path, "new")
    (tmp_path / "new.npz").replace(tmp_path / "anything.npz")
    with pytest.raises(InputError, match="belongs to another result"):
        Anything.load(tmp_path)


def test_records_inside_records_are_checked_on_load(tmp_path) -> None:
    inner = Saliency(values=np.ones((1, 2, 2)), kind="positive", classes=[3], scores=[0.5])
    path = Anything(value=[inner]).save(tmp_path)
    assert Anything.load(tmp_path).value[0] == inner
    path.write_text(path.read_text().replace('"positive"', "[3]").replace('"values"', '"scores"'))
    with pytest.raises(InputError):
        Anything.load(tmp_path)
